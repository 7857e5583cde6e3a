"""Figure 4: VM3-AC on FOP against its baselines on StarCraft-like battles, win rates over seeds.

    vm3ac reproduce figure4 budget=cpu [tasks=3s_vs_3z] [jobs=2] [key=value]

The paper compares VM3-AC with FOP, DOP, LICA, VDAC and MAVEN on maps of SMAC, of which its text
names one, 3s_vs_3z. The default backend is SMAX: its numbers are not SMAC's, and every title says
so. Evaluations are of the policies as they play: actions drawn, z ~ prior, on fixed starts. Win
rates of greedy actions stand beside them, and say little where policies are undecided (entropy and
logit gap in statistics.csv). MAVEN has no sampling: its actions are greedy. key=value arguments are
options of vm3ac battle for every run, e.g. reward=shaped or backend=smacv2.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into out:

    results.csv      a row per run: final win rate and return, frames, updates, seconds, commit
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final win rates, how often vm3ac beats each other one, of the areas
                     under the curves (mean win rate over a run), and of the greedy win rates,
                     entropies and logit gaps (nats) at the end
    figure4.png      win rates of drawn actions, then of greedy ones, then returns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._budgets import BATTLES, Program
from vm3ac_modules.cli.reproduce._cases import grid
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import Row, cells, compared
from vm3ac_modules.cli.reproduce._trainings import curve_of, log_of, trained_panels
from vm3ac_modules.evaluation.comparison import comparison_figure, write_curves
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.files import write_csv

__all__ = ["main"]

MAPS = ("3s_vs_3z", "3m", "8m_vs_9m")
ALGORITHMS = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")
CURVES = {"win rate": "win_rate", "greedy win rate": "greedy_win_rate", "return": "return_mean"}
BESIDE = ("greedy_win_rate", "policy_entropy", "logit_gap")
"""What stands beside the final win rate; a policy without sampling has none of it."""


@dataclass(frozen=True, kw_only=True)
class Figure4(Comparison):
    """Options of this program."""

    program: ClassVar[Program] = BATTLES
    own_runs: ClassVar[bool] = True

    tasks: str = ",".join(MAPS)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/figure4"


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    grouped = trained_panels(command, grid(command, own_options))
    panels = {
        f"{task} ({backend_of(by_name)}): {measure}": {
            name: curve_of(command, found, column)
            for name, found in by_name.items()
            if all(row.get(column, "there") for row in found)
        }
        for measure, column in CURVES.items()
        for task, by_name in grouped.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "curves.csv", panels)
    write_csv(command.out / "statistics.csv", statistics(command, grouped))
    ylabels = {title: title.rpartition(": ")[2] for title in panels}
    comparison_figure(command.figure("figure4"), panels, ylabel=ylabels)
    say(f"-> {command.out}/figure4.png, curves.csv, statistics.csv; {command.runs}/results.csv")


def own_options(task: str, algorithm: str) -> dict[str, object]:
    """LICA's critic would have 51 million weights on the largest map."""
    large = algorithm == "lica" and task == "8m_vs_9m"
    return {"algorithm.critic_bottleneck": 64} if large else {}


def backend_of(by_name: Mapping[str, Sequence[Row]]) -> str:
    """Who played the battles, in capitals."""
    backends = sorted({row["backend"].upper() for rows in by_name.values() for row in rows})
    return ", ".join(backends)


def area(command: Command, row: Row) -> float:
    """Mean win rate over a run: the area under its curve, per frame."""
    log = log_of(command, row)
    frames, rates = log["frame"], log["win_rate"]
    return float(np.trapezoid(rates, frames)) / (frames[-1] - frames[0])


def statistics(
    command: Command, grouped: Mapping[str, Mapping[str, Sequence[Row]]]
) -> list[dict[str, Any]]:
    """A row per map and algorithm: win rates at the last evaluation, and over the whole run."""
    table = []
    for task, by_name in grouped.items():
        known = {"map": task, "backend": backend_of(by_name)}
        for name, row in compared(by_name, "win_rate", "win_rate_").items():
            runs = by_name[name]
            whole = summarize_returns([area(command, run) for run in runs]).mean
            found = {**known, "algorithm": name, **row} | cells("win_rate_area", whole)
            for column in BESIDE:
                values = [float(run[column]) for run in runs if run[column]]
                found |= cells(column, summarize_returns(values).mean if values else None)
            table.append(found)
    return table


main = program(make, Figure4, __doc__, __name__)
"""Make the figure."""
