"""Code that a file names is run only if somebody vouches for the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm3ac_modules.envs.tasks import imports

__all__ = ["UntrustedError"]


class UntrustedError(ValueError):
    """A file names code that would have to be run, and nobody said that it may."""


def check_trusted(config: Mapping[str, Any], where: Any, trust: bool) -> None:
    """Refuse a saved configuration that has a module imported, unless somebody vouches for it."""
    task = config.get("task")
    name = task.get("name") if isinstance(task, Mapping) else task
    module = imports(name) if isinstance(name, str) else None
    if module is not None and not trust:
        raise UntrustedError(
            f"{where} is of the task {name}, for which the module {module} is imported, and "
            "importing runs code. If the directory is yours, or you trust who gave it to you, give "
            "trust=true."
        )
