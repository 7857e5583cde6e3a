"""How the programs of this folder judge runs on battles: by what is won in their last third."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vm3ac_modules.cli.reproduce._choosing import late_mean
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._results import Row, cell, markdown_table

LATE = 1 / 3
"""The share of a run, its last, that settings and algorithms are judged by."""
Grouped = Mapping[str, Mapping[str, Sequence[Row]]]


def late_win_rates(command: Command, grouped: Grouped) -> str:
    """Win rates in the last third of every run as Markdown: a row per map and label.

    Args:
        command: the command line.
        grouped: rows of the runs by map and label.
    """
    every = [row["seed"] for by in grouped.values() for rows in by.values() for row in rows]
    seeds = sorted(set(every), key=int)
    lines = []
    for task, by_label in grouped.items():
        for label, rows in by_label.items():
            late = {row["seed"]: late_mean(command, [row], "win_rate", LATE) for row in rows}
            single = [f"{late[seed]:.2f}" if seed in late else "-" for seed in seeds]
            made = sorted({int(row["updates"]) for row in rows})
            updates = " to ".join(str(n) for n in dict.fromkeys((made[0], made[-1])))
            lines.append([task, f"`{label}`", *single, cell(list(late.values()), 2), updates])
    head = ["win rate, last third", "", *(f"seed {seed}" for seed in seeds), "mean", "updates"]
    return markdown_table(head, lines)
