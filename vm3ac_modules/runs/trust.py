"""Code that a file names runs only if the caller trusts the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm3ac_modules.envs.tasks import imports

__all__ = ["UntrustedError"]


class UntrustedError(ValueError):
    """A file names code to run, and the caller did not trust the file."""


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
