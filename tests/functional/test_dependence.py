"""Dependence of simultaneous actions given the state: what it ignores, and what it must find."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import (
    information_with_entropy,
    largest_canonical_correlation,
    normalized_dependence,
    within_state_covariance,
)
from vm3ac_modules.testing import linear_gaussian_games, tabular_games, tensors

STATES, DRAWS, AGENTS, SIZE = 3, 5, 3, 2


def correlation_of(game):
    """Exact correlations of all components of a linear-Gaussian game's joint action."""
    joint = torch.einsum("iaz,zy,jby->iajb", game.weights, game.latent, game.weights)
    joint = joint + torch.einsum("iab,ij->iajb", game.noise, torch.eye(len(game.noise)).double())
    covariance = joint.flatten(2).flatten(0, 1)
    return normalized_dependence(covariance.unsqueeze(0)).matrix


@given(tensors(STATES, DRAWS, AGENTS, SIZE), tensors(STATES, 1, AGENTS, SIZE, limit=100.0))
def test_what_depends_on_the_state_alone_does_not_count(actions, means):
    torch.testing.assert_close(
        within_state_covariance(actions + means),
        within_state_covariance(actions),
        rtol=1e-6,
        atol=1e-6,
    )


@given(tensors(STATES, DRAWS, AGENTS, SIZE))
def test_it_is_the_covariance_within_each_state(actions):
    found = within_state_covariance(actions)
    for state, draws in zip(found, actions.double(), strict=True):
        torch.testing.assert_close(state, draws.flatten(1).T.cov(), rtol=1e-6, atol=1e-9)


@given(tensors(STATES, DRAWS, AGENTS, SIZE), st.permutations(range(AGENTS)))
def test_permuted_agents_permute_the_matrices(actions, order):
    noise = torch.linspace(0.0, 1.0, actions.numel()).cos().reshape(actions.shape)
    actions = actions + noise
    component = torch.arange(AGENTS * SIZE).reshape(AGENTS, SIZE)[order].flatten()
    first = normalized_dependence(within_state_covariance(actions))
    other = normalized_dependence(within_state_covariance(actions[:, :, order]))
    for mine, theirs in zip(first, other, strict=True):
        torch.testing.assert_close(mine[component][:, component], theirs)
    torch.testing.assert_close(
        largest_canonical_correlation(first.matrix, AGENTS)[order][:, order],
        largest_canonical_correlation(other.matrix, AGENTS),
    )


@given(linear_gaussian_games(num_agents=3))
def test_the_canonical_correlation_is_what_gaussian_information_shows(game):
    r"""``I = -1/2 sum_k log(1 - rho_k^2)`` over all canonical correlations of one Gaussian."""
    found = largest_canonical_correlation(correlation_of(game), 3)
    torch.testing.assert_close(found.diagonal(), torch.ones(3).double())
    information = -0.5 * (1.0 - found[0, 1] ** 2).log()
    exact = game.mutual_information(0, 1)
    assert information <= exact + 1e-6
    if game.offset.shape[-1] == 1:
        torch.testing.assert_close(information, exact)
        torch.testing.assert_close(found, correlation_of(game).abs())


def test_averaged_over_unlike_states_it_bounds_no_information():
    # Variances 10 and 0.1, correlations 0.9 and 0: the large state decides what c is.
    covariances = torch.tensor([[[10.0, 9.0], [9.0, 10.0]], [[0.1, 0.0], [0.0, 0.1]]]).double()
    c = largest_canonical_correlation(normalized_dependence(covariances).matrix, 2)[0, 1].item()
    assert c == pytest.approx(9.0 / 10.1)
    assert -0.5 * math.log(1 - c**2) == pytest.approx(0.79, abs=0.005)
    assert 0.5 * (-0.5 * math.log(1 - 0.9**2)) == pytest.approx(0.415, abs=0.0005)


@given(linear_gaussian_games(action_dim=2), tensors(2, 2, 2))
def test_the_canonical_correlation_does_not_depend_on_the_axes(game, maps):
    maps = maps + 5.0 * torch.eye(2).double()
    turned = type(game)(maps @ game.weights, game.offset, maps @ game.noise @ maps.mT, game.latent)
    torch.testing.assert_close(
        largest_canonical_correlation(correlation_of(turned), 2),
        largest_canonical_correlation(correlation_of(game), 2),
    )


