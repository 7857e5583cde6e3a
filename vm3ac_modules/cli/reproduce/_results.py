"""The table of trained runs that the programs of this folder share: ``results.csv``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vm3ac_modules.evaluation.statistics import (
    Estimate,
    Improvement,
    probability_of_improvement,
    summarize_returns,
)
from vm3ac_modules.files import write_csv

FORMAT = 1
"""To be raised whenever a column is added, removed or given another meaning."""

COLUMNS = (
    *("format_version", "task", "algorithm", "seed", "frames", "updates"),
    *("return_mean", "return_ci95", "eval_episodes", "random_return_mean", "latent_mode"),
    *("wall_seconds", "seeds_together", "device", "git_commit", "versions"),
    *("run_dir", "configuration"),
)
OURS = "vm3ac"
Row = dict[str, str]


class Results:
    """One row per trained run; a run is known by its configuration and its seed."""

    def __init__(self, path: Path, measures: Sequence[str] = ()) -> None:
        self.path, self.columns = path, (*COLUMNS, *measures)
        self.rows = read(path, self.columns)

    def find(self, configuration: str, seed: int) -> Row | None:
        """The row of a run, if it is there."""
        key = (configuration, str(seed))
        fitting = (row for row in self.rows if (row["configuration"], row["seed"]) == key)
        return next(fitting, None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a run and replace the file at once, with what another command added meanwhile."""
        self.rows = read(self.path, self.columns)
        if self.find(str(row["configuration"]), int(row["seed"])) is None:
            complete = {"format_version": FORMAT, **row}
            self.rows.append({name: str(complete[name]) for name in self.columns})
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(self.path, self.rows)


def read(path: Path, columns: Sequence[str] = COLUMNS) -> list[Row]:
    """Read the table; no rows if there is none, a sentence if it is of another format."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, header = list(reader), tuple(reader.fieldnames or ())
    others = {str(row.get("format_version")) for row in rows} - {str(FORMAT)}
    if header != tuple(columns) or others:
        named = f"format version {', '.join(sorted(others))}" if others else "other columns"
        raise ValueError(
            f"{path} is a table of {named}, this program reads and writes format version {FORMAT}: "
            "move it away, or give another directory."
        )
    return rows


def row_of(
    run_dir: Path, results: Results, configuration: str, seeds_together: int
) -> dict[str, Any]:
    """The row of a finished run, from its summary."""
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    renamed = {"return_mean": "eval_return_mean", "return_ci95": "eval_return_ci95"}
    found = {name: summary.get(renamed.get(name, name)) for name in results.columns[1:]}
    row = {name: "" if value is None else value for name, value in found.items()}
    versions = " ".join(f"{name}={value}" for name, value in summary["versions"].items())
    return row | {
        "versions": versions,
        "seeds_together": seeds_together,
        "run_dir": run_dir.relative_to(results.path.parent).as_posix(),
        "configuration": configuration,
    }


def final_returns(rows: Sequence[Row]) -> list[float]:
    """Mean return of each run's last evaluation."""
    return [float(row["return_mean"]) for row in rows]


def cells(name: str, estimate: Estimate | None) -> dict[str, str]:
    """An estimate as three cells; empty without one or without an interval."""
    values = (math.nan,) * 3 if estimate is None else estimate
    ends = zip(("", "_low", "_high"), values, strict=True)
    return {name + end: "" if math.isnan(value) else f"{value:.6g}" for end, value in ends}


def compared(
    rows: Mapping[str, Sequence[Row]], column: str = "return_mean", prefix: str = ""
) -> dict[str, dict[str, Any]]:
    """Cells of a column of every algorithm's runs, and how often ours beats it, seed by seed."""
    others = [name for name in rows if name != OURS and OURS in rows]
    better = {name: beaten([rows[OURS]], [rows[name]], column) for name in others}
    found = {
        name: summarize_returns([float(row[column]) for row in runs]) for name, runs in rows.items()
    }
    return {
        name: {"seeds": summary.seeds}
        | cells(f"{prefix}mean", summary.mean)
        | cells(f"{prefix}iqm", summary.iqm)
        | {"vm3ac_better": str(better.get(name) or "")}
        for name, summary in found.items()
    }


def beaten(
    ours: Sequence[Sequence[Row]], theirs: Sequence[Sequence[Row]], column: str = "return_mean"
) -> Improvement | None:
    """How often ours is above theirs in the seeds that all have, tasks side by side; None if none.

    Args:
        ours: our rows, task by task.
        theirs: those of the other algorithm, the same tasks.
        column: what is compared.
    """
    by_task = [{row["seed"]: float(row[column]) for row in rows} for rows in (*ours, *theirs)]
    seeds = [seed for seed in by_task[0] if all(seed in found for found in by_task)]
    if not seeds:
        return None
    sides = [
        [[found[seed] for found in part] for seed in seeds]
        for part in (by_task[: len(ours)], by_task[len(ours) :])
    ]
    return probability_of_improvement(*sides)


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    every = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in every)


def cell(values: Sequence[float], digits: int) -> str:
    """Mean over seeds, with its interval if there are several; - where there is none."""
    if not values:
        return "-"
    mean = summarize_returns(values).mean
    if len(values) < 2:
        return f"{mean.value:z.{digits}f}"
    return f"{mean.value:z.{digits}f} [{mean.low:z.{digits}f}, {mean.high:z.{digits}f}]"
