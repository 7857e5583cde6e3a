"""A small run directory, and the means of somebody who would harm its reader."""

from __future__ import annotations

import hashlib
import json

import torch
from tensordict import TensorDict

from vm3ac_modules.runs import ReplayItems, save_checkpoint
from vm3ac_modules.runs.record import CsvLog, write_config


def items(first, end):
    return TensorDict({"x": torch.arange(first, end).float()}, [end - first])


def saved(folder):
    """A small run directory with everything that is read."""
    run = folder / "run"
    replay = ReplayItems(items, 5, 4)
    config = {"seed": 1, "lr": 0.1}
    save_checkpoint(run, 4, {"loss": {"w": torch.ones(3)}, "n": 1}, config=config, replay=replay)
    write_config(run / "config.yaml", config)
    log = CsvLog(run / "metrics.csv")
    log.write({"frame": 1, "loss": 0.5})
    log.write({"frame": 2, "loss": 0.25})
    log.close()
    return run


def fix(meta_path, **marks):
    """Make the checksums true again, as somebody who means harm would."""
    meta = json.loads(meta_path.read_text())
    meta.update(marks)
    meta_path.write_text(json.dumps(meta))


def mark(path):
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
