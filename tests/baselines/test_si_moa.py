"""SI-MOA's loss: its contract, influence and the models' loss pair by pair."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import pytest
import torch
from contracts.actor_critic_contract import ActorCriticContract
from contracts.loss_contract import (
    ACTION_DIM,
    action_spec,
    assert_same,
    make_batch,
    make_parts,
    with_updater,
)
from contracts.next_actions import next_action_loop
from contracts.reference import Reference, assert_equal_grads, grads
from contracts.si_moa import GAMMA, build, make_simoa_parts
from torch.distributions import Normal, kl_divergence

from vm3ac_modules.baselines import SIMOALoss, SocialInfluence
from vm3ac_modules.objectives import MAACLoss
from vm3ac_modules.objectives.policy import sample_policy
from vm3ac_modules.objectives.terms import TermInputs


class TestSIMOAContract(ActorCriticContract):
    fields = (*ActorCriticContract.fields, "next_action", "next_action_valid")
    groups: ClassVar = {**ActorCriticContract.groups, "loss_moa": "moa_network_params"}
    options: ClassVar = {}

    def parts(self, num_agents=2, *, keys=None):
        return make_simoa_parts(num_agents, keys=keys)

    def build(self, parts, **options):
        options = {"influence_weight": 0.3, "num_counterfactuals": 3, **self.options, **options}
        return SIMOALoss(*parts, **options)


def unit(action):
    """In half ranges around the centre, ``[*B, N, A]``."""
    space = action_spec(action.shape[-2]).space
    low, high = space.low.double(), space.high.double()
    return 2 * (action - low) / (high - low) - 1


def influence_by_hand(loss, td, noise, sigma, form="moments"):
    """c_i ``[B, N]`` before it is clipped, one agent, partner and dimension at a time."""
    reference, draws = Reference(loss, td, noise), noise["counterfactual"]
    batch, count, num_agents, size = draws.shape
    stored = unit(td["agents", "action"])
    out = torch.zeros(batch, num_agents, dtype=torch.float64)
    with torch.no_grad():
        heads = [reference.head(i, noise["latent"]) for i in range(num_agents)]
        loc, scale = (torch.stack(parts, dim=-2) for parts in zip(*heads, strict=True))
        imagined = (loc.unsqueeze(1) + scale.unsqueeze(1) * draws).tanh()
        own = torch.cat((stored.unsqueeze(1), imagined), dim=1)
        means = next_action_loop(loss.moa_network, td["agents", "observation"], stored, own)
        for i in range(num_agents):
            for partner in range(num_agents - 1):
                for a in range(size):
                    taken, others = means[:, 0, i, partner, a], means[:, 1:, i, partner, a]
                    center = sum(others[:, m] for m in range(count)) / count
                    spread = sum((others[:, m] - center) ** 2 for m in range(count)) / count
                    spread = spread if form == "moments" else torch.zeros_like(spread)
                    marginal = Normal(center, (sigma**2 + spread).sqrt())
                    out[:, i] += kl_divergence(Normal(taken, sigma), marginal)
    return out


# --- influence in the Q target ----------------------------------------------------------------


@pytest.mark.parametrize("num_agents", [1, 2, 3])
@pytest.mark.parametrize("reward_scale", [1.0, 0.25])
@pytest.mark.parametrize("form", ["moments", "fixed"])
def test_weighted_influence_is_added_to_the_reward(num_agents, reward_scale, form):
    sigma = 0.1
    loss, td, noise = build(
        num_agents, moa_sigma=sigma, influence_form=form, reward_scale=reward_scale
    )
    valid = td["agents", "next_action_valid"].squeeze(-1)
    found = influence_by_hand(loss, td, noise, sigma, form).clamp(max=10.0) * valid
    out = loss(td, noise)
    torch.testing.assert_close(out["influence"], found.mean())
    torch.testing.assert_close(out["reward_bonus"], 0.75 * found.mean())
    paid = td.clone()
    paid["next", "agents", "reward"] += 0.75 * found.unsqueeze(-1)
    reference = Reference(loss, paid, noise)
    expected = sum(reference.action_value(i) for i in range(num_agents))
    torch.testing.assert_close(out["loss_qvalue"], expected)
    theta = loss.parameter_groups()["loss_qvalue"]
    assert_equal_grads(grads(out["loss_qvalue"], theta), grads(expected, theta))
    if num_agents == 1:
        assert out["influence"] == 0
        assert out["loss_moa"] == 0
    else:
        assert (found[valid] > 0).all()


def test_influence_moves_nothing_but_the_target():
    loss, td, noise = build()
    plain = with_updater(MAACLoss(*make_parts(3, latent_dim=0)[:3], gamma=GAMMA)).double()
    own = {name: x for name, x in loss.state_dict().items() if not name.startswith("moa_")}
    for name in ("weight", "center", "half_range"):
        own.pop(f"terms.0.{name}")
    plain.load_state_dict(own)
    ours, theirs = loss(td, noise), plain(td, noise)
    assert ours["loss_qvalue"] != theirs["loss_qvalue"]
    for name in ("loss_actor", "loss_value"):
        assert torch.equal(ours[name], theirs[name])
        groups = loss.parameter_groups()[name], plain.parameter_groups()[name]
        for left, right in zip(
            grads(ours[name], groups[0]), grads(theirs[name], groups[1]), strict=True
        ):
            assert torch.equal(left, right)


def inputs_of(loss, td, noise):
    """What the term is evaluated on: a draw that wants a gradient."""
    sample = sample_policy(loss.reader, td, noise, loss.center, loss.half_range)
    assert sample.loc.requires_grad
    return TermInputs(td, sample, noise, loss.tensor_keys, loss.reward_scale)


def bonus_of(loss, td, noise, network=None):
    """The term's own bonus and influence ``[B, N]``, from inputs that want a gradient."""
    term, network = loss.term(SocialInfluence), loss.moa_network if network is None else network
    influence = term.influence_of(network, inputs_of(loss, td, noise))
    return term.weight * influence, influence


