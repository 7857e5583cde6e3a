"""Statistics over a few seeds: means, interquartile means, intervals and comparisons.

Up to seven seeds intervals are Student's t, of a trimmed mean after Tukey and McLaughlin: at three
seeds of a normal law the bootstrap's 95% interval covers the mean three times of four only, since
it is in effect the seeds' range. Above seven they are percentiles of the stratified bootstrap over
seeds (``rliable``). One seed has no interval (nan). How often one algorithm beats another is said
as a count of seeds up to seven: that all of three agree is no probability of 1.

Source: Agarwal, Schwarzer, Castro, Courville, Bellemare 2021, *Deep Reinforcement Learning at the
Edge of the Statistical Precipice*, https://arxiv.org/abs/2108.13264; Tukey and McLaughlin 1963,
*Less vulnerable confidence and significance procedures for location based on a single sample*.

Shapes: S seeds, M tasks, P points of a curve.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm3ac_modules.extras import require_extra
from vm3ac_modules.learning.seeding import fork_rng

__all__ = [
    "MOST_FOR_T",
    "Estimate",
    "Improvement",
    "ReturnSummary",
    "intervals_of_means",
    "probability_of_improvement",
    "require_intervals",
    "summarize_returns",
]

Array = NDArray[np.float64]
MOST_FOR_T = 7
"""Seeds up to which intervals are Student's t."""


class Estimate(NamedTuple):
    """A number with its 95% interval; nan where there is none."""

    value: float
    low: float
    high: float


class Improvement(NamedTuple):
    """How often a run of one algorithm beats a run of another.

    Printed it is what may be said of so few seeds: up to seven the count, above it the probability
    with its interval.
    """

    value: float
    """Share of all pairs, ties as one half."""
    low: float
    high: float
    """95% interval; nan up to seven seeds."""
    won: int
    """Comparisons won: seed by seed if both sides have as many, else of all pairs."""
    of: int
    unit: str
    """What was compared: seeds, runs (seeds of several tasks), or pairs of runs."""

    def __str__(self) -> str:
        if not math.isnan(self.low):
            return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.won} of {self.of} {self.unit}"


class ReturnSummary(NamedTuple):
    """Statistics over the seeds of one algorithm, from :func:`summarize_returns`."""

    seeds: int
    mean: Estimate
    iqm: Estimate


def summarize_returns(
    returns: ArrayLike, *, repetitions: int = 2000, seed: int = 0
) -> ReturnSummary:
    r"""Estimate mean and interquartile mean of one algorithm's returns, with intervals.

    .. math:: \text{IQM} = \text{mean of what is left without the } \lfloor n/4 \rfloor
        \text{ smallest and largest of all } n \text{ returns}

    Up to three seeds nothing is cut, so the interquartile mean is the mean. Up to seven seeds the
    interval of a mean over :math:`h` of :math:`n` returns is

    .. math:: \pm\, t_{0.975,\, h - 1} \sqrt{\frac{(n - 1) s_w^2}{h (h - 1)}}

    with the variance :math:`s_w^2` of all returns after those that are cut were set to the nearest
    that stays; nothing cut, it is Student's. Of several tasks it is that of each seed's mean over
    tasks, the interquartile mean has none; above seven seeds tasks are strata of the bootstrap.
    Their returns must be on one scale.

    Args:
        returns: final return of each seed, ``[S]`` or ``[S, M]``.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        The number of seeds and both estimates.

    Raises:
        ImportError: if scipy, or rliable above seven seeds, is not installed; names the extra.
        ValueError: if there is no seed, or a return is not finite.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("scipy")
        >>> found = summarize_returns([1.0, 2.0, 3.0]).mean
        >>> [round(number, 2) for number in found]
        [2.0, -0.48, 4.48]
    """
    scores = _scores(returns, "returns")
    found = intervals_of_means(scores, repetitions=repetitions, seed=seed, pooled=True)
    mean, iqm = found.squeeze(-1)
    return ReturnSummary(len(scores), Estimate(*map(float, mean)), Estimate(*map(float, iqm)))


