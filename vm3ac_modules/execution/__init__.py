"""Execution without a center: what an agent needs to act, down to a machine without torch.

Nothing is imported before it is asked for (PEP 562), so that :mod:`vm3ac_modules.execution.clock`
works where NumPy alone is installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "AgentFileError": "vm3ac_modules.execution.agent_file",
    "AgentLost": "vm3ac_modules.execution.agent_process",
    "DecentralizedTeam": "vm3ac_modules.execution.team",
    "DeployedAgent": "vm3ac_modules.execution.agent",
    "Disturbance": "vm3ac_modules.execution.disturbance",
    "LatentClock": "vm3ac_modules.execution.clock",
    "export_agents": "vm3ac_modules.execution.export",
    "latent_at": "vm3ac_modules.execution.clock",
    "read_record": "vm3ac_modules.execution.agent_file",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.execution' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
