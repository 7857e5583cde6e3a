"""Training: the registry of algorithms, checkpoints, records of a run, seeds and guards.

Nothing is imported before it is asked for (PEP 562), so that a record can be read, or a
checkpoint listed, without loading every algorithm.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "ALGORITHMS": "vm3ac_modules.training.presets",
    "Agent": "vm3ac_modules.training.registry",
    "COMMON": "vm3ac_modules.training.presets",
    "Checkpoint": "vm3ac_modules.training.checkpoint",
    "CheckpointError": "vm3ac_modules.training.checkpoint",
    "CsvLog": "vm3ac_modules.training.record",
    "DISCRETE_ALGORITHMS": "vm3ac_modules.training.discrete_presets",
    "DISCRETE_COMMON": "vm3ac_modules.training.discrete_presets",
    "DiscreteAgent": "vm3ac_modules.training.discrete",
    "EpisodeCollector": "vm3ac_modules.training.episodes",
    "EpisodeSource": "vm3ac_modules.training.episodes",
    "FiniteGuard": "vm3ac_modules.training.guards",
    "FusedSoftUpdate": "vm3ac_modules.training.target",
    "Hook": "vm3ac_modules.training.hooks",
    "InfluenceSchedule": "vm3ac_modules.training.hooks",
    "LatentPolicyLearner": "vm3ac_modules.training.hooks",
    "NonFiniteError": "vm3ac_modules.training.guards",
    "PerSeed": "vm3ac_modules.training.seeds",
    "Round": "vm3ac_modules.training.episodes",
    "RunDirectoryError": "vm3ac_modules.training.record",
    "SeedSampler": "vm3ac_modules.training.seeds",
    "TemperatureLearner": "vm3ac_modules.training.hooks",
    "Sizes": "vm3ac_modules.training.builders",
    "TensorBoardLog": "vm3ac_modules.training.record",
    "TrainedAgent": "vm3ac_modules.training.loading",
    "build_discrete": "vm3ac_modules.training.discrete",
    "build": "vm3ac_modules.training.registry",
    "clip_gradients_per_agent": "vm3ac_modules.training.gradients",
    "common_frame": "vm3ac_modules.training.checkpoint",
    "checkpoint_identity": "vm3ac_modules.training.checkpoint",
    "config_hash": "vm3ac_modules.training.checkpoint",
    "evaluation_seed": "vm3ac_modules.training.seeding",
    "fork_rng": "vm3ac_modules.training.seeding",
    "git_commit": "vm3ac_modules.training.record",
    "group_sizes": "vm3ac_modules.training.registry",
    "has_checkpoint": "vm3ac_modules.training.checkpoint",
    "interleave": "vm3ac_modules.training.seeds",
    "join_optimizers": "vm3ac_modules.training.seeds",
    "join_states": "vm3ac_modules.training.seeds",
    "load_agent": "vm3ac_modules.training.loading",
    "load_checkpoint": "vm3ac_modules.training.checkpoint",
    "make_replay": "vm3ac_modules.training.seeds",
    "open_run_directory": "vm3ac_modules.training.record",
    "read_csv_log": "vm3ac_modules.training.record",
    "resolve_discrete_knobs": "vm3ac_modules.training.discrete_presets",
    "resolve_knobs": "vm3ac_modules.training.presets",
    "rng_state": "vm3ac_modules.training.seeding",
    "save_checkpoint": "vm3ac_modules.training.checkpoint",
    "seed_everything": "vm3ac_modules.training.seeding",
    "set_rng_state": "vm3ac_modules.training.seeding",
    "split_optimizer": "vm3ac_modules.training.seeds",
    "split_state": "vm3ac_modules.training.seeds",
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
