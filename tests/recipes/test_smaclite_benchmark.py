"""The benchmark of SMAClite measures what it says, on a stub."""

from __future__ import annotations

import csv
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "benchmarks"))

import smaclite_baselines as baselines
import smaclite_throughput as benchmark

from vm3ac_modules.envs import make_battle_env
from vm3ac_modules.testing import SMACliteStub


def test_rows_and_workers(tmp_path, monkeypatch, capsys):
    made = []

    def make(name, rows, **options):
        made.append((name, rows, options["num_workers"]))
        return make_battle_env(name, rows, make_battle=partial(SMACliteStub), **options)

    monkeypatch.setattr(benchmark, "make_battle_env", make)
    place = tmp_path / "speed.csv"
    benchmark.compare(benchmark.Throughput(maps="2s3z", rows=2, steps=20, rounds=1, csv=str(place)))
    assert made == [("2s3z", 2, 1), ("2s3z", 2, 2)]
    alone, shared = csv.DictReader(place.read_text().splitlines())
    assert float(alone["per_second"]) > 0
    # CPU time of this process says something only where it plays alone.
    assert float(alone["per_cpu_second"]) > 0
    assert shared["per_cpu_second"] == ""
    assert capsys.readouterr().out.count("| 2s3z | 2 |") == 2


def test_workers_must_share_the_rows(monkeypatch):
    def make(name, rows, **options):
        return make_battle_env(name, rows, make_battle=SMACliteStub, **options)

    monkeypatch.setattr(benchmark, "make_battle_env", make)
    with pytest.raises(ValueError, match="num_workers must be at least 1 and divide num_envs=3"):
        benchmark.compare(benchmark.Throughput(maps="2s3z", rows=3, workers=(2,)))


def test_a_script_and_chance_play_the_same_battles(tmp_path, monkeypatch, capsys):
    def make(name, rows, **options):
        return make_battle_env(name, rows, make_battle=SMACliteStub, **options)

    monkeypatch.setattr(baselines, "make_battle_env", make)
    place = tmp_path / "baselines.csv"
    baselines.compare(baselines.Baselines(battles=8, reward="sparse", csv=str(place)))
    script, chance = csv.DictReader(place.read_text().splitlines())
    assert (script["play"], chance["play"], script["map"]) == ("script", "random", "2s3z")
    assert float(script["dead_enemies"]) > float(chance["dead_enemies"])
    assert float(script["return_mean"]) > float(chance["return_mean"])
    assert capsys.readouterr().out.count("| 2s3z | sparse |") == 2
