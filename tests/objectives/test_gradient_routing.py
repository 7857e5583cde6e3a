"""Which loss sends its gradient where, against a slow reference written agent by agent."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.loss_contract import make_batch, make_parts, to_double, total_loss, with_updater
from contracts.reference import Reference, assert_equal_grads, grads
from torch.distributions import Normal

from vm3ac_modules.functional import scatter_others
from vm3ac_modules.objectives import MASACLoss, MutualInformationTerm, VM3ACLoss
from vm3ac_modules.objectives.pairs import PairTerms, pair_terms

GAMMA = 0.9


# --- fixtures ---------------------------------------------------------------------------------


def build(num_agents=3, *, latent_dim=3, predictor=(), **options):
    """A loss in float64 whose target differs from its value, a batch with terminal states."""
    parts = make_parts(num_agents, latent_dim=latent_dim, **dict(predictor))
    parts = [part.double() for part in parts]
    loss = with_updater(VM3ACLoss(*parts, **{"beta": 0.3, "gamma": GAMMA, **options})).double()
    with torch.no_grad():
        for target in loss.target_value_network_params.values(True, True):
            target.add_(0.1 * torch.randn_like(target))
    td = to_double(make_batch(7, num_agents=num_agents))
    td["next", "terminated"][::3] = True
    return loss, td, loss.draw_noise(td)


CASES = {
    "paper": {},
    "two_agents": {"num_agents": 2},
    "four_agents": {"num_agents": 4},
    "one_agent": {"num_agents": 1},
    "extra_latents": {"num_latents": 3},
    "extra_latents_partner": {"num_latents": 3, "reverse_model": "partner"},
    "partner": {"reverse_model": "partner"},
    "min": {"policy_q": "min"},
    "beta_per_agent": {"beta": [0.1, 0.0, 0.7]},
    "reward_scale": {"reward_scale": 0.1, "beta": [0.1, 0.4, 0.7]},
    "learned": {"predictor": {"scale": "learned"}},
    "unnormalized": {"predictor": {"normalized": False}},
    "no_latent": {"latent_dim": 0, "policy_q": "min", "num_latents": 3},
}


# --- the whole of (45)-(50) ---------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_reference(case):
    loss, td, noise = build(**CASES[case])
    out, expected = loss(td, noise), Reference(loss, td, noise).losses()
    for name, parameters in loss.parameter_groups().items():
        torch.testing.assert_close(out[name], expected[name], rtol=1e-9, atol=1e-9)
        if name == "loss_actor" or not expected[name].requires_grad:
            continue
        assert_equal_grads(grads(out[name], parameters), grads(expected[name], parameters))


@pytest.mark.parametrize("case", CASES)
def test_summed_actor_loss_gives_the_gradients_of_separate_ones(case):
    loss, td, noise = build(**CASES[case])
    phi = loss.parameter_groups()["loss_actor"]
    together = grads(loss(td, noise)["loss_actor"], phi)
    reference = Reference(loss, td, noise)
    separate = [torch.zeros_like(parameter) for parameter in phi]
    for i in range(reference.num_agents):
        for kept, gradient in zip(separate, grads(reference.actor(i), phi), strict=True):
            kept[i] = gradient[i]
    assert_equal_grads(together, separate)
    assert any(gradient.ne(0).any() for gradient in separate)


def test_rows_without_reduction_are_the_summands():
    loss, td, noise = build()
    summed = build()[0]
    summed.load_state_dict(loss.state_dict())
    loss.reduction = "none"
    rows, mean = loss(td, noise), summed(td, noise)
    for name in loss.parameter_groups():
        torch.testing.assert_close(rows[name].mean(), mean[name], rtol=1e-12, atol=1e-12)


# --- one line of the routing each -----------------------------------------------------------


@pytest.mark.parametrize("num_latents", [0, 3])
def test_policy_is_not_pushed_by_another_agents_critic_or_model(num_latents):
    loss, td, noise = build(num_latents=num_latents)
    phi = loss.parameter_groups()["loss_actor"]
    before = grads(loss(td, noise)["loss_actor"], phi)
    with torch.no_grad():
        for theta in loss.qvalue_network_params.parameters():
            theta[:, 1:].add_(torch.randn_like(theta[:, 1:]))
        for xi in loss.predictor_network_params.parameters():
            xi[1:].add_(torch.randn_like(xi[1:]))
    after = grads(loss(td, noise)["loss_actor"], phi)
    for left, right in zip(before, after, strict=True):
        assert torch.equal(left[0], right[0])
    assert any((left[1:] != right[1:]).any() for left, right in zip(before, after, strict=True))


def pairs_of(loss, td, action):
    """The pairs' log-densities as matrices, so that a test can name who predicts whom."""
    pairs = pair_terms(
        loss.network("predictor"),
        action,
        td["agents", "observation"],
        loss.term(MutualInformationTerm).reverse_model,
    )
    return PairTerms(*map(scatter_others, pairs))


