"""Bounds of mutual information estimated from draws of a game, less a margin.

Shapes: ``D`` draws, ``M`` mismatched ones per draw, ``A`` action. Everything is in nats. Source:
Kim et al. 2023, arXiv:2303.00451, Eq. (6).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vm3ac_modules.functional.information import barber_agakov_bound
from vm3ac_modules.testing.oracles import Game

__all__ = ["sampled_bound"]


def sampled_bound(
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    contrast: Callable[[Tensor, Tensor], Tensor] | None = None,
    num_samples: int = 4096,
    num_mismatched: int = 16,
    num_standard_errors: float = 6.0,
    seed: int = 0,
) -> Callable[[Game], float]:
    r"""Turn a conditional log-density, or a score, into a bound from draws, less a margin.

    .. math:: H(a_1) + \frac{1}{D} \sum_d \log q(a_1^d | a_0^d) - c \frac{s}{\sqrt{D}}

    with the sample deviation s; with ``contrast`` the mean of its summands, less the same margin.
    By the central limit theorem a valid estimator exceeds the exact value with probability about
    1e-9 per game at c = 6, so it does not flake; what is wrong by more than two margins is found.
    An estimator whose summands have heavy tails (NWJ above two nats or so) needs more draws than
    anyone has: the margin does not see what was never drawn.

    Args:
        score: ``score(target, condition) -> [D]`` (nats) for float64 actions ``[D, A]``, or int64
            ``[D]`` in a tabular game: ``log q(target | condition)``. Whatever the predictor needs
            besides is bound beforehand.
        contrast: a bound of scores of matched ``[D]`` and mismatched ``[D, M]`` pairs, such as
            :func:`~vm3ac_modules.functional.infonce_bound`; None for the bound (6), of which
            ``score`` is the log-density.
        num_samples: number of draws D.
        num_mismatched: number M of mismatched targets per draw.
        num_standard_errors: the margin c.
        seed: seed of the draws.

    Returns:
        An estimator for :func:`assert_valid_lower_bound`.

    Raises:
        ValueError: when called, if ``score`` does not return one number per draw.

    Example:
        >>> from vm3ac_modules.functional import gaussian_log_density, infonce_bound
        >>> from vm3ac_modules.testing import (assert_valid_lower_bound, linear_gaussian_games,
        ...                                    sampled_bound)
        >>> def copycat(target, condition):
        ...     return gaussian_log_density(target, condition, 1.0)
        >>> for contrast in (None, infonce_bound):
        ...     bound = sampled_bound(copycat, contrast=contrast, num_samples=512)
        ...     assert_valid_lower_bound(bound, games=linear_gaussian_games(), max_examples=10)

    See Also:
        :func:`assert_valid_lower_bound`.
    """

    def scores_of(target: Tensor, condition: Tensor) -> Tensor:
        with torch.no_grad():
            scores = score(target, condition)
        if scores.shape != (len(target),):
            raise ValueError(
                f"log_q must return one number per draw, [{len(target)}], "
                f"got {list(scores.shape)} for actions {list(target.shape)}."
            )
        return scores.to(torch.float64)

    def lower_confidence_limit(game: Game) -> float:
        generator = torch.Generator().manual_seed(seed)
        actions = game.sample(num_samples, generator)
        summands = scores_of(actions[:, 1], actions[:, 0])
        if bool((summands == -math.inf).any()) and not bool(summands.isnan().any()):
            # A draw that q holds impossible: its expectation is minus infinity, a valid bound.
            return -math.inf
        if contrast is not None:
            others = game.sample(num_samples * num_mismatched, generator)[:, 1]
            condition = actions[:, 0].repeat_interleave(num_mismatched, dim=0)
            mismatched = scores_of(others, condition).reshape(num_samples, num_mismatched)
            summands = contrast(summands, mismatched)
        mean = summands.mean() - num_standard_errors * summands.std() / math.sqrt(num_samples)
        return float(mean if contrast else barber_agakov_bound(game.entropy(1), mean).total)

    return lower_confidence_limit
