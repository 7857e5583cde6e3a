"""The falsifier: wrong bounds are caught, with a game to show for it, and valid ones pass."""

from __future__ import annotations

import math

import pytest
import torch
from torchrl.data import Bounded

from vm3ac_modules.functional import categorical_log_density, gaussian_log_density
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.testing import (
    LinearGaussianGame,
    TabularGame,
    assert_valid_lower_bound,
    linear_gaussian_games,
    sampled_bound,
    tabular_games,
)
from vm3ac_modules.testing.wrong_bounds import too_large

ONE_DIMENSIONAL = linear_gaussian_games(action_dim=1)


def at_the_best(game):
    return game.bound(0, 1, game.conditional(1, given=0))


def expected_best(game):
    return game.expected_log_q(0, 1, game.conditional(1, given=0))


# -- closed form --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param(at_the_best, id="exact"),
        pytest.param(lambda game: game.surrogate(0, 1, game.conditional(1, given=0)), id="K=0"),
        pytest.param(lambda game: at_the_best(game).float(), id="float32"),
        pytest.param(lambda game: 0.0, id="nothing"),
    ],
)
def test_valid_bounds_pass(bound):
    assert_valid_lower_bound(bound, max_examples=50, tolerance=1e-5)


def test_every_member_of_the_entropy_family_gives_a_bound():
    for num_latents in range(3):
        assert_valid_lower_bound(
            lambda game, k=num_latents: game.entropy_lower(1, k) + expected_best(game),
            games=tabular_games(),
            max_examples=25,
        )


def without_the_generating_latent(game):
    return game.entropy_upper(1, 1) + expected_best(game)


def clamped_log_q(game):
    # Clamping from below forgives a predictor the actions that it holds for impossible.
    q = game.conditional(1, given=0).roll(1, dims=-1)
    return game.entropy(1) + (game.joint(0, 1) * q.log().clamp(min=-0.5)).sum()


def entropy_of_the_wrong_agent(game):
    return game.entropy(0) + expected_best(game)


@pytest.mark.parametrize(
    ("bound", "games"),
    [
        pytest.param(
            lambda game: -game.entropy(1) * expected_best(game), tabular_games(), id="product"
        ),
        pytest.param(without_the_generating_latent, tabular_games(), id="upper-side"),
        pytest.param(clamped_log_q, tabular_games(), id="clamped"),
        pytest.param(entropy_of_the_wrong_agent, None, id="wrong-agent"),
        pytest.param(lambda game: game.latent_information(0), None, id="latent-information"),
    ],
)
def test_wrong_bounds_are_caught(bound, games):
    with pytest.raises(AssertionError, match=r"nats exceeds I\(a_0; a_1\) = .* nats in \w+Game\("):
        assert_valid_lower_bound(bound, games=games, max_examples=50)


def test_a_closed_form_may_be_held_to_rounding():
    assert_valid_lower_bound(at_the_best, tolerance=1e-9)
    with pytest.raises(AssertionError):
        assert_valid_lower_bound(lambda game: at_the_best(game) + 1e-6, tolerance=1e-9)


def test_the_reported_game_falsifies_the_bound_by_itself():
    with pytest.raises(AssertionError) as caught:
        assert_valid_lower_bound(without_the_generating_latent, games=tabular_games())
    names = {"torch": torch, "TabularGame": TabularGame, "LinearGaussianGame": LinearGaussianGame}
    game = eval(str(caught.value).split(" nats in ")[1], names)
    assert without_the_generating_latent(game) > game.mutual_information(0, 1)


def test_the_reported_game_is_shrunk():
    # What is wrong in every game is shown in the smallest one: two outcomes, two actions each.
    smallest = (
        r"TabularGame\(latent=torch.tensor\(\[0.5, 0.5\], (.*\[\[1.0, 0.0\], \[0.0, 1.0\]\], ){2}"
    )
    with pytest.raises(AssertionError, match=smallest):
        assert_valid_lower_bound(lambda game: at_the_best(game) + 0.1)
    one_dimension = (
        r"weights=torch.tensor\(\[\[\[[\d.]+\]\], \[\[[\d.]+\]\]\], .*offset=torch.tensor\(\[\[0.0"
    )
    with pytest.raises(AssertionError, match=one_dimension):
        assert_valid_lower_bound(too_large(0.5, 0.1, LinearGaussianGame))


