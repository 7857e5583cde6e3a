"""Checks of a loss's options, with messages that name the option and what it was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["check_choice", "check_count", "check_not_negative", "check_positive", "check_shares"]


def _check(values: dict[str, Any], accepts: Callable[[float], bool], wanted: str) -> None:
    for name, value in values.items():
        try:
            number = None if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError, RuntimeError):
            number = None
        if number is None:
            raise ValueError(f"{name} must be a number, got {value!r}.")
        if not accepts(number):
            raise ValueError(f"{name} must {wanted}, got {value}.")
        if math.isinf(number):
            raise ValueError(f"{name} must be finite, got {value}.")


def check_shares(**values: Any) -> None:
    """Refuse options that are no shares.

    Args:
        values: an option per name.

    Raises:
        ValueError: unless each is a number in [0, 1].

    Example:
        >>> check_shares(gamma=0.99, lam=True)
        Traceback (most recent call last):
        ...
        ValueError: lam must be a number, got True.
    """
    _check(values, lambda x: 0.0 <= x <= 1.0, "be in [0, 1]")


def check_positive(**values: Any) -> None:
    """Refuse options that are not positive.

    Args:
        values: an option per name.

    Raises:
        ValueError: unless each is a finite number > 0.

    Example:
        >>> check_positive(reward_scale=0.0)
        Traceback (most recent call last):
        ...
        ValueError: reward_scale must be positive, got 0.0.
    """
    _check(values, lambda x: x > 0.0, "be positive")


def check_count(**values: Any) -> None:
    """Refuse options that are no counts.

    Args:
        values: an option per name.

    Raises:
        ValueError: unless each is a whole number >= 0.

    Example:
        >>> check_count(num_latents=2.5)
        Traceback (most recent call last):
        ...
        ValueError: num_latents must be a whole number, got 2.5.
    """
    check_not_negative(**values)
    for name, value in values.items():
        if float(value) != int(value):
            raise ValueError(f"{name} must be a whole number, got {value}.")


def check_not_negative(**values: Any) -> None:
    """Refuse options that are negative.

    Args:
        values: an option per name.

    Raises:
        ValueError: unless each is a finite number >= 0.

    Example:
        >>> check_not_negative(weight=0, entropy_weight=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: entropy_weight must not be negative, got -1.0.
    """
    _check(values, lambda x: x >= 0.0, "not be negative")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse an option that is none of a few.

    Args:
        name: of the option.
        value: what was given.
        choices: what there is.

    Raises:
        ValueError: if it is none of them.

    Example:
        >>> check_choice("reduction", "mean", ("mean", "sum"))
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")
