"""Statistics over seeds: closed forms, enumerated resamples, and rliable's own metrics."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.evaluation import (
    intervals_of_means,
    probability_of_improvement,
    summarize_returns,
)
from vm3ac_modules.evaluation.statistics import require_intervals
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


def test_few_seeds_are_counted():
    every = probability_of_improvement([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    assert str(every) == "3 of 3 seeds"
    assert math.isnan(every.low)
    assert math.isnan(every.high)
    # A tie is no win, though half a one in the share.
    tied = probability_of_improvement([1.0, 2.0], [1.0, 5.0])
    assert (tied.value, str(tied)) == (0.375, "0 of 2 seeds")
    # Seed by seed: all pairs would be three of four.
    assert str(probability_of_improvement([4.0, 2.0], [3.0, 1.0])) == "2 of 2 seeds"
    assert str(probability_of_improvement([2.0, 4.0], [3.0, 1.0])) == "1 of 2 seeds"
    unequal = probability_of_improvement([1.0, 2.0, 3.0], [0.0])
    assert str(unequal) == "3 of 3 pairs"
    tasks = probability_of_improvement([[1.0, 1.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    assert str(tasks) == "3 of 4 runs"


def test_many_seeds_have_a_probability_with_its_interval():
    found = probability_of_improvement(np.arange(8.0), np.arange(8.0) + 3.5)
    assert str(found) == f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
    assert found.low < found.value < found.high


def test_the_interval_of_three_seeds_by_hand():
    # Mean 2, variance 1, t of two degrees 4.30265: 4.30265 / sqrt(3) = 2.48414.
    found = summarize_returns([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx((2.0, -0.48414, 4.48414), abs=1e-5)
    assert found.iqm == found.mean


def test_the_interval_of_four_seeds_without_the_outer_two_by_hand():
    # Kept 2 and 4; winsorized 2, 2, 4, 4: variance 4/3; t of one degree 12.7062.
    # sqrt(3 * 4/3 / (2 * 1)) = sqrt(2): 12.7062 * 1.41421 = 17.9693.
    found = summarize_returns([0.0, 2.0, 4.0, 100.0])
    assert found.iqm == pytest.approx((3.0, 3.0 - 17.9693, 3.0 + 17.9693), abs=1e-3)
    assert found.mean.value == 26.5


@pytest.mark.parametrize("seeds", [3, 5, 7])
def test_intervals_cover_the_mean_of_a_normal_law(seeds):
    scores = np.random.default_rng(seeds).normal(size=(seeds, 4000))
    mean, iqm = intervals_of_means(scores)
    # 0.95 with a standard error of 0.0034; the bootstrap of three seeds covers 0.75.
    assert ((mean[1] < 0) & (mean[2] > 0)).mean() == pytest.approx(0.95, abs=0.015)
    # The trimmed mean's t is an approximation.
    assert ((iqm[1] < 0) & (iqm[2] > 0)).mean() == pytest.approx(0.95, abs=0.03)


def test_the_bootstrap_begins_above_seven_seeds(monkeypatch):
    from vm3ac_modules.evaluation import statistics

    def refused(*args):
        raise AssertionError("bootstrap")

    monkeypatch.setattr(statistics, "bootstrap", refused)
    assert summarize_returns(np.arange(7.0)).mean.value == 3.0
    with pytest.raises(AssertionError, match="bootstrap"):
        summarize_returns(np.arange(8.0))


@pytest.mark.parametrize(("count", "cut"), [(3, 0), (4, 1), (7, 1), (8, 2)])
def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end(count, cut):
    returns = np.random.default_rng(count).normal(size=count)
    middle = np.sort(returns)[cut : count - cut]
    assert summarize_returns(returns).iqm.value == pytest.approx(middle.mean())


def test_the_interval_of_the_mean_is_that_of_all_resamples():
    # Eight seeds, of which four have 0 and four 1: the mean of a resample is binomial.
    returns = [0.0] * 4 + [1.0] * 4
    found = summarize_returns(returns, repetitions=5000).mean
    # P(mean <= 1/8) = 9/256 = 0.035, P(mean <= 0) = 1/256.
    assert found == (0.5, 0.125, 0.875)


def test_tasks_of_few_seeds_are_averaged_per_seed():
    returns = [[1.0, 101.0], [2.0, 105.0], [6.0, 103.0]]
    found = summarize_returns(returns)
    assert found.mean == pytest.approx(summarize_returns([51.0, 53.5, 54.5]).mean)
    # All six without the smallest and the largest.
    assert found.iqm.value == pytest.approx((2 + 6 + 101 + 103) / 4)
    assert math.isnan(found.iqm.low)


def test_tasks_of_many_seeds_are_strata():
    # Of each task half of the seeds have 0: resampled together the mean would spread as one task's.
    column = np.array([0.0] * 4 + [1.0] * 4)
    one = summarize_returns(column).mean
    two = summarize_returns(np.stack((column, column + 10), axis=1)).mean
    assert two.value == 5.5
    assert one.value - one.low > 5.5 - two.low > 0


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
            if len(returns) > 7:
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
    st.lists(st.integers(0, 4), min_size=1, max_size=9),
    st.lists(st.integers(0, 4), min_size=1, max_size=9),
)
def test_improvement_of_each_over_the_other_sums_to_one(x, y):
    ours = probability_of_improvement(x, y, repetitions=50)
    theirs = probability_of_improvement(y, x, repetitions=50)
    assert ours.value == pytest.approx(win_share(x, y))
    assert ours.value + theirs.value == pytest.approx(1.0)
    if min(len(x), len(y)) > 7:
        assert 0.0 <= ours.low <= ours.value <= ours.high <= 1.0
    if len(x) == len(y):
        assert ours.won + theirs.won <= len(x)


def test_improvement_is_rliables():
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, (5, 3)), random.integers(0, 6, (7, 3))
    x, y = x.astype(float), y.astype(float)
    ours = probability_of_improvement(x, y, repetitions=2)
    assert ours.value == pytest.approx(metrics.probability_of_improvement(x, y))


def test_an_improvement_is_counted_or_has_an_interval():
    better = probability_of_improvement([3.0, 4.0], [1.0, 2.0])
    assert (better.value, str(better)) == (1.0, "2 of 2 seeds")
    same = probability_of_improvement([3.0, 4.0], [3.0, 4.0])
    assert (same.value, str(same)) == (0.5, "0 of 2 seeds")
    # Seven seeds on either side are too few for an interval.
    for first, second in [(7, 8), (8, 7)]:
        few = probability_of_improvement(np.arange(first), np.arange(second))
        assert math.isnan(few.low)
        assert str(few).endswith("of 56 pairs")


def test_several_tasks_have_one_interval_of_the_seeds_means():
    scores = [[1.0, 3.0], [3.0, 5.0], [2.0, 7.0]]
    mean, middle = intervals_of_means(scores, pooled=True)[..., 0]
    assert mean == pytest.approx(intervals_of_means([[2.0], [4.0], [4.5]])[0, :, 0])
    assert middle[0] == pytest.approx(np.mean([2.0, 3.0, 3.0, 5.0]))
    assert np.isnan(middle[1:]).all()


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
    with pytest.raises(ImportError, match=r"'scipy'.*vm3ac-modules\[recipes\]"):
        summarize_returns([1.0, 2.0])
    with pytest.raises(ImportError, match=r"'rliable'.*vm3ac-modules\[reproduce\]"):
        summarize_returns(np.arange(8.0))
    with pytest.raises(ImportError, match=r"vm3ac-modules\[reproduce\]"):
        require_intervals(8)
    require_intervals(1)


def test_rliable_is_not_imported_before_use():
    code = (
        "import sys, vm3ac_modules.evaluation.statistics, vm3ac_modules.evaluation.curves\n"
        "found = {'rliable', 'pandas', 'arch', 'scipy'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
