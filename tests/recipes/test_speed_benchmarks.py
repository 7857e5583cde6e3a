"""The benchmarks of whole programs, threads and memory: what they make of what they measure."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "benchmarks"))

import end_to_end
import memory
import threads


def test_medians_ranges_and_the_ratio_to_benchmarl(monkeypatch, tmp_path, capsys):
    seconds = {"ma_sac": [4.0, 9.0, 5.0], "benchmarl_masac": [10.0, 11.0, 3.0]}
    costs = {name: iter(values) for name, values in seconds.items()}

    def cost(line):
        name = "benchmarl_masac" if line[0] == "other_python" else "ma_sac"
        return {"cpu": next(costs[name]), "wall": 1.0}

    monkeypatch.setattr(end_to_end, "cost", cost)
    options = end_to_end.EndToEnd(
        contestants="ma_sac,benchmarl_masac", benchmarl="other_python", out=str(tmp_path)
    )
    end_to_end.compare(options)
    with (tmp_path / "end_to_end.csv").open() as file:
        ours, theirs = csv.DictReader(file)
    assert (ours["cpu_seconds"], ours["lowest"], ours["highest"]) == ("5.0", "4.0", "9.0")
    assert (ours["times_faster"], theirs["times_faster"]) == ("2.0", "1.0")
    assert (tmp_path / "end_to_end.png").stat().st_size > 1000


def test_without_its_environment_benchmarl_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(end_to_end, "cost", lambda line: {"cpu": 1.0, "wall": 1.0})
    end_to_end.compare(end_to_end.EndToEnd(contestants="ma_sac,benchmarl_masac", rounds=1))
    assert "benchmarl" not in capsys.readouterr().out


def test_an_unknown_contestant_is_refused(capsys):
    with pytest.raises(SystemExit):
        end_to_end.compare(end_to_end.EndToEnd(contestants="ma_sac,sb3"))
    assert "unknown contestant 'sb3'; valid: ma_sac" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vm3ac_plain", "torchrl_sac"])
def test_contestants_run(tmp_path, name):
    options = end_to_end.EndToEnd(frames=1_280)
    assert end_to_end.cost(end_to_end.command(name, options, tmp_path))["cpu"] > 0


def test_what_updates_fetch(monkeypatch):
    kept = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: kept.append(1) or True)
    sizes = {"algorithm": "ma_ac", "batch": 4, "updates": 2}
    for keep in (False, True):
        found = memory.measure(memory.Memory(keep=keep, **sizes))
        assert found["faults_per_update"] >= 0
        assert found["cpu_ms"] > 0
        assert found["largest_mb"] > 50
    assert kept == [1]


def test_the_core_beside_is_busy_only_meanwhile():
    with threads.busy_core(busy=False) as nothing:
        assert nothing is None
    started = []
    popen = threads.subprocess.Popen

    def start(line):
        started.append(popen(line))
        return started[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threads.subprocess, "Popen", start)
        with threads.busy_core(busy=True):
            assert started[0].poll() is None
    assert started[0].poll() is not None


@pytest.mark.slow
def test_a_training_says_what_it_used():
    assert threads.training("1", 2_560)["device"] == "cpu, 1 threads"
