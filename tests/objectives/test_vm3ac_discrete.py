"""VM3-AC on FOP: bonus and regularizer against loops, routing, and what coordination is worth."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from contracts.base_contract import assert_same
from contracts.episode_contract import (
    ACTIONS,
    LENGTHS,
    OBS,
    OUTCOMES,
    STATE,
    EpisodeLossContract,
    make_actor,
    make_episodes,
    with_targets_moved,
)
from contracts.fop import make_critic

from vm3ac_modules.functional.categorical import expectation, masked_log_softmax
from vm3ac_modules.functional.correlation import (
    action_latent_information,
    marginal_log_prob,
    pairwise_information,
)
from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.modules.latent import CategoricalPrior
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn import HyperPairNet, RecurrentPolicyNet
from vm3ac_modules.objectives import VM3FOPLoss

ALPHA, GAMMA, LAM = 0.3, 0.9, 0.7


def make_latent_actor(num_agents=3, *, latent_input="head", keys=None):
    net = RecurrentPolicyNet(
        OBS, ACTIONS, num_agents, latent_dim=OUTCOMES, hidden_size=8, latent_input=latent_input
    )
    actor = RecurrentActor(net, keys=keys)
    actor.epsilon.fill_(0.2)
    return actor


def make_predictor(num_agents=3, **options):
    options = {"embed_dim": 8, "hypernet_hidden": 8, **options}
    return HyperPairNet(STATE, num_agents, ACTIONS, **options)


class TestVM3FOPContract(EpisodeLossContract):
    groups: ClassVar = {
        "loss_actor": ("actor_network_params",),
        "loss_qvalue": ("qvalue_network_params",),
        "loss_predictor": ("predictor_network_params",),
    }
    targets = ("qvalue_network",)
    prior: ClassVar = CategoricalPrior(OUTCOMES)

    def build(self, num_agents=3, *, keys=None, actor=None, **options):
        actor = make_latent_actor(num_agents, keys=keys) if actor is None else actor
        nets = make_critic(num_agents), make_predictor(num_agents)
        return VM3FOPLoss(actor, *nets, self.prior, keys=keys, **options)

    def test_the_floor_is_that_of_the_actor_that_collects(self):
        actor = make_latent_actor()
        loss = self.build(actor=actor)
        actor.epsilon.fill_(1.0)
        assert (loss.actor_network_params.get("epsilon") == 1.0).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_latents": 2}, "num_latents must be 0 or 'all'"),
            ({"entropy_mix": 1.5}, r"entropy_mix must be in \[0, 1\]"),
            ({"pair_weight": "sum"}, "pair_weight"),
            ({"temperature": 0.0}, "temperature must be positive"),
            ({"actor": make_latent_actor(latent_input="input")}, "latent_input='head'"),
            ({"actor": make_actor()}, "latent of size 0, but the prior has 3"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)


def build(**options):
    options = {"temperature": ALPHA, "gamma": GAMMA, "lam": LAM, **options}
    return TestVM3FOPContract().make(**options)


def views(loss, td, noise):
    e = loss.read(td)
    return e, loss.view(e, noise)


def log_q(loss, e):
    """The table of the predictor, ``[B, T + 1, N, A, N, A]``."""
    with loss.network("predictor").filled():
        return loss.predictor_network.table(e.state, e.action_mask).detach()


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("weight", ["paper", "mean"])
def test_bonus_and_policy_objective_against_loops(weight, mix):
    options = {"num_latents": "all", "entropy_mix": mix} if mix else {}
    loss, td = build(pair_weight=weight, **options), make_episodes()
    noise = loss.draw_noise(td)
    e, view = views(loss, td, noise)
    table, w = log_q(loss, e), 1 / 3 if weight == "paper" else 1 / 2
    values = torch.randn(*view.log_prob.shape, dtype=torch.float64)
    bonus = loss.soft_bonus(view)
    objective = loss.policy_objective(e, view, values).detach()
    outcomes = view.outcomes.detach().exp()
    marginal = outcomes.mean(0)
    for b, t in ((0, 0), (1, 2), (3, 4)):
        a = view.action[b, t]
        z = int(noise["latent"][b, t].argmax())
        total = 0.0
        for i in range(3):
            mixed = mix * marginal[b, t, i].log() + (1 - mix) * outcomes[z, b, t, i].log()
            total = total - mixed[a[i]]
            for j in {0, 1, 2} - {i}:
                total = total + w * (table[b, t, i, a[i], j, a[j]] + table[b, t, j, a[j], i, a[i]])
        torch.testing.assert_close(bonus[b, t], total / 3)
        drawn = range(OUTCOMES) if mix else [z]
        for i in range(3):
            expected = 0.0
            for k in drawn:
                own = outcomes[k, b, t, i]
                for action in torch.nonzero(own).flatten().tolist():
                    score = mix * marginal[b, t, i].log() + (1 - mix) * own.log()
                    cost = ALPHA * score[action] - values[b, t, i, action]
                    for j in {0, 1, 2} - {i}:
                        other = outcomes[k, b, t, j]
                        reach = other > 0
                        fit = other[reach] * table[b, t, i, action, j][reach]
                        cost = cost - ALPHA * w * fit.sum()
                    expected = expected + own[action] * cost / len(drawn)
            torch.testing.assert_close(objective[b, t, i], expected)


def test_predictor_loss_is_exact_over_the_partners_action():
    loss, td = build(), make_episodes()
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    e, view = views(loss, td, noise)
    table, fits = log_q(loss, e), []
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            for i in range(3):
                for j in {0, 1, 2} - {i}:
                    row = table[b, t, i, view.action[b, t, i], j]
                    fits.append(expectation(view.log_prob[b, t, j].detach(), row))
    torch.testing.assert_close(out["loss_predictor"], -torch.stack(fits).mean())
    torch.testing.assert_close(out["pair_log_prob"], torch.stack(fits).mean())


def test_a_partner_is_a_constant_in_the_policies_objective():
    loss, td = build(), make_episodes()
    # Policies of their own, so that one agent's parameters can be told from another's.
    net = RecurrentPolicyNet(
        OBS, ACTIONS, 3, latent_dim=OUTCOMES, hidden_size=8, share_params=False
    )
    loss = TestVM3FOPContract().make(actor=RecurrentActor(net), temperature=ALPHA)
    noise = loss.draw_noise(td)
    e, view = views(loss, td, noise)
    objective = loss.policy_objective(e, view, torch.zeros_like(view.log_prob))
    head = loss.actor_network_params.get(("net", "head", "weight"))
    for agent in range(3):
        own = objective[:, :, agent].sum()
        [gradient] = torch.autograd.grad(own, [head], retain_graph=True)
        reached = gradient.flatten(1).abs().sum(-1) > 0
        assert reached.tolist() == [i == agent for i in range(3)]


@pytest.mark.parametrize("entropy", [{}, {"num_latents": "all", "entropy_mix": 0.5}])
def test_the_outcomes_drawn_are_what_exact_enumeration_averages(entropy):
    td = make_episodes()
    loss = build(exact_latent=True, **entropy)
    noise = loss.draw_noise(td)
    e, view = views(loss, td, noise)
    values = torch.randn_like(view.log_prob)
    exact = loss.policy_objective(e, view, values)
    loss.exact_latent = False
    sampled = []
    for outcome in range(OUTCOMES):
        noise["latent"] = torch.eye(OUTCOMES).double()[outcome].expand_as(noise["latent"])
        _, view = views(loss, td, noise)
        sampled.append(loss.policy_objective(e, view, values))
    torch.testing.assert_close(exact, torch.stack(sampled).mean(0))


def test_the_joint_critic_is_asked_under_one_outcome():
    td = make_episodes()
    loss = build(exact_latent=True, policy_critic="joint")
    noise = loss.draw_noise(td)
    e, view = views(loss, td, noise)
    values = torch.randn(*e.seen.shape, 2, 3, ACTIONS, dtype=torch.float64)
    exact = loss.policy_values(e, view, values)
    assert exact.shape == view.outcomes.shape
    loss.exact_latent = False
    for outcome in range(OUTCOMES):
        noise["latent"] = torch.eye(OUTCOMES).double()[outcome].expand_as(noise["latent"])
        _, one = views(loss, td, noise)
        # What all agents draw under this outcome is what each deviates from.
        torch.testing.assert_close(exact[outcome], loss.policy_values(e, one, values))
    assert (exact - exact[:1]).abs().max() > 0
    assert not exact[:, ~e.seen].any()


def test_slices_of_time_change_nothing(monkeypatch):
    from vm3ac_modules.objectives import vm3ac_discrete

    loss, td = build(), make_episodes()
    noise = loss.draw_noise(td)
    whole = loss(td, noise)["loss_actor"]
    monkeypatch.setattr(vm3ac_discrete, "TABLE_ENTRIES", 1)
    torch.testing.assert_close(loss(td, noise)["loss_actor"], whole)


def deterministic(actions):
    """Policies that play ``actions[z][i]`` for sure, ``[Z, N, A]``."""
    logits = torch.full((len(actions), len(actions[0]), 3), -60.0, dtype=torch.float64)
    for z, row in enumerate(actions):
        for i, action in enumerate(row):
            logits[z, i, action] = 60.0
    return masked_log_softmax(logits, torch.ones_like(logits, dtype=torch.bool))


def test_perfect_coordination():
    """a_i = a_j = z: log 3 of information, and a conditional bonus that is not positive."""
    outcomes = deterministic([[0, 0], [1, 1], [2, 2]])
    prior = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    information = pairwise_information(outcomes, prior)
    torch.testing.assert_close(information[0, 1], torch.tensor(math.log(3.0)).double())
    marginal = marginal_log_prob(outcomes, prior)
    # The best predictor is right for certain: log q = 0, so the bonus of a pair is its entropy.
    conditional = -expectation(outcomes, outcomes).mean()
    assert conditional <= 1e-12
    torch.testing.assert_close(
        -expectation(outcomes, marginal).mean(), torch.tensor(math.log(3.0)).double()
    )


@pytest.mark.parametrize("seed", range(4))
def test_information_of_actions_is_bounded_by_that_of_the_latent(seed):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(3, 6, 4, 5, dtype=torch.float64)
    outcomes = torch.log_softmax(logits, -1)
    prior = torch.log_softmax(torch.randn(3, dtype=torch.float64), -1)
    pairs = pairwise_information(outcomes, prior)
    ceiling = action_latent_information(outcomes, prior)
    torch.testing.assert_close(pairs, pairs.transpose(-1, -2))
    both = torch.minimum(ceiling.unsqueeze(-1), ceiling.unsqueeze(-2))
    assert (pairs >= 0).all()
    assert (pairs <= both + 1e-12).all()
    assert (ceiling <= -(prior.exp() * prior).sum() + 1e-12).all()


def test_policies_that_ignore_the_latent_have_no_information():
    outcomes = torch.log_softmax(torch.randn(1, 6, 4, 5, dtype=torch.float64), -1)
    prior = torch.full((3,), 1 / 3, dtype=torch.float64).log()
    outcomes = outcomes.expand(3, -1, -1, -1)
    assert pairwise_information(outcomes, prior).abs().max() < 1e-12
    assert action_latent_information(outcomes, prior).abs().max() < 1e-12


def test_a_uniform_predictor_shifts_the_target_by_a_constant():
    """With q uniform the bonus is FOP's entropy plus a number that depends on legality alone."""
    td = make_episodes(dead=False)
    td["agents", "action_mask"] = torch.ones_like(td["agents", "action_mask"])
    loss = build()
    for parameter in loss.parameter_groups()["loss_predictor"]:
        parameter.data.zero_()
    noise = loss.draw_noise(td)
    e, view = views(loss, td, noise)
    entropy = -view.log_prob.gather(-1, view.action.unsqueeze(-1)).squeeze(-1).mean(-1)
    shift = (loss.soft_bonus(view) - entropy)[e.seen]
    torch.testing.assert_close(shift, torch.full_like(shift, -2 * 2 / 3 * math.log(ACTIONS)))


