"""Draw the layers of the package and write what each imports: ``python docs/make_layers.py``.

Reads imports from the code. A test compares docs/layers.md with what this writes.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vm3ac_modules"
PAGE = ROOT / "docs" / "layers.md"
ASIDE = {"envs": (0.0, -1.7), "doctor": (1.0, -1.7)}
"""Rooms that stand apart from the column of their depth."""
SMALL = {"_lazy", "extras", "files", "options", "keys"}
"""Single files that every layer may use: not drawn."""


def layers() -> dict[str, set[str]]:
    """Every layer and the layers that it imports."""
    found: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        layer = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        uses = found.setdefault(layer, set())
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            uses |= {n.split(".")[1] for n in names if n.startswith("vm3ac_modules.")}
    return {layer: uses - {layer} for layer, uses in found.items() if layer not in SMALL}


def depth(graph: dict[str, set[str]]) -> dict[str, int]:
    """Column of every layer: one right of all that it imports."""
    columns: dict[str, int] = {}

    def column(layer: str) -> int:
        if layer not in columns:
            below = [column(other) for other in graph[layer] if other in graph]
            columns[layer] = 1 + max(below, default=-1)
        return columns[layer]

    for layer in graph:
        column(layer)
    return columns


def direct(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports that no longer path implies: those that are drawn."""

    def reach(layer: str) -> set[str]:
        found = set()
        for other in graph[layer] & graph.keys():
            found |= {other} | reach(other)
        return found

    edges = []
    for layer, uses in graph.items():
        uses = uses & graph.keys()
        implied = set().union(*(reach(other) for other in uses)) if uses else set()
        edges += [(layer, other) for other in sorted(uses - implied)]
    return sorted(edges)


def lines_of(layer: str) -> tuple[int, int]:
    """Files and lines of a layer."""
    place = PACKAGE / layer
    files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return len(files), sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def draw(path: Path) -> None:
    """The picture: layers in columns, imports to the left."""
    from matplotlib.figure import Figure

    graph = layers()
    columns = depth(graph)
    place: dict[str, tuple[float, float]] = {}
    for column in sorted(set(columns.values())):
        members = sorted(
            layer for layer in graph if columns[layer] == column and layer not in ASIDE
        )
        for index, layer in enumerate(members):
            place[layer] = (column, (len(members) - 1) / 2 - index)
    place |= ASIDE
    figure = Figure((13, 4.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.7, max(columns.values()) + 0.7), ylim=(-2.2, 2.2))
    axes.axis("off")
    for layer, other in direct(graph):
        (x, y), (u, v) = place[layer], place[other]
        arrow = {"arrowstyle": "-|>", "color": "#0072B2", "lw": 1.1, "shrinkA": 20, "shrinkB": 34}
        axes.annotate("", xy=(u, v), xytext=(x, y), arrowprops=arrow)
    box = {"boxstyle": "round,pad=0.45", "fc": "#F5F5F5", "ec": "#404040"}
    for layer, (x, y) in place.items():
        axes.text(x, y, layer, ha="center", va="center", fontsize=11, bbox=box)
    figure.savefig(path, dpi=110)


def table() -> str:
    """What each layer imports."""
    graph, columns = layers(), depth(layers())
    rows = ["| layer | imports |", "|---|---|"]
    for layer in sorted(graph, key=lambda layer: (columns[layer], layer)):
        uses = ", ".join(f"`{other}`" for other in sorted(graph[layer] & graph.keys())) or "nothing"
        rows.append(f"| `{layer}` | {uses} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table of now."""
    start, end = "<!-- imports -->", "<!-- end of imports -->"
    return re.sub(f"{start}.*?{end}", lambda _: f"{start}\n\n{table()}\n\n{end}", text, flags=re.S)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw(ROOT / "docs" / "layers.png")
