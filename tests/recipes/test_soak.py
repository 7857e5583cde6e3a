"""The soak's lines are those of least squares, and a short soak resumes and reports."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("vmas")
pytest.importorskip("tensorboard")
if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "benchmarks"))

import soak  # noqa: E402


@given(st.floats(1.0, 1e4), st.floats(-50.0, 50.0), st.integers(4, 12))
def test_a_line_is_found_with_no_doubt(start, per_hour, blocks):
    seconds = [60.0 * i for i in range(240)]
    found = soak.slope(seconds, [start + per_hour * s / 3600 for s in seconds], blocks)
    assert found["slope_per_hour"] == pytest.approx(per_hour, abs=1e-6 * start + 1e-6)
    assert found["slope_ci95"] == pytest.approx(0.0, abs=1e-6 * start + 1e-6)


def test_an_interval_is_that_of_the_textbook():
    # Blocks 0, 1, 2, 3 h with means 1, 3, 2, 4: slope 0.8, residual variance 0.9, t(2) = 4.3027.
    found = soak.slope([0.0, 3600.0, 7200.0, 10800.0], [1.0, 3.0, 2.0, 4.0], 4)
    assert found["slope_per_hour"] == pytest.approx(0.8)
    assert found["slope_ci95"] == pytest.approx(4.302653 * (0.9 / 5.0) ** 0.5, rel=1e-5)


def test_a_short_soak_resumes_and_reports(tmp_path):
    options = soak.Soak(
        minutes=0.04, every=0.01, blocks=4, run_dir=str(tmp_path / "run"), out=str(tmp_path / "out")
    )
    soak.soak(options)
    with (tmp_path / "out" / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["half"] for row in rows} == {"1", "2"}
    frames = [float(row["frame"]) for row in rows]
    assert frames == sorted(frames), "the second half goes on where the first ended"
    found = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert found["resumed"] is True
    assert found["notes"] == len(rows)


def test_a_report_has_a_line_of_every_measure(tmp_path):
    options = soak.Soak(blocks=4, out=str(tmp_path))
    rows = [
        {**soak.measures(), "seconds": 5.0 * i, "frame": i, "half": 1 + i // 40}
        | {"steps_per_second": 100.0, "memory_mb": 500.0 + 20.0 * (i // 40)}
        for i in range(80)
    ]
    soak.report(options, rows)
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["measures"].keys() == soak.MEASURES.keys()
    assert found["measures"]["open_files"]["mean"] > 3
    # A step at the resume is no growth of either half.
    assert found["measures"]["memory_mb"]["slope_per_hour"] > 0
    for half in ("before the resume", "after the resume"):
        assert found[half]["memory_mb"]["slope_per_hour"] == pytest.approx(0.0, abs=1e-6)
    assert found["measures"]["steps_per_second"]["slope_per_hour"] == pytest.approx(0.0)
