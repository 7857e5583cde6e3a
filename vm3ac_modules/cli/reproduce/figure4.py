"""Figure 4: VM3-AC on FOP against its baselines on StarCraft-like battles, win rates over seeds.

    vm3ac reproduce figure4 budget=cpu [tasks=3s_vs_3z] [jobs=2] [key=value]

The paper compares VM3-AC with FOP, DOP, LICA, VDAC and MAVEN on maps of SMAC, of which its text
names one, 3s_vs_3z. The default backend is SMAX: its numbers are not SMAC's, and every title says
so. Evaluations are greedy, on fixed starts, z ~ prior. key=value arguments are options of
vm3ac battle for every run, e.g. reward=shaped or backend=smacv2.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into out:

    results.csv      a row per run: final win rate and return, frames, updates, seconds, commit
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final win rates, with the probability that vm3ac beats each other one,
                     and of the areas under the curves (mean win rate over a run)
    figure4.png      above the win rates, below the returns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce.budgets import BATTLES, Program
from vm3ac_modules.cli.reproduce.cases import make_case
from vm3ac_modules.cli.reproduce.command import Command, Study, execute, listed, out_of
from vm3ac_modules.cli.reproduce.results import Row, cells
from vm3ac_modules.cli.reproduce.trainings import curve_of, trained
from vm3ac_modules.evaluation.comparison import comparison_figure, write_curves
from vm3ac_modules.evaluation.statistics import improvement_over_each, summarize_returns
from vm3ac_modules.files import write_csv
from vm3ac_modules.runs.record import read_csv_log

__all__ = ["main"]

MAPS = ("3s_vs_3z", "3m", "8m_vs_9m")
ALGORITHMS = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")
OURS = "vm3ac"
CURVES = {"win rate": "win_rate", "return": "return_mean"}


@dataclass(frozen=True, kw_only=True)
class Figure4(Study):
    """Options of this program."""

    program: ClassVar[Program] = BATTLES
    own_runs: ClassVar[bool] = True

    tasks: str = listed("tasks", MAPS)
    algorithms: str = listed("algorithms", ALGORITHMS)
    out: str = out_of("figure4")


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    cases = {pair: make_case(command, *pair, own_options(*pair)) for pair in command.pairs}
    rows = trained(command, cases.values())
    grouped: dict[str, dict[str, list[Row]]] = {}
    for (task, algorithm), case in cases.items():
        if rows[case]:
            grouped.setdefault(task, {})[algorithm] = rows[case]
    panels = {
        f"{task} ({backend_of(by_name)}): {measure}": {
            name: curve_of(command, found, column) for name, found in by_name.items()
        }
        for measure, column in CURVES.items()
        for task, by_name in grouped.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "curves.csv", panels)
    write_csv(command.out / "statistics.csv", statistics(command, grouped))
    comparison_figure(command.out / "figure4.png", panels, ylabel="evaluation")
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
    log = read_csv_log(command.runs / row["run_dir"] / "eval.csv")
    frames, rates = log["frame"], log["win_rate"]
    return float(np.trapezoid(rates, frames)) / (frames[-1] - frames[0])


def statistics(
    command: Command, grouped: Mapping[str, Mapping[str, Sequence[Row]]]
) -> list[dict[str, Any]]:
    """A row per map and algorithm: win rates at the last evaluation, and over the whole run."""
    table = []
    for task, by_name in grouped.items():
        rates = {name: [float(r["win_rate"]) for r in rows] for name, rows in by_name.items()}
        better = improvement_over_each(rates, OURS) if OURS in rates else {}
        for (name, values), runs in zip(rates.items(), by_name.values(), strict=True):
            found = summarize_returns(values)
            known: dict[str, Any] = {"map": task, "backend": backend_of(by_name), "algorithm": name}
            table.append(
                known
                | {"seeds": found.seeds}
                | cells("win_rate_mean", found.mean)
                | cells("win_rate_iqm", found.iqm)
                | cells("vm3ac_better", better.get(name))
                | cells("win_rate_area", summarize_returns([area(command, r) for r in runs]).mean)
            )
    return table


def main(arguments: Sequence[str], name: str = "vm3ac reproduce figure4") -> None:
    """Make the figure.

    Args:
        arguments: the command line.
        name: how this was called.
    """
    execute(make, Figure4, __doc__, arguments, name)
