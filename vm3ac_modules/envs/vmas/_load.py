"""VMAS, an optional extra, imported without a notice of its dependency."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from vm3ac_modules.extras import require_extra

LOG = logging.getLogger("vm3ac_modules")


@cache
def load_vmas() -> ModuleType:
    """Import VMAS without the notice that its dependency gym prints."""
    require_extra("vmas", "vmas", "a VMAS environment")
    LOG.info("VMAS is imported, which is licensed under the GPL-3.0 (SECURITY.md).")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("vmas")


@contextlib.contextmanager
def unused_options_are_errors() -> Iterator[None]:
    """Refuse options of a scenario that nothing read, which VMAS only warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Scenario kwargs")
        try:
            yield
        except UserWarning as unused:
            if not str(unused).startswith("Scenario kwargs"):
                raise  # the caller's filters made an error of another warning
            raise ValueError(f"unknown options of the scenario: {unused}") from unused


def is_seeded(scenario: Any) -> bool:
    """Whether a scenario is ours by its type, whatever others call their methods."""
    from vm3ac_modules.envs.vmas.scenarios._common import SeededScenario

    return isinstance(scenario, SeededScenario)


def is_joint(scenario: Any) -> bool:
    """Whether a scenario tells of all agents at once."""
    from vm3ac_modules.envs.vmas.scenarios._common import JointScenario

    return isinstance(scenario, JointScenario)


def check_names(method: str, state: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a state with other entries than expected."""
    if state.keys() != expected.keys():
        raise ValueError(
            f"{method}: the state has the entries {sorted(state)}, this environment needs "
            f"{sorted(expected)}; use one saved from the same scenario and kind of device"
        )
