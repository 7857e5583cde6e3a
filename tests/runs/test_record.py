"""Run directories, logs and the record of versions."""

from __future__ import annotations

import json
import math
import os
import subprocess

import pytest
import torch

from vm3ac_modules.files import write_json
from vm3ac_modules.runs import (
    CsvLog,
    RunDirectoryError,
    TensorBoardLog,
    git_commit,
    open_run_directory,
    read_csv_log,
    read_yaml,
    record,
    to_yaml,
    versions,
)
from vm3ac_modules.runs.directory import SUM

RUN_FILES = (
    "config.yaml",
    "metrics.csv",
    "eval.csv",
    "summary.json",
    "curve.png",
    "rollout.gif",
    "events.out.tfevents.1.host",
    "checkpoint/latest",
    "checkpoint/step_1/state.pt",
    "seed_3/config.yaml",
    "evaluation.json",
    "evaluation.png",
    "decentralized.csv",
    "agents/mean/agent_0.pt2",
)
OTHER_FILES = (
    "notes.txt",
    "seed_data/metrics.csv",
    "seed_4/notes.txt",
    "a.gif",
    "evaluation.py",
    "decentralized.md",
    "seed_5/agents/list.txt",
)
WITHOUT_A_RUN = (
    *("config.yaml", "eval.csv", "report.html", "evaluation.json"),
    *("logs/k", "agents/a.txt", "checkpoint/a.pt"),
)


