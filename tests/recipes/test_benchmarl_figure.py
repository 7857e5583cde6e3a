"""The figure of the runs in BenchMARL is made of all their tables."""

from __future__ import annotations

import csv

import pytest

pytest.importorskip("rliable")
pytest.importorskip("matplotlib")

import benchmarl_figure

from vm3ac_modules.files import write_csv
from vm3ac_modules.options import OptionsError


def write(root, task, name, returns):
    place = root / task
    place.mkdir(parents=True, exist_ok=True)
    rows = [
        {"frame": 10 * k, "return_mean": x, "return_ci95": 0.1, "episodes": 2, "wall_seconds": 1.5}
        for k, x in enumerate(returns)
    ]
    write_csv(place / f"{name}.csv", rows)


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_means_are_over_the_seeds_of_a_task_and_algorithm(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    write(runs, "vmas/balance", "masac_seed0", [0.0, 2.0])
    write(runs, "vmas/balance", "masac_seed1", [1.0, 5.0])
    write(runs, "vmas/balance", "vm3ac_tight_seed0", [7.0, 7.0])
    write(runs, "vmas/navigation", "masac_seed0", [9.0, 9.0])
    benchmarl_figure.draw(benchmarl_figure.Figure(runs=str(runs), out=str(out)))
    curves = read(out / "curves.csv")
    means = {(r["panel"], r["label"], r["frames"]): (r["mean"], r["seeds"]) for r in curves}
    assert means["vmas/balance", "masac", "10"] == ("3.5", "2")
    assert means["vmas/balance", "vm3ac_tight", "0"] == ("7", "1")
    assert means["vmas/navigation", "masac", "10"] == ("9", "1")
    results = read(out / "results.csv")
    assert [(r["algorithm"], r["seed"], r["return_mean"]) for r in results[:2]] == [
        ("masac", "0", "2.0"),
        ("masac", "1", "5.0"),
    ]
    assert len(results) == 4
    assert (out / "benchmarl.png").stat().st_size > 5000


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(OptionsError, match="has no table of a run"):
        benchmarl_figure.draw(benchmarl_figure.Figure(runs=str(tmp_path), out=str(tmp_path)))
