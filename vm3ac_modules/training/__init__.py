"""Training: the registry of algorithms, checkpoints, records of a run, seeds and guards.

Nothing is imported before it is asked for (PEP 562), so that a record can be read, or a
checkpoint listed, without loading every algorithm.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "ALGORITHMS": "vm3ac_modules.training.registry",
    "Agent": "vm3ac_modules.training.registry",
    "Checkpoint": "vm3ac_modules.training.checkpoint",
    "CheckpointError": "vm3ac_modules.training.checkpoint",
    "CsvLog": "vm3ac_modules.training.record",
    "FiniteGuard": "vm3ac_modules.training.guards",
    "FusedSoftUpdate": "vm3ac_modules.training.target",
    "NonFiniteError": "vm3ac_modules.training.guards",
    "RunDirectoryError": "vm3ac_modules.training.record",
    "TensorBoardLog": "vm3ac_modules.training.record",
    "build": "vm3ac_modules.training.registry",
    "clip_gradients_per_agent": "vm3ac_modules.training.gradients",
    "config_hash": "vm3ac_modules.training.checkpoint",
    "evaluation_seed": "vm3ac_modules.training.seeding",
    "fork_rng": "vm3ac_modules.training.seeding",
    "git_commit": "vm3ac_modules.training.record",
    "has_checkpoint": "vm3ac_modules.training.checkpoint",
    "load_agent": "vm3ac_modules.training.loading",
    "load_checkpoint": "vm3ac_modules.training.checkpoint",
    "open_run_directory": "vm3ac_modules.training.record",
    "read_csv_log": "vm3ac_modules.training.record",
    "rng_state": "vm3ac_modules.training.seeding",
    "save_checkpoint": "vm3ac_modules.training.checkpoint",
    "seed_everything": "vm3ac_modules.training.seeding",
    "set_rng_state": "vm3ac_modules.training.seeding",
    "versions": "vm3ac_modules.training.record",
    "write_json": "vm3ac_modules.training.record",
    "write_text": "vm3ac_modules.training.record",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