def test_influence_sends_no_gradient_anywhere():
    loss, td, noise = build(moa_sigma=0.1)
    parts = loss.terms[0].evaluate(inputs_of(loss, td, noise), loss.network("moa"))
    assert parts.policy == ()
    assert set(parts.losses) == {"loss_moa"}
    assert parts.losses["loss_moa"].requires_grad
    assert not parts.reward.requires_grad
    assert not any(value.requires_grad for value in parts.scalars.values())

    action = td["agents", "action"].requires_grad_()
    value, groups = loss(td, noise)["loss_qvalue"], loss.parameter_groups()
    leaves = [p for name, group in groups.items() if name != "loss_qvalue" for p in group]
    found = torch.autograd.grad(value, [*leaves, action], allow_unused=True)
    assert all(gradient is None for gradient in found[:-1])
    # Of the stored actions, it is that of the critics' input alone: as if it were paid out.
    td["next", "agents", "reward"] += parts.reward.unsqueeze(-1)
    loss.terms[0].weight.zero_()
    assert parts.reward.sum() > 0
    torch.testing.assert_close(found[-1], *grads(loss(td, noise)["loss_qvalue"], [action]))


def valid_rows(td):
    return td["agents", "next_action_valid"][:, 0, 0]


def test_a_model_that_does_not_hear_the_agent_gives_no_influence():
    loss, td, noise = build(moa_sigma=0.1)
    assert loss(td, noise)["influence"] > 0
    with torch.no_grad():
        loss.moa_network_params["own_layer", "weight"].zero_()
    out = loss(td, noise)
    assert out["influence"] == 0
    assert out["reward_bonus"] == 0
    assert out["loss_moa"] > 0


def test_no_next_action_no_influence_and_nothing_to_learn():
    loss, td, noise = build(moa_sigma=0.1, reduction="none")
    # What stands where there is no next action does not matter.
    td["agents", "next_action"][~valid_rows(td)] = math.nan
    with_influence = loss(td, noise)
    loss.terms[0].weight.zero_()
    without = loss(td, noise)
    changed = with_influence["loss_qvalue"] != without["loss_qvalue"]
    assert torch.equal(changed, valid_rows(td))
    assert torch.equal(with_influence["loss_moa"] != 0, valid_rows(td))
    xi = loss.parameter_groups()["loss_moa"]
    all_rows = grads(with_influence["loss_moa"].sum(), xi)
    part = grads(with_influence["loss_moa"][valid_rows(td)].sum(), xi)
    assert all(x.isfinite().all() for x in all_rows)
    assert_equal_grads(all_rows, part)
    # A next action of some agents alone counts for those.
    td["agents", "next_action_valid"][2, 1] = False
    _, found = bonus_of(loss, td, noise)
    assert (found[2] > 0).tolist() == [True, False, True]


def test_influence_is_clipped_at_ten():
    loss, td, noise = build(moa_sigma=1e-3, influence_form="fixed")
    free = influence_by_hand(loss, td, noise, 1e-3, "fixed")
    bonus, found = bonus_of(loss, td, noise)
    valid = valid_rows(td)
    assert (free[valid] > 10).any()
    assert found.max() == 10.0
    torch.testing.assert_close(found[valid], free[valid].clamp(max=10.0))
    torch.testing.assert_close(bonus, 0.75 * found)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_costs_its_own_influence_alone(bad):
    loss, td, noise = build(moa_sigma=0.1)
    _, expected = bonus_of(loss, td, noise)

    def network(*inputs):
        means = loss.moa_network(*inputs)
        poison = torch.zeros_like(means)
        poison[4, 2, 1, 0, 0] = bad  # row 4, a counterfactual of agent 1
        return means + poison

    bonus, found = bonus_of(loss, td, noise, network)
    assert expected[4, 1] > 0
    expected[4, 1] = 0.0
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(bonus, 0.75 * expected)


