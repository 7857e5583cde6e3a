"""Is there coordination, and does it matter? Information, the latent's share, and an intervention.

    vm3ac reproduce coordination budget=cpu [tasks=predator_prey_2,predator_prey_4]

Not a figure of the paper. For VM3-AC, its tight form and the form without a latent, over training:
the lower and the upper estimate of the mutual information of two agents' simultaneous actions
(nats, docs/metrics.md) and the share rho of the actions' variance that comes from z. Then the
trained agents play the same starts with a common z, and with a z of its own for every agent, which
leaves each agent's behavior as it is and takes the coordination away.

The runs of figure3 are read; those that are missing are trained. It writes into out:

    information.csv    aggregated curves: mean, interquartile mean, 95% intervals over seeds
    intervention.csv   a row per task, algorithm, seed and way to come by z
    coordination.png, intervention.png
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._cases import grid
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import Row
from vm3ac_modules.cli.reproduce._trainings import log_of, plays_of, trained_panels
from vm3ac_modules.evaluation.comparison import bars_figure, comparison_figure, write_curves
from vm3ac_modules.evaluation.curves import AggregatedCurve, aggregate_curves
from vm3ac_modules.evaluation.names import algorithm_title, task_title
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.files import write_csv
from vm3ac_modules.options import option

__all__ = ["main"]

TASKS = ("predator_prey_2", "predator_prey_4")
ALGORITHMS = ("vm3ac", "vm3ac_tight", "vm3ac_no_latent")
QUANTITIES = {
    "mi_lower_bound": "MI from below, nats",
    "mi_upper_bound": "MI from above, nats",
    "latent_share": "share of z",
}
MODES = {"sample": "common z", "independent": "a z each", "mean": "z = E[z]", "none": "no z"}


@dataclass(frozen=True, kw_only=True)
class CoordinationStudy(Comparison):
    """Options of this program."""

    tasks: str = ",".join(TASKS)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/coordination"
    episodes: int = option(20, "episodes", least=1)


def information(command: Command, rows: Sequence[Row], name: str) -> AggregatedCurve:
    """A logged estimate over training; it is unknown before anything was collected."""
    curves: list[Any] = []
    for row in rows:
        log = log_of(command, row)
        pairs = zip(log["frame"], log.get(name, [math.nan] * len(log["frame"])), strict=True)
        known = [(frame, value) for frame, value in pairs if not math.isnan(value)]
        if not known:
            raise ValueError(
                f"{row['run_dir']} has no {name}: train with information_rows above 0."
            )
        curves.append(tuple(zip(*known, strict=True)))
    return aggregate_curves(curves)


def make(command: Command) -> None:
    """Train what is missing, aggregate, play, write and draw."""
    runs = trained_panels(command, grid(command))
    torch.set_num_threads(1)
    panels: dict[str, dict[str, AggregatedCurve]] = {}
    table: list[dict[str, Any]] = []
    for task, by_name in runs.items():
        for algorithm, rows in by_name.items():
            for name, said in QUANTITIES.items():
                title = f"{task_title(task)}: {said}"
                panels.setdefault(title, {})[algorithm] = information(command, rows, name)
            for row in rows:
                known = {"task": task, "algorithm": algorithm, "seed": row["seed"]}
                table += plays_of(command, row, MODES, known)
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "information.csv", panels)
    write_csv(command.out / "intervention.csv", table)
    ylabels = {title: title.rpartition(": ")[2] for title in panels}
    comparison_figure(command.figure("coordination"), panels, columns=3, ylabel=ylabels)
    bars_figure(
        command.figure("intervention"), bars(table), ylabel="return", columns=3, shared=True
    )
    say(f"-> {command.out}/coordination.png, intervention.png, information.csv, intervention.csv")


def bars(table: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean return per task, algorithm and way to come by z."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table:
        title = f"{task_title(row['task'])}: {algorithm_title(row['algorithm'])}"
        by_mode = found.setdefault(title, {})
        by_mode.setdefault(MODES[row["latent"]], []).append(row["return_mean"])
    return {
        title: {mode: summarize_returns(values).mean for mode, values in by_mode.items()}
        for title, by_mode in found.items()
    }


main = program(make, CoordinationStudy, __doc__, __name__)
"""Make the figures."""
