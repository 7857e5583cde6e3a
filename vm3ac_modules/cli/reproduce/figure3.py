"""Figure 3: VM3-AC against its baselines on the eight continuous tasks, learning curves over seeds.

    vm3ac reproduce figure3 budget=cpu tasks=predator_prey_2 [jobs=2] [key=value]

The paper compares VM3-AC with MADDPG, MA-AC, MAVEN and SI-MOA, averaged over 7 seeds. Here MA-SAC
and VM3-AC without a latent (its Figure 6) are added, and vm3ac_tight and ma_sac_latent, which are
not the paper's. Returns are those of evaluation episodes: fixed starts, the policies' mean actions,
z ~ prior. key=value arguments are options of vm3ac train for every run.

    vm3ac reproduce figure3 tuning_seeds=1 updates=20000 tasks=predator_prey_2 out=runs/comparison

compares on one protocol: every run makes so many updates; algorithms without entropy have one floor
of exploration; and each algorithm gets the better of two learning rates, with or without shared
parameters (and of two beta on predator-prey with N = 4), chosen on each task by a quarter of the
updates on seeds 100, 101, ... that are not reported.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into out:

    results.csv      a row per run: final return, frames, updates, seconds, commit, configuration
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final returns, and how often vm3ac beats each other one
    tuning.csv       what options were chosen from, if they were
    figure3.md       the returns, what vm3ac beats, and what was chosen
    figure3.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._choosing import Choice, chosen_cases
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import (
    OURS,
    Row,
    beaten,
    cell,
    compared,
    final_returns,
    markdown_table,
)
from vm3ac_modules.cli.reproduce._trainings import curve_of, trained_panels
from vm3ac_modules.cli.reproduce._tuning import choose, for_updates
from vm3ac_modules.evaluation.comparison import comparison_figure, write_curves
from vm3ac_modules.evaluation.names import TASK_TITLES, task_title
from vm3ac_modules.evaluation.statistics import Improvement
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.options import OptionsError, option

__all__ = ["main"]

ALGORITHMS = (
    *("vm3ac", "ma_sac", "ma_ac", "maddpg", "maven", "si_moa", "vm3ac_no_latent"),
    *("vm3ac_tight", "ma_sac_latent"),
)
"""The paper's five, the two of its Figure 6, and two that are not the paper's."""

Grouped = Mapping[str, Mapping[str, Sequence[Row]]]


@dataclass(frozen=True, kw_only=True)
class Figure3(Comparison):
    """Options of this program."""

    own_runs: ClassVar[bool] = True

    tasks: str = ",".join(TASK_TITLES)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/figure3"
    updates: int | None = option(
        None, "updates of every run; null: what the budget's frames give", least=1
    )
    tuning_seeds: int = option(
        0,
        "seeds 100, 101, ... on which the learning rate and what is shared are chosen before; 0: "
        "the presets",
        least=0,
    )


def make(command: Command) -> None:
    """Train what is missing, then aggregate and draw."""
    panels_of_cases, tried = chosen_cases(command, choice, task_title)
    grouped = trained_panels(command, panels_of_cases)
    panels = {
        title: {name: curve_of(command, found) for name, found in by_name.items()}
        for title, by_name in grouped.items()
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_curves(command.out / "curves.csv", panels)
    write_csv(command.out / "statistics.csv", statistics(grouped))
    if tried:
        write_csv(command.out / "tuning.csv", tried)
    comparison_figure(command.figure("figure3"), panels)
    text = markdown(grouped, tried)
    write_text(command.out / "figure3.md", text)
    names = "figure3.png, figure3.md, curves.csv, statistics.csv"
    say(f"{text}\n-> {command.out}/{names}; {command.runs}/results.csv")


def choice(command: Command, task: str, name: str) -> Choice | None:
    """An algorithm's options on a task, after training what they are chosen on."""
    updates = command.options.updates
    if command.options.tuning_seeds:
        if updates is None:
            raise OptionsError("tuning_seeds needs updates: how many a reported run makes.")
        return choose(command, task, name, updates)
    return Choice({} if updates is None else for_updates(command, task, name, {}, updates))


def statistics(grouped: Grouped) -> list[dict[str, Any]]:
    """A row per task and algorithm; then over all tasks that all seeds of both were trained on."""
    table: list[dict[str, Any]] = []
    for title, by_name in grouped.items():
        found = compared(by_name)
        table += [{"task": title, "algorithm": name, **row} for name, row in found.items()]
    return table + [
        {"task": f"all {len(titles)}", "algorithm": name, "seeds": seeds}
        | dict.fromkeys(list(table[0])[3:9], "")
        | {"vm3ac_better": str(better)}
        for name, titles, seeds, better in over_tasks(grouped)
    ]


def over_tasks(grouped: Grouped) -> list[tuple[str, list[str], int, Improvement]]:
    """How often ours beats each algorithm over the tasks that share seeds."""
    found = []
    for name in dict.fromkeys(name for by_name in grouped.values() for name in by_name):
        both = [title for title, by in grouped.items() if {name, OURS} <= by.keys()]
        if name == OURS or len(both) < 2:
            continue
        ours, theirs = ([grouped[title][key] for title in both] for key in (OURS, name))
        better = beaten(ours, theirs)
        if better is not None:
            found.append((name, both, better.of // len(both), better))
    return found


def markdown(grouped: Grouped, tried: Sequence[Mapping[str, Any]] = ()) -> str:
    """Returns by algorithm and task, what ours beats, and which options were chosen."""
    names = list(dict.fromkeys(name for by_name in grouped.values() for name in by_name))
    table = [
        [f"`{name}`", *(cell(final_returns(by.get(name, [])), 1) for by in grouped.values())]
        for name in names
    ]
    randoms = [
        {row["seed"]: float(row["random_return_mean"]) for rows in by.values() for row in rows}
        for by in grouped.values()
    ]
    table.append(["random actions", *(cell(list(found.values()), 1) for found in randoms)])
    counts = [sorted({len(rows) for rows in by.values()}) for by in grouped.values()]
    heads = [
        f"{title}, {' or '.join(map(str, count))} seeds"
        for title, count in zip(grouped, counts, strict=True)
    ]
    parts = [markdown_table(["mean return", *heads], table)]
    better = [compared(by) for by in grouped.values()]
    if any(OURS in found for found in better):
        lines = [
            [f"`{name}`", *(found.get(name, {}).get("vm3ac_better", "") or "-" for found in better)]
            for name in names
            if name != OURS
        ]
        parts.append(markdown_table([f"`{OURS}` is above", *grouped], lines))
    if tried:
        keys = list(tried[0])[:-1]
        lines = [[str(row[key]) for key in keys] for row in tried if row["chosen"]]
        parts.append(markdown_table(["chosen: " + keys[0], *keys[1:]], lines))
    parts.append("Brackets: 95% interval over seeds (Student's t up to 7); none for one seed.\n")
    return "\n".join(parts)


main = program(make, Figure3, __doc__, __name__)
"""Make the figure."""
