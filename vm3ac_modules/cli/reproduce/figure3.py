"""Figure 3: VM3-AC against its baselines on the eight continuous tasks, learning curves over seeds.

    vm3ac reproduce figure3 budget=cpu tasks=predator_prey_2 [jobs=2] [key=value]

The paper compares VM3-AC with MADDPG, MA-AC, MAVEN and SI-MOA, averaged over 7 seeds. Here MA-SAC
(its Figure 6) and vm3ac_tight, which is not the paper's, are added. Returns are those of evaluation
episodes: fixed starts, the policies' mean actions, z ~ prior. key=value arguments are options of
vm3ac train for every run.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into out:

    results.csv      a row per run: final return, frames, updates, seconds, commit, configuration
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final returns, with the probability that vm3ac beats each other one
    figure3.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._budgets import TITLES, titled
from vm3ac_modules.cli.reproduce._cases import grid
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import OURS, Row, cells, compared, final_returns
from vm3ac_modules.cli.reproduce._trainings import curve_of, trained_panels
from vm3ac_modules.evaluation.comparison import comparison_figure, write_curves
from vm3ac_modules.evaluation.statistics import Estimate, improvement_over_each
from vm3ac_modules.files import write_csv

__all__ = ["main"]

ALGORITHMS = ("vm3ac", "ma_sac", "ma_ac", "maddpg", "maven", "si_moa", "vm3ac_tight")

Grouped = Mapping[str, Mapping[str, Sequence[Row]]]


@dataclass(frozen=True, kw_only=True)
class Figure3(Comparison):
    """Options of this program."""

    own_runs: ClassVar[bool] = True

    tasks: str = ",".join(TITLES)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/figure3"


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    grouped = trained_panels(command, {titled(t): row for t, row in grid(command).items()})
    panels = {
        title: {name: curve_of(command, found) for name, found in by_name.items()}
        for title, by_name in grouped.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "curves.csv", panels)
    write_csv(command.out / "statistics.csv", statistics(grouped))
    comparison_figure(command.out / "figure3.png", panels)
    say(f"-> {command.out}/figure3.png, curves.csv, statistics.csv; {command.runs}/results.csv")


def statistics(grouped: Grouped) -> list[dict[str, Any]]:
    """A row per task and algorithm; then over all tasks that all seeds of both were trained on."""
    table: list[dict[str, Any]] = []
    for title, by_name in grouped.items():
        found = compared({name: final_returns(rows) for name, rows in by_name.items()})
        table += [{"task": title, "algorithm": name, **row} for name, row in found.items()]
    return table + [
        {"task": f"all {len(titles)}", "algorithm": name, "seeds": seeds}
        | dict.fromkeys(list(table[0])[3:9], "")
        | cells("vm3ac_better", estimate)
        for name, titles, seeds, estimate in over_tasks(grouped)
    ]


def over_tasks(grouped: Grouped) -> list[tuple[str, list[str], int, Estimate]]:
    """Probability of improvement over each algorithm, averaged over the tasks that share seeds."""
    found = []
    for name in dict.fromkeys(name for by_name in grouped.values() for name in by_name):
        both = [title for title, by in grouped.items() if {name, OURS} <= by.keys()]
        counts = {len(grouped[title][key]) for title in both for key in (name, OURS)}
        if name == OURS or len(both) < 2 or len(counts) > 1:
            continue
        ours, theirs = (
            list(zip(*(final_returns(grouped[title][key]) for title in both), strict=True))
            for key in (OURS, name)
        )
        estimate = improvement_over_each({OURS: ours, name: theirs}, OURS)[name]
        found.append((name, both, counts.pop(), estimate))
    return found


main = program(make, Figure3, __doc__, __name__)
"""Make the figure."""
