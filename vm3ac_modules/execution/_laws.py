"""Priors that NumPy computes from their descriptions, and the checks of a description.

Every sum, product and rounding is that of the same prior in :mod:`vm3ac_modules.priors`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Columns of the table: low edge, center, 1 / half width, then the coefficients c_0 ... c_7.
_TABLE_COLUMNS: Final = 11


class Law(NamedTuple):
    """A described prior, checked; it maps uniforms ``[R, U]`` to draws ``[R, Z]``."""

    dim: int
    num_uniforms: int
    transform: Callable[[Floats], Floats]
    constant: Floats
    mean: Floats


@cache
def _normal_table() -> Floats:
    file = resources.files("vm3ac_modules").joinpath("functional", "normal_icdf.f64")
    table = np.frombuffer(file.read_bytes(), "<f8").reshape(-1, _TABLE_COLUMNS)
    return np.ascontiguousarray(table.T)


def _normal_icdf(u: Floats) -> Floats:
    edges, center, inverse_half_width, *coefficients = _normal_table()
    tail = np.minimum(u, 1.0 - u)
    row = np.searchsorted(edges, tail, side="right") - 1
    t = (tail - center[row]) * inverse_half_width[row]
    magnitude = coefficients[-1][row]
    for coefficient in reversed(coefficients[:-1]):
        # Two statements, two roundings: torch's twin does not fuse them either.
        magnitude = magnitude * t
        magnitude = magnitude + coefficient[row]
    return np.where(u < 0.5, -magnitude, magnitude)


def _gaussian(dim: Any) -> Law:
    zeros = np.zeros(_dim(dim))
    return Law(dim, dim, _normal_icdf, zeros, zeros)


def _uniform(dim: Any, low: Any, high: Any) -> Law:
    low, high = _number("low", low), _number("high", high)
    if not (math.isfinite(high - low) and low < high):
        raise ValueError(f"prior 'uniform': need finite low < high, got {low} and {high}.")
    middle = np.full(_dim(dim), 0.5 * (low + high))
    return Law(dim, dim, lambda u: u * (high - low) + low, middle, middle)


def _categorical(probs: Any) -> Law:
    given = [_number("probs", p) for p in probs] if isinstance(probs, Sequence) else []
    sound = bool(given) and all(math.isfinite(p) and p >= 0 for p in given)
    if not sound or abs(math.fsum(given) - 1) > 1e-6:
        raise ValueError(
            "prior 'categorical': probs must be a list of non-negative numbers that sum to 1, got "
            f"{probs!r}."
        )
    # The sums of torch's twin: math.fsum rounds correctly, so the edges are the same everywhere.
    total = math.fsum(given)
    mean = [p / total for p in given]
    edges = np.array([math.fsum(mean[: k + 1]) for k in range(len(mean) - 1)])
    one_hot = np.eye(len(mean))
    constant = one_hot[given.index(max(given))]
    return Law(len(mean), 1, lambda u: one_hot[(u >= edges).sum(-1)], constant, np.array(mean))


_LAWS: dict[str, tuple[Callable[..., Law], tuple[str, ...]]] = {
    "gaussian": (_gaussian, ("dim",)),
    "uniform": (_uniform, ("dim", "low", "high")),
    "categorical": (_categorical, ("probs",)),
}


def law_of(prior: Mapping[str, Any]) -> Law:
    """Check a description, a mapping of the law and all of its parameters."""
    if not isinstance(prior, Mapping):
        raise ValueError(
            "a prior is described by a mapping such as {'law': 'gaussian', 'dim': 8}, got "
            f"{prior!r}."
        )
    given = dict(prior)
    name = given.pop("law", None)
    if name not in _LAWS:
        raise ValueError(f"prior: unknown law {name!r}; known: {', '.join(_LAWS)}.")
    build, parameters = _LAWS[name]
    if given.keys() != set(parameters):
        raise ValueError(
            f"prior {name!r} is described by {', '.join(parameters)}, got "
            f"{', '.join(map(str, given)) or 'nothing'}."
        )
    return build(**given)


def _dim(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"prior: dim must be an integer >= 0, got {value!r}.")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"prior: {name} must be a number, got {value!r}.")
    return float(value)
