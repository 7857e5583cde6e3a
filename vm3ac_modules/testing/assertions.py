"""Falsify an estimator that claims to bound mutual information from below.

Shapes: ``M`` draws, ``A`` action. Everything is in nats. Source: Kim et al. 2023,
arXiv:2303.00451, Eq. (6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from vm3ac_modules.functional.information import barber_agakov_bound
from vm3ac_modules.testing.oracles import Game
from vm3ac_modules.testing.strategies import linear_gaussian_games, tabular_games

__all__ = ["assert_valid_lower_bound", "sampled_bound"]


class _InvalidBoundError(AssertionError):
    """Raised inside the search, to tell a falsified bound from a failure of the estimator."""


def assert_valid_lower_bound(
    bound: Callable[[Any], float | Tensor],
    *,
    games: SearchStrategy[Any] | None = None,
    max_examples: int = 100,
    tolerance: float = 1e-9,
) -> None:
    r"""Search for a game in which a claimed lower bound exceeds the exact mutual information.

    .. math:: \mathrm{bound}(\mathrm{game}) \le I(a_0; a_1) + \mathrm{tolerance}

    Hypothesis draws the games and shrinks the one that falsifies the claim. The search is
    derandomized: it gives the same verdict every time. An estimator in closed form is handed in as
    it is; one that needs draws goes through :func:`sampled_bound`.

    References:
        Barber and Agakov 2003, "The IM algorithm"; Kim et al. 2023, arXiv:2303.00451, Eq. (6).

    Args:
        bound: maps a game to the claimed bound of ``I(a_0; a_1)`` (nats).
        games: strategy of games; None draws from :func:`tabular_games` and
            :func:`linear_gaussian_games`, both with two agents.
        max_examples: how many games are tried before the claim is accepted.
        tolerance: what rounding may add (nats).

    Raises:
        AssertionError: with the shrunk game, which can be pasted and run, the claimed bound and
            the exact value. A NaN is no bound either.

    Example:
        >>> from vm3ac_modules.testing import assert_valid_lower_bound, tabular_games
        >>> def sum_of_terms(game):
        ...     return game.bound(0, 1, game.conditional(1, given=0))
        >>> assert_valid_lower_bound(sum_of_terms, max_examples=10)
        >>> def product_as_printed(game):
        ...     best = game.conditional(1, given=0)
        ...     return -game.entropy(1) * game.expected_log_q(0, 1, best)
        >>> assert_valid_lower_bound(product_as_printed, games=tabular_games(), max_examples=10)
        Traceback (most recent call last):
        ...
        AssertionError: ... nats exceeds I(a_0; a_1) = ... nats in TabularGame(...

    See Also:
        :func:`vm3ac_modules.functional.barber_agakov_bound`.
    """

    def check(game: Game) -> None:
        claimed = float(torch.as_tensor(bound(game)).detach())
        exact = float(game.mutual_information(0, 1).detach())
        # Negated, so that a NaN fails.
        if not claimed <= exact + tolerance:
            raise _InvalidBoundError(
                f"the bound of {claimed:.9g} nats exceeds I(a_0; a_1) = {exact:.9g} nats in {game}"
            )

    search = settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        # The explain phase would repeat the search; the message says what is needed.
        phases=(Phase.generate, Phase.shrink),
        # An estimator may be slow: it may even fit a predictor to each game.
        suppress_health_check=[HealthCheck.too_slow],
    )
    drawn = st.one_of(tabular_games(), linear_gaussian_games()) if games is None else games
    try:
        search(given(drawn)(check))()
    except _InvalidBoundError as error:
        # Only the message: hypothesis' own notes show the same game again.
        raise AssertionError(str(error)) from None


def sampled_bound(
    log_q: Callable[[Tensor, Tensor], Tensor],
    *,
    num_samples: int = 4096,
    num_standard_errors: float = 6.0,
    seed: int = 0,
) -> Callable[[Game], float]:
    r"""Turn a conditional log-density into a bound estimated from draws, less a margin.

    .. math:: H(a_1) + \frac{1}{M} \sum_m \log q(a_1^m | a_0^m) - c \frac{s}{\sqrt{M}}

    with the sample deviation s. By the central limit theorem a valid, normalized log_q exceeds the
    exact value with probability about 1e-9 per game at c = 6, so it does not flake; what is wrong
    by more than two margins is found.

    Args:
        log_q: ``log_q(target, condition) -> [M]`` (nats) for float64 actions ``[M, A]``, or int64
            ``[M]`` in a tabular game. Whatever the predictor needs besides is bound beforehand.
        num_samples: number of draws M.
        num_standard_errors: the margin c.
        seed: seed of the draws.

    Returns:
        An estimator for :func:`assert_valid_lower_bound`.

    Raises:
        ValueError: when called, if ``log_q`` does not return one number per draw.

    Example:
        >>> from vm3ac_modules.functional import gaussian_log_density
        >>> from vm3ac_modules.testing import (assert_valid_lower_bound, linear_gaussian_games,
        ...                                    sampled_bound)
        >>> def copycat(target, condition):
        ...     return gaussian_log_density(target, condition, 1.0)
        >>> assert_valid_lower_bound(sampled_bound(copycat), games=linear_gaussian_games(),
        ...                          max_examples=10)

    See Also:
        :func:`assert_valid_lower_bound`.
    """

    def lower_confidence_limit(game: Game) -> float:
        actions = game.sample(num_samples, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            scores = log_q(actions[:, 1], actions[:, 0])
        if scores.shape != (num_samples,):
            raise ValueError(
                f"log_q must return one number per draw, [{num_samples}], "
                f"got {list(scores.shape)} for actions {list(actions[:, 1].shape)}."
            )
        scores = scores.to(torch.float64)
        if bool((scores == -math.inf).any()) and not bool(scores.isnan().any()):
            # A draw that q holds impossible: its expectation is minus infinity, a valid bound.
            return -math.inf
        margin = num_standard_errors * scores.std() / math.sqrt(num_samples)
        return float(barber_agakov_bound(game.entropy(1), scores.mean() - margin).total)

    return lower_confidence_limit
