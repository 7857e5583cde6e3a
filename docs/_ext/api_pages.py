"""The pages under docs/api: one for each public module and package, filled by autodoc.

A package lists its public names; each leads to the module that defines it. The pages are written
before each build and are not committed.
"""

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "vm3ac_modules"
# Needs an environment of its own (docs/benchmarl.md), so its pages are read from the text alone.
ELSEWHERE = f"{PACKAGE}.integrations.benchmarl"


def modules() -> dict[str, bool]:
    """Every public module, and whether it is a package."""
    found = {PACKAGE: True}
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        package = parts[-1] == "__init__"
        names = parts[:-1] if package else parts
        if not any(name.startswith("_") for name in names):
            found[".".join(names)] = package
    return found


@cache
def tree_of(name: str, package: bool) -> ast.Module:
    """The syntax tree of a module; of a package whose names are lazy, that of its stub."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if package else path.with_suffix(".py")
    stub = file.with_suffix(".pyi")
    return ast.parse((stub if stub.exists() else file).read_text(encoding="utf-8"))


def offered(tree: ast.Module) -> dict[str, str]:
    """The module of every name that a package offers."""
    found = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if not alias.name.startswith("_")
    }
    return {name: module for name, module in found.items() if module.startswith(PACKAGE)}


def listed(tree: ast.Module) -> list[str]:
    """The names in ``__all__``, as they are written."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(getattr(e, "value", "")) for e in getattr(node.value, "elts", [])]
    return []


def constants(tree: ast.Module) -> dict[str, str]:
    """The expression of every name that is assigned at the top of a module."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found[getattr(target, "id", "")] = ast.unparse(node.value)
    return found


def said_in(tree: ast.Module) -> dict[str, str]:
    """The first line of what a module says of each name at its top, constants included."""
    said: dict[str, str] = {}
    for node, following in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            said[node.name] = (ast.get_docstring(node) or "").split("\n")[0]
        target = getattr(node, "targets", [getattr(node, "target", None)])[0]
        described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and described:
            said[target.id] = str(following.value.value).split("\n")[0]
    return said


def defined_in(public: str, module: str, everything: dict[str, bool]) -> tuple[str, str]:
    """The module that defines a name, and the first line that it says of it."""
    tree = tree_of(module, everything.get(module, False))
    further = offered(tree).get(public)
    if further and public not in said_in(tree):
        return defined_in(public, further, everything)
    return module, said_in(tree).get(public, "")


def row(public: str, module: str, everything: dict[str, bool]) -> str:
    """One name of a package, with a link to where it is described."""
    module, line = defined_in(public, module, everything)
    line = re.sub(r"(?<!`)\*\*(?=\w)", r"\\*\\*", line)
    return f"* - :py:obj:`{public} <{module}.{public}>`\n  - {line}"


def page(name: str, package: bool, everything: dict[str, bool]) -> str:
    """The source of one page."""
    short = name if name == PACKAGE else name.removeprefix(PACKAGE + ".")
    # Only packages are in the navigation, which every page repeats.
    lines = [] if package else [":orphan:", ""]
    lines += [short, "=" * len(short), ""]
    tree = tree_of(name, package)
    if name.startswith(ELSEWHERE):
        lines += [f".. py:module:: {name}", "", "Needs BenchMARL: see :doc:`/benchmarl`.", ""]
        said = said_in(tree)
        lines += [f"- ``{public}``: {said.get(public, '')}" for public in listed(tree)]
    elif package:
        own = [public for public in listed(tree) if public in said_in(tree)]
        members = f"   :members: {', '.join(own)}" if own else "   :no-members:"
        lines += [f".. automodule:: {name}", members, ""]
        public = offered(tree)
        if rows := {k: v for k, v in public.items() if k in (listed(tree) or public)}:
            lines += [".. list-table::", "   :class: api-names", ""]
            for public, module in sorted(rows.items()):
                lines += [f"   {line}" for line in row(public, module, everything).split("\n")]
    else:
        lines += [f".. automodule:: {name}", "   :members:", "   :show-inheritance:", ""]
        said, assigned = said_in(tree), constants(tree)
        for public in listed(tree):
            if not said.get(public) and public in assigned:
                lines += [f".. py:data:: {name}.{public}"]
                value = assigned[public]
                lines += [f"   :value: {value}", ""] if len(value) < 80 else [""]
    inside = [other for other in everything if other.rpartition(".")[0] == name]
    single = [other for other in inside if not everything[other]]
    if single:
        lines += ["", ".. rubric:: Modules", "", ".. list-table::", "   :class: api-names", ""]
    for other in single:
        said = (ast.get_docstring(tree_of(other, False)) or "").split("\n")[0]
        lines += [f"   * - :doc:`{other.rpartition('.')[2]} </api/{other}>`", f"     - {said}"]
    if packages := [other for other in inside if everything[other]]:
        lines += ["", ".. rubric:: Packages", "", ".. toctree::", "   :maxdepth: 1", ""]
        lines += [f"   {other.rpartition('.')[2]} </api/{other}>" for other in packages]
    return "\n".join(lines) + "\n"


def write_pages(app: Sphinx) -> None:
    """Write what changed and remove what is gone."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    found = modules()
    for old in folder.glob("*.rst"):
        if old.stem not in found:
            old.unlink()
    for name, package in found.items():
        file, text = folder / f"{name}.rst", page(name, package, found)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when a build begins."""
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
