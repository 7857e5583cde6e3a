"""TorchRL's loggers behind ``logger=...``, beside what a run writes by itself.

metrics.csv and eval.csv are always written, and TensorBoard by this package: after a resume both go
on exactly behind the checkpoint, which TorchRL's loggers cannot.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vm3ac_modules.extras import require_extra
from vm3ac_modules.files import write_text
from vm3ac_modules.runs.record import TensorBoardLog

FOLDER, WANDB_ID = "logs", "wandb_id"
LOGGERS: dict[str, tuple[str, str]] = {
    "tensorboard": ("tensorboard", "recipes"),
    "csv": ("torchrl", "core"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
}
"""Package that each needs, and the extra that installs it."""


class RowLog(Protocol):
    """Takes rows of numbers."""

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write one row at its ``frame``."""

    def close(self) -> None:
        """Nothing follows."""


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger whose package is missing, before anything is written."""
    for name in names:
        package, extra = LOGGERS[name]
        require_extra(package, extra, f"logger={name}")


class TorchRLLog:
    """Rows as scalars of one of TorchRL's loggers.

    Args:
        name: ``"csv"``, ``"wandb"`` or ``"mlflow"``.
        run_dir: the run's directory; everything lies in its folder ``logs``.
        title: what the run is called.
        settings: the configuration, logged once.
        resumed: whether it goes on with the run of this directory.
    """

    def __init__(
        self, name: str, run_dir: Path, title: str, settings: Mapping[str, Any], resumed: bool
    ) -> None:
        place = run_dir / FOLDER
        place.mkdir(parents=True, exist_ok=True)
        self.name, self.logger = name, _make(name, place, title, resumed)
        self.logger.log_hparams(dict(_flat(settings)))

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write the numbers of a row at its ``frame``; text is left out."""
        for name, value in row.items():
            if name != "frame" and not isinstance(value, str):
                self.logger.log_scalar(name, float(value), step=int(row["frame"]))

    def close(self) -> None:
        """End the logger's run."""
        if self.name == "wandb":
            self.logger.experiment.finish()
        elif self.name == "mlflow":
            import mlflow

            mlflow.end_run()
        else:
            for file in self.logger.experiment.files.values():
                file.close()


def _make(name: str, place: Path, title: str, resumed: bool) -> Any:
    from torchrl.record import loggers

    if name == "csv":
        return loggers.csv.CSVLogger(exp_name="csv", log_dir=str(place))
    if name == "mlflow":
        uri = (place / "mlflow").resolve().as_uri()
        return loggers.mlflow.MLFlowLogger(exp_name=title, tracking_uri=uri)
    # Nothing leaves this machine unless it is asked to.
    return loggers.wandb.WandbLogger(
        exp_name=title,
        save_dir=str(place),
        id=_wandb_id(place / WANDB_ID, resumed),
        project="vm3ac-modules",
        mode=os.environ.get("WANDB_MODE", "offline"),
        reinit="create_new",
    )


def _wandb_id(file: Path, resumed: bool) -> str:
    """The id that a resumed run goes on under; another training, even at this path, has another."""
    if resumed and file.is_file():
        own = file.read_text(encoding="utf-8", errors="replace").strip()
        if re.fullmatch("[0-9a-f]{32}", own):
            return own
    own = uuid.uuid4().hex
    write_text(file, own + "\n")
    return own


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found += _flat(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return found


def make_logs(
    names: Sequence[str],
    run_dir: Path,
    title: str,
    settings: Mapping[str, Any],
    resume_frame: int | None,
) -> list[RowLog]:
    """Open every logger of a run."""
    logs: list[RowLog] = []
    for name in names:
        if name == "tensorboard":
            logs.append(TensorBoardLog(run_dir, resume_frame=resume_frame))
        else:
            logs.append(TorchRLLog(name, run_dir, title, settings, resume_frame is not None))
    return logs
