"""The benchmark of training on battles measures what it says."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "benchmarks"))

import battles


def test_rows_of_an_algorithm():
    many, one = battles.measure("vdac", "3m", 4, 0.05)
    assert (many.rows, one.rows) == (4, 1)
    # The same updates for both: one per batch of eight episodes, which last a few steps each.
    assert many[3:5] == one[3:5]
    assert 1 / (8 * 60) <= many.updates_per_frame <= 1 / (8 * 5)
    for timing in (many, one):
        seconds = timing.updates_per_frame * timing.milliseconds_per_update / 1e3
        whole = 1 / timing.played_frames_per_second + seconds
        assert timing.frames_per_second == pytest.approx(1 / whole)
