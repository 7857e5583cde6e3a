"""What vm3ac reproduce trains: nothing twice, and on from where it was interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import TINY, TWO, arguments, fake, table

from vm3ac_modules.cli.reproduce import _results as results
from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import figure3
from vm3ac_modules.cli.reproduce._cases import make_case
from vm3ac_modules.cli.reproduce._command import Command


def begin(monkeypatch, *, checkpoint):
    """Let every training be killed before its end, after its first checkpoint or before it."""

    def launch(command, log):
        fake(arguments(command), finished=False)
        log.write_text("killed\n")
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(runs, "launch", launch)
    monkeypatch.setattr(runs, "has_checkpoint", lambda place: checkpoint and place.is_dir())


def test_several_seeds_are_one_process_and_a_row_each(tmp_path, launched):
    command = [*TINY, *TWO, "--seeds", "3", "--out", str(tmp_path)]
    figure3.main(command)
    assert [(given["seed"], given["seeds"]) for given in launched] == [("0", "3")] * 2
    rows = table(tmp_path / "results.csv")
    assert [(row["seed"], row["seeds_together"]) for row in rows] == [
        (str(seed), "3") for seed in (0, 1, 2, 0, 1, 2)
    ]
    found = {row["algorithm"]: row for row in table(tmp_path / "statistics.csv")}
    # 5, 15, 25: t of two degrees 4.30265 times 10 / sqrt(3).
    ends = [float(found["vm3ac"][k]) for k in ("mean", "mean_low", "mean_high")]
    assert ends == pytest.approx([15, 15 - 24.8414, 15 + 24.8414], abs=1e-3)
    # 5, 15, 25 against 0, 10, 20, seed by seed.
    assert found["ma_sac"]["vm3ac_better"] == "3 of 3 seeds"
    middle = [r for r in table(tmp_path / "curves.csv") if r["frames"] == "128"]
    assert [float(row["mean"]) for row in middle] == [7.5, 5.0]
    # More seeds: only those that are missing, in a directory of their own.
    figure3.main([*command, "--seeds", "5"])
    assert [(given["seed"], given["seeds"]) for given in launched[2:]] == [("3", "2")] * 2
    assert len({given["run_dir"] for given in launched}) == 4
    assert len(table(tmp_path / "results.csv")) == 10


def test_several_tasks_are_averaged_where_seeds_are_shared(tmp_path, launched):
    tasks = ["--budget", "smoke", "--tasks", "predator_prey_2,predator_prey_3"]
    figure3.main([*tasks, *TWO, "--separate", "--out", str(tmp_path)])
    assert [given["seed"] for given in launched] == ["0", "1"] * 4
    rows = table(tmp_path / "statistics.csv")
    assert [row["task"] for row in rows] == ["PP (N=2)"] * 2 + ["PP (N=3)"] * 2 + ["all 2"]
    # 5, 15 against 0, 10 on both.
    assert (rows[4]["algorithm"], rows[4]["mean"], rows[4]["vm3ac_better"]) == (
        "ma_sac",
        "",
        "4 of 4 runs",
    )


def test_another_configuration_is_another_run(tmp_path, launched):
    for extra in ([], ["gamma=0.9"], ["gamma=0.9"]):
        figure3.main([*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path), *extra])
    assert [given.get("gamma") for given in launched] == [None, "0.9"]
    rows = table(tmp_path / "results.csv")
    assert ["gamma=0.9" in row["configuration"] for row in rows] == [False, True]
    assert rows[0]["run_dir"] != rows[1]["run_dir"]


@pytest.mark.parametrize(("checkpoint", "goes_on"), [(True, "true"), (False, None)])
@pytest.mark.parametrize("seeds", ["1", "2"])
def test_an_interrupted_training_goes_on(tmp_path, monkeypatch, capsys, checkpoint, goes_on, seeds):
    command = [*TINY, "--algorithms", "vm3ac", "--seeds", seeds, "--out", str(tmp_path)]
    begin(monkeypatch, checkpoint=checkpoint)
    with pytest.raises(SystemExit):
        figure3.main(command)
    said = capsys.readouterr()
    assert "1 of 1 trainings failed" in said.err
    assert "failed: killed (" in said.out
    assert not (tmp_path / "results.csv").exists()
    second = []

    def launch(command, log):
        second.append(arguments(command))
        # What was killed before its first checkpoint is out of the way.
        left = list(Path(second[-1]["run_dir"]).rglob("config.yaml"))
        assert bool(left) == checkpoint
        fake(second[-1])

    monkeypatch.setattr(runs, "launch", launch)
    figure3.main(command)
    assert [given.get("resume") for given in second] == [goes_on]
    assert len(table(tmp_path / "results.csv")) == int(seeds)


def test_more_seeds_after_an_interrupt(tmp_path, monkeypatch):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    begin(monkeypatch, checkpoint=True)
    with pytest.raises(SystemExit):
        figure3.main([*command, "--seeds", "2"])
    said = []

    def launch(command, log):
        said.append(arguments(command))
        fake(said[-1])

    monkeypatch.setattr(runs, "launch", launch)
    figure3.main([*command, "--seeds", "3"])
    # The two that were begun go on together; the third is new.
    plans = [(given["seed"], given.get("seeds"), given.get("resume")) for given in said]
    assert plans[0] == ("0", "2", "true")
    assert plans[1][:2] == ("2", None)
    assert [row["seed"] for row in table(tmp_path / "results.csv")] == ["0", "1", "2"]


def test_a_table_of_another_format_is_refused(tmp_path, launched, capsys):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    figure3.main(command)
    path = tmp_path / "results.csv"
    good = path.read_text()
    older = good.replace("\n1,", "\n7,")
    renamed = good.replace("seed,", "sed,", 1)
    for text, named in ((older, "format version 7"), (renamed, "other columns")):
        path.write_text(text)
        with pytest.raises(SystemExit):
            figure3.main([*command, "--seeds", "2"])
        said = capsys.readouterr().err
        assert f"a table of {named}, this program reads and writes format version 1" in said
        assert path.read_text() == text
    assert len(launched) == 1


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({"jobs": 1}, []),
        ({"jobs": 2}, ["threads=1"]),
        ({"jobs": 2, "threads": "4"}, ["threads=4"]),
        ({"jobs": 2, "budget": "smoke"}, ["threads=1"]),
    ],
)
def test_trainings_side_by_side_have_one_thread_each(tmp_path, given, threads):
    own = {key: value for key, value in given.items() if key != "threads"}
    overrides = {"threads": given["threads"]} if "threads" in given else {}
    command = Command(figure3.Figure3(**own), overrides, "")
    case = make_case(command, "predator_prey_2", "vm3ac")
    said = runs.arguments_of(command, runs.Batch(case, range(1), tmp_path))
    assert [text for text in said if text.startswith("threads=")] == threads


def test_runs_of_several_commits_are_named(tmp_path, launched, capsys):
    command = [*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)]
    figure3.main([*command, "--seeds", "2"])
    assert "several commits" not in capsys.readouterr().out
    path = tmp_path / "results.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2].replace(",,torch=2", ",abc,torch=2")]))
    figure3.main([*command, "--seeds", "2"])
    assert "these runs are of several commits: abc, none" in capsys.readouterr().out


def test_another_command_s_rows_are_kept(tmp_path):
    table_path = tmp_path / "results.csv"
    row = dict.fromkeys(results.COLUMNS[1:], "1")
    mine, other = results.Results(table_path), results.Results(table_path)
    other.add({**row, "configuration": "theirs"})
    mine.add({**row, "configuration": "mine"})
    mine.add({**row, "configuration": "mine"})
    assert [row["configuration"] for row in table(table_path)] == ["theirs", "mine"]


def test_spans():
    assert runs.spans({4, 0, 1, 6, 5}) == [range(2), range(4, 7)]
    assert runs.spans([]) == []


def test_a_command_that_fails_is_an_error(tmp_path):
    log = tmp_path / "a.log"
    with pytest.raises(subprocess.CalledProcessError):
        runs.launch([sys.executable, "-c", "print('why'); raise SystemExit(3)"], log)
    assert log.read_text() == "why\n"
