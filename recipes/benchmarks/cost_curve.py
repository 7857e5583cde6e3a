"""The cost of a thing against its size: the exponent, a table and a picture of measured rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vm3ac_modules.evaluation.figures import COLORS, new_figure
from vm3ac_modules.files import write_csv, write_text

MARKS = "osv^<Dx"


def exponent(cost: Mapping[int, float]) -> float:
    """The p of the line ``log cost = p log size + c`` by least squares; nan of a single size.

    Args:
        cost: cost by size.
    """
    if len(cost) < 2:
        return math.nan
    sizes, costs = np.array(list(cost)), np.array(list(cost.values()))
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """Milliseconds by number of agents, for every series of the rows."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["series"], {})[int(row["agents"])] = float(row["ms"])
    return {name: dict(sorted(cost.items())) for name, cost in found.items()}


def table(found: Mapping[str, Mapping[int, float]]) -> Iterable[str]:
    """Lines of Markdown: milliseconds of every series by size, and its exponent."""
    sizes = sorted({size for cost in found.values() for size in cost})
    yield f"| ms per update | {' | '.join(f'N = {size}' for size in sizes)} | exponent |"
    yield f"|---|{'---|' * (len(sizes) + 1)}"
    for name, cost in found.items():
        cells = [f"{cost[size]:.3g}" if size in cost else "-" for size in sizes]
        fitted = exponent(cost)
        yield f"| {name} | {' | '.join(cells)} | {'-' if math.isnan(fitted) else f'{fitted:.2f}'} |"


def draw(path: Path, found: Mapping[str, Mapping[int, float]]) -> None:
    """All series over the number of agents, both axes logarithmic."""
    figure = new_figure((7.0, 4.6), 110)
    axes = figure.subplots()
    for index, (name, cost) in enumerate(found.items()):
        style = {"color": COLORS[index % len(COLORS)], "marker": MARKS[index % len(MARKS)]}
        axes.plot(list(cost), list(cost.values()), label=name, ms=5, lw=1.2, **style)
    sizes = sorted({size for cost in found.values() for size in cost})
    axes.set(xscale="log", yscale="log", xlabel="agents N", ylabel="ms per update")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path)


def record(out: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add rows to ``<name>.csv``, in place of those of the same series; draw and tabulate all.

    Args:
        out: directory of the files.
        name: of the CSV, the picture and the table.
        rows: what was measured, with ``series``, ``agents`` and ``ms``.

    Returns:
        All rows that the file holds now.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, new = out / f"{name}.csv", {row["series"] for row in rows}
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [dict(row) for row in csv.DictReader(file) if row["series"] not in new]
    every = [*kept, *map(dict, rows)]
    write_csv(path, every)
    write_text(out / f"{name}.md", "\n".join(table(curves(every))) + "\n")
    draw(out / f"{name}.png", curves(every))
    return every