def test_predicted_action_of_term_b_is_a_constant():
    loss, td, _ = build()
    action = td["agents", "action"].clone().requires_grad_()
    policy = pairs_of(loss, td, action).policy
    for i in range(3):
        for j in range(3):
            if i == j:
                continue
            (gradient,) = grads(policy[:, i, j].sum(), [action])
            assert (gradient[:, i] != 0).any()
            assert (gradient[:, [k for k in range(3) if k != i]] == 0).all()


@pytest.mark.parametrize("reverse_model", ["own", "partner"])
def test_predictors_side_sees_all_actions_as_constants(reverse_model):
    loss, td, _ = build(reverse_model=reverse_model)
    action = td["agents", "action"].clone().requires_grad_()
    pairs = pairs_of(loss, td, action)
    for matrix in (pairs.partner, pairs.own):
        (gradient,) = grads(matrix.sum(), [action])
        assert (gradient == 0).all()
        assert any(x.ne(0).any() for x in grads(matrix.sum(), list(loss.parameters())))


def test_term_a_sends_nothing_to_any_policy():
    loss, td, noise = build()
    other = build(reverse_model="partner")[0]
    other.load_state_dict(loss.state_dict())
    left, right = loss(td, noise)["loss_actor"], other(td, noise)["loss_actor"]
    assert left != right
    own, partner = (x.parameter_groups()["loss_actor"] for x in (loss, other))
    for a, b in zip(grads(left, own), grads(right, partner), strict=True):
        assert torch.equal(a, b)


def test_term_a_trains_the_predictor():
    loss, td, _ = build()
    pairs = pairs_of(loss, td, td["agents", "action"])
    for owner in range(3):
        for gradient in grads(pairs.own[:, owner].sum(), loss.parameter_groups()["loss_predictor"]):
            assert gradient[owner].ne(0).any()


@pytest.mark.parametrize("constant", ["loss_qvalue", "loss_predictor", "loss_value"])
def test_actor_loss_sees_other_networks_as_constants(constant):
    loss, td, noise = build()
    value, parameters = loss(td, noise)["loss_actor"], loss.parameter_groups()[constant]
    assert all(x is None for x in torch.autograd.grad(value, parameters, allow_unused=True))


@pytest.mark.parametrize("name", ["loss_value", "loss_qvalue"])
def test_targets_of_the_critics_are_constants(name):
    loss, td, noise = build()
    value = loss(td, noise)[name]
    for group, parameters in loss.parameter_groups().items():
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        assert all((x is None) == (group != name) for x in found)


def test_target_network_is_moved_by_its_updater_alone():
    loss, td, _ = build()
    targets = {
        name: x.clone() for name, x in loss.state_dict().items() if name.startswith("target_")
    }
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        total_loss(loss(td)).backward()
        optimizer.step()
    after = loss.state_dict()
    assert all(torch.equal(after[name], x) for name, x in targets.items())
    assert not any(x.requires_grad for x in loss.target_value_network_params.values(True, True))
    loss.updater.step()
    after = loss.state_dict()
    assert not all(torch.equal(after[name], x) for name, x in targets.items())


def test_termination_cuts_the_bootstrap_and_truncation_does_not():
    loss, td, noise = build()
    loss.reduction = "none"
    changed = td.clone()
    changed["next", "agents", "observation"] = torch.randn_like(td["next", "agents", "observation"])
    for x in (td, changed):
        # The time limit ends the episode of every row; only some of them terminate.
        x["next", "truncated"] = torch.ones(7, 1, dtype=torch.bool)
        x["next", "done"] = torch.ones(7, 1, dtype=torch.bool)
    unchanged = loss(td, noise)["loss_qvalue"] == loss(changed, noise)["loss_qvalue"]
    assert torch.equal(unchanged, td["next", "terminated"].squeeze(-1))


def test_termination_of_each_agent():
    loss, td, noise = build()
    expected = loss(td, noise)["loss_qvalue"]
    loss.set_keys(terminated=("agents", "terminated"))
    flags = td["next", "terminated"].unsqueeze(-2).expand(7, 3, 1)
    td["next", "agents", "terminated"] = flags
    assert torch.equal(loss(td, noise)["loss_qvalue"], expected)
    td["next", "agents", "terminated"] = flags.clone()
    td["next", "agents", "terminated"][1, 2] = True
    assert loss(td, noise)["loss_qvalue"] != expected


