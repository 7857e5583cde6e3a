"""Figure 6: what the latent and the temperature beta do for VM3-AC on multi-walker, N = 3 and 4.

    python recipes/reproduce/figure6.py --budget cpu [--jobs 2] [--tasks multiwalker_3] [key=value]

(a), (b): VM3-AC, VM3-AC without its latent (dim z = 0) and MA-SAC, each at the task's beta of the
paper's Table 2. (c), (d): VM3-AC with beta = 0, 0.05, 0.1, 0.15. The beta of Table 2 is one of
them, so its runs are those of (a), (b), and figure3.py's where that was run with the same --runs.

It writes into --out:

    curves.csv       aggregated curves: mean, interquartile mean, 95% intervals over seeds
    statistics.csv   mean and interquartile mean of the final returns, with intervals
    figure6.png      the curves
    figure6_final.png   the means of the final returns as bars
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common import ERRORS, TITLES, fail, make_parser, parse
from figure3 import columns, final_returns
from omegaconf import OmegaConf
from results import write_rows
from runs import RECIPES, Case, curve_of, make_case, trained

from vm3ac_modules.evaluation import (
    bars_figure,
    comparison_figure,
    summarize_returns,
    write_curves,
)

TASKS = ("multiwalker_3", "multiwalker_4")
LATENT = ("vm3ac", "vm3ac_no_latent", "ma_sac")
BETAS = (0.0, 0.05, 0.1, 0.15)


def cases_of(args: argparse.Namespace) -> dict[str, dict[str, Case]]:
    """Title of each panel -> label -> case; the ablations of the latent first, as in the paper."""
    latent, temperature = {}, {}
    for task in args.tasks:
        title = TITLES.get(task, task)
        latent[title] = {name: make_case(args, task, name) for name in LATENT}
        temperature[f"{title}, beta"] = {
            f"vm3ac, beta={beta:g}": beta_case(args, task, beta) for beta in BETAS
        }
    return latent | temperature


def beta_case(args: argparse.Namespace, task: str, beta: float) -> Case:
    """VM3-AC at a temperature; at the task's own it is the very run of the other panel."""
    file = RECIPES / "config" / "task" / f"{task}.yaml"
    own = OmegaConf.load(file).beta if file.exists() else None
    if "task.beta" not in args.overrides and beta == own:
        return make_case(args, task, "vm3ac")
    return make_case(args, task, "vm3ac", task__beta=f"{beta:g}")


def run(args: argparse.Namespace) -> None:
    """Train what is missing, then aggregate and draw."""
    cases = cases_of(args)
    rows = trained(args, [case for panel in cases.values() for case in panel.values()])
    there = {
        title: {label: rows[case] for label, case in panel.items() if rows[case]}
        for title, panel in cases.items()
    }
    there = {title: panel for title, panel in there.items() if panel}
    curves = {t: {label: curve_of(args, r) for label, r in p.items()} for t, p in there.items()}
    finals = {
        title: {label: summarize_returns(final_returns(found)) for label, found in panel.items()}
        for title, panel in there.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_curves(args.out / "curves.csv", curves)
    comparison_figure(args.out / "figure6.png", curves, columns=2)
    table = [
        {"panel": title, "label": label, "seeds": found.seeds}
        | columns("mean", found.mean)
        | columns("iqm", found.iqm)
        for title, panel in finals.items()
        for label, found in panel.items()
    ]
    write_rows(args.out / "statistics.csv", table)
    bars = {title: {k: found.mean for k, found in panel.items()} for title, panel in finals.items()}
    bars_figure(args.out / "figure6_final.png", bars, ylabel="final average return", columns=2)
    print(f"-> {args.out}/figure6.png, figure6_final.png, curves.csv, statistics.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the figure."""
    parser = make_parser(__doc__ or "", "runs/reproduce/figure6", TASKS)
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
