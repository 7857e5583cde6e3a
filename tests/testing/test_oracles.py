"""The oracles themselves: against torch's distributions, draws, and cases solved by hand."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, kl_divergence

import vm3ac_modules.testing as oracles
from vm3ac_modules.testing import (
    LinearGaussianGame,
    TabularGame,
    conditional_tables,
    linear_gaussian_games,
    linear_predictors,
    tabular_games,
    tensors,
)

CLOSE = {"rtol": 0.0, "atol": 1e-10}


def joint_normal(game, i, j):
    rows = [torch.cat([game.covariance(a, b) for b in (i, j)], 1) for a in (i, j)]
    return MultivariateNormal(torch.cat((game.offset[i], game.offset[j])), torch.cat(rows))


def assert_mean(draws, expected):
    """The mean of the draws, within six of its standard errors."""
    margin = 6 * draws.std() / math.sqrt(len(draws)) + 1e-12
    assert abs(draws.mean() - expected) <= margin


@given(linear_gaussian_games(num_agents=3))
def test_gaussian_information_is_a_divergence_from_independence(game):
    joint, size = joint_normal(game, 0, 2), game.offset.shape[-1]
    apart = torch.block_diag(game.covariance(0, 0), game.covariance(2, 2))
    expected = kl_divergence(joint, MultivariateNormal(joint.loc, apart))
    torch.testing.assert_close(game.mutual_information(0, 2), expected, **CLOSE)
    own = MultivariateNormal(torch.zeros(size, dtype=torch.float64), game.covariance(0, 0))
    torch.testing.assert_close(game.entropy(0), own.entropy())
    given_latent = MultivariateNormal(own.loc, game.noise[0]).entropy()
    torch.testing.assert_close(game.conditional_entropy(0), given_latent)


@given(linear_gaussian_games(), tensors(2, 3))
def test_gaussian_conditional_completes_the_joint(game, point):
    size = game.offset.shape[-1]
    first, second = point[:, :size]
    joint = joint_normal(game, 0, 1).log_prob(torch.cat((first, second)))
    alone = MultivariateNormal(game.offset[0], game.covariance(0, 0)).log_prob(first)
    conditional = game.conditional(1, given=0).log_prob(second, first)
    torch.testing.assert_close(alone + conditional, joint, rtol=1e-9, atol=1e-9)


@given(linear_gaussian_games(num_agents=3, action_dim=2), linear_predictors(2))
def test_gaussian_draws_have_the_stated_moments_and_scores(game, q):
    draws = game.sample(2000, torch.Generator().manual_seed(0))
    centered = draws - game.offset
    for i, j in ((0, 0), (0, 1), (2, 1)):
        product = centered[:, i].unsqueeze(-1) * centered[:, j].unsqueeze(-2)
        for entry, expected in zip(
            product.reshape(len(draws), -1).unbind(-1), game.covariance(i, j).flatten(), strict=True
        ):
            assert_mean(entry, expected)
    assert_mean(q.log_prob(draws[:, 1], draws[:, 0]), game.expected_log_q(0, 1, q))


@given(tabular_games(num_agents=3, allow_zeros=True), st.data())
def test_tabular_terms_from_their_definitions(game, data):
    def plogp(table):
        return sum(p * math.log(p) for p in table.flatten().tolist() if p > 0)

    joint = game.joint(0, 2)
    assert joint.sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(joint.sum(1), game.marginal(0))
    exact = plogp(joint) - plogp(game.marginal(0)) - plogp(game.marginal(2))
    assert game.mutual_information(0, 2).item() == pytest.approx(exact, abs=1e-10)
    assert game.entropy(2).item() == pytest.approx(-plogp(game.marginal(2)), abs=1e-10)
    given_latent = -sum(
        p * plogp(row) for p, row in zip(game.latent.tolist(), game.policies[2], strict=True)
    )
    assert game.conditional_entropy(2).item() == pytest.approx(given_latent, abs=1e-10)
    conditional = game.conditional(2, given=0)
    torch.testing.assert_close(conditional.sum(1), torch.ones_like(conditional[:, 0]))
    torch.testing.assert_close(game.marginal(0).unsqueeze(-1) * conditional, joint)
    # Deterministic policies included: the bound and its gap still add up to the exact value.
    q = data.draw(conditional_tables(*joint.shape))
    assert (game.bound(0, 2, q) + game.gap(0, 2, q)).item() == pytest.approx(exact, abs=1e-10)


@given(tabular_games())
def test_tabular_draws_have_the_stated_frequencies(game):
    draws = game.sample(2000, torch.Generator().manual_seed(0))
    for a in range(len(game.marginal(0))):
        for b in range(len(game.marginal(1))):
            hit = ((draws[:, 0] == a) & (draws[:, 1] == b)).double()
            assert_mean(hit, game.joint(0, 1)[a, b])


@given(st.one_of(tabular_games(num_agents=3), linear_gaussian_games(num_agents=3)))
def test_information_is_symmetric(game):
    torch.testing.assert_close(
        game.mutual_information(0, 2), game.mutual_information(2, 0), **CLOSE
    )


def test_perfect_coordination_shares_the_whole_latent():
    latent = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    same = torch.eye(3, dtype=torch.float64)
    game = TabularGame(latent, (same, same[[1, 2, 0]]))
    entropy = 1.5 * math.log(2.0)
    assert game.mutual_information(0, 1).item() == pytest.approx(entropy)
    assert game.latent_information(0).item() == pytest.approx(entropy)
    # What H_K cannot reach: log(K + 1) is its ceiling, here for K = 0 and one half of a draw.
    assert game.entropy_lower(0, 0).item() == 0.0
    assert 0.0 < game.entropy_lower(0, 1).item() < math.log(2.0)
    assert game.entropy_upper(0, 1).item() == math.inf


def test_one_dimensional_gaussian_by_hand():
    # a_i = z + n_i: the correlation is 1/2, so I = -1/2 log(1 - 1/4).
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    game = LinearGaussianGame(one, one[..., 0], one, one[0])
    assert game.mutual_information(0, 1).item() == pytest.approx(-0.5 * math.log(0.75))
    q = game.conditional(1, given=0)
    assert [part.item() for part in q] == pytest.approx([0.5, 0.5, 1.5])


@given(st.one_of(tabular_games(), linear_gaussian_games()))
def test_the_printed_form_can_be_run_again(game):
    names = {"torch": torch, "LinearGaussianGame": LinearGaussianGame, "TabularGame": TabularGame}
    again = eval(repr(game), names)
    torch.testing.assert_close(again.mutual_information(0, 1), game.mutual_information(0, 1))


@given(linear_gaussian_games())
def test_drawn_games_are_well_conditioned(game):
    for covariance in (*game.noise, game.latent):
        eigenvalues = torch.linalg.eigvalsh(covariance)
        assert eigenvalues.min() >= 0.25 - 1e-12
        assert eigenvalues.max() <= 0.25 + 9.0


def test_every_exported_name_exists_and_others_do_not():
    for name in dir(oracles):
        assert getattr(oracles, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = oracles.nonsense


def test_without_hypothesis_the_extra_is_named(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "vm3ac_modules.extras.find_spec",
        lambda name: None if name == "hypothesis" else find_spec(name),
    )
    with pytest.raises(ImportError, match=r"vm3ac-modules\[testing\]"):
        _ = oracles.tensors
    assert oracles.LinearGaussianGame is LinearGaussianGame


def test_oracles_do_not_import_hypothesis():
    # In a fresh interpreter that cannot import it: this one has loaded it long ago.
    code = (
        "import sys; sys.modules['hypothesis'] = None; import vm3ac_modules.testing as t; "
        "t.LinearGaussianGame, t.TabularGame, t.pair_sum_loop"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
