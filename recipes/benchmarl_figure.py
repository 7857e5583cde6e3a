"""Draw what recipes/benchmarl_run.py wrote: a panel per task, a line per algorithm over its seeds.

    python recipes/benchmarl_figure.py runs=runs/benchmarl out=docs/results/benchmarl

It needs no BenchMARL, but the extras recipes and reproduce. ``curves.csv`` has the points of the
figure, ``results.csv`` a row per run: the last evaluation and the seconds of the whole run.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.evaluation import aggregate_curves, comparison_figure, write_curves
from vm3ac_modules.files import write_csv
from vm3ac_modules.options import Options, OptionsError, option

Rows = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Figure(Options):
    """Options of this program."""

    runs: str = option("runs/benchmarl", "where the runs' tables are")
    out: str = option("runs/benchmarl", "where figure and tables go")


def tables(runs: Path) -> dict[str, dict[str, dict[int, Rows]]]:
    """Rows of every run, by task, algorithm and seed."""
    found: dict[str, dict[str, dict[int, Rows]]] = {}
    for path in sorted(runs.rglob("*_seed*.csv")):
        algorithm, seed = path.stem.rsplit("_seed", 1)
        task = path.parent.relative_to(runs).as_posix()
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found.setdefault(task, {}).setdefault(algorithm, {})[int(seed)] = rows
    if not found:
        raise OptionsError(f"{runs} has no table of a run: recipes/benchmarl_run.py writes them.")
    return found


def draw(args: Figure) -> None:
    """Aggregate, draw, write."""
    found, out = tables(Path(args.runs)), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    panels: dict[str, dict[str, Any]] = {}
    results = []
    for task, by_algorithm in found.items():
        for algorithm, by_seed in by_algorithm.items():
            curves = [
                ([float(row["frame"]) for row in rows], [float(row["return_mean"]) for row in rows])
                for rows in by_seed.values()
            ]
            panels.setdefault(task, {})[algorithm] = aggregate_curves(curves)
            results += [
                {"task": task, "algorithm": algorithm, "seed": seed, **rows[-1]}
                for seed, rows in sorted(by_seed.items())
            ]
    comparison_figure(out / "benchmarl.png", panels, ylabel="mean return of an agent")
    write_curves(out / "curves.csv", panels)
    write_csv(out / "results.csv", results)
    print(f"-> {out}/benchmarl.png, curves.csv, results.csv")


if __name__ == "__main__":
    run(draw, "benchmarl_figure.py", __doc__, Figure, sys.argv[1:])
