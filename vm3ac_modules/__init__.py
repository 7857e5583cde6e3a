"""Coordination by mutual information: TorchRL/TensorDict components for VM3-AC.

Nothing is imported before it is asked for (PEP 562), so that the parts which need less than
torch, or an optional package, work where the rest is not installed.
"""

from importlib import metadata
from typing import Any

from vm3ac_modules._lazy import attach

_get, __dir__, _names = attach(__name__, __file__)
__all__ = [*_names, "__version__"]


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _get(name)
    try:
        return metadata.version("vm3ac-modules")
    except metadata.PackageNotFoundError:
        return "0+unknown"
