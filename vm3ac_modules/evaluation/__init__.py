"""Evaluation: how a number is made, what several seeds say, and the pictures of both.

Nothing is imported before it is asked for (PEP 562), so that this package works where the
extras for plots and statistics are not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS: dict[str, str] = {
    "AggregatedCurve": "vm3ac_modules.evaluation.curves",
    "Coordination": "vm3ac_modules.evaluation.coordination_result",
    "Estimate": "vm3ac_modules.evaluation.statistics",
    "EvaluationResult": "vm3ac_modules.evaluation.protocol",
    "ReturnSummary": "vm3ac_modules.evaluation.statistics",
    "aggregate_curves": "vm3ac_modules.evaluation.curves",
    "bar_comparison": "vm3ac_modules.evaluation.figures",
    "categorical_coordination": "vm3ac_modules.evaluation.coordination_estimates",
    "battle_gif": "vm3ac_modules.evaluation.battles",
    "bars_figure": "vm3ac_modules.evaluation.comparison",
    "comparison_figure": "vm3ac_modules.evaluation.comparison",
    "coordination_table": "vm3ac_modules.evaluation.coordination_report",
    "evaluate": "vm3ac_modules.evaluation.protocol",
    "evaluate_battles": "vm3ac_modules.evaluation.battles",
    "evaluation_figure": "vm3ac_modules.evaluation.coordination_report",
    "gaussian_coordination": "vm3ac_modules.evaluation.coordination_estimates",
    "improvement_over_each": "vm3ac_modules.evaluation.statistics",
    "learning_curve": "vm3ac_modules.evaluation.figures",
    "measure_coordination": "vm3ac_modules.evaluation.coordination",
    "positions_figure": "vm3ac_modules.evaluation.comparison",
    "probability_of_improvement": "vm3ac_modules.evaluation.statistics",
    "rollout_gif": "vm3ac_modules.evaluation.figures",
    "summarize_returns": "vm3ac_modules.evaluation.statistics",
    "unit_trace": "vm3ac_modules.evaluation.battles",
    "write_curves": "vm3ac_modules.evaluation.comparison",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
