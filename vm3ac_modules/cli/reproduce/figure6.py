"""Figure 6: what the latent and the temperature beta do for VM3-AC on multi-walker, N = 3 and 4.

    vm3ac reproduce figure6 budget=cpu [jobs=2] [tasks=multiwalker_3] [key=value]

(a), (b): VM3-AC, VM3-AC without its latent (dim z = 0) and MA-SAC, each at the task's beta of the
paper's Table 2. (c), (d): VM3-AC with beta = 0, 0.05, 0.1, 0.15. The beta of Table 2 is one of
them, so its runs are those of (a), (b), and figure3's where that was run with the same runs.

It writes into out:

    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   mean and interquartile mean of the final returns, with intervals
    figure6.png      the curves
    figure6_final.png   the means of the final returns as bars
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._cases import Case, make_case
from vm3ac_modules.cli.reproduce._command import Command, Study, program
from vm3ac_modules.cli.reproduce._results import cells, final_returns
from vm3ac_modules.cli.reproduce._trainings import curve_of, trained_panels
from vm3ac_modules.evaluation.comparison import bars_figure, comparison_figure, write_curves
from vm3ac_modules.evaluation.names import task_title
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.files import write_csv

__all__ = ["main"]

TASKS = ("multiwalker_3", "multiwalker_4")
LATENT = ("vm3ac", "vm3ac_no_latent", "ma_sac")
BETAS = (0.0, 0.05, 0.1, 0.15)
BETA = {"algorithm.beta", "task.beta"}


@dataclass(frozen=True, kw_only=True)
class Figure6(Study):
    """Options of this program."""

    tasks: str = ",".join(TASKS)
    out: str = "runs/reproduce/figure6"


def cases_of(command: Command) -> dict[str, dict[str, Case]]:
    """Title of each panel -> label -> case; the ablations of the latent first, as in the paper."""
    latent, temperature = {}, {}
    for task in command.tasks:
        title = task_title(task)
        latent[title] = {name: make_case(command, task, name) for name in LATENT}
        temperature[f"{title}, beta"] = {
            f"vm3ac, beta={beta:g}": beta_case(command, task, beta) for beta in BETAS
        }
    return latent | temperature


def beta_case(command: Command, task: str, beta: float) -> Case:
    """VM3-AC at a temperature; at the task's own it is the very run of the other panel."""
    plain = make_case(command, task, "vm3ac")
    algorithm: Any = plain.settings.algorithm
    if not BETA.intersection(command.overrides) and beta == algorithm.beta:
        return plain
    # A beta on the command line is that of the other panel alone.
    others = {key: text for key, text in command.overrides.items() if key not in BETA}
    swept = replace(command, overrides=others)
    return make_case(swept, task, "vm3ac", {"algorithm.beta": f"{beta:g}"})


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    there = trained_panels(command, cases_of(command))
    curves = {t: {label: curve_of(command, r) for label, r in p.items()} for t, p in there.items()}
    finals = {
        title: {label: summarize_returns(final_returns(found)) for label, found in panel.items()}
        for title, panel in there.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "curves.csv", curves)
    comparison_figure(command.figure("figure6"), curves, columns=2)
    table = [
        {"panel": title, "label": label, "seeds": found.seeds}
        | cells("mean", found.mean)
        | cells("iqm", found.iqm)
        for title, panel in finals.items()
        for label, found in panel.items()
    ]
    write_csv(command.out / "statistics.csv", table)
    bars = {title: {k: found.mean for k, found in panel.items()} for title, panel in finals.items()}
    bars_figure(command.figure("figure6_final"), bars, ylabel="final return", columns=2)
    say(f"-> {command.out}/figure6.png, figure6_final.png, curves.csv, statistics.csv")


main = program(make, Figure6, __doc__, __name__)
"""Make the figure."""
