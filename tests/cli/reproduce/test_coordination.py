"""The study of coordination: trained, measured, refused."""

from __future__ import annotations

import csv

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from vm3ac_modules.cli.reproduce import _trainings as runs
from vm3ac_modules.cli.reproduce import coordination
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.runs import train


@pytest.fixture(autouse=True)
def _train_here(monkeypatch):
    """Trainings without a process of their own each, whose imports take most of the time."""
    monkeypatch.setattr(runs, "launch", lambda command, log: train(settings_of(command[4:])))


def test_information_and_intervention_from_one_command(tmp_path):
    # One at a time: all train in this process.
    arguments = ["--budget", "smoke", "--tasks", "predator_prey_2", "--episodes", "2"]
    arguments += ["--jobs", "1"]
    coordination.main([*arguments, "--out", str(tmp_path), "--runs", str(tmp_path / "runs")])
    with (tmp_path / "intervention.csv").open() as file:
        rows = list(csv.DictReader(file))
    modes = {(row["algorithm"], row["latent"]) for row in rows}
    with_latent = {"sample", "independent", "mean"}
    assert modes == {
        *(("vm3ac", mode) for mode in with_latent),
        *(("vm3ac_tight", mode) for mode in with_latent),
        ("vm3ac_no_latent", "none"),
    }
    with (tmp_path / "information.csv").open() as file:
        panels = {row["panel"] for row in csv.DictReader(file)}
    assert len(panels) == 3
    for name in ("coordination.png", "intervention.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_runs_without_estimates_are_refused(tmp_path, capsys):
    arguments = ["--budget", "smoke", "--tasks", "predator_prey_2", "information_rows=0"]
    arguments += ["--algorithms", "vm3ac"]
    with pytest.raises(SystemExit):
        coordination.main([*arguments, "--out", str(tmp_path), "--runs", str(tmp_path / "runs")])
    assert "train with information_rows above 0" in capsys.readouterr().err
