"""Table 3: VM3-AC executed with z ~ N(0, I) and with z = E[z], on predator-prey.

    python recipes/reproduce/table3.py --budget cpu [--tasks predator_prey_2] [--episodes 20]

The paper plays 20 deterministic episodes (mean actions) of one trained agent per task. Here every
seed's agent plays them, on the same starts in every mode: a number is the mean over seeds, with its
95% interval over seeds where there are at least two. Two more ways to come by z are shown:

    synchronized   each agent computes the common z itself, from seed, episode and step
    independent    each agent draws a z of its own: what the common z is worth

The vm3ac runs of figure3.py are read; those that are missing are trained. It writes into --out:

    table3.csv   a row per task, seed and mode (random: uniformly random actions)
    table3.md    the table, with the paper's numbers below
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import ERRORS, TITLES, fail, make_parser, parse, positive
from omegaconf import OmegaConf
from results import write_rows
from runs import make_case, trained

from vm3ac_modules.evaluation import summarize_returns
from vm3ac_modules.files import write_text

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


def play(run_dir: Path, episodes: int) -> dict[str, dict[str, float]]:
    """Play a run's agent in every mode, on the starts of recipes/evaluate.py."""
    import evaluate  # of recipes/, which is on the path once common is imported

    given = {"run_dir": str(run_dir), "episodes": episodes, "latent": "all", "coordination": False}
    return evaluate.run(OmegaConf.merge(evaluate.DEFAULTS, given))["results"]


def run(args: argparse.Namespace) -> None:
    """Train what is missing, play every mode, write the table."""
    import torch

    cases = {task: make_case(args, task, "vm3ac") for task in args.tasks}
    found, table = trained(args, cases.values()), []
    torch.set_num_threads(1)
    for task, case in cases.items():
        for row in found[case]:
            results = play(args.runs / row["run_dir"], args.episodes)
            known = {"task": task, "seed": row["seed"], "frames": row["frames"]}
            for mode in filter(results.__contains__, MODES):
                result = {k: results[mode][k] for k in ("return_mean", "return_ci95")}
                table.append({**known, "latent": mode, "episodes": args.episodes, **result})
    args.out.mkdir(parents=True, exist_ok=True)
    write_rows(args.out / "table3.csv", table)
    write_text(args.out / "table3.md", markdown(table))
    print(markdown(table) + f"\n-> {args.out}/table3.csv, table3.md")


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown: a row per mode, a column per task."""
    tasks = list(dict.fromkeys(row["task"] for row in table))
    lines = [
        ["mean return", *(TITLES.get(task, task) for task in tasks)],
        ["---"] * (len(tasks) + 1),
    ]
    for mode, name in MODES.items():
        cells = []
        for task in tasks:
            fitting = [r["return_mean"] for r in table if (r["task"], r["latent"]) == (task, mode)]
            cells.append(cell(fitting))
        lines.append([name, *cells])
    for mode, numbers in PAPER.items():
        lines.append([f"paper, {MODES[mode]}", *(str(numbers.get(task, "-")) for task in tasks)])
    counts = {task: len({row["seed"] for row in table if row["task"] == task}) for task in tasks}
    seeds = ", ".join(f"{TITLES.get(task, task)}: {count}" for task, count in counts.items())
    note = (
        f"{table[0]['episodes']} episodes per seed, mean actions. Seeds: {seeds}. "
        "Brackets: 95% bootstrap interval over seeds; the range if they are two or three.\n"
    )
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n" + note


def cell(returns: Sequence[float]) -> str:
    """Mean over seeds, with its interval if there are several; a policy may lack the mode."""
    if not returns:
        return "-"
    mean = summarize_returns(returns).mean
    if len(returns) < 2:
        return f"{mean.value:.1f}"
    return f"{mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the table."""
    parser = make_parser(__doc__ or "", "runs/reproduce/table3", TASKS)
    parser.add_argument("--episodes", type=positive, default=20, help="episodes (default 20)")
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