def test_sampled_influence_approaches_the_divergence_from_the_mixture():
    # One dimension of one pair: the integral over its next action, agent by agent.
    sigma, count = 0.1, 3
    loss, td, _ = build(2, moa_sigma=sigma, influence_form="samples", num_counterfactuals=count)
    td = td[2:3]
    noise = loss.draw_noise(td)
    assert noise["model"].shape == (1, count, 2, 1, ACTION_DIM)
    reference = Reference(loss, td, noise)
    heads = [reference.head(i, noise["latent"]) for i in range(2)]
    loc, scale = (torch.stack(parts, dim=-2) for parts in zip(*heads, strict=True))
    stored = unit(td["agents", "action"])
    own = torch.cat((stored, (loc + scale * noise["counterfactual"][0]).tanh()))
    means = next_action_loop(loss.moa_network, td["agents", "observation"][0], stored[0], own)
    x = torch.linspace(-2, 2, 401, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, x, indexing="ij"), dim=-1)
    for i in range(2):
        density = Normal(means[:, i, 0, None, None], sigma).log_prob(grid).sum(-1)
        mixture = density[1:].logsumexp(0) - math.log(count)
        exact = (density[0].exp() * (density[0] - mixture)).sum() * (x[1] - x[0]) ** 2
        many = noise.clone()
        many["model"] = torch.randn(1, 20_000, 2, 1, ACTION_DIM, dtype=torch.float64)
        _, found = bonus_of(loss, td, many)
        assert found[0, i].item() == pytest.approx(exact.item(), rel=0.05)


def test_weight_zero_is_ma_ac():
    parts = make_simoa_parts(3, latent_dim=0)
    plain = with_updater(MAACLoss(*copy.deepcopy(parts[:3]), gamma=GAMMA))
    loss = with_updater(SIMOALoss(*parts, influence_weight=0.0, gamma=GAMMA))
    td = make_batch(7, num_agents=3)
    noise = loss.draw_noise(td)
    ours, theirs = loss(td, noise), plain(td, noise)
    assert_same(ours, theirs)
    groups = loss.parameter_groups()
    for name, parameters in plain.parameter_groups().items():
        for left, right in zip(
            grads(ours[name], groups[name]), grads(theirs[name], parameters), strict=True
        ):
            assert torch.equal(left, right)


# --- the models' loss -------------------------------------------------------------------------


@pytest.mark.parametrize("num_agents", [2, 3])
def test_models_learn_the_next_actions_of_the_others(num_agents):
    loss, td, noise = build(num_agents)
    stored, following = unit(td["agents", "action"]), unit(td["agents", "next_action"])
    observation = td["agents", "observation"]
    mean = next_action_loop(loss.moa_network, observation, stored, stored.unsqueeze(1))[:, 0]
    expected, per_agent = torch.zeros((), dtype=torch.float64), []
    for i in range(num_agents):
        for row in torch.arange(7)[valid_rows(td)]:
            partners = [j for j in range(num_agents) if j != i]
            for slot, j in enumerate(partners):
                error = (following[row, j] - mean[row, i, slot]).square().sum()
                expected = expected + error / len(partners) / 7
        per_agent.append(expected.detach())
    out = loss(td, noise)
    torch.testing.assert_close(out["loss_moa"], expected)
    torch.testing.assert_close(out["moa_error"], per_agent[-1] / num_agents)
    xi = loss.parameter_groups()["loss_moa"]
    assert_equal_grads(grads(out["loss_moa"], xi), grads(expected, xi))


def test_models_are_taught_by_stored_actions_alone():
    loss, td, noise = build()
    before, again = loss(td, noise), loss(td, loss.draw_noise(td))
    assert again["loss_actor"] != before["loss_actor"]
    assert torch.equal(again["loss_moa"], before["loss_moa"])


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"influence_weight": -0.1}, "influence_weight must not be negative, got -0.1"),
        ({"influence_weight": math.nan}, "influence_weight must not be negative"),
        ({"moa_sigma": 0.0}, "moa_sigma must be positive, got 0.0"),
        ({"num_counterfactuals": 0}, "num_counterfactuals must be at least 1, got 0"),
        ({"influence_form": "exact"}, "influence_form must be one of .*, got 'exact'"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        SIMOALoss(*make_simoa_parts(), **options)


def test_the_weight_is_saved_with_the_loss():
    loss = SIMOALoss(*make_simoa_parts(), influence_weight=0.3)
    loss.terms[0].weight.fill_(0.1)
    other = SIMOALoss(*make_simoa_parts(), influence_weight=0.3)
    other.load_state_dict(loss.state_dict())
    assert float(other.terms[0].weight) == pytest.approx(0.1)
    term = SocialInfluence(None, 0.1, center=torch.zeros(2, 1), half_range=torch.ones(2, 1))
    assert set(term.draw_noise(torch.zeros(5, 2, 1))) == {"counterfactual"}