@given(tabular_games(num_agents=2, allow_zeros=True))
def test_information_and_entropy_are_those_of_the_game(game):
    width = max(table.shape[-1] for table in game.policies)
    padded = [torch.nn.functional.pad(t, (0, width - t.shape[-1])) for t in game.policies]
    outcomes = torch.stack(padded, 1).log().clamp_min(-1e9).unsqueeze(1)
    [found] = information_with_entropy(outcomes, game.latent.log())
    expected = torch.stack([game.entropy(0), game.mutual_information(0, 1), game.entropy(1)])
    torch.testing.assert_close(found[[0, 0, 1], [0, 1, 1]], expected)
    matrix = normalized_dependence(found.unsqueeze(0)).matrix
    finite = matrix[matrix.isfinite()]
    assert ((finite >= -1e-6) & (finite <= 1.0 + 1e-6)).all()


def test_actions_that_are_the_latent_are_wholly_dependent():
    outcomes = torch.eye(3).log().clamp_min(-1e9)[:, None, None].expand(3, 4, 2, 3)
    parts = information_with_entropy(outcomes, torch.full((3,), 1 / 3).log())
    torch.testing.assert_close(parts, torch.full_like(parts, math.log(3)))
    found = normalized_dependence(parts)
    torch.testing.assert_close(found.matrix, torch.ones_like(found.matrix))
    torch.testing.assert_close(found.error, torch.zeros_like(found.error))


def test_states_without_variance_add_nothing_and_constants_are_undefined():
    torch.manual_seed(0)
    shared = torch.randn(1, 4000, 1, 1).expand(1, 4000, 2, 1)
    still = torch.full_like(shared, 0.3)
    found = normalized_dependence(within_state_covariance(torch.cat((shared, still))))
    torch.testing.assert_close(found.matrix, torch.ones(2, 2).double())
    # Rounding in single precision is no variance.
    nearly = still + 1e-8 * torch.randn_like(still)
    constant = torch.cat((shared[:, :, :1], nearly[:, :, :1]), dim=2)
    matrix = normalized_dependence(within_state_covariance(constant)).matrix
    undefined = [[False, True], [True, True]]
    assert matrix.isnan().tolist() == undefined
    assert largest_canonical_correlation(matrix, 2).isnan().tolist() == undefined


def test_a_policy_that_has_decided_has_nothing_to_share():
    decided = torch.tensor([0.0, -40.0]).expand(1, 5, 2, 2)
    parts = information_with_entropy(decided, torch.zeros(1))
    assert normalized_dependence(parts).matrix.isnan().all()


def test_components_that_are_copies_count_once():
    matrix = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    wide = torch.block_diag(matrix, torch.ones(1, 1))
    wide[2, 3] = wide[3, 2] = 0.0
    found = largest_canonical_correlation(wide, 2)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


def test_the_error_is_that_of_independent_draws():
    torch.manual_seed(0)
    states, draws = 400, 30
    parts = within_state_covariance(torch.randn(states, draws, 2, 1))
    found = normalized_dependence(parts)
    torch.testing.assert_close(
        found.error[0, 1].item(), 1.0 / math.sqrt(states * (draws - 1)), rtol=0.15, atol=0.0
    )
    assert normalized_dependence(parts[:1]).error.isnan().all()


def test_states_that_agree_leave_no_error_however_much_they_vary():
    one = torch.tensor([[1.0, 0.5], [0.5, 4.0]]).double()
    found = normalized_dependence(torch.tensor([0.1, 1.0, 7.0]).double()[:, None, None] * one)
    torch.testing.assert_close(found.matrix[0, 1].item(), 0.25)
    torch.testing.assert_close(found.error, torch.zeros_like(one))


def test_one_draw_has_no_covariance():
    with pytest.raises(ValueError, match="at least two draws, got 1"):
        within_state_covariance(torch.zeros(3, 1, 2, 1))
