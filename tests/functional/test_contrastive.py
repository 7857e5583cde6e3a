"""Contrastive bounds: identities on games whose mutual information is known exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional.contrastive import (
    CONTRASTIVE,
    club_bound,
    donsker_varadhan_bound,
    held_out_nwj_bound,
    infonce_bound,
    nwj_bound,
)
from vm3ac_modules.testing import coordinated_tabular_games, tensors

GAMES = coordinated_tabular_games(num_agents=2, max_actions=3, max_latents=3)


FUNCTIONS = {
    "infonce": infonce_bound,
    "nwj": nwj_bound,
    "held_out_nwj": lambda f, m: held_out_nwj_bound(f, m, f.detach()),
    "donsker_varadhan": donsker_varadhan_bound,
    "club": club_bound,
}


def expectation(game, bound, score, draws):
    """Exact mean of a bound over a_0, the matched a_1 and every tuple of mismatched ones."""
    joint, marginal = game.joint(0, 1), game.marginal(1)
    total = torch.zeros((), dtype=torch.float64)
    for others in itertools.product(range(len(marginal)), repeat=draws):
        weight = joint * marginal[list(others)].prod()
        mismatched = score[:, None, list(others)].expand(*score.shape, draws)
        total = total + torch.where(weight > 0, weight * bound(score, mismatched), 0.0).sum()
    return float(total)


def log_ratio(game):
    # Finite where a pair never happens, so that differences of two such scores are numbers.
    return (game.conditional(1, given=0).log() - game.marginal(1).log()).clamp(min=-50.0)


@st.composite
def games_and_scores(draw):
    game = draw(GAMES)
    score = draw(tensors(len(game.marginal(0)), len(game.marginal(1)), limit=4.0))
    return game, score


@given(GAMES)
def test_nwj_at_the_optimum_is_the_mutual_information(game):
    exact = float(game.mutual_information(0, 1))
    assert expectation(game, nwj_bound, log_ratio(game), 1) == pytest.approx(exact, abs=1e-9)


@given(games_and_scores(), st.integers(1, 3))
def test_infonce_is_a_bound_for_every_score(drawn, draws):
    game, score = drawn
    value = expectation(game, infonce_bound, score, draws)
    assert value <= float(game.mutual_information(0, 1)) + 1e-9


@given(games_and_scores())
def test_nwj_is_a_bound_for_every_score(drawn):
    game, score = drawn
    exact = float(game.mutual_information(0, 1))
    assert expectation(game, nwj_bound, score, 2) <= exact + 1e-9
    # An offset of held-out draws and of the row's peak, whatever the peak is said to be.
    for lift in (0.0, 1.0):
        peak = score.amax(-1, keepdim=True) + lift

        def bound(matched, mismatched, peak=peak):
            return held_out_nwj_bound(matched, mismatched, peak)

        assert expectation(game, bound, score, 2) <= exact + 1e-9


@given(tensors(5, limit=20.0), tensors(5, 4, limit=20.0))
def test_the_peak_keeps_held_out_nwj_within_limits(matched, mismatched):
    peak = torch.maximum(matched, mismatched.amax(-1))
    found = held_out_nwj_bound(matched, mismatched, peak)
    assert (found <= 1.0 + math.log(3) + 1e-12).all()
    assert (found >= 1.0 + matched - peak - 3.0 - 1e-12).all()


@given(GAMES)
def test_infonce_climbs_with_the_number_of_draws(game):
    values = [expectation(game, infonce_bound, log_ratio(game), m) for m in (1, 2, 3)]
    assert values == sorted(values) or max(values) - min(values) < 1e-9


@given(tensors(5, limit=20.0), tensors(5, 3, limit=20.0))
def test_infonce_never_exceeds_its_ceiling(matched, mismatched):
    assert (infonce_bound(matched, mismatched) <= math.log(4) + 1e-12).all()


@given(tensors(5, limit=4.0), tensors(5, 4, limit=4.0), tensors(5, limit=4.0))
def test_donsker_varadhan_is_never_below_nwj(matched, mismatched, offset):
    dv = donsker_varadhan_bound(matched, mismatched)
    assert (dv >= nwj_bound(matched, mismatched, offset) - 1e-12).all()
    best = mismatched.exp().mean(-1).log()
    assert torch.allclose(dv, nwj_bound(matched, mismatched, best), atol=1e-12)


def test_donsker_varadhan_from_few_draws_is_too_large_and_less_so_from_more():
    latent = torch.tensor([0.5, 0.5], dtype=torch.float64)
    policy = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    from vm3ac_modules.testing import TabularGame

    game = TabularGame(latent, (policy, policy))
    exact = float(game.mutual_information(0, 1))
    excess = [
        expectation(game, donsker_varadhan_bound, log_ratio(game), m) - exact for m in (1, 2, 4, 8)
    ]
    assert min(excess) > 0.0
    assert excess == sorted(excess, reverse=True)
    # To first order it is Var(e^f) / (2 M), with e^f the ratio of densities.
    ratio = game.conditional(1, given=0) / game.marginal(1)
    variance = float((torch.outer(game.marginal(0), game.marginal(1)) * (ratio - 1.0) ** 2).sum())
    assert excess[-1] == pytest.approx(variance / 16, rel=0.25)


@given(GAMES.filter(lambda game: bool((game.joint(0, 1) > 0).all())))
def test_club_is_above_at_the_true_conditional(game):
    log_q = game.conditional(1, given=0).log()
    value = expectation(game, club_bound, log_q, 2)
    assert value >= float(game.mutual_information(0, 1)) - 1e-9


def test_club_at_another_conditional_may_be_below():
    from vm3ac_modules.testing import TabularGame

    latent = torch.tensor([0.5, 0.5], dtype=torch.float64)
    policy = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    game = TabularGame(latent, (policy, policy))
    uniform = torch.full((2, 2), 0.5, dtype=torch.float64).log()
    assert expectation(game, club_bound, uniform, 1) < float(game.mutual_information(0, 1))


@given(tensors(5, limit=4.0), tensors(5, 4, limit=4.0), tensors(5, limit=4.0))
def test_what_depends_on_the_condition_alone_cancels(matched, mismatched, shift):
    peak = torch.maximum(matched, mismatched.amax(-1))
    for name, (bound, _, needs_peak) in CONTRASTIVE.items():
        before, after = ([peak], [peak + shift]) if needs_peak else ([], [])
        moved = bound(matched + shift, mismatched + shift.unsqueeze(-1), *after)
        assert torch.allclose(moved, bound(matched, mismatched, *before), atol=1e-9), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_too_few_draws_are_refused(name):
    least = 2 if name == "held_out_nwj" else 1
    with pytest.raises(ValueError, match=f"at least {least} mismatched draws per pair, got 0"):
        FUNCTIONS[name](torch.zeros(3), torch.zeros(3, 0))
    if least == 2:
        with pytest.raises(ValueError, match="at least 2 mismatched draws per pair, got 1"):
            FUNCTIONS[name](torch.zeros(3), torch.zeros(3, 1))
    assert FUNCTIONS[name](torch.zeros(3), torch.zeros(3, least)).shape == (3,)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_types_and_gradients(name):
    matched = torch.zeros(2, 3, dtype=torch.float32, requires_grad=True)
    mismatched = torch.zeros(2, 3, 4, requires_grad=True)
    out = FUNCTIONS[name](matched, mismatched)
    assert (out.shape, out.dtype) == ((2, 3), torch.float32)
    grads = torch.autograd.grad(out.sum(), (matched, mismatched))
    if name != "held_out_nwj":
        # What is added to all scores alike changes nothing.
        assert float(sum(g.sum() for g in grads)) == pytest.approx(0.0, abs=1e-5)
    assert all(torch.isfinite(g).all() for g in grads)
