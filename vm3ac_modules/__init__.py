"""Coordination by mutual information: TorchRL/TensorDict components for VM3-AC.

Nothing is imported before it is asked for (PEP 562), so that the parts which need less than
torch, or an optional package, work where the rest is not installed.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

_EXPORTS: dict[str, str] = {
    "Keys": "vm3ac_modules.keys",
}

__all__ = [*sorted(_EXPORTS), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return metadata.version("vm3ac-modules")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
