"""Environments with the same keys: VMAS, multi-walker, PettingZoo, SMAX, SMAC, the user's.

Nothing is imported before it is asked for (PEP 562), so that this package works where the
optional simulators are not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "BatchedPettingZooEnv": "vm3ac_modules.envs.pettingzoo",
    "CooperativeNavigation": "vm3ac_modules.envs.scenarios.cooperative_navigation",
    "EpisodeCounter": "vm3ac_modules.envs.transforms",
    "EpisodeLatent": "vm3ac_modules.envs.episode_latent",
    "ExpandDone": "vm3ac_modules.envs.transforms",
    "MeetingEnv": "vm3ac_modules.envs.meeting",
    "MultiwalkerEnv": "vm3ac_modules.envs.multiwalker",
    "PredatorPrey": "vm3ac_modules.envs.scenarios.predator_prey",
    "SMACEnv": "vm3ac_modules.envs.smac",
    "SMAXEnv": "vm3ac_modules.envs.smax",
    "SMAXUnits": "vm3ac_modules.envs.smax",
    "TreasureCollection": "vm3ac_modules.envs.scenarios.treasure_collection",
    "VMASEnv": "vm3ac_modules.envs.vmas",
    "available_environments": "vm3ac_modules.envs.factory",
    "check_homogeneous_continuous": "vm3ac_modules.envs.checks",
    "env_rng_state": "vm3ac_modules.envs.rng",
    "focus_fire_action": "vm3ac_modules.envs.smax_scripts",
    "lost_episodes": "vm3ac_modules.envs.battles",
    "make_battle_env": "vm3ac_modules.envs.battles",
    "make_env": "vm3ac_modules.envs.factory",
    "make_smac_env": "vm3ac_modules.envs.smac",
    "set_env_rng_state": "vm3ac_modules.envs.rng",
    "time_limit": "vm3ac_modules.envs.battles",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
