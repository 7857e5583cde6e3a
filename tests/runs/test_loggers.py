"""Loggers behind ``logger=...``: what they are given, and what is refused."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import SimpleNamespace

import pytest
from contracts.training import tiny_guard

pytest.importorskip("tensorboard")

from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import RunDirectoryError, Settings, open_run_directory, train
from vm3ac_modules.runs._loggers import LOGGERS, check_loggers, make_logs
from vm3ac_modules.runs.settings import StepTraining

CONFIG = {"lr": 0.1, "algorithm": {"name": "vm3ac"}}
ROW = {"frame": 7, "train/loss": 0.5, "train/word": "text"}


def without(package):
    return lambda name: None if name == package else importlib.util.find_spec(name)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_refused_before_anything_is_written(name, tmp_path, monkeypatch):
    package, extra = LOGGERS[name]
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", without(package))
    said = rf"logger={name} needs the package '{package}'.*pip install 'vm3ac-modules\[{extra}\]'"
    with pytest.raises(ImportError, match=said):
        train(tiny_guard(tmp_path / "run", logger=[name]))
    assert not (tmp_path / "run").exists()


def test_which_loggers_there_are():
    assert StepTraining().logger == ("tensorboard",)
    assert StepTraining(logger="csv").logger == ("csv",)
    assert StepTraining(logger=["csv", "tensorboard", "csv"]).logger == ("csv", "tensorboard")
    assert StepTraining(logger=[]).logger == ()
    for wrong in (["csv", "comet"], "comet", [1], None, 3):
        with pytest.raises(OptionsError, match="logger must be a list of tensorboard, csv, wandb"):
            StepTraining(logger=wrong)
    with pytest.raises(OptionsError, match="logger=mlflow keeps one run"):
        Settings.of(tiny_guard("x", logger=["mlflow"], seeds=2))


def test_a_run_without_tensorboard_needs_none(tmp_path, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", without("tensorboard"))
    place = tmp_path / "run"
    train(tiny_guard(place, logger=["csv"], progress="off"))
    assert not list(place.glob("events*"))
    scalars = {path.stem: path for path in (place / "logs/csv/scalars").glob("**/*.csv")}
    [last] = [path for name, path in scalars.items() if name.endswith("return_mean")]
    steps = [int(line.split(",")[0]) for line in last.read_text().splitlines()]
    assert steps == [0, 64]
    # What the run writes by itself is there as ever.
    assert (place / "eval.csv").read_text().count("\n") == 3
    open_run_directory(place, resume=False, overwrite=True)
    assert not (place / "logs").exists()
    with pytest.raises(RunDirectoryError, match="holds no run"):
        open_run_directory(place, resume=True, overwrite=False)


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    given = []
    original = wandb.init

    def init(**options):
        given.append(options)
        return original(**options)

    monkeypatch.setattr(wandb, "init", init)
    [log] = make_logs(["wandb"], tmp_path, "vm3ac on guard", CONFIG, None)
    log.write(ROW)
    assert log.logger.experiment.config["algorithm.name"] == "vm3ac"
    assert log.logger.experiment.summary["train/loss"] == 0.5
    log.close()
    assert given[0]["mode"] == "offline"
    assert list((tmp_path / "logs/wandb").glob("offline-run-*"))


def test_what_wandb_is_told(tmp_path, monkeypatch):
    """With a stand-in, where the package is not installed."""
    from torchrl.record.loggers import wandb as module

    opened = []

    class Stand:
        def __init__(self, **options):
            opened.append(options)
            self.rows, self.experiment = [], SimpleNamespace(finish=lambda: opened.append("end"))

        def log_hparams(self, settings):
            opened.append(settings)

        def log_scalar(self, name, value, step):
            self.rows.append((name, value, step))

    monkeypatch.setattr(module, "WandbLogger", Stand)
    monkeypatch.setenv("WANDB_MODE", "online")
    logs = [make_logs(["wandb"], tmp_path, "a run", CONFIG, frame)[0] for frame in (None, 3)]
    logs[0].write(ROW)
    assert logs[0].logger.rows == [("train/loss", 0.5, 7)]
    assert opened[0]["mode"] == "online"
    # The same after a resume, so that curves go on.
    assert opened[0]["id"] == opened[2]["id"]
    assert opened[1] == {"lr": 0.1, "algorithm.name": "vm3ac"}
    logs[0].close()
    assert opened[-1] == "end"
    # Another training at the same path is another run.
    make_logs(["wandb"], tmp_path, "a run", CONFIG, None)
    assert opened[-2]["id"] != opened[0]["id"]
    make_logs(["wandb"], tmp_path, "a run", CONFIG, 3)
    assert opened[-2]["id"] == opened[-4]["id"]
    (tmp_path / "logs/wandb_id").write_text("../spoiled")
    make_logs(["wandb"], tmp_path, "a run", CONFIG, 3)
    assert re.fullmatch("[0-9a-f]{32}", opened[-2]["id"])


def test_what_mlflow_is_told(tmp_path, monkeypatch):
    from torchrl.record.loggers import mlflow as module

    opened = []

    class Stand:
        experiment = SimpleNamespace()

        def __init__(self, **options):
            opened.append(options)

        def log_hparams(self, settings):
            opened.append(settings)

    monkeypatch.setattr(module, "MLFlowLogger", Stand)
    stopped = SimpleNamespace(end_run=lambda: opened.append("end"))
    monkeypatch.setitem(sys.modules, "mlflow", stopped)
    [log] = make_logs(["mlflow"], tmp_path, "a run", CONFIG, None)
    log.close()
    assert opened[0]["tracking_uri"] == (tmp_path / "logs/mlflow").as_uri()
    assert opened[0]["exp_name"] == "a run"
    assert opened[-1] == "end"


def test_loggers_that_are_there():
    check_loggers(["tensorboard", "csv"])
