"""Names of a package that are imported when they are asked for (PEP 562), listed once in its stub.

The stub ``__init__.pyi`` beside a package's ``__init__.py`` says where every public name comes
from: type checkers read it, and so does :func:`attach`.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vm3ac_modules.extras import require_extra

__all__ = ["attach", "homes"]


def homes(init: str) -> dict[str, str]:
    """Where the names of a package come from.

    Args:
        init: path of the package's ``__init__.py``.

    Returns:
        Module by public name, sorted by name.
    """
    tree = ast.parse(Path(init).with_suffix(".pyi").read_text(encoding="utf-8"))
    found = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return dict(sorted(found.items()))


def attach(
    package: str, init: str, needs: Mapping[str, tuple[str, str]] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package import each of its names on first use.

    Args:
        package: its ``__name__``.
        init: its ``__file__``.
        needs: by module, the optional package that it needs and the extra that brings it.

    Returns:
        The package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Example:
        >>> import vm3ac_modules.envs
        >>> "make_env" in dir(vm3ac_modules.envs)
        True
    """
    modules = homes(init)

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        if needs and module in needs:
            require_extra(*needs[module], f"{package}.{name}")
        return getattr(importlib.import_module(module), name)

    return get, lambda: list(modules), list(modules)
