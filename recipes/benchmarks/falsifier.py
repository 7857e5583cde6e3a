"""The power of the falsifier: which mistakes it finds, how many games that takes, what it covers.

    python recipes/benchmarks/falsifier.py out=docs/results/falsifier [searches=20]

Every mistake of `vm3ac_modules.testing.WRONG_BOUNDS`, and bounds that are too large by shares of
the information or by a constant, are tried on the games of several searches of the default size.
Writes `power.csv` and prints it as the table of docs/falsifier.md.

`caught`: share of the searches with a game that shows the mistake. `games`: median and largest
number of games until the first of those (in the order of the search: tabular ones come first).
`shown`: share of all games that show it. `at_random`: the searches that caught it of as many over
games drawn at random (`tabular_games`, `linear_gaussian_games`), where agents hardly coordinate.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.files import write_text
from vm3ac_modules.options import Options, option
from vm3ac_modules.testing import (
    WRONG_BOUNDS,
    LinearGaussianGame,
    TabularGame,
    covered_information,
    linear_gaussian_games,
    searched_games,
    tabular_games,
)
from vm3ac_modules.testing.wrong_bounds import too_large


@dataclass(frozen=True, kw_only=True)
class Power(Options):
    """Options of this program."""

    out: str = option("runs/falsifier", "where power.csv is written")
    searches: int = option(20, "searches of other seeds", least=1)
    max_examples: int = option(300, "games of a search", least=3)
    tolerance: float = option(1e-3, "what rounding may add", unit="nats", least=0)


def constant(excess: float) -> Callable[[Any], Any]:
    """A bound that is too large by the same everywhere."""
    return lambda game: game.mutual_information(0, 1) + excess


def mistakes() -> dict[str, Callable[[Any], Any]]:
    """All mistakes by name: kinds, and sizes."""
    sizes = {
        f"{share:.1%} too large above {above} nats, {name}": too_large(share, above, kind)
        for share, above in ((0.02, 0.1), (0.002, 0.1), (0.001, 1.5))
        for name, kind in (("tabular", TabularGame), ("Gaussian", LinearGaussianGame))
    }
    sizes["5% too large above 3 nats, Gaussian"] = too_large(0.05, 3.0, LinearGaussianGame)
    constants = {f"{excess} nats too large": constant(excess) for excess in (2e-3, 5e-4)}
    return {**WRONG_BOUNDS, **sizes, **constants}


class Searches:
    """Searches of one kind of games, with the exact information of every game.

    Args:
        cfg: options of this program.
        games: what is drawn from; None for the default.
    """

    def __init__(self, cfg: Power, games: SearchStrategy[Any] | None) -> None:
        self.tolerance = cfg.tolerance
        found = [searched_games(games, cfg.max_examples, seed) for seed in range(cfg.searches)]
        self.games = [
            [(game, float(game.mutual_information(0, 1))) for game in row] for row in found
        ]

    def show(self, bound: Callable[[Any], Any]) -> list[list[bool]]:
        """Whether each game of each search shows that a bound is wrong."""
        # Negated, so that a NaN is wrong.
        return [
            [not float(bound(game)) <= exact + self.tolerance for game, exact in row]
            for row in self.games
        ]


def measure(cfg: Power) -> list[dict[str, str]]:
    """Try every mistake on every game; write and return a row per mistake."""
    Path(cfg.out).mkdir(parents=True, exist_ok=True)
    at_random = st.one_of(tabular_games(), linear_gaussian_games())
    kinds = [Searches(cfg, None), Searches(cfg, at_random)]
    rows = []
    for name, bound in mistakes().items():
        shown, shown_at_random = (kind.show(bound) for kind in kinds)
        first = [flags.index(True) + 1 for flags in shown if any(flags)]
        rows.append(
            {
                "mistake": name,
                "caught": f"{len(first)}/{cfg.searches}",
                "games_median": f"{statistics.median(first):g}" if first else "",
                "games_most": f"{max(first)}" if first else "",
                "shown": f"{sum(map(sum, shown)) / sum(map(len, shown)):.3f}",
                "at_random": f"{sum(map(any, shown_at_random))}/{cfg.searches}",
            }
        )
    lines = [",".join(rows[0]), *(",".join(f'"{x}"' for x in row.values()) for row in rows)]
    write_text(Path(cfg.out) / "power.csv", "\n".join(lines) + "\n")
    return rows


def main(arguments: list[str]) -> None:
    """Read the command line, measure, print."""
    rows = run(measure, "falsifier.py", __doc__, Power, arguments)
    print("| mistake | caught | games, median | games, most | shown | at random |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(value or '-' for value in row.values())} |")
    print()
    print(covered_information())


if __name__ == "__main__":
    main(sys.argv[1:])