def information(loss, td):
    """What is logged of the estimates: means over pairs, agents and real transitions."""
    found = loss.diagnose(td)
    return {
        "mutual_information": found.scalars()["mi_upper_bound"],
        "latent_information": found.mean(found.latent_information),
    }


def test_diagnosis_sees_coordination_that_is_there():
    loss, td = build(), make_episodes(dead=False)
    before = information(loss, td)
    assert 0 <= before["mutual_information"] <= before["latent_information"] + 1e-9
    with torch.no_grad():
        loss.actor_network_params.get(("net", "from_latent", "weight")).mul_(30.0)
    after = information(loss, td)
    assert after["mutual_information"] > 2 * before["mutual_information"]
    assert after["latent_information"] <= math.log(OUTCOMES)


def test_both_predictors_of_discrete_actions_serve():
    left, td = build(), make_episodes()
    predictor = CategoricalPredictor(STATE, 3, ACTIONS, embed_dim=8, hypernet_hidden=8)
    nets = make_latent_actor(), make_critic(), predictor
    options = {"temperature": ALPHA, "gamma": GAMMA, "lam": LAM}
    right = with_targets_moved(VM3FOPLoss(*nets, TestVM3FOPContract.prior, **options).double())
    own = "predictor_network_params."
    right.load_state_dict(
        {name.replace(own, f"{own}net."): x for name, x in left.state_dict().items()}
    )
    noise = left.draw_noise(td)
    assert_same(right(td, noise), left(td, noise))
    found = left.diagnose(td)
    real = found.mask
    assert (found.lower[real] <= found.upper[real] + 1e-5).all()
    assert found.ceiling == pytest.approx(math.log(OUTCOMES))


def test_predictor_learns_the_policies():
    """Trained by its loss alone, q comes near the conditional law of the partner's action."""
    torch.manual_seed(0)
    loss, td = build(), make_episodes((6, 6), (True, True), dead=False)
    with torch.no_grad():
        loss.actor_network_params.get(("net", "from_latent", "weight")).mul_(30.0)
    optimizer = torch.optim.Adam(loss.parameter_groups()["loss_predictor"], lr=0.02)
    found = []
    for _ in range(150):
        out = loss(td, only=["loss_predictor"])
        out["loss_predictor"].backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(out["loss_predictor"].detach()))
    noise = loss.draw_noise(td)
    _, view = views(loss, td, noise)
    real = td["mask"].squeeze(-1)
    prior = loss.log_prior
    marginal = marginal_log_prob(view.outcomes.detach(), prior)
    own = -expectation(marginal, marginal)[real].mean()
    shared = information(loss, td)["mutual_information"]
    assert sum(found[:5]) / 5 > float(own) + 0.1
    assert sum(found[-20:]) / 20 < float(own) - 0.5 * float(shared)
