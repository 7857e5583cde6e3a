"""Schedules of a coefficient: end points, direction and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import constant_rate_schedule, linear_schedule

coefficients = st.floats(-5.0, 5.0)
steps = st.floats(0.0, 1e6)


@given(coefficients, coefficients, st.floats(1.0, 1e6), steps)
def test_linear_schedule_starts_and_ends_where_told(start, end, duration, later):
    arguments = {"start": start, "end": end, "duration": duration}
    assert linear_schedule(0, **arguments) == start
    assert linear_schedule(duration / 2, **arguments) == pytest.approx((start + end) / 2, abs=1e-9)
    assert linear_schedule(duration + later, **arguments) == end


@given(coefficients, coefficients, st.floats(1e-3, 1e6), steps)
def test_constant_rate_moves_at_its_rate_and_never_passes_the_end(start, end, pace, step):
    value = constant_rate_schedule(step, start=start, end=end, steps_per_unit=pace)
    assert constant_rate_schedule(0, start=start, end=end, steps_per_unit=pace) == start
    assert min(start, end) <= value <= max(start, end)
    moved = min(abs(end - start), step / pace)
    assert abs(value - start) == pytest.approx(moved, abs=1e-9)


@given(coefficients, coefficients, st.floats(1.0, 1e6), steps, steps)
def test_both_are_monotone(start, end, length, one, other):
    earlier, later = sorted((one, other))
    sign = 1.0 if end >= start else -1.0
    for schedule, argument in (
        (linear_schedule, {"duration": length}),
        (constant_rate_schedule, {"steps_per_unit": length}),
    ):
        values = [schedule(step, start=start, end=end, **argument) for step in (earlier, later)]
        assert sign * (values[1] - values[0]) >= -1e-9


def test_the_two_readings_of_the_annealed_temperature():
    told = {"start": 0.5, "end": 0.05}
    assert linear_schedule(90_000, **told, duration=2e5) == pytest.approx(0.2975)
    assert linear_schedule(200_000, **told, duration=2e5) == 0.05
    assert constant_rate_schedule(89_000, **told, steps_per_unit=2e5) == pytest.approx(0.055)
    assert constant_rate_schedule(90_000, **told, steps_per_unit=2e5) == 0.05


def test_no_ramp_is_the_end_at_once():
    assert linear_schedule(0, start=1.0, end=0.0, duration=0) == 0.0


@pytest.mark.parametrize(("step", "duration"), [(-1, 1), (1, -1)])
def test_linear_schedule_refuses(step, duration):
    with pytest.raises(ValueError, match="step and duration must not be negative"):
        linear_schedule(step, start=1.0, end=0.0, duration=duration)


@pytest.mark.parametrize(("step", "pace"), [(-1, 1), (1, 0), (1, -1)])
def test_constant_rate_schedule_refuses(step, pace):
    with pytest.raises(ValueError, match="step must not be negative and steps_per_unit"):
        constant_rate_schedule(step, start=1.0, end=0.0, steps_per_unit=pace)