def test_one_agent_is_single_agent_sac():
    loss, td, noise = build(1)
    sac = with_updater(
        MASACLoss(*make_parts(1)[:3], beta=0.3, gamma=GAMMA),
    ).double()
    sac.load_state_dict(
        {k: x for k, x in loss.state_dict().items() if not k.startswith("predictor")}
    )
    ours, theirs = loss(td, noise), sac(td, noise)
    assert ours["correlation_term"] == 0
    assert ours["loss_predictor"] == 0
    assert ours["pair_log_prob"] == 0
    for name in ("loss_actor", "loss_qvalue", "loss_value"):
        assert torch.equal(ours[name], theirs[name])
    total_loss(ours).backward()


# --- splitting (49) into two losses -----------------------------------------------------------


def test_predictor_gradient_is_that_of_the_squared_error_over_the_variance():
    sigma, num_agents = 0.3, 3
    loss, td, noise = build(num_agents, predictor={"scale": sigma})
    xi = loss.parameter_groups()["loss_predictor"]
    actual = grads(loss(td, noise)["loss_predictor"], xi)
    with torch.no_grad():
        action = torch.stack(Reference(loss, td, noise).action, dim=-2)
    unit = (action - loss.center) / loss.half_range
    with loss.predictor_network_params.to_module(loss.predictor_network):
        out = loss.predictor_network.net(action, td["agents", "observation"]).tanh()
    error = torch.zeros((), dtype=torch.float64)
    for i in range(num_agents):
        for slot, j in enumerate(j for j in range(num_agents) if j != i):
            error = error + 0.5 * (unit[:, j] - out[:, i, slot]).square().sum(-1).mean()
            itself = out[:, i, num_agents - 1 + slot]
            error = error + 0.5 * (unit[:, i] - itself).square().sum(-1).mean()
    error = error / (num_agents * (num_agents - 1))
    assert_equal_grads(actual, [x / sigma**2 for x in grads(error, xi)])


def test_split_losses_have_the_gradients_of_the_joint_one():
    # The joint form (49) with xi free: its gradient for xi is beta (N - 1) times the split one,
    # as loss_predictor is the mean over pairs and has weight 1.
    loss, td, noise = build(2, beta=0.75)
    phi, xi = (loss.parameter_groups()[name] for name in ("loss_actor", "loss_predictor"))
    out, reference = loss(td, noise), Reference(loss, td, noise)
    fixed = [x.detach() for x in reference.action]
    joint = torch.zeros((), dtype=torch.float64)
    for i, j in ((0, 1), (1, 0)):
        seen = [x if k == i else x.detach() for k, x in enumerate(reference.action)]
        q_value = reference.value(loss.qvalue_network_params, i, 0, seen)
        forward = reference.log_q(i, j, i, [seen[0], seen[1]])
        reverse = reference.log_q(i, i, j, fixed)
        pairs = 0.5 * (forward + reverse)
        joint = joint + (-q_value + 0.75 * reference.draws[i][1] - 0.75 * pairs).mean()
    assert_equal_grads(grads(joint, phi), grads(out["loss_actor"], phi))
    split = [0.75 * x for x in grads(out["loss_predictor"], xi)]
    assert_equal_grads(grads(joint, xi), split)


def test_explicit_gradient_of_all_heads_together_has_zero_mean():
    # Why it may be dropped as a whole, and why dropping that of the extra heads alone may not.
    draws, extra = 200_000, 3
    weight = torch.full((draws,), 0.8, dtype=torch.float64, requires_grad=True)
    z = torch.randn(draws, extra + 1, dtype=torch.float64)
    u = (weight * z[:, 0]).detach() + 0.5 * torch.randn(draws, dtype=torch.float64)
    loc = weight.unsqueeze(-1) * z
    part = torch.cat((loc[:, :1], loc[:, 1:].detach()), dim=-1)
    for heads, unbiased in ((loc, True), (part, False)):
        log_prob = Normal(heads, 0.5).log_prob(u.unsqueeze(-1)).logsumexp(-1)
        (gradient,) = torch.autograd.grad(log_prob.sum(), weight, retain_graph=True)
        error = gradient.mean().abs() / (gradient.std() / math.sqrt(draws))
        assert (error < 4) == unbiased
