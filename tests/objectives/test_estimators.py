"""Estimators of the mutual information in the losses: contracts, formulas, what they reach."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, get_args

import pytest
import torch
from contracts.actor_critic_contract import ActorCriticContract
from contracts.categorical import ACTIONS, batch_of, masked_loss
from contracts.loss_contract import ACTION_DIM, make_batch, make_parts, to_double, with_updater

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.functional import infonce_bound, scatter_others
from vm3ac_modules.functional.contrastive import CONTRASTIVE
from vm3ac_modules.objectives import MutualInformationLoss, VM3ACLoss
from vm3ac_modules.objectives.categorical_policy import categorical_pair_terms
from vm3ac_modules.objectives.pairs import (
    ESTIMATORS,
    Contrast,
    Estimator,
    PairTerms,
    pair_estimates,
)
from vm3ac_modules.testing import TabularGame

from .test_mutual_information_categorical import CategoricalContract
from .test_mutual_information_contract import MutualInformationContract

NAMES = [name for name in ESTIMATORS if name != "barber_agakov"]


# --- the contract of every loss ---------------------------------------------------------------


class TestInfoNCEContract(MutualInformationContract):
    options: ClassVar = {"estimator": "infonce", "num_latents": 3, "entropy_weight": 1.0}


class TestNWJCategoricalContract(CategoricalContract):
    options: ClassVar = {"estimator": "nwj", "num_latents": 2, "entropy_weight": 1.0}


class TestVM3ACByDonskerVaradhanContract(ActorCriticContract):
    groups: ClassVar = {**ActorCriticContract.groups, "loss_predictor": "predictor_network_params"}

    def build(self, parts, **options):
        options = {"beta": 0.3, "num_latents": 2, "estimator": "donsker_varadhan", **options}
        return VM3ACLoss(*parts, **options)


# --- the formula, one pair at a time ----------------------------------------------------------


def by_hand(name, matched, mismatched, peak):
    """A bound of one matched score and a list of mismatched ones."""
    if name == "infonce":
        total = sum(score.exp() for score in [matched, *mismatched])
        return (matched.exp() / (total / (1 + len(mismatched)))).log()
    if name == "donsker_varadhan":
        return matched - (sum(score.exp() for score in mismatched) / len(mismatched)).log()
    half = len(mismatched) // 2
    held_out = [peak, *mismatched[:half]]
    offset = (sum(score.exp() for score in held_out) / (half + 1)).log()
    rest = mismatched[half:]
    return 1 + matched - offset - sum((score - offset).exp() for score in rest) / len(rest)


def parts_by_hand(loss, td, noise):
    """Actions, actions under the other latents, and log pi_K."""
    loc, scale = loss.reader.heads(td, noise["latent"])
    action = loss.center + loss.half_range * (loc + scale * noise["action"]).tanh()
    others = []
    for k in range(noise["extra_latents"].shape[-2]):
        head = loss.reader.heads(td, noise["extra_latents"][..., k, :])
        u = head[0] + head[1] * noise["extra_action"][..., k, :, :]
        others.append((loss.center + loss.half_range * u.tanh()).detach())
    return action, others


@pytest.mark.parametrize("reverse_model", ["own", "partner"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_agents", [2, 3])
def test_losses_and_gradients_equal_the_formula(num_agents, name, reverse_model):
    parts = make_parts(num_agents, scale="learned")
    options = {"weight": 0.7, "num_latents": 4, "estimator": name, "reverse_model": reverse_model}
    loss = MutualInformationLoss(parts.policy, parts.predictor, **options).double()
    td = to_double(make_batch(5, num_agents=num_agents))
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    action, others = parts_by_hand(loss, td, noise)
    observation, predictor = td["agents", "observation"], loss.predictor_network
    log_prob = loss.information.evaluate(td, noise, loss._run()).log_prob

    def scores(condition, target, owner, i, j):
        """log q of j's action given i's, by the model that owner owns."""
        sides = predictor.pair_log_prob(condition, target, observation)
        partner, own = (scatter_others(side) for side in sides)
        return partner[:, i, j] if owner == i else own[:, j, i]

    def estimate(condition, owner, i, j):
        matched = scores(condition, action.detach(), owner, i, j)
        mismatched = [scores(condition, o, owner, i, j) for o in others]
        return by_hand(name, matched, mismatched, scores(condition, None, owner, i, j))

    pairs = [(i, j) for i in range(num_agents) for j in range(num_agents) if i != j]
    gain = sum(estimate(action, i, i, j) + log_prob[:, j].detach() for i, j in pairs)
    expected = -0.7 / num_agents**2 * gain.mean()
    torch.testing.assert_close(out["loss_mi"], expected)
    policy = loss.parameter_groups()["loss_mi"]
    for left, right in zip(
        torch.autograd.grad(out["loss_mi"], policy, retain_graph=True),
        torch.autograd.grad(expected, policy, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(left, right)
    fixed = action.detach()
    nll = 0.0
    for i, j in pairs:
        reverse_owner = i if reverse_model == "own" else j
        total = estimate(fixed, i, i, j) + log_prob[:, j] + log_prob[:, i]
        nll = nll - total - estimate(fixed, reverse_owner, j, i)
    nll = nll.mean() / len(pairs)
    torch.testing.assert_close(out["loss_predictor"], nll)
    model = loss.parameter_groups()["loss_predictor"]
    for left, right in zip(
        torch.autograd.grad(out["loss_predictor"], model),
        torch.autograd.grad(nll, model),
        strict=True,
    ):
        torch.testing.assert_close(left, right)
    first = sum(estimate(fixed, i, i, j) for i, j in pairs).mean() / len(pairs)
    torch.testing.assert_close(out["mi_estimate"], first.detach())
    # Entry by entry: sums over both directions would hide whose entropy belongs to which.
    for i, j in pairs:
        alone = estimate(fixed, i, i, j).mean().detach()
        torch.testing.assert_close(out["mi_estimate_matrix"][i, j], alone)
        alone = alone + log_prob[:, j].mean().detach()
        torch.testing.assert_close(out["pair_log_prob_matrix"][i, j], alone)


@pytest.mark.parametrize("name", NAMES)
def test_categorical_losses_equal_the_sums(name):
    loss = masked_loss(3, gain=3.0, weight=0.7, entropy_weight=0.4, num_latents=4, estimator=name)
    td = batch_of(5, num_agents=3)
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    with torch.no_grad():
        log_prob = loss.reader.log_prob(td, noise["latent"])
        extra = [loss.reader.log_prob(td, z).exp() for z in noise["extra_latents"].unbind(-2)]
        table = loss.predictor_network.table(td["state"], td["agents", "action_mask"])
    probs = log_prob.exp()
    mixed = sum([probs, *extra]) / 5
    minus_entropy = torch.special.xlogy(probs, mixed).sum(-1)
    gain, nll, estimates = -0.4 * minus_entropy.sum(-1), 0.0, 0.0
    for i in range(3):
        for j in range(3):
            if i == j:
                continue
            value = torch.zeros(5, dtype=torch.float64)
            for a in range(ACTIONS):
                q = table[:, i, a, j]
                mismatched = [(x[:, j] * q.exp()).sum(-1).log() for x in extra]
                for b in range(ACTIONS):
                    each = by_hand(name, q[:, b].clamp(min=-700.0), mismatched, q.amax(-1))
                    weight = probs[:, i, a] * probs[:, j, b]
                    value = value + torch.where(weight > 0, weight * each, 0.0)
            estimates = estimates + value / 6
            torch.testing.assert_close(out["mi_estimate_matrix"][i, j], value.mean())
            expected = (value + minus_entropy[:, j]).mean()
            torch.testing.assert_close(out["pair_log_prob_matrix"][i, j], expected)
            gain = gain + (value + minus_entropy[:, j]) / 3
            nll = nll - 2 * (value + minus_entropy[:, j]) / 6
    torch.testing.assert_close(out["loss_mi"], -0.7 / 3 * gain.mean())
    torch.testing.assert_close(out["loss_predictor"], nll.mean())
    torch.testing.assert_close(out["mi_estimate"], estimates.mean())


# --- what they are worth ----------------------------------------------------------------------


def tabular_terms(name, num_latents, rows=4000, noise=0.04):
    """Estimates at the best score in a game of three actions, and its exact information."""
    eye = torch.eye(3, dtype=torch.float64)
    table = (1.0 - 3 * noise) * eye + noise
    game = TabularGame(torch.full((3,), 1 / 3, dtype=torch.float64), (table, table))
    policies = torch.stack(game.policies, dim=1)  # [Z, N, A]
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(3, (rows, num_latents + 1), generator=generator)
    # Normalized over the partner's actions, as a predictor's table is: equal marginals cancel.
    best = game.conditional(1, given=0).log().reshape(1, 1, 3, 1, 3).expand(rows, 2, 3, 2, 3)
    own, extra = policies[z[:, 0]].log(), policies[z[:, 1:]].log()
    zero = torch.zeros(rows, 2, dtype=torch.float64)
    contrast = Contrast(CONTRASTIVE[name], extra, zero)
    pairs = categorical_pair_terms(own, best, contrast)
    return pair_estimates(pairs, zero).mean((-1, -2)), float(game.mutual_information(0, 1))


@pytest.mark.parametrize("name", NAMES)
def test_estimates_at_the_best_score_approach_the_information(name):
    found, exact = tabular_terms(name, 256)
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - exact) < 0.02 + 4 * error
    few, _ = tabular_terms(name, 2)
    if name == "donsker_varadhan":
        assert float(few.mean()) > exact + 0.02
    else:
        assert float(few.mean()) < exact - 0.02


def test_infonce_stays_below_its_ceiling():
    found, exact = tabular_terms("infonce", 1, noise=0.01)
    assert exact > math.log(2) + 0.1
    assert float(found.max()) < math.log(2)
    above, _ = tabular_terms("infonce", 64, noise=0.01)
    assert float(above.mean()) > math.log(2)


@pytest.mark.parametrize("name", NAMES)
def test_the_normalizer_of_a_constant_scale_cancels(name):
    losses = [
        MutualInformationLoss(
            parts.policy, parts.predictor, num_latents=3, estimator=name, entropy_weight=1.0
        )
        for parts in (make_parts(normalized=True), make_parts(normalized=False))
    ]
    losses[1].load_state_dict(losses[0].state_dict())
    td = make_batch(6)
    noise = losses[0].draw_noise(td)
    first, second = (loss(td, noise) for loss in losses)
    for key in ("loss_mi", "loss_predictor", "mi_estimate"):
        torch.testing.assert_close(first[key], second[key])


def test_the_targets_of_values_hold_the_estimate_in_the_place_of_log_q():
    parts = make_parts(3)
    options = {"beta": 0.3, "num_latents": 3}
    plain = with_updater(VM3ACLoss(*parts, **options))
    other = with_updater(VM3ACLoss(*parts, estimator="infonce", **options))
    td = make_batch(6, num_agents=3)
    noise = other.draw_noise(td)
    before, after = plain(td, noise), other(td, noise)
    moved = after["state_value_target"] - before["state_value_target"]
    bonus = after["correlation_term"] - before["correlation_term"]
    torch.testing.assert_close(moved, bonus, rtol=1e-4, atol=1e-5)
    # The estimate less the entropy: log pi_K of the partner is added back for each pair.
    sides = after["pair_log_prob"] - after["mi_estimate"]
    torch.testing.assert_close(sides, -after["entropy"], rtol=1e-4, atol=1e-5)
    for key in ("loss_qvalue", "entropy", "state_action_value"):
        torch.testing.assert_close(before[key], after[key])


def test_the_default_is_barber_agakov_and_draws_nothing_more():
    parts = make_parts()
    named = VM3ACLoss(*parts, num_latents=3, estimator="barber_agakov")
    td = make_batch(6)
    assert set(named.draw_noise(td).keys()) == {"latent", "extra_latents", "action"}
    assert named.out_keys == VM3ACLoss(*parts, num_latents=3).out_keys
    other = VM3ACLoss(*parts, num_latents=3, estimator="nwj")
    assert other.draw_noise(td)["extra_action"].shape == (6, 3, 2, ACTION_DIM)
    assert set(other.out_keys) - set(named.out_keys) == {"mi_estimate", "mi_estimate_matrix"}


def test_mismatched_actions_are_those_of_the_same_state():
    # Move one row's observation: only that row's estimate may change.
    parts = make_parts()
    loss = MutualInformationLoss(
        parts.policy, parts.predictor, num_latents=3, estimator="infonce", reduction="none"
    )
    td = make_batch(6)
    noise = loss.draw_noise(td)
    before = loss(td, noise)["loss_mi"]
    td["agents", "observation"][2] += 1.0
    changed = loss(td, noise)["loss_mi"] != before
    assert changed.tolist() == [False, False, True, False, False, False]


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("infonce", 1), ("nwj", 2), ("donsker_varadhan", 2)])
def test_too_few_latents_for_an_estimator(name, least):
    parts = make_parts()
    message = f"estimator='{name}' compares .* needs num_latents >= {least}, got {least - 1}"
    options = {"estimator": name, "num_latents": least - 1}
    with pytest.raises(ValueError, match=message):
        MutualInformationLoss(parts.policy, parts.predictor, **options)
    with pytest.raises(ValueError, match=message):
        VM3ACLoss(*parts, **options)
    with pytest.raises(ValueError, match=message):
        masked_loss(**options)


def test_the_names_are_the_same_for_type_checkers():
    assert get_args(Estimator) == ESTIMATORS


def test_unknown_estimators():
    parts = make_parts()
    message = r"estimator must be one of \('barber_agakov', .*\), got 'mine'"
    with pytest.raises(ValueError, match=message):
        MutualInformationLoss(parts.policy, parts.predictor, estimator="mine")
    with pytest.raises(ValueError, match=message):
        VM3ACLoss(*parts, estimator="mine")
    options = find_preset("vm3ac", "continuous").options
    with pytest.raises(ValueError, match=r"estimator must be barber_agakov, .*, got 'mine'"):
        replace(options, estimator="mine")


def test_noise_without_the_other_actions():
    parts = make_parts()
    plain = MutualInformationLoss(parts.policy, parts.predictor, num_latents=2)
    loss = MutualInformationLoss(parts.policy, parts.predictor, num_latents=2, estimator="infonce")
    td = make_batch(6)
    with pytest.raises(ValueError, match="the noise lacks 'extra_action'"):
        loss(td, plain.draw_noise(td))


def test_one_agent_has_no_pairs():
    parts = make_parts(1)
    loss = MutualInformationLoss(
        parts.policy, parts.predictor, num_latents=2, estimator="infonce", entropy_weight=1.0
    )
    out = loss(make_batch(6, num_agents=1))
    assert out["mi_estimate"] == 0
    assert out["loss_mi"].isfinite()
    assert loss.information.contrastive.bound is infonce_bound
    assert PairTerms._fields == ("policy", "partner", "own")
