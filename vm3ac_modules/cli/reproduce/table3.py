"""Table 3: VM3-AC executed with z ~ N(0, I) and with z = E[z], on predator-prey.

    vm3ac reproduce table3 budget=cpu [tasks=predator_prey_2] [episodes=20]

As in the paper (Appendix H) every seed's agent plays 20 deterministic episodes (mean actions) and a
number is the mean over seeds: the paper's over 7, here with its 95% interval where there are at
least two. A seed plays the same starts in every mode. Two more ways to come by z are shown:

    synchronized   each agent computes the common z itself, from seed, episode and step
    independent    each agent draws a z of its own: what the common z is worth

The vm3ac runs of figure3 are read; those that are missing are trained. It writes into out:

    table3.csv   a row per task, seed and mode (random: uniformly random actions)
    table3.md    the table, with the paper's numbers below
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._cases import make_case
from vm3ac_modules.cli.reproduce._command import Command, Study, program
from vm3ac_modules.cli.reproduce._results import cell, markdown_table
from vm3ac_modules.cli.reproduce._trainings import plays_of, trained
from vm3ac_modules.evaluation.names import task_title
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.options import option

__all__ = ["main"]

TASKS = ("predator_prey_2", "predator_prey_3", "predator_prey_4")
MODES = {
    "sample": "z ~ N(0, I)",
    "mean": "z = E[z]",
    "synchronized": "z synchronized",
    "independent": "z independent",
    "random": "random actions",
}
PAPER = {
    "sample": {"predator_prey_2": 413, "predator_prey_3": 734, "predator_prey_4": 1123},
    "mean": {"predator_prey_2": 409, "predator_prey_3": 743, "predator_prey_4": 1147},
}


@dataclass(frozen=True, kw_only=True)
class Table3(Study):
    """Options of this program."""

    tasks: str = ",".join(TASKS)
    out: str = "runs/reproduce/table3"
    episodes: int = option(20, "episodes", least=1)


def make(command: Command) -> None:
    """Train what is missing, play every mode, write the table."""
    cases = {task: make_case(command, task, "vm3ac") for task in command.tasks}
    found, table = trained(command, cases.values()), []
    torch.set_num_threads(1)
    for task, case in cases.items():
        for row in found[case]:
            known = {"task": task, "seed": row["seed"], "frames": row["frames"]}
            table += plays_of(command, row, MODES, known)
    command.out.mkdir(parents=True, exist_ok=True)
    write_csv(command.out / "table3.csv", table)
    write_text(command.out / "table3.md", markdown(table))
    say(markdown(table) + f"\n-> {command.out}/table3.csv, table3.md")


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown: a row per mode, a column per task."""
    tasks = list(dict.fromkeys(row["task"] for row in table))
    lines = []
    for mode, name in MODES.items():
        cells = []
        for task in tasks:
            fitting = [r["return_mean"] for r in table if (r["task"], r["latent"]) == (task, mode)]
            cells.append(cell(fitting, 1))
        lines.append([name, *cells])
    for mode, numbers in PAPER.items():
        lines.append([f"paper, {MODES[mode]}", *(str(numbers.get(task, "-")) for task in tasks)])
    counts = {task: len({row["seed"] for row in table if row["task"] == task}) for task in tasks}
    seeds = ", ".join(f"{task_title(task)}: {count}" for task, count in counts.items())
    note = (
        f"{table[0]['episodes']} episodes per seed, mean actions. Seeds: {seeds}. "
        "Brackets: 95% interval over seeds. The paper's are means over 7 seeds.\n"
    )
    return markdown_table(["mean return", *map(task_title, tasks)], lines) + "\n" + note


main = program(make, Table3, __doc__, __name__)
"""Make the table."""
