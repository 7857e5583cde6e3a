"""Write docs/api.md from the package's docstrings: ``python docs/make_api.py``.

A test compares the page with what this prints.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import vm3ac_modules
from vm3ac_modules._lazy import homes

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# API

Every public name, by module; the docstrings hold formulas, shapes and examples. The names of the
first table can be imported from `vm3ac_modules` itself.
"""


def first_lines(tree: ast.Module) -> dict[str, str]:
    """First line of what is said of every name at the top of a module, constants included."""
    said: dict[str, str] = {}
    for node, following in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            said[node.name] = _first(ast.get_docstring(node))
        target = getattr(node, "targets", [getattr(node, "target", None)])[0]
        described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and described:
            said[target.id] = _first(str(following.value.value))
    return said


def _first(docstring: str | None) -> str:
    return (docstring or "").split("\n")[0]


def public_names(name: str, file: Path, tree: ast.Module) -> dict[str, str]:
    """What is said of every public name of a module.

    What belongs into another environment than this one (BenchMARL) is read from the text alone,
    so that the page is the same wherever it is written.
    """
    said = first_lines(tree)
    if ".integrations." not in name:
        module = importlib.import_module(name)
        values = {public: getattr(module, public, None) for public in module.__all__}
        return {
            public: said.get(public) or (_first(value.__doc__) if callable(value) else "")
            for public, value in values.items()
        }
    lists = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    return {public: said.get(public, "") for public in next(lists)}


def sections() -> Iterator[str]:
    """The page, piece by piece."""
    yield HEAD
    yield "| name | from |\n|---|---|"
    yield from (f"| `{k}` | `{v}` |" for k, v in sorted(homes(vm3ac_modules.__file__).items()))
    for file in sorted((ROOT / "vm3ac_modules").rglob("*.py")):
        if file.name.startswith("_"):
            continue
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        yield f"\n## `{name}`\n\n{_first(ast.get_docstring(tree))}\n\n| name | |\n|---|---|"
        for public, line in public_names(name, file, tree).items():
            escaped = line.replace("|", "\\|")
            yield f"| `{public}` | {escaped} |"


def page() -> str:
    """The whole page."""
    return "\n".join(sections()) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "api.md").write_text(page(), encoding="utf-8")
