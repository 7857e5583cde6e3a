"""Priors made from what JSON holds of them, as an exported agent does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vm3ac_modules.priors.base import LatentPrior
from vm3ac_modules.priors.categorical import CategoricalPrior
from vm3ac_modules.priors.continuous import GaussianPrior, UniformPrior

__all__ = ["prior_from"]


def _categorical(probs: Sequence[float]) -> CategoricalPrior:
    return CategoricalPrior(len(probs), probs)


_LAWS: dict[str, tuple[Callable[..., LatentPrior], set[str]]] = {
    "gaussian": (GaussianPrior, {"dim"}),
    "uniform": (UniformPrior, {"dim", "low", "high"}),
    "categorical": (_categorical, {"probs"}),
}


def prior_from(description: Mapping[str, Any]) -> LatentPrior:
    """Make the prior that :meth:`LatentPrior.describe` described.

    Args:
        description: its law and that law's parameters, all of them, as from JSON.

    Returns:
        A prior with the same draws to the bit.

    Raises:
        ValueError: the law is unknown, a parameter is missing or unknown, or the prior refuses one.

    Example:
        >>> from vm3ac_modules.priors import UniformPrior, prior_from
        >>> prior_from(UniformPrior(2, low=0.0).describe()).describe()
        {'law': 'uniform', 'dim': 2, 'low': 0.0, 'high': 1.0}
    """
    given = dict(description)
    law = given.pop("law", None)
    if law not in _LAWS:
        raise ValueError(f"prior_from: unknown law {law!r}; known: {', '.join(_LAWS)}.")
    build, parameters = _LAWS[law]
    if given.keys() != parameters:
        raise ValueError(
            f"prior_from: law {law!r} is described by {', '.join(sorted(parameters))}, got "
            f"{', '.join(sorted(map(str, given))) or 'nothing'}."
        )
    return build(**given)
