"""Figure 4: VM3-AC on FOP against its baselines on StarCraft-like battles, win rates over seeds.

    vm3ac reproduce figure4 budget=cpu [tasks=3s_vs_3z] [jobs=2] [key=value]

The paper compares VM3-AC with FOP, DOP, LICA, VDAC and MAVEN on maps of SMAC, of which its text
names one, 3s_vs_3z. The default backend is SMAX: its numbers are not SMAC's, and every title says
so. Evaluations are of the policies as they play: actions drawn, z ~ prior, on fixed starts. Win
rates of greedy actions stand beside them, and say little where policies are undecided (entropy and
logit gap in statistics.csv). MAVEN has no sampling: its actions are greedy. key=value arguments are
options of vm3ac battle for every run, e.g. reward=shaped or backend=smacv2.

    vm3ac reproduce figure4 tuning_seeds=1 tasks=3s_vs_3z algorithms=dop,lica,vdac,maven

searches first: of each algorithm the settings of algorithms/searched.py, the same number for all,
are trained for tuning_frames on seeds 100, 101, ... that are not reported. The best has the highest
mean win rate of the evaluations in the last third, and the highest mean return where these are
equal; it is what is trained on the reported seeds. Algorithms without such settings, fop_cpu and
vm3ac_cpu say, are trained as they are.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into out:

    results.csv      a row per run: final win rate and return, frames, updates, seconds, commit
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final win rates, how often vm3ac beats each other one, of the areas
                     under the curves (mean win rate over a run), of the last thirds of the runs,
                     and of the greedy win rates, entropies and logit gaps (nats) at the end
    tuning.csv       what was searched, if anything was
    figure4.md       win rates in the last third of the runs, and what was searched
    figure4.png      win rates of drawn actions, then of greedy ones, then returns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from vm3ac_modules.algorithms.searched import LOOP, SEARCHED
from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._battles import LATE, Grouped, late_win_rates
from vm3ac_modules.cli.reproduce._budgets import BATTLES, Program
from vm3ac_modules.cli.reproduce._cases import make_case
from vm3ac_modules.cli.reproduce._choosing import (
    EVALUATIONS,
    Choice,
    Own,
    Tried,
    chosen_cases,
    late_mean,
    left_open,
    try_out,
)
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import Row, cells, compared, markdown_table
from vm3ac_modules.cli.reproduce._trainings import curve_of, log_of, trained_panels
from vm3ac_modules.evaluation.comparison import comparison_figure, write_curves
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.options import option

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
    tuning_seeds: int = option(
        0,
        "seeds 100, 101, ... on which the settings of algorithms/searched.py are compared before; "
        "0: the presets",
        least=0,
    )
    tuning_frames: int = option(
        60_000, "environment steps of a run on which settings are compared", least=1
    )


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    cases, tried = chosen_cases(command, choice)
    grouped = trained_panels(command, cases)
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
    if tried:
        write_csv(command.out / "tuning.csv", tried)
    text = markdown(command, grouped, tried)
    write_text(command.out / "figure4.md", text)
    ylabels = {title: title.rpartition(": ")[2] for title in panels}
    comparison_figure(command.figure("figure4"), panels, ylabel=ylabels)
    names = "figure4.png, figure4.md, curves.csv, statistics.csv"
    say(f"{text}\n-> {command.out}/{names}; {command.runs}/results.csv")


def choice(command: Command, task: str, algorithm: str) -> Choice | None:
    """An algorithm's options on a map, after training what they are chosen on."""
    # LICA's critic would have 51 million weights on the largest map.
    large = algorithm.startswith("lica") and task == "8m_vs_9m"
    own: Own = {"algorithm.critic_bottleneck": 64} if large else {}
    if not command.options.tuning_seeds or algorithm not in SEARCHED:
        return Choice(own)
    frames = command.options.tuning_frames
    length: Own = {"frames": frames, "eval_every_frames": -(-frames // EVALUATIONS)}
    # Frames and evaluations of a command line are those of the reported runs.
    overrides = {k: v for k, v in command.overrides.items() if k.lstrip("+~") not in length}
    shorter = replace(command, overrides=overrides)
    settings = candidates(command, algorithm)
    cases = [(one, make_case(shorter, task, algorithm, own | one | length)) for one in settings]
    found = try_out(shorter, cases, score)
    if found is None:
        return None
    best, tried = found
    known = {"task": task, "algorithm": algorithm}
    return Choice(own | best.own, [known | line_of(one, chosen=one is best) for one in tried])


def candidates(command: Command, algorithm: str) -> list[Own]:
    """An algorithm's settings; an option of the command line is taken as it is."""
    named = (
        {key if key in LOOP else f"algorithm.{key}": value for key, value in one.items()}
        for one in SEARCHED[algorithm]
    )
    return [left_open(command, one) for one in named]


def score(command: Command, rows: Sequence[Row]) -> tuple[float, ...]:
    """Win rate, then return, in the last third of the runs."""
    return tuple(late_mean(command, rows, name, LATE) for name in ("win_rate", "return_mean"))


def line_of(tried: Tried, *, chosen: bool) -> dict[str, Any]:
    """A row of tuning.csv."""
    return {
        "settings": " ".join(f"{key}={value}" for key, value in tried.own.items()),
        "win_rate": round(tried.score[0], 4),
        "return_mean": round(tried.score[1], 3),
        "seeds": " ".join(row["seed"] for row in tried.rows),
        "frames": tried.rows[0]["frames"],
        "updates": tried.rows[0]["updates"],
        "chosen": chosen,
    }


def backend_of(by_name: Mapping[str, Sequence[Row]]) -> str:
    """Who played the battles, in capitals."""
    backends = sorted({row["backend"].upper() for rows in by_name.values() for row in rows})
    return ", ".join(backends)


def area(command: Command, row: Row) -> float:
    """Mean win rate over a run: the area under its curve, per frame."""
    log = log_of(command, row)
    frames, rates = log["frame"], log["win_rate"]
    return float(np.trapezoid(rates, frames)) / (frames[-1] - frames[0])


def statistics(command: Command, grouped: Grouped) -> list[dict[str, Any]]:
    """A row per map and algorithm: win rates at the last evaluation, and over the whole run."""
    table = []
    for task, by_name in grouped.items():
        known = {"map": task, "backend": backend_of(by_name)}
        for name, row in compared(by_name, "win_rate", "win_rate_").items():
            runs = by_name[name]
            whole = summarize_returns([area(command, run) for run in runs]).mean
            late = summarize_returns([late_mean(command, [run], "win_rate", LATE) for run in runs])
            found = {**known, "algorithm": name, **row} | cells("win_rate_area", whole)
            found |= cells("win_rate_late", late.mean)
            for column in BESIDE:
                values = [float(run[column]) for run in runs if run[column]]
                found |= cells(column, summarize_returns(values).mean if values else None)
            table.append(found)
    return table


def markdown(command: Command, grouped: Grouped, tried: Sequence[Mapping[str, Any]] = ()) -> str:
    """Win rates in the last third of every run, and what was searched."""
    parts = [late_win_rates(command, grouped)]
    if tried:
        keys = list(tried[0])
        parts.append(markdown_table(keys, [[str(row[key]) for key in keys] for row in tried]))
    return "\n".join(parts)


main = program(make, Figure4, __doc__, __name__)
"""Make the figure."""
