"""Checkpoints of earlier formats, brought to the present one step by step.

A format is a number in ``meta.json``. Whoever changes what a checkpoint holds raises it by one and
adds a function here, with a small checkpoint of the format before in ``tests/runs/checkpoints``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VERSION = 3
READERS = {1: "the commits before 8050f69 (27 November 2026)"}
"""Formats that are too far away, and who reads them."""
_SIZES = ("__batch_size", "__device")


def migrated(version: int, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint of some format, as this version writes it."""
    for number in range(version, VERSION):
        state = MIGRATIONS[number](state)
    return state


def _from_2(state: dict[str, Any]) -> dict[str, Any]:
    """Regularizer and intrinsic reward became terms; what transforms learned came to it."""
    old = state.get("loss", {})
    intrinsic = any(name.startswith("intrinsic.") for name in old)
    plain = state.get("agent", {}).get("algorithm") == "ma_ac"
    loss = {}
    for name, value in old.items():
        if name.endswith((*_SIZES, ".stepper.epsilon")):
            continue
        if name.startswith("regularizer.") and (intrinsic or plain):
            # Of a regularizer that did nothing.
            continue
        for start in ("regularizer.", "intrinsic."):
            name = f"terms.0.{name.removeprefix(start)}" if name.startswith(start) else name
        loss[name.replace(".stepper.", ".")] = value
    return {"carried": {}, **state, "loss": loss}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _from_2}
"""What brings a format to the one behind it."""
