"""Games with exact mutual information, slow twins, a falsifier of would-be bounds, a stub of SMAC.

Nothing is imported before it is asked for (PEP 562): the oracles need torch only, the strategies
and assertions need hypothesis (``pip install 'vm3ac-modules[testing]'``).
"""

from __future__ import annotations

import importlib
from typing import Any

from vm3ac_modules.keys import require_extra

_EXPORTS: dict[str, str] = {
    "Game": "oracles",
    "LinearGaussianGame": "oracles",
    "LinearPredictor": "oracles",
    "SMACStub": "smac_stub",
    "TabularGame": "tabular",
    "assert_valid_lower_bound": "assertions",
    "conditional_tables": "strategies",
    "linear_gaussian_games": "strategies",
    "linear_predictors": "strategies",
    "pair_sum_loop": "twins",
    "sampled_bound": "assertions",
    "soft_value_target_loop": "twins",
    "tabular_games": "strategies",
    "tensor_batches": "strategies",
    "tensors": "strategies",
}
_NEEDS_HYPOTHESIS = frozenset({"assertions", "strategies"})

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module = _EXPORTS[name]
        if module in _NEEDS_HYPOTHESIS:
            require_extra("hypothesis", "testing", f"{__name__}.{name}")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
