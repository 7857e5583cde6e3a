"""Figure 4: runs of vm3ac battle in the tables and curves of vm3ac reproduce."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec

import pytest

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import figure4
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.runs import train

TINY = ("--budget", "smoke", "--tasks", "3m", "--algorithms", "vm3ac,maven")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def in_this_process(command, log):
    train(settings_of(command[4:]))


def test_figure_4_of_real_runs(tmp_path, monkeypatch):
    commands = []

    def launch(command, log):
        commands.append(command)
        in_this_process(command, log)

    monkeypatch.setattr(runs, "launch", launch)
    figure4.main([*TINY, "--out", str(tmp_path)])
    module = ["-m", "vm3ac_modules.cli.main", "battle"]
    assert all(command[1:4] == module for command in commands)
    # A process per seed: battles are trained one seed at a time.
    said = [dict(text.split("=", 1) for text in command[4:]) for command in commands]
    assert [one["seed"] for one in said] == ["0", "1", "0", "1"]
    assert all("seeds" not in one for one in said)
    rows = table(tmp_path / "results.csv")
    assert [(row["algorithm"], row["seed"]) for row in rows] == [
        *(("vm3ac", "0"), ("vm3ac", "1"), ("maven", "0"), ("maven", "1"))
    ]
    for row in rows:
        summary = json.loads((tmp_path / row["run_dir"] / "summary.json").read_text())
        assert float(row["win_rate"]) == summary["win_rate"]
        assert (row["backend"], row["reward"], row["task"]) == ("smax", "sparse", "3m")
    panels = {row["panel"] for row in table(tmp_path / "curves.csv")}
    assert panels == {f"3m (SMAX): {name}" for name in ("win rate", "greedy win rate", "return")}
    # What MAVEN plays is greedy: nothing stands beside it.
    greedy = [r for r in table(tmp_path / "curves.csv") if "greedy" in r["panel"]]
    assert {row["label"] for row in greedy} == {"vm3ac"}
    found = {row["algorithm"]: row for row in table(tmp_path / "statistics.csv")}
    assert set(found) == {"vm3ac", "maven"}
    rates = [float(row["win_rate"]) for row in rows[:2]]
    assert float(found["vm3ac"]["win_rate_mean"]) == pytest.approx(sum(rates) / 2)
    assert found["vm3ac"]["backend"] == "SMAX"
    for name in ("greedy_win_rate", "policy_entropy", "logit_gap"):
        values = [float(row[name]) for row in rows[:2]]
        assert float(found["vm3ac"][name]) == pytest.approx(sum(values) / 2, rel=1e-4)
        assert found["maven"][name] == rows[2][name] == ""
    assert 0.0 <= float(found["maven"]["win_rate_area"]) <= 1.0
    assert (tmp_path / "figure4.png").stat().st_size > 1000
    commands.clear()
    figure4.main([*TINY, "--out", str(tmp_path)])
    assert commands == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["algorithm=fop"], "algorithm is the program's own"),
        (["map=3m"], "map is the program's own"),
        (["latent_dim=3"], "latent_dim is an option of the algorithm: give algorithm.latent_dim."),
        (["latnet_dim=3"], "unknown option 'latnet_dim'"),
        (["--algorithms", "qmix"], "unknown algorithm 'qmix'"),
    ],
)
def test_bad_arguments_end_with_one_sentence(tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.setattr(runs, "launch", in_this_process)
    with pytest.raises(SystemExit) as ended:
        figure4.main([*TINY, "--out", str(tmp_path), *given])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_area_is_the_mean_over_frames(tmp_path):
    from types import SimpleNamespace

    (tmp_path / "eval.csv").write_text("frame,win_rate\n0,0\n10,1\n30,1\n")
    found = figure4.area(SimpleNamespace(runs=tmp_path), {"run_dir": "."})
    assert found == pytest.approx((5 + 20) / 30)
