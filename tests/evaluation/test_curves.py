"""Learning curves at common frames."""

from __future__ import annotations

import numpy as np
import pytest

from vm3ac_modules.evaluation import aggregate_curves, summarize_returns

metrics = pytest.importorskip("rliable.metrics")


def random_curves(seeds, points=5):
    random = np.random.default_rng(seeds)
    return [(100 * np.arange(points), random.normal(size=points)) for _ in range(seeds)]


def test_curves_of_other_frames_are_read_off_straight_lines():
    found = aggregate_curves([([0, 100], [0.0, 10.0]), ([0, 50, 200], [0.0, 1.0, 4.0])])
    assert found.frames.tolist() == [0.0, 50.0, 100.0]
    # At 50: 5 and 1; at 100: 10 and 2.
    assert found.mean.tolist() == [0.0, 3.0, 6.0]
    # Two seeds: t of one degree 12.7062 times half of their distance.
    assert (found.mean - found.mean_low).tolist() == pytest.approx(
        [0.0, 25.4124, 50.8248], abs=1e-3
    )
    assert (found.mean_high - found.mean).tolist() == pytest.approx([0, 25.4124, 50.8248], abs=1e-3)


def test_chosen_frames():
    curves = [([0, 100], [0.0, 10.0]), ([20, 80], [1.0, 4.0])]
    assert aggregate_curves(curves).frames.tolist() == [20.0, 80.0]
    assert aggregate_curves(curves, frames=[50]).mean.tolist() == [3.75]
    for outside in ([10], [90], []):
        with pytest.raises(ValueError, match="between 20 and 80"):
            aggregate_curves(curves, frames=outside)


@pytest.mark.parametrize("seeds", [7, 9])
def test_every_point_is_that_of_the_returns_there(seeds):
    curves = random_curves(seeds)
    found = aggregate_curves(curves)
    assert found.seeds == seeds
    scores = np.stack([y for _, y in curves])
    assert found.mean == pytest.approx(scores.mean(0))
    assert found.iqm == pytest.approx([metrics.aggregate_iqm(column) for column in scores.T])
    # One point is resampled as the final returns are: the same draws, the same intervals.
    last = aggregate_curves(curves, frames=[400], seed=3)
    summary = summarize_returns(scores[:, -1], seed=3)
    assert [v[0] for v in last[2:5]] == pytest.approx(summary.mean)
    assert [v[0] for v in last[5:8]] == pytest.approx(summary.iqm)


def test_one_seed_has_no_interval():
    found = aggregate_curves(random_curves(1))
    assert np.isfinite(found.mean).all()
    assert (found.mean == found.iqm).all()
    for ends in (found.mean_low, found.mean_high, found.iqm_low, found.iqm_high):
        assert np.isnan(ends).all()


def test_the_order_of_the_seeds_does_not_matter():
    curves = [*random_curves(4), ([30, 70, 390], [0.0, 1.0, 2.0])]
    one, two = aggregate_curves(curves), aggregate_curves(curves[::-1])
    assert one.frames.tolist() == two.frames.tolist()
    assert one.mean == pytest.approx(two.mean)
    assert one.iqm == pytest.approx(two.iqm)


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        ([], "at least one curve"),
        ([([], [])], "one return per frame"),
        ([([0, 1], [0.0])], "one return per frame"),
        ([([1, 0], [0.0, 0.0])], "ascending"),
        ([([0, 1], [0.0, float("nan")])], "finite"),
        ([([0, 1], [0.0, 0.0]), ([2, 3], [0.0, 0.0])], "starts at 2, another ends at 1"),
    ],
)
def test_curves_that_cannot_be_aggregated(curves, said):
    with pytest.raises(ValueError, match=said):
        aggregate_curves(curves)
