"""Environments: our VMAS scenarios, VMAS's own, and the transforms that give all the same keys.

Nothing is imported before it is asked for (PEP 562), so that this package works where the
optional simulators are not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "EpisodeCounter": "vm3ac_modules.envs.transforms",
    "ExpandDone": "vm3ac_modules.envs.transforms",
    "PredatorPrey": "vm3ac_modules.envs.scenarios.predator_prey",
    "VMASEnv": "vm3ac_modules.envs.vmas",
    "available_environments": "vm3ac_modules.envs.factory",
    "check_homogeneous_continuous": "vm3ac_modules.envs.factory",
    "make_env": "vm3ac_modules.envs.factory",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
