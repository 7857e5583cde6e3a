"""Scenarios for the VMAS simulator (an optional extra), each in its own module.

Importing this package needs no VMAS; importing one of its modules does.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import cache
from types import ModuleType
from typing import Any

from vm3ac_modules.keys import require_extra

_EXPORTS: dict[str, str] = {
    "CooperativeNavigation": "vm3ac_modules.envs.scenarios.cooperative_navigation",
    "PredatorPrey": "vm3ac_modules.envs.scenarios.predator_prey",
    "TreasureCollection": "vm3ac_modules.envs.scenarios.treasure_collection",
}

__all__ = ["load_vmas", *_EXPORTS]


@cache
def load_vmas() -> ModuleType:
    """Import VMAS without the notice that its dependency gym prints.

    Returns:
        The module ``vmas``.

    Raises:
        ImportError: VMAS is not installed; names the extra to install.

    Example:
        >>> from vm3ac_modules.envs.scenarios import load_vmas
        >>> load_vmas().__name__
        'vmas'
    """
    require_extra("vmas", "vmas", "a VMAS environment")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("vmas")


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.envs.scenarios' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
