"""Statistics over a few seeds: means, interquartile means, intervals and comparisons.

Intervals are 95% percentile intervals of the stratified bootstrap over seeds (``rliable``). They
cannot say more than the seeds do: of one seed there is none (nan), and of two or three seeds it is
in effect the range of their returns, since a resample is the smallest alone with probability 1/4 or
1/27, more than the 2.5% that are cut off.

Source: Agarwal, Schwarzer, Castro, Courville, Bellemare 2021, *Deep Reinforcement Learning at the
Edge of the Statistical Precipice*, https://arxiv.org/abs/2108.13264.

Shapes: S seeds, M tasks.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm3ac_modules.extras import require_extra
from vm3ac_modules.learning.seeding import fork_rng

__all__ = [
    "Estimate",
    "ReturnSummary",
    "improvement_over_each",
    "probability_of_improvement",
    "summarize_returns",
]

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number with its 95% interval; nan where there is none."""

    value: float
    low: float
    high: float


class ReturnSummary(NamedTuple):
    """What :func:`summarize_returns` says about the seeds of one algorithm."""

    seeds: int
    mean: Estimate
    iqm: Estimate


def summarize_returns(
    returns: ArrayLike, *, repetitions: int = 2000, seed: int = 0
) -> ReturnSummary:
    r"""Estimate mean and interquartile mean of one algorithm's returns, with intervals.

    .. math:: \text{IQM} = \text{mean of what is left without the } \lfloor n/4 \rfloor
        \text{ smallest and largest of all } n \text{ returns}

    Up to three seeds nothing is cut, so the interquartile mean is the mean. Several tasks are
    strata: every task's seeds are resampled among themselves. Their returns must be on one scale.

    Args:
        returns: final return of each seed, ``[S]`` or ``[S, M]``.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        The number of seeds and both estimates.

    Raises:
        ImportError: if rliable is not installed; names the extra.
        ValueError: if there is no seed, or a return is not finite.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("rliable")
        >>> summarize_returns([1.0, 3.0]).mean
        Estimate(value=2.0, low=1.0, high=3.0)
    """
    scores = _scores(returns, "returns")
    metrics = _rliable("metrics")

    def aggregates(x: Array) -> Array:
        return np.array([metrics.aggregate_mean(x), metrics.aggregate_iqm(x)])

    value, low, high = bootstrap([scores], aggregates, repetitions, seed)
    mean, iqm = (Estimate(*map(float, part)) for part in zip(value, low, high, strict=True))
    return ReturnSummary(len(scores), mean, iqm)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, repetitions: int = 2000, seed: int = 0
) -> Estimate:
    r"""Estimate how likely a run of one algorithm beats a run of another.

    .. math:: P(X > Y) = \frac{1}{M} \sum_m \frac{1}{S S'} \sum_{s, s'}
        \big(1[x_{sm} > y_{s'm}] + \tfrac{1}{2} 1[x_{sm} = y_{s'm}]\big)

    Free of scale, so it may be averaged over tasks. Both sides are resampled independently; if
    either has one seed, nothing is known about its spread and the interval is nan. Where every pair
    agrees, the interval is a point: seven wins of seven do not make a law.

    Args:
        first: final returns of X, ``[S]`` or ``[S, M]``.
        second: final returns of Y, ``[S']`` or ``[S', M]``.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        The probability with its interval.

    Raises:
        ImportError: if rliable is not installed; names the extra.
        ValueError: if a side is empty or not finite, or the numbers of tasks differ.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("rliable")
        >>> probability_of_improvement([2.0, 4.0], [1.0, 3.0]).value
        0.75
    """
    x, y = _scores(first, "first"), _scores(second, "second")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both sides need the same tasks, got {x.shape[1]} and {y.shape[1]}.")
    value, low, high = bootstrap([x, y], _win_share, repetitions, seed)
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def improvement_over_each(
    returns: Mapping[str, ArrayLike], name: str, *, repetitions: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Estimate how likely one algorithm beats each other one.

    Args:
        returns: final returns per algorithm, each ``[S]`` or ``[S, M]``.
        name: the algorithm that is compared with the others.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        The probability of improvement over each other algorithm.

    Raises:
        ImportError: if rliable is not installed; names the extra.
        ValueError: if ``name`` has no returns; see also :func:`probability_of_improvement`.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("rliable")
        >>> found = improvement_over_each({"a": [2.0, 3.0], "b": [1.0, 1.0]}, "a")
        >>> found["b"].value
        1.0
    """
    if name not in returns:
        raise ValueError(f"no returns of {name!r}; there are {', '.join(returns) or 'none'}.")
    options = {"repetitions": repetitions, "seed": seed}
    return {
        other: probability_of_improvement(returns[name], scores, **options)
        for other, scores in returns.items()
        if other != name
    }


def _win_share(x: Array, y: Array) -> Array:
    # rliable's own metric computes a p-value in every resample, at fifty times the cost.
    above = x[:, None] > y[None]
    return np.array([(above + 0.5 * (x[:, None] == y[None])).mean()])


def bootstrap(
    scores: list[Array], function: Callable[..., Array], repetitions: int, seed: int
) -> tuple[Array, Array, Array]:
    """Point estimates and both ends of their intervals, each ``[R]`` for R numbers."""
    library = _rliable("library")
    given = {"": scores[0] if len(scores) == 1 else scores}
    if min(map(len, scores)) < 2:
        value = function(*scores)
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    # rliable 1.2 draws from NumPy's global generator whatever its random_state is.
    with fork_rng(seed):
        value, interval = library.get_interval_estimates(given, function, reps=repetitions)
    return value[""], interval[""][0], interval[""][1]


def _scores(returns: ArrayLike, name: str) -> Array:
    scores = np.asarray(returns, dtype=float)
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"{name} must be [S] or [S, M] with at least one, got {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds a return that is not finite: that run has no result.")
    return scores


def _rliable(part: str) -> Any:
    require_extra("rliable", "reproduce", "Statistics over seeds")
    return importlib.import_module(f"rliable.{part}")