def test_the_tolerance_is_respected():
    assert_valid_lower_bound(lambda game: at_the_best(game) + 1e-3, tolerance=1e-2, max_examples=20)


def test_errors_of_the_estimator_are_not_taken_for_a_verdict():
    def broken(game):
        raise KeyError("no such predictor")

    with pytest.raises(KeyError, match="no such predictor"):
        assert_valid_lower_bound(broken, max_examples=5)


# -- from draws ---------------------------------------------------------------------------------


def best_from_draws(game):
    return sampled_bound(game.conditional(1, given=0).log_prob)(game)


def test_the_best_predictor_from_draws_passes():
    # The exact one, so that half of all estimates would exceed the truth without their margin.
    assert_valid_lower_bound(best_from_draws, games=linear_gaussian_games(), max_examples=50)
    with pytest.raises(AssertionError):
        assert_valid_lower_bound(
            lambda game: sampled_bound(
                game.conditional(1, given=0).log_prob, num_standard_errors=0.0
            )(game),
            games=linear_gaussian_games(),
        )


def test_discrete_actions_from_draws():
    def smoothed(game):
        logits = game.conditional(1, given=0).log()
        return sampled_bound(
            lambda target, condition: categorical_log_density(
                logits[condition], target, smoothing=0.1
            )
        )(game)

    assert_valid_lower_bound(smoothed, games=tabular_games(), max_examples=25)


def test_an_unnormalized_density_is_caught():
    def residual(normalized):
        def log_q(target, condition):
            return gaussian_log_density(target, condition, 1.0, normalized=normalized)

        return sampled_bound(log_q)

    assert_valid_lower_bound(residual(True), games=ONE_DIMENSIONAL, max_examples=25)
    with pytest.raises(AssertionError, match="LinearGaussianGame"):
        assert_valid_lower_bound(residual(False), games=ONE_DIMENSIONAL)


def test_a_density_clamped_from_below_is_caught():
    def clamped(target, condition):
        return gaussian_log_density(target, condition, 0.1).clamp(min=-1.0)

    with pytest.raises(AssertionError, match="LinearGaussianGame"):
        assert_valid_lower_bound(sampled_bound(clamped), games=ONE_DIMENSIONAL)


@pytest.mark.parametrize("scale", [0.2, 1.0, "learned"])
def test_the_librarys_predictor_gives_a_bound(scale):
    predictor = VariationalPredictor(1, Bounded(-3.0, 3.0, (2, 2)), scale=scale, hidden=(8,))
    predictor = predictor.double()

    def log_q(target, condition):
        actions = torch.stack((condition, target), dim=-2)
        observation = actions.new_zeros(len(actions), 2, 1)
        return predictor.partner_log_prob(actions, actions, observation)[:, 0, 0]

    assert_valid_lower_bound(
        sampled_bound(log_q), games=linear_gaussian_games(action_dim=2), max_examples=25
    )


def test_one_score_per_draw_is_required():
    with pytest.raises(ValueError, match=r"one number per draw, \[8\], got \[8, 1\]"):
        assert_valid_lower_bound(
            sampled_bound(lambda target, condition: target, num_samples=8), games=ONE_DIMENSIONAL
        )


def test_a_predictor_that_holds_a_draw_impossible_is_a_bound_all_the_same():
    def never_the_first(target, condition):
        return torch.where(target == 0, -math.inf, math.log(0.5))

    game = next(
        iter([TabularGame(torch.tensor([1.0]), (torch.ones(1, 2) / 2, torch.ones(1, 2) / 2))])
    )
    assert sampled_bound(never_the_first)(game) == -math.inf
