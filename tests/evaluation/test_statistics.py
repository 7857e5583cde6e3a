"""Statistics over seeds: closed forms, enumerated resamples, and rliable's own metrics."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.evaluation import (
    improvement_over_each,
    probability_of_improvement,
    summarize_returns,
)
from vm3ac_modules.learning import rng_state

metrics = pytest.importorskip("rliable.metrics")

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
seeds = st.lists(numbers, min_size=1, max_size=8)


def win_share(x, y):
    """The definition, pair by pair."""
    points = [1.0 if a > b else 0.5 if a == b else 0.0 for a in x for b in y]
    return sum(points) / len(points)


def test_one_seed_has_a_value_and_no_interval():
    found = summarize_returns([7.0])
    assert found.seeds == 1
    assert (found.mean.value, found.iqm.value) == (7.0, 7.0)
    assert all(map(math.isnan, (*found.mean[1:], *found.iqm[1:])))
    one_sided = probability_of_improvement([1.0, 2.0, 3.0], [0.0])
    assert one_sided.value == 1.0
    assert math.isnan(one_sided.low)
    assert math.isnan(one_sided.high)


@pytest.mark.parametrize("returns", [[3.0, 9.0], [9.0, 3.0, 4.0]])
def test_the_interval_of_two_or_three_seeds_is_their_range(returns):
    found = summarize_returns(returns)
    assert found.mean == pytest.approx((np.mean(returns), 3.0, 9.0))
    assert found.iqm == found.mean


@pytest.mark.parametrize(("count", "cut"), [(3, 0), (4, 1), (7, 1), (8, 2)])
def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end(count, cut):
    returns = np.random.default_rng(count).normal(size=count)
    middle = np.sort(returns)[cut : count - cut]
    assert summarize_returns(returns).iqm.value == pytest.approx(middle.mean())


def test_the_interval_of_the_mean_is_that_of_all_resamples():
    returns = [0.0, 1.0, 3.0, 10.0, 4.0]
    every = np.array([np.mean(x) for x in itertools.product(returns, repeat=5)])
    found = summarize_returns(returns, repetitions=5000).mean
    # At a percentile of a discrete distribution its probability function jumps across the level.
    for end, level in ((found.low, 0.025), (found.high, 0.975)):
        assert (every < end - 1e-9).mean() - 0.008 < level < (every < end + 1e-9).mean() + 0.008
    assert 0.0 < found.low < found.value < found.high < 10.0


def test_tasks_are_strata():
    # Resampled together, the smallest of three would be alone in 1 of 27 resamples: the range.
    # Resampled apart, both tasks draw it alone in 1 of 729 only.
    one = summarize_returns([1.0, 2.0, 6.0]).mean
    two = summarize_returns([[1.0, 101.0], [2.0, 102.0], [6.0, 106.0]]).mean
    assert one == pytest.approx((3.0, 1.0, 6.0))
    assert two.value == pytest.approx(53.0)
    assert 51.0 < two.low < 53.0 < two.high < 56.0


def test_the_seed_decides_and_no_other_stream_moves():
    returns = np.random.default_rng(0).normal(size=9)
    before = rng_state()["numpy"]
    first, again, other = (summarize_returns(returns, seed=s, repetitions=200) for s in (0, 0, 1))
    after = rng_state()["numpy"]
    assert torch.equal(after["keys"], before["keys"])
    assert after["position"] == before["position"]
    assert first == again
    assert first.mean.low != other.mean.low
    assert first.mean.value == other.mean.value


@given(seeds)
def test_intervals_contain_the_estimate(returns):
    found = summarize_returns(returns, repetitions=200)
    for estimate in (found.mean, found.iqm):
        if len(returns) > 1:
            slack = 1e-9 * (1 + abs(estimate.value))
            assert estimate.low - slack <= estimate.value <= estimate.high + slack
            assert min(returns) - slack <= estimate.low
            assert estimate.high <= max(returns) + slack


@given(st.lists(numbers, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_does_not_matter(returns, random):
    shuffled = random.sample(returns, len(returns))
    one, two = (summarize_returns(x, repetitions=4) for x in (returns, shuffled))
    assert one.mean.value == pytest.approx(two.mean.value, abs=1e-9)
    assert one.iqm.value == pytest.approx(two.iqm.value, abs=1e-9)
    against = [0.0, 1.0]
    found = [probability_of_improvement(x, against, repetitions=4) for x in (returns, shuffled)]
    assert found[0].value == found[1].value


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
)
def test_improvement_of_each_over_the_other_sums_to_one(x, y):
    ours = probability_of_improvement(x, y, repetitions=50)
    theirs = probability_of_improvement(y, x, repetitions=50)
    assert ours.value == pytest.approx(win_share(x, y))
    assert ours.value + theirs.value == pytest.approx(1.0)
    if min(len(x), len(y)) > 1:
        assert 0.0 <= ours.low <= ours.value <= ours.high <= 1.0


def test_improvement_is_rliables():
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, (5, 3)), random.integers(0, 6, (7, 3))
    x, y = x.astype(float), y.astype(float)
    ours = probability_of_improvement(x, y, repetitions=2)
    assert ours.value == pytest.approx(metrics.probability_of_improvement(x, y))


def test_improvement_over_each():
    returns = {"a": [3.0, 4.0], "b": [1.0, 2.0], "c": [3.0, 4.0]}
    found = improvement_over_each(returns, "a")
    assert list(found) == ["b", "c"]
    assert found["b"] == (1.0, 1.0, 1.0)
    assert found["c"] == (0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="no returns of 'd'; there are a, b, c"):
        improvement_over_each(returns, "d")


@pytest.mark.parametrize("returns", [[], [[]], [[[1.0]]]])
def test_wrong_shapes_are_refused(returns):
    with pytest.raises(ValueError, match=r"returns must be \[S\] or \[S, M\]"):
        summarize_returns(returns)


def test_a_run_without_a_result_is_not_left_out_silently():
    with pytest.raises(ValueError, match="not finite"):
        summarize_returns([1.0, float("nan")])
    with pytest.raises(ValueError, match="second holds a return that is not finite"):
        probability_of_improvement([1.0], [float("inf")])
    with pytest.raises(ValueError, match="same tasks, got 1 and 2"):
        probability_of_improvement([1.0], [[1.0, 2.0]])


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[reproduce\]"):
        summarize_returns([1.0, 2.0])


def test_rliable_is_not_imported_before_use():
    code = (
        "import sys, vm3ac_modules.evaluation.statistics, vm3ac_modules.evaluation.curves\n"
        "found = {'rliable', 'pandas', 'arch', 'scipy'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
