"""Learning curves of several seeds, brought to common frames and aggregated there.

Intervals are those of :mod:`vm3ac_modules.evaluation.statistics`, point by point: nan for one seed.

Shapes: S seeds, P points of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vm3ac_modules.evaluation.statistics import Array, intervals_of_means

__all__ = ["AggregatedCurve", "aggregate_curves"]


class AggregatedCurve(NamedTuple):
    """Evaluation curves of several seeds at common frames, each ``[P]``."""

    seeds: int
    frames: Array
    mean: Array
    mean_low: Array
    mean_high: Array
    iqm: Array
    iqm_low: Array
    iqm_high: Array


def aggregate_curves(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    frames: ArrayLike | None = None,
    repetitions: int = 2000,
    seed: int = 0,
) -> AggregatedCurve:
    """Bring the evaluation curves of several seeds to common frames and aggregate them there.

    Between evaluations a curve is read off the straight line; beyond its ends it is never read, so
    the longer curves are cut where the shortest ends.

    Args:
        curves: frames and returns of each seed's evaluations, ``([P_s], [P_s])``, frames ascending.
        frames: common frames ``[P]``; by default all that any seed was evaluated at, as far as
            every seed has come.
        repetitions: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        Mean, interquartile mean and their intervals at the common frames.

    Raises:
        ImportError: if scipy, or rliable above seven seeds, is not installed; names the extra.
        ValueError: if there is no curve, a curve is empty, not ascending or not finite, the curves
            have no frame in common, or a frame lies outside of a curve.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("scipy")
        >>> curve = aggregate_curves([([0, 100], [0.0, 10.0]), ([0, 50, 200], [0.0, 1.0, 4.0])])
        >>> curve.frames.tolist(), curve.mean.tolist()
        ([0.0, 50.0, 100.0], [0.0, 3.0, 6.0])
    """
    checked = [_checked(*curve) for curve in curves]
    if not checked:
        raise ValueError("aggregate_curves needs at least one curve.")
    start, end = max(x[0] for x, _ in checked), min(x[-1] for x, _ in checked)
    if start > end:
        raise ValueError(
            f"no frame in common: a curve starts at {start:g}, another ends at {end:g}."
        )
    if frames is None:
        union = np.unique(np.concatenate([x for x, _ in checked]))
        common = union[(union >= start) & (union <= end)]
    else:
        common = np.atleast_1d(np.asarray(frames, dtype=float))
        if not common.size or common.min() < start or common.max() > end:
            raise ValueError(
                f"frames must lie between {start:g} and {end:g}, where every curve is."
            )
    scores = np.stack([np.interp(common, x, y) for x, y in checked])
    found = intervals_of_means(scores, repetitions=repetitions, seed=seed)
    return AggregatedCurve(len(scores), common, *found.reshape(6, -1))


def _checked(frames: ArrayLike, returns: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(frames, dtype=float), np.asarray(returns, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise ValueError(f"a curve needs one return per frame, got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise ValueError("a curve needs ascending frames and finite returns.")
    return x, y
