"""What the temperature does: values of the guard games over beta, for every algorithm.

    vm3ac reproduce beta_sweep budget=cpu [games=4:2,8:2] [algorithms=vm3ac_tight,ma_sac]

Not a figure of the paper, which tunes beta for each task. A run per beta, algorithm and seed is
trained with that beta from first to last, and the frozen policy's value against the best response
(best_response_value) is that of its mean actions with a common z, or of drawn ones. It writes into
out:

    sweep.csv         a row per game, algorithm, beta, seed and way to act
    beta_sweep.md     means over seeds with their 95% intervals
    beta_sweep.png    a panel per game and way to act, values over beta
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._command import Command, program
from vm3ac_modules.cli.reproduce._games import COMMON, Games, game_case, games_of
from vm3ac_modules.cli.reproduce._results import cell, markdown_table
from vm3ac_modules.cli.reproduce._trainings import plays_of, trained_panels
from vm3ac_modules.evaluation.comparison import comparison_figure
from vm3ac_modules.evaluation.curves import AggregatedCurve, aggregate_curves
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.options import OptionsError, option

__all__ = ["main"]

MEASURE = "best_response_value"


@dataclass(frozen=True, kw_only=True)
class BetaSweep(Games):
    """Options of this program."""

    algorithms: str = "vm3ac_tight,ma_sac_latent,vm3ac,ma_sac"
    betas: str = option("0.01,0.03,0.1,0.2,0.3,0.5", "temperatures, ascending, separated by commas")
    out: str = "runs/reproduce/beta_sweep"
    episodes: int = option(4096, "episodes", least=1)


def betas_of(text: str) -> list[float]:
    """The temperatures of a command line."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionsError(f"betas must be numbers separated by commas, got {text!r}.") from None
    if not all(low < high < math.inf for low, high in pairwise([0.0, *found])):
        raise OptionsError(f"betas must be above 0 and ascending, got {text!r}.")
    return found


def constant(beta: float) -> dict[str, Any]:
    """The options of a temperature that stays."""
    return {"algorithm.beta": beta}


def make(command: Command) -> None:
    """Train what is missing, play, write and draw."""
    betas, games = betas_of(command.options.betas), games_of(command)
    for name in command.algorithms:
        if not hasattr(find_preset(name, "continuous").options, "beta"):
            raise OptionsError(f"{name} has no beta.")
    cases = {
        title: {
            f"{name} {beta:g}": game_case(command, game, name, **constant(beta))
            for name in command.algorithms
            for beta in betas
        }
        for title, game in games.items()
    }
    table: list[dict[str, Any]] = []
    runs = trained_panels(command, cases)
    torch.set_num_threads(1)
    for title, by_label in runs.items():
        for label, rows in by_label.items():
            name, beta = label.split()
            for row in rows:
                known = {"game": title, "algorithm": name, "beta": beta, "seed": row["seed"]}
                for actions in ("mean", "drawn"):
                    said = {**known, "actions": actions}
                    table += plays_of(command, row, COMMON, said, actions)
    command.out.mkdir(parents=True, exist_ok=True)
    write_csv(command.out / "sweep.csv", table)
    write_text(command.out / "beta_sweep.md", markdown(table))
    draw(command, table)
    say(markdown(table) + f"\n-> {command.out}/beta_sweep.png, sweep.csv")


def draw(command: Command, table: Sequence[Mapping[str, Any]]) -> None:
    """Values over beta: a panel per game and way to act, a line per algorithm."""
    panels: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for row in table:
        panel = panels.setdefault(f"{row['game']}: {row['actions']} actions", {})
        of_seed = panel.setdefault(row["algorithm"], {}).setdefault(row["seed"], [])
        of_seed.append((float(row["beta"]), row[MEASURE]))
    curves = {
        title: {name: over_beta(list(seeds.values())) for name, seeds in panel.items()}
        for title, panel in panels.items()
    }
    comparison_figure(
        command.figure("beta_sweep"),
        {title: {n: c for n, c in panel.items() if c} for title, panel in curves.items()},
        columns=2,
        ylabel="value against the best response",
        xlabel="beta (reward per nat)",
        logarithmic=True,
    )


def over_beta(seeds: Sequence[Sequence[tuple[float, float]]]) -> AggregatedCurve | None:
    """The curve of some seeds' (beta, value), at the temperatures that every seed has."""
    common = set.intersection(*({beta for beta, _ in points} for points in seeds))
    if not common:
        return None
    kept = [[point for point in points if point[0] in common] for points in seeds]
    return aggregate_curves([(b, v) for b, v in (zip(*points, strict=True) for points in kept)])


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The values as Markdown: a row per game, algorithm and way to act, a column per beta."""
    betas = list(dict.fromkeys(row["beta"] for row in table))
    head = ["game", "algorithm", "actions", *(f"beta = {beta}" for beta in betas)]
    lines: list[list[str]] = []
    kinds = dict.fromkeys((row["game"], row["algorithm"], row["actions"]) for row in table)
    for kind in kinds:
        own = [r for r in table if (r["game"], r["algorithm"], r["actions"]) == kind]
        cells = [cell([r[MEASURE] for r in own if r["beta"] == beta], 3) for beta in betas]
        lines.append([*kind, *cells])
    return markdown_table(head, lines)


main = program(make, BetaSweep, __doc__, __name__)
"""Make the figure."""