def intervals_of_means(
    scores: ArrayLike, *, repetitions: int = 2000, seed: int = 0, pooled: bool = False
) -> Array:
    """Means and interquartile means over seeds with their 95% intervals.

    Everything in this package that shows an interval over seeds has it from here.

    Args:
        scores: a column per quantity, ``[S, P]``.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.
        pooled: whether the columns are tasks of which there is one number, P = 1.

    Returns:
        ``[2, 3, P]``: mean and interquartile mean; value, low end, high end (nan for one seed).

    Raises:
        ImportError: if scipy, or rliable above seven seeds, is not installed; names the extra.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("scipy")
        >>> intervals_of_means([[1.0, 0.0], [3.0, 0.0]])[0].round(1).tolist()
        [[2.0, 0.0], [-10.7, 0.0], [14.7, 0.0]]
    """
    x = np.asarray(scores, dtype=float)
    values = _means(x, pooled=pooled)
    if len(x) == 1:
        nothing = np.full_like(values, math.nan)
        return np.stack((values, nothing, nothing), axis=1)
    if len(x) <= MOST_FOR_T:
        if pooled and x.shape[1] > 1:
            # Seeds are what varies: each one's mean over tasks. The middle has no such law.
            mean = _t_half_width(x.mean(1, keepdims=True), 0)
            half = np.stack((mean, np.full_like(mean, math.nan)))
        else:
            half = np.stack((_t_half_width(x, 0), _t_half_width(x, len(x) // 4)))
        return np.stack((values, values - half, values + half), axis=1)
    parts = bootstrap([x], lambda y: _means(y, pooled=pooled).ravel(), repetitions, seed)
    return np.stack([part.reshape(values.shape) for part in parts], axis=1)


def require_intervals(seeds: int) -> None:
    """Check that what intervals over so many seeds need is installed.

    Args:
        seeds: number of seeds.

    Raises:
        ImportError: if it is not; names the extra.
    """
    if seeds > MOST_FOR_T:
        require_extra("rliable", "reproduce", f"Statistics over more than {MOST_FOR_T} seeds")
    elif seeds > 1:
        require_extra("scipy", "recipes", "The interval over seeds")


def _means(x: Array, *, pooled: bool = False) -> Array:
    """Mean and interquartile mean of the columns, or of all, ``[2, P]``."""
    columns = np.sort(x.reshape(-1, 1) if pooled else x, axis=0)
    cut = len(columns) // 4
    return np.stack((columns.mean(0), columns[cut : len(columns) - cut].mean(0)))


def _t_half_width(x: Array, cut: int) -> Array:
    """Half the 95% interval of the columns' means without ``cut`` values at each end, ``[P]``."""
    require_intervals(len(x))
    stats = importlib.import_module("scipy.stats")
    count, kept = len(x), len(x) - 2 * cut
    columns = np.sort(x, axis=0)
    winsorized = columns.clip(columns[cut], columns[count - 1 - cut])
    error = np.sqrt((count - 1) * winsorized.var(0, ddof=1) / (kept * (kept - 1)))
    half: Array = stats.t.ppf(0.975, kept - 1) * error
    return half


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, repetitions: int = 2000, seed: int = 0
) -> Improvement:
    r"""Estimate how likely a run of one algorithm beats a run of another.

    .. math:: P(X > Y) = \frac{1}{M} \sum_m \frac{1}{S S'} \sum_{s, s'}
        \big(1[x_{sm} > y_{s'm}] + \tfrac{1}{2} 1[x_{sm} = y_{s'm}]\big)

    Free of scale, so it may be averaged over tasks. Both sides are resampled independently. Up to
    seven seeds on either side there is no interval, and printed it is the count of seeds in which
    X, trained with the same seed, is above Y: three wins of three do not make a law.

    Args:
        first: final returns of X, ``[S]`` or ``[S, M]``.
        second: final returns of Y, ``[S']`` or ``[S', M]``; of the same seeds if S' = S.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        The probability with its interval, and the count.

    Raises:
        ImportError: if rliable is needed and not installed; names the extra.
        ValueError: if a side is empty or not finite, or the numbers of tasks differ.

    Example:
        >>> found = probability_of_improvement([2.0, 4.0], [1.0, 3.0])
        >>> found.value, str(found)
        (0.75, '2 of 2 seeds')
    """
    x, y = _scores(first, "first"), _scores(second, "second")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both sides need the same tasks, got {x.shape[1]} and {y.shape[1]}.")
    paired = len(x) == len(y)
    above = x > y if paired else x[:, None] > y[None]
    unit = ("seeds" if x.shape[1] == 1 else "runs") if paired else "pairs"
    count = int(above.sum()), above.size, unit
    if min(len(x), len(y)) <= MOST_FOR_T:
        return Improvement(float(_win_share(x, y)[0]), math.nan, math.nan, *count)
    value, low, high = bootstrap([x, y], _win_share, repetitions, seed)
    return Improvement(float(value[0]), float(low[0]), float(high[0]), *count)


def _win_share(x: Array, y: Array) -> Array:
    # rliable's own metric computes a p-value in every resample, at fifty times the cost.
    above = x[:, None] > y[None]
    return np.array([(above + 0.5 * (x[:, None] == y[None])).mean()])


def bootstrap(
    scores: list[Array], function: Callable[..., Array], repetitions: int, seed: int
) -> tuple[Array, Array, Array]:
    """Point estimates and both ends of their intervals, each ``[R]`` for R numbers."""
    require_extra("rliable", "reproduce", f"Statistics over more than {MOST_FOR_T} seeds")
    library = importlib.import_module("rliable.library")
    given = {"": scores[0] if len(scores) == 1 else scores}
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
