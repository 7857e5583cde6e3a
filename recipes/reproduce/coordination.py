"""Is there coordination, and does it matter? Information, the latent's share, and an intervention.

    python recipes/reproduce/coordination.py --budget cpu [--tasks predator_prey_2,predator_prey_4]

Not a figure of the paper. For VM3-AC, its tight form and the form without a latent, over training:
the lower and the upper estimate of the mutual information of two agents' simultaneous actions
(nats, docs/metrics.md) and the share rho of the actions' variance that comes from z. Then the
trained agents play the same starts with a common z, and with a z of its own for every agent, which
leaves each agent's behavior as it is and takes the coordination away.

The runs of figure3.py are read; those that are missing are trained. It writes into --out:

    information.csv    aggregated curves: mean, interquartile mean, 95% intervals over seeds
    intervention.csv   a row per task, algorithm, seed and way to come by z
    coordination.png, intervention.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import torch
from common import ERRORS, TITLES, fail, make_parser, parse, positive
from results import Row, write_rows
from runs import make_case, trained
from table3 import play

from vm3ac_modules.evaluation import (
    AggregatedCurve,
    aggregate_curves,
    bars_figure,
    comparison_figure,
    summarize_returns,
    write_curves,
)
from vm3ac_modules.runs import read_csv_log

TASKS = ("predator_prey_2", "predator_prey_4")
ALGORITHMS = ("vm3ac", "vm3ac_tight", "vm3ac_no_latent")
QUANTITIES = {
    "mi_lower_bound": "MI from below, nats",
    "mi_upper_bound": "MI from above, nats",
    "latent_share": "share of z",
}
MODES = {"sample": "common z", "independent": "a z each", "mean": "z = E[z]", "none": "no z"}


def information(args: argparse.Namespace, rows: Sequence[Row], name: str) -> AggregatedCurve:
    """A logged estimate over training; it is unknown before anything was collected."""
    curves = []
    for row in rows:
        log = read_csv_log(args.runs / row["run_dir"] / "eval.csv")
        pairs = zip(log["frame"], log.get(name, [math.nan] * len(log["frame"])), strict=True)
        known = [(frame, value) for frame, value in pairs if not math.isnan(value)]
        if not known:
            raise ValueError(
                f"{row['run_dir']} has no {name}: train with information_rows above 0."
            )
        curves.append(tuple(zip(*known, strict=True)))
    return aggregate_curves(curves)


def run(args: argparse.Namespace) -> None:
    """Train what is missing, aggregate, play, write and draw."""
    pairs = [(task, algorithm) for task in args.tasks for algorithm in args.algorithms]
    cases = {pair: make_case(args, *pair) for pair in pairs}
    rows = trained(args, cases.values())
    torch.set_num_threads(1)
    panels: dict[str, dict[str, AggregatedCurve]] = {}
    table: list[dict[str, Any]] = []
    for (task, algorithm), case in cases.items():
        if not rows[case]:
            continue
        for name, said in QUANTITIES.items():
            title = f"{TITLES.get(task, task)}: {said}"
            panels.setdefault(title, {})[algorithm] = information(args, rows[case], name)
        for row in rows[case]:
            known = {"task": task, "algorithm": algorithm, "seed": row["seed"]}
            results = play(args.runs / row["run_dir"], args.episodes)
            for mode in filter(results.__contains__, MODES):
                result = {k: results[mode][k] for k in ("return_mean", "return_ci95")}
                table.append({**known, "latent": mode, "episodes": args.episodes, **result})
    args.out.mkdir(parents=True, exist_ok=True)
    write_curves(args.out / "information.csv", panels)
    write_rows(args.out / "intervention.csv", table)
    comparison_figure(args.out / "coordination.png", panels, columns=3, ylabel="estimate")
    bars_figure(args.out / "intervention.png", bars(table), ylabel="average return", columns=3)
    print(f"-> {args.out}/coordination.png, intervention.png, information.csv, intervention.csv")


def bars(table: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean return per task, algorithm and way to come by z."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table:
        title = f"{TITLES.get(row['task'], row['task'])}: {row['algorithm']}"
        by_mode = found.setdefault(title, {})
        by_mode.setdefault(MODES[row["latent"]], []).append(row["return_mean"])
    return {
        title: {mode: summarize_returns(values).mean for mode, values in by_mode.items()}
        for title, by_mode in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the figures."""
    parser = make_parser(__doc__ or "", "runs/reproduce/coordination", TASKS, ALGORITHMS)
    parser.add_argument("--episodes", type=positive, default=20, help="episodes (default 20)")
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
