"""Figure 4: VM3-AC on FOP against its baselines on StarCraft-like battles, win rates over seeds.

    python recipes/reproduce/figure4.py --budget cpu [--tasks 3s_vs_3z] [--jobs 2] [key=value]

The paper compares VM3-AC with FOP, DOP, LICA, VDAC and MAVEN on maps of SMAC, of which its text
names one, 3s_vs_3z. The default backend is SMAX: its numbers are not SMAC's, and every title says
so. Evaluations are greedy, on fixed starts, z ~ prior. key=value arguments are knobs of
recipes/train_smac.py for every run, e.g. reward=shaped or backend=smacv2.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into --out:

    results.csv      a row per run: final win rate and return, frames, updates, seconds, commit
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final win rates, with the probability that vm3ac beats each other one,
                     and of the areas under the curves (mean win rate over a run)
    figure4.png      above the win rates, below the returns
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from common import BATTLES, ERRORS, fail, make_parser, parse
from figure3 import OURS, columns
from results import Row, write_rows
from runs import curve_of, make_case, trained

from vm3ac_modules.evaluation import (
    comparison_figure,
    improvement_over_each,
    summarize_returns,
    write_curves,
)
from vm3ac_modules.runs import read_csv_log

MAPS = ("3s_vs_3z", "3m", "8m_vs_9m")
ALGORITHMS = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")
OUT = "runs/reproduce/figure4"
CURVES = {"win rate": "win_rate", "return": "return_mean"}


def run(args: argparse.Namespace) -> None:
    """Train what is missing, then aggregate and draw."""
    pairs = [(task, algorithm) for task in args.tasks for algorithm in args.algorithms]
    cases = {pair: make_case(args, *pair, **own_knobs(*pair)) for pair in pairs}
    rows = trained(args, cases.values())
    grouped: dict[str, dict[str, list[Row]]] = {}
    for (task, algorithm), case in cases.items():
        if rows[case]:
            grouped.setdefault(task, {})[algorithm] = rows[case]
    panels = {
        f"{task} ({backend_of(by_name)}): {measure}": {
            name: curve_of(args, found, column) for name, found in by_name.items()
        }
        for measure, column in CURVES.items()
        for task, by_name in grouped.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_curves(args.out / "curves.csv", panels)
    write_rows(args.out / "statistics.csv", statistics(args, grouped))
    comparison_figure(args.out / "figure4.png", panels, ylabel="evaluation")
    print(f"-> {args.out}/figure4.png, curves.csv, statistics.csv; runs: {args.runs}/results.csv")


def own_knobs(task: str, algorithm: str) -> dict[str, object]:
    """LICA's critic would have 51 million weights on the largest map."""
    large = algorithm == "lica" and task == "8m_vs_9m"
    return {"algorithm__critic_bottleneck": 64} if large else {}


def backend_of(by_name: Mapping[str, Sequence[Row]]) -> str:
    """Who played the battles, in capitals."""
    backends = sorted({row["backend"].upper() for rows in by_name.values() for row in rows})
    return ", ".join(backends)


def area(args: argparse.Namespace, row: Row) -> float:
    """Mean win rate over a run: the area under its curve, per frame."""
    log = read_csv_log(args.runs / row["run_dir"] / "eval.csv")
    frames, rates = log["frame"], log["win_rate"]
    return float(np.trapezoid(rates, frames)) / (frames[-1] - frames[0])


def statistics(
    args: argparse.Namespace, grouped: Mapping[str, Mapping[str, Sequence[Row]]]
) -> list[dict[str, Any]]:
    """A row per map and algorithm: win rates at the last evaluation, and over the whole run."""
    table = []
    for task, by_name in grouped.items():
        rates = {name: [float(r["win_rate"]) for r in rows] for name, rows in by_name.items()}
        better = improvement_over_each(rates, OURS) if OURS in rates else {}
        for (name, values), runs in zip(rates.items(), by_name.values(), strict=True):
            found = summarize_returns(values)
            table.append(
                {"map": task, "backend": backend_of(by_name), "algorithm": name}
                | {"seeds": found.seeds}
                | columns("win_rate_mean", found.mean)
                | columns("win_rate_iqm", found.iqm)
                | columns("vm3ac_better", better.get(name))
                | columns("win_rate_area", summarize_returns([area(args, r) for r in runs]).mean)
            )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the figure."""
    parser = make_parser(__doc__ or "", OUT, list(MAPS), ALGORITHMS, BATTLES)
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
