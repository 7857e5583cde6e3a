"""Guard games of a command line, and the trainings on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.cli.reproduce._budgets import GAMES, Program
from vm3ac_modules.cli.reproduce._cases import Case, make_case
from vm3ac_modules.cli.reproduce._command import Command, Comparison
from vm3ac_modules.options import OptionsError, option
from vm3ac_modules.testing.games import correlated_guard_value, independent_guard_value

__all__ = ["COMMON", "Game", "Games", "game_case", "games_of"]

COMMON = ("sample", "none")
"""Ways to come by z in which a team acts as it was trained."""


class Game(NamedTuple):
    """A guard game."""

    num_modes: int
    num_agents: int
    width: float

    @classmethod
    def of(cls, text: str) -> Game:
        """From ``M:N`` or ``M:N:width``."""
        try:
            modes, agents, *rest = text.split(":")
            width = float(rest[0]) if rest else default_width(int(agents))
            game = cls(int(modes), int(agents), width)
        except (ValueError, IndexError):
            raise OptionsError(f"games are written M:N or M:N:width, got {text!r}.") from None
        if game.num_modes < 2 or game.num_agents < 1:
            raise OptionsError(f"a game has M >= 2 modes and N >= 1 agents, got {text!r}.")
        return game

    def __str__(self) -> str:
        return f"M={self.num_modes}, N={self.num_agents}"

    @property
    def values(self) -> dict[str, float]:
        """What a team can reach with and without a common z."""
        return {
            "with a common z": correlated_guard_value(self.num_modes),
            "independent": independent_guard_value(self.num_agents, self.num_modes),
        }


def default_width(num_agents: int) -> float:
    """How wide modes are: many agents never meet at narrow ones."""
    return 0.3 if num_agents <= 2 else 0.6 if num_agents <= 4 else 0.8


@dataclass(frozen=True, kw_only=True)
class Games(Comparison):
    """Options of programs that play guard games."""

    program: ClassVar[Program] = GAMES
    own_runs: ClassVar[bool] = True
    tasks: str = "guard"
    games: str = option("4:2", "games, M:N or M:N:width, separated by commas")


def games_of(command: Command) -> dict[str, Game]:
    """The games of a command line by title."""
    return {str(game): game for game in map(Game.of, command.options.games.split(","))}


def game_case(command: Command, game: Game, name: str, **own: Any) -> Case:
    """An algorithm on a game, with options of its own; a latent has four components."""
    said = {f"task.env.{key}": value for key, value in game._asdict().items()}
    latent = hasattr(find_preset(name, "continuous").options, "latent_dim")
    given = "algorithm.latent_dim" in command.overrides
    size = {"algorithm.latent_dim": 4} if latent and not given else {}
    return make_case(command, "guard", name, said | size | own)
