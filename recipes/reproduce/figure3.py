"""Figure 3: VM3-AC against its baselines on the eight continuous tasks, learning curves over seeds.

    python recipes/reproduce/figure3.py --budget cpu --tasks predator_prey_2 [--jobs 2] [key=value]

The paper compares VM3-AC with MADDPG, MA-AC, MAVEN and SI-MOA, averaged over 7 seeds. Here MA-SAC
(its Figure 6) and vm3ac_tight, which is not the paper's, are added. Returns are those of evaluation
episodes: fixed starts, the policies' mean actions, z ~ prior. key=value arguments are knobs of
recipes/train_continuous.py for every run.

A run that has its row is not trained again and an interrupted one goes on, so the same command
may be killed and repeated. It writes into --out:

    results.csv      a row per run: final return, frames, updates, seconds, commit, configuration
    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   of the final returns, with the probability that vm3ac beats each other one
    figure3.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common import ERRORS, SHARED_RUNS, TITLES, fail, make_parser, parse
from results import Row, write_rows
from runs import curve_of, make_case, trained

from vm3ac_modules.evaluation import (
    Estimate,
    comparison_figure,
    improvement_over_each,
    summarize_returns,
    write_curves,
)

ALGORITHMS = ("vm3ac", "ma_sac", "ma_ac", "maddpg", "maven", "si_moa", "vm3ac_tight")
OURS = "vm3ac"

Grouped = Mapping[str, Mapping[str, Sequence[Row]]]


def run(args: argparse.Namespace) -> None:
    """Train what is missing, then aggregate and draw."""
    pairs = [(task, algorithm) for task in args.tasks for algorithm in args.algorithms]
    cases = {pair: make_case(args, *pair) for pair in pairs}
    rows = trained(args, cases.values())
    grouped: dict[str, dict[str, list[Row]]] = {}
    for (task, algorithm), case in cases.items():
        if rows[case]:
            grouped.setdefault(TITLES.get(task, task), {})[algorithm] = rows[case]
    panels = {
        title: {name: curve_of(args, found) for name, found in by_name.items()}
        for title, by_name in grouped.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_curves(args.out / "curves.csv", panels)
    write_rows(args.out / "statistics.csv", statistics(grouped))
    comparison_figure(args.out / "figure3.png", panels)
    print(f"-> {args.out}/figure3.png, curves.csv, statistics.csv; runs: {args.runs}/results.csv")


def statistics(grouped: Grouped) -> list[dict[str, Any]]:
    """A row per task and algorithm; then over all tasks that all seeds of both were trained on."""
    table = []
    for title, by_name in grouped.items():
        returns = {name: final_returns(rows) for name, rows in by_name.items()}
        better = improvement_over_each(returns, OURS) if OURS in returns else {}
        for name, values in returns.items():
            found = summarize_returns(values)
            table.append(
                {"task": title, "algorithm": name, "seeds": found.seeds}
                | columns("mean", found.mean)
                | columns("iqm", found.iqm)
                | columns("vm3ac_better", better.get(name))
            )
    return table + [
        {"task": f"all {len(titles)}", "algorithm": name, "seeds": seeds}
        | dict.fromkeys(list(table[0])[3:9], "")
        | columns("vm3ac_better", estimate)
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


def final_returns(rows: Sequence[Row]) -> list[float]:
    """Mean return of each run's last evaluation."""
    return [float(row["return_mean"]) for row in rows]


def columns(name: str, estimate: Estimate | None) -> dict[str, str]:
    """An estimate as three cells; empty without one or without an interval."""
    values = (math.nan,) * 3 if estimate is None else estimate
    ends = zip(("", "_low", "_high"), values, strict=True)
    return {name + end: "" if math.isnan(value) else f"{value:.6g}" for end, value in ends}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the figure."""
    parser = make_parser(__doc__ or "", SHARED_RUNS, list(TITLES), ALGORITHMS)
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