def fill(path, names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(SUM if name.endswith("config.yaml") else "x")


def files(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_a_new_directory_is_made(tmp_path):
    path = open_run_directory(tmp_path / "a" / "b", resume=False, overwrite=False)
    assert path.is_dir()
    open_run_directory(path, resume=False, overwrite=True)


@pytest.mark.parametrize(
    "name", ["config.yaml", "checkpoint/step_1/meta.json", "seed_2/config.yaml"]
)
def test_a_run_is_refused_unless_told(tmp_path, name):
    fill(tmp_path, [name])
    with pytest.raises(RunDirectoryError, match=r"resume=true.*overwrite=true"):
        open_run_directory(tmp_path, resume=False, overwrite=False)
    assert open_run_directory(tmp_path, resume=True, overwrite=False) == tmp_path
    assert files(tmp_path) == {name}


def test_files_of_somebody_else_are_no_run(tmp_path):
    fill(tmp_path, OTHER_FILES)
    open_run_directory(tmp_path, resume=False, overwrite=False)
    with pytest.raises(RunDirectoryError, match="nothing to resume"):
        open_run_directory(tmp_path, resume=True, overwrite=False)


def test_overwrite_removes_a_run_and_nothing_else(tmp_path):
    fill(tmp_path, (*RUN_FILES, *OTHER_FILES))
    open_run_directory(tmp_path, resume=False, overwrite=True)
    assert files(tmp_path) == set(OTHER_FILES)
    assert not (tmp_path / "checkpoint").exists()
    assert not (tmp_path / "seed_3").exists()


def test_columns_may_come_with_a_resume(tmp_path):
    path = tmp_path / "log.csv"
    log = CsvLog(path)
    log.write({"frame": 1, "a": 2.0})
    log.close()
    log = CsvLog(path, resume_rows=1)
    log.write({"frame": 2, "a": 3.0, "b": 4.0})
    with pytest.raises(ValueError, match="unknown column"):
        log.write({"frame": 3, "c": 5.0})
    log.close()
    assert path.read_text() == "frame,a,b\n1,2.0,\n2,3.0,4.0\n"
    found = read_csv_log(path)
    assert math.isnan(found["b"][0])
    assert found["b"][1] == 4.0


@pytest.mark.parametrize("name", WITHOUT_A_RUN)
def test_overwrite_refuses_what_is_no_run_s(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("somebody's")
    for overwrite in (False, True):
        with pytest.raises(RunDirectoryError, match=r"holds no run, but .*: move it away"):
            open_run_directory(tmp_path, resume=False, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "somebody's"


def test_what_a_kill_left_is_in_nobody_s_way(tmp_path):
    fill(tmp_path, [".tmp_config.yaml"])
    open_run_directory(tmp_path, resume=False, overwrite=True)


def test_a_checkpoint_is_a_run_and_a_summary_is(tmp_path):
    fill(tmp_path, ["checkpoint/step_1/meta.json", "metrics.csv"])
    open_run_directory(tmp_path, resume=False, overwrite=True)
    assert files(tmp_path) == set()
    # Recipes with a loop of their own write no configuration.
    write_json(tmp_path / "summary.json", {"git_commit": git_commit()})
    open_run_directory(tmp_path, resume=False, overwrite=True)
    assert files(tmp_path) == set()


def test_overwrite_does_not_follow_links(tmp_path):
    fill(tmp_path, ["elsewhere/step_1/state.pt", "run/config.yaml"])
    (tmp_path / "run" / "checkpoint").symlink_to(tmp_path / "elsewhere")
    open_run_directory(tmp_path / "run", resume=False, overwrite=True)
    assert not (tmp_path / "run" / "checkpoint").is_symlink()
    assert files(tmp_path) == {"elsewhere/step_1/state.pt"}


def test_impossible_requests(tmp_path):
    with pytest.raises(RunDirectoryError, match="contradict"):
        open_run_directory(tmp_path, resume=True, overwrite=True)
    with pytest.raises(RunDirectoryError, match="nothing to resume"):
        open_run_directory(tmp_path / "missing", resume=True, overwrite=False)
    assert not (tmp_path / "missing").exists()
    fill(tmp_path, ["file"])
    with pytest.raises(RunDirectoryError, match="is a file"):
        open_run_directory(tmp_path / "file", resume=False, overwrite=True)


def test_csv_rows_are_on_disk_at_once(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.write({"frame": 10, "loss": 0.1, "mode": "a, b"})
    assert path.read_text() == 'frame,loss,mode\n10,0.1,"a, b"\n'
    log.write({"loss": torch.tensor(2.0), "frame": 20})
    assert path.read_text().endswith("\n20,2.0,\n")
    log.close()
    columns = read_csv_log(path)
    assert list(columns) == ["frame", "loss", "mode"]
    assert columns["frame"] == [10.0, 20.0]
    assert columns["loss"] == [0.1, 2.0]
    assert all(math.isnan(value) for value in columns["mode"])


def test_csv_rejects_what_does_not_fit(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv")
    with pytest.raises(ValueError, match="first column"):
        log.write({"loss": 1.0, "frame": 1})
    log.write({"frame": 1, "loss": 1.0})
    with pytest.raises(ValueError, match=r"unknown column\(s\) los:"):
        log.write({"frame": 2, "los": 1.0})
    with pytest.raises(ValueError, match="first column"):
        log.write({"loss": 1.0})
    log.close()
    assert read_csv_log(tmp_path / "metrics.csv") == {"frame": [1.0], "loss": [1.0]}


def test_csv_of_another_run_is_not_appended_to(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("frame,loss\n1,2\n")
    with pytest.raises(FileExistsError, match="no run of this directory wrote them"):
        CsvLog(path)
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match="first column is 'step'"):
        CsvLog(path, resume_rows=1)
    assert path.read_text() == "step,loss\n1,2\n"


@pytest.mark.parametrize("text", ["frame,loss\n1,2\n", "frame,loss\n1,2\n3,4"])
def test_rows_that_are_missing_are_not_passed_over(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="has 1 rows, but the checkpoint was written after 2"):
        CsvLog(path, resume_rows=2)
    assert path.read_text() == text


@pytest.mark.parametrize("torn", ["", "4", "400,", "4,0.", "40,4.0"])
def test_csv_resume_cuts_what_came_after(tmp_path, torn):
    path = tmp_path / "metrics.csv"
    path.write_text("frame,loss\n10,1.0\n20,2.0\n30,3.0\n" + torn)
    assert read_csv_log(path)["frame"] == [10.0, 20.0, 30.0]
    log = CsvLog(path, resume_rows=2)
    assert log.rows == 2
    assert path.read_text() == "frame,loss\n10,1.0\n20,2.0\n"
    log.write({"frame": 25, "loss": 9.0})
    with pytest.raises(ValueError, match="unknown"):
        log.write({"frame": 26, "other": 9.0})
    log.close()
    assert log.rows == 3
    assert read_csv_log(path) == {"frame": [10.0, 20.0, 25.0], "loss": [1.0, 2.0, 9.0]}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_rows_of_one_frame_are_counted(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("frame,loss\n10,1.0\n10,2.0\n10,3.0\n")
    CsvLog(path, resume_rows=2).close()
    assert path.read_text() == "frame,loss\n10,1.0\n10,2.0\n"


@pytest.mark.parametrize("text", [None, "", "frame,lo", "frame,other\n10,1.0\n"])
def test_csv_resume_before_the_first_row(tmp_path, text):
    path = tmp_path / "eval.csv"
    if text is not None:
        path.write_text(text)
    log = CsvLog(path, resume_rows=0)
    log.write({"frame": 5, "return_mean": 1.0})
    log.close()
    assert read_csv_log(path) == {"frame": [5.0], "return_mean": [1.0]}


def test_yaml_comes_back_as_it_was(tmp_path):
    data = {"b": 1, "a": {"lr": 3e-4, "hidden": [8, 8], "prior": None, "on": True}, "name": "ä: b"}
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(data), encoding="utf-8")
    read = read_yaml(path)
    assert read == data
    assert list(read) == ["b", "a", "name"]
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no mapping"):
        read_yaml(path)


def test_json_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"b": 1, "a": [2.5, None]})
    assert json.loads(path.read_text()) == {"b": 1, "a": [2.5, None]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"c": 1})
    assert json.loads(path.read_text()) == {"b": 1, "a": [2.5, None]}


def test_versions():
    found = versions()
    assert {"python", "torch", "torchrl", "tensordict", "vm3ac-modules"} <= set(found)
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_git_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None

    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    fill(tmp_path, ["tracked"])
    git("add", "tracked")
    git("commit", "-m", "first")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    fill(tmp_path, ["untracked"])
    assert git_commit(tmp_path) == commit
    (tmp_path / "tracked").write_text("changed")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None


def test_git_commit_of_a_package_installed_inside_another_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    try:
        subprocess.run(["git", "init", str(tmp_path)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(tmp_path), *identity, "commit", "--allow-empty", "-m", "x"]
    subprocess.run(command, check=True, capture_output=True)
    assert git_commit(tmp_path) is not None
    assert git_commit() is None


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    log.write({"frame": 7, "loss": 1.5, "mode": "sample"})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 1.5)]


def test_tensorboard_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[recipes\]"):
        TensorBoardLog(tmp_path)


def test_overwrite_never_reaches_runs_beside_which_there_is_none(tmp_path):
    (tmp_path / "seed_0").mkdir()
    (tmp_path / "seed_0" / "config.yaml").write_text("a: 1")
    with pytest.raises(RunDirectoryError, match="runs in seed_"):
        open_run_directory(tmp_path, resume=False, overwrite=True)
    assert (tmp_path / "seed_0" / "config.yaml").exists()
