"""Evaluation: how a number is made, and the pictures of a run.

Nothing is imported before it is asked for (PEP 562), so that this package works where the
plotting extra is not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "EvaluationResult": "vm3ac_modules.evaluation.protocol",
    "bar_comparison": "vm3ac_modules.evaluation.figures",
    "evaluate": "vm3ac_modules.evaluation.protocol",
    "learning_curve": "vm3ac_modules.evaluation.figures",
    "rollout_gif": "vm3ac_modules.evaluation.figures",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
