"""The benchmark of collecting measures what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "benchmarks"))

import collect


def test_every_way_has_its_workers():
    args = collect.Collect(collectors="sync,multi_sync", workers=(1, 3))
    assert list(collect.ways(args)) == [("sync", 1), ("multi_sync", 1), ("multi_sync", 3)]


def test_bytes_and_speeds_of_one_process(tmp_path, capsys):
    out = tmp_path / "out.json"
    collect.compare(
        collect.Collect(
            tasks="predator_prey_2",
            algorithm="ma_ac",
            collectors="sync",
            rows=4,
            steps=2,
            seconds=0.05,
            batch_size=8,
            json=str(out),
        )
    )
    found = json.loads(out.read_text())
    [speed], [sizes] = found["speeds"], found["sizes"]
    # A round is two steps of four rows.
    each = 2 * 4 / speed["frames_per_second"]
    assert speed["milliseconds_per_round"] == pytest.approx(1e3 * each, rel=0.01)
    # Two agents see 53 numbers before and after a step, and choose two; rewards and three flags.
    stored = 4 * 2 * (53 + 53 + 2 + 1)
    assert 0 <= sizes["stored_bytes_per_frame"] - stored < 16
    assert sizes["sent_bytes_per_frame"] > sizes["stored_bytes_per_frame"]
    assert f"{sizes['weight_bytes']:,}" in capsys.readouterr().out
