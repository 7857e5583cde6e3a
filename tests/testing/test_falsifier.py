"""The falsifier with its defaults: it finds every known mistake, and no fault in what is right."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from vm3ac_modules.functional import donsker_varadhan_bound, infonce_bound, mixture_log_prob
from vm3ac_modules.testing import (
    WRONG_BOUNDS,
    LinearGaussianGame,
    TabularGame,
    assert_valid_lower_bound,
    coordinated_gaussian_games,
    coordinated_tabular_games,
    covered_information,
    sampled_bound,
    searched_games,
    tabular_games,
)
from vm3ac_modules.testing.wrong_bounds import log_ratio, too_large


def barber_agakov(game):
    return game.bound(0, 1, game.conditional(1, given=0))


def nwj_at_the_optimum(game):
    """1 + E f - E' e^f with f the log-ratio, by enumeration or Gaussian integrals."""
    best = barber_agakov(game)
    if isinstance(game, TabularGame):
        product = torch.outer(game.marginal(0), game.marginal(1))
        ratio = game.conditional(1, given=0) / game.marginal(1)
        return 1.0 + best - torch.where(product > 0, product * ratio, 0.0).sum()
    # e^f times the product of the marginals is a Gaussian density over both actions; its mass is
    # that of its quadratic form, computed here from precisions.
    q = game.conditional(1, given=0)
    marginal, own = game.covariance(1, 1), game.covariance(0, 0)
    inverse = q.covariance.inverse()
    corner = -q.matrix.mT @ inverse
    upper = own.inverse() + q.matrix.mT @ inverse @ q.matrix
    form = torch.cat((torch.cat((upper, corner), 1), torch.cat((corner.mT, inverse), 1)))
    log_mass = -0.5 * (form.logdet() + own.logdet() + q.covariance.logdet())
    assert marginal.shape == inverse.shape
    return 1.0 + best - log_mass.exp()


def in_float32(game):
    if isinstance(game, TabularGame):
        game = TabularGame(game.latent.float(), tuple(table.float() for table in game.policies))
    else:
        game = LinearGaussianGame(*(value.float() for value in vars(game).values()))
    return barber_agakov(game)


def infonce(game):
    return sampled_bound(log_ratio(game), contrast=infonce_bound, num_samples=512)(game)


VALID = {
    "zero": lambda game: 0.0,
    "Barber-Agakov": barber_agakov,
    "NWJ at the optimum": nwj_at_the_optimum,
    "InfoNCE": infonce,
    # Too small by log K, which is no mistake of a lower bound; without the ceiling it would be.
    "InfoNCE less its log K": lambda game: infonce(game) - math.log(17),
    "float32": in_float32,
}


@pytest.mark.parametrize("name", WRONG_BOUNDS)
def test_every_known_mistake_is_caught(name):
    with pytest.raises(AssertionError, match=r"nats exceeds I\(a_0; a_1\) = .* nats in \w+Game\("):
        assert_valid_lower_bound(WRONG_BOUNDS[name])


@pytest.mark.parametrize("name", VALID)
def test_what_is_valid_passes(name):
    assert_valid_lower_bound(VALID[name])


@cache
def games_of(seed):
    return searched_games(seed=seed)


@pytest.mark.parametrize("kind", [TabularGame, LinearGaussianGame])
@pytest.mark.parametrize(("share", "above"), [(0.5, 0.1), (0.2, 0.6), (0.05, 1.5)])
def test_other_searches_would_have_found_it_too(kind, share, above):
    # The verdict does not hang on the one sequence of games that the default search takes.
    wrong = too_large(share, above, kind)
    found = [
        any(wrong(game) > game.mutual_information(0, 1) + 1e-3 for game in games_of(k))
        for k in range(3)
    ]
    assert all(found)


def test_the_games_that_were_searched_before_were_blind():
    # Why there are coordinated games: this is what random tables have.
    before = covered_information(tabular_games(), 100)
    now = covered_information(coordinated_tabular_games(), 100)
    assert float(before.information.median()) < 0.01
    assert float(now.information.median()) > 0.2
    assert_valid_lower_bound(too_large(0.5, 0.1), games=tabular_games(), max_examples=50)


def test_what_is_covered():
    found = covered_information()
    assert len(found.information) == 300
    assert 100 < found.tabular < 200
    assert found.with_zeros > 20
    assert (found.most_actions, found.most_agents) == (6, 4)
    assert found.most_dimensions >= 3
    assert float(found.information[0]) > -1e-9
    assert 3.5 < float(found.information[-1]) < 5.0
    tabular = covered_information(coordinated_tabular_games(), 100)
    assert float(tabular.information[-1]) > 1.5
    gaussian = covered_information(coordinated_gaussian_games(), 100)
    assert (gaussian.tabular, gaussian.most_actions) == (0, 0)
    lines = str(found).splitlines()
    assert lines[0].startswith(f"300 games, {found.tabular} of them tabular")
    assert lines[1].startswith("I(a_0; a_1) from 0.00 to ")


def test_games_are_what_the_options_say():
    for game in searched_games(coordinated_tabular_games(num_agents=3, max_actions=3), 30):
        assert len(game.policies) == 3
        assert max(table.shape[-1] for table in game.policies) <= 3
        assert all(torch.allclose(t.sum(-1), torch.ones(len(t)).double()) for t in game.policies)
        assert math.isclose(float(game.latent.sum()), 1.0)
    for game in searched_games(coordinated_gaussian_games(num_agents=2, max_dim=1), 30):
        assert game.weights.shape == (2, 1, 1)


def test_the_same_games_every_time_and_others_for_another_seed():
    first, again = searched_games(max_examples=30), searched_games(max_examples=30)
    assert [repr(game) for game in first] == [repr(game) for game in again]
    other = searched_games(max_examples=30, seed=1)
    assert [repr(game) for game in first] != [repr(game) for game in other]


# -- contrastive estimators from draws ----------------------------------------------------------


def test_donsker_varadhan_from_few_draws_is_no_bound():
    # At the true log-ratio: all of the excess is the bias of the log of a mean.
    def estimate(game):
        return sampled_bound(
            log_ratio(game), contrast=donsker_varadhan_bound, num_samples=1024, num_mismatched=2
        )(game)

    games = coordinated_gaussian_games()
    with pytest.raises(AssertionError, match="LinearGaussianGame"):
        assert_valid_lower_bound(estimate, games=games)


def test_the_entropy_family_gives_a_bound_in_coordinated_games():
    def with_extra_latents(game):
        if not isinstance(game, TabularGame):
            return 0.0
        generator = torch.Generator().manual_seed(0)
        z = torch.multinomial(game.latent, 3 * 2048, replacement=True, generator=generator)
        heads = game.policies[1][z].log().reshape(3, 2048, -1)
        drawn = torch.multinomial(heads[0].exp(), 1, generator=generator)
        own, *extra = (head.gather(-1, drawn).squeeze(-1) for head in heads)
        summands = -mixture_log_prob(own, torch.stack(extra, -1))
        entropy = summands.mean() - 6 * summands.std() / 2048**0.5
        return entropy + game.expected_log_q(0, 1, game.conditional(1, given=0))

    assert_valid_lower_bound(with_extra_latents, max_examples=60)
