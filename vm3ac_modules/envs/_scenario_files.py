"""The tasks that a scenario's file names, read without importing it: that needs VMAS."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["ScenarioFileError", "read_scenarios", "tasks_in"]

RULE = (
    "TASKS must be a literal that maps each task's name to its options, "
    'as {"ring_2": {"max_steps": 50, "num_agents": 2}}'
)


class ScenarioFileError(ValueError):
    """A scenario's file whose tasks cannot be read; says which file, and what is asked of it."""


def read_scenarios(
    folders: Iterable[str],
) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], list[ScenarioFileError]]:
    """The tasks of all scenarios' files.

    Args:
        folders: where the files lie; names that begin with ``_`` are none.

    Returns:
        Task -> name of its file without ``.py``, and its options; and what is wrong with files that
        cannot be read.
    """
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    unreadable: list[ScenarioFileError] = []
    for file in sorted(file for place in folders for file in Path(place).glob("[!_]*.py")):
        try:
            found |= {name: (file.stem, options) for name, options in tasks_in(file).items()}
        except ScenarioFileError as error:
            unreadable.append(error)
    return found, unreadable


def tasks_in(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """The ``TASKS`` of a scenario's file: options by name, ``max_steps`` among them.

    Args:
        file: a Python file; one without ``TASKS`` names no task.

    Raises:
        ScenarioFileError: the file is not Python, or ``TASKS`` is not what :data:`RULE` says.
    """
    try:
        nodes = ast.parse(file.read_text(encoding="utf-8")).body
        found = [ast.literal_eval(node.value) for node in nodes if _is_tasks(node)]  # type: ignore[attr-defined]
    except SyntaxError as error:
        raise ScenarioFileError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (ValueError, TypeError) as error:
        raise ScenarioFileError(f"{file}: {RULE}") from error
    tasks = found[-1] if found else {}
    if not isinstance(tasks, dict) or not all(map(_is_task, tasks.items())):
        raise ScenarioFileError(f"{file}: {RULE}")
    return tasks


def _is_tasks(node: ast.stmt) -> bool:
    """Whether a statement gives ``TASKS`` its value, with a type or without."""
    if isinstance(node, ast.AnnAssign):
        return getattr(node.target, "id", "") == "TASKS" and node.value is not None
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TASKS"


def _is_task(item: tuple[object, object]) -> bool:
    """Whether a name has options by name, a time limit among them."""
    name, options = item
    if not isinstance(name, str) or not isinstance(options, dict):
        return False
    return isinstance(options.get("max_steps"), int) and all(isinstance(k, str) for k in options)
