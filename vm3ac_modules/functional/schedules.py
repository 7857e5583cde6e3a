"""Schedules of a coefficient over environment steps."""

from __future__ import annotations

__all__ = ["constant_rate_schedule", "linear_schedule"]


def linear_schedule(step: float, *, start: float, end: float, duration: float) -> float:
    r"""Interpolate linearly from ``start`` to ``end``, then stay there.

    .. math:: c(t) = s + (e - s)\, \min(t / T, 1)

    The temperature of the discrete case: 0.5 -> 0.05 over 2e5 environment steps (Kim et al. 2023,
    arXiv:2303.00451, Appendix G, as its text reads).

    Args:
        step: environment steps so far, t >= 0.
        start: value at step 0.
        end: value from ``duration`` on.
        duration: length T of the ramp in environment steps; 0 gives ``end`` at once.

    Returns:
        The coefficient.

    Raises:
        ValueError: if ``step`` or ``duration`` is negative.

    Example:
        >>> linear_schedule(100_000, start=0.5, end=0.05, duration=200_000)
        0.275
    """
    if step < 0 or duration < 0:
        raise ValueError(f"step and duration must not be negative, got {step} and {duration}.")
    if step >= duration:
        return end
    return start + (end - start) * (step / duration)


def constant_rate_schedule(
    step: float, *, start: float, end: float, steps_per_unit: float
) -> float:
    r"""Move from ``start`` towards ``end`` by one unit per ``steps_per_unit``, then stay there.

    .. math:: c(t) = \max(e, s - t / T) \text{ for } s \ge e

    FOP's code lowers its temperature so: with ``start=0.5, end=0.05, steps_per_unit=2e5`` the
    floor is reached at step 90,000, not at 200,000.

    Args:
        step: environment steps so far, t >= 0.
        start: value at step 0.
        end: the value that is not passed.
        steps_per_unit: environment steps T per unit of change.

    Returns:
        The coefficient.

    Raises:
        ValueError: if ``step`` is negative or ``steps_per_unit`` is not positive.

    Example:
        >>> constant_rate_schedule(90_000, start=0.5, end=0.05, steps_per_unit=200_000)
        0.05
    """
    if step < 0 or steps_per_unit <= 0:
        raise ValueError(
            f"step must not be negative and steps_per_unit must be positive, got {step} and "
            f"{steps_per_unit}."
        )
    change = step / steps_per_unit
    return max(end, start - change) if start >= end else min(end, start + change)
