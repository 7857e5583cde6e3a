"""Games with an adversary of a command line, and the trainings on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.cli.reproduce._budgets import GAMES, Program
from vm3ac_modules.cli.reproduce._cases import Case, make_case
from vm3ac_modules.cli.reproduce._command import Command, Comparison
from vm3ac_modules.options import OptionsError, option
from vm3ac_modules.testing.games import (
    correlated_guard_value,
    correlated_prey_value,
    independent_guard_value,
    independent_prey_value,
)

__all__ = ["COMMON", "Game", "Games", "default_width", "game_case", "games_of"]

COMMON = ("sample", "none")
"""Ways to come by z in which a team acts as it was trained."""
PLAYED = ("guard", "guarded_rendezvous", "learning_prey")
LONGER = (
    *("frames", "num_envs", "batch_size", "buffer_size", "updates_per_step"),
    *("eval_every_frames", "checkpoint_every_frames"),
)
"""Of what is tuned for games of many steps, what ``budget=cpu`` says otherwise for one step."""


class Game(NamedTuple):
    """A game with an adversary."""

    num_modes: int
    num_agents: int
    width: float
    task: str = "guard"

    @classmethod
    def of(cls, text: str, task: str = "guard") -> Game:
        """From ``M:N`` or ``M:N:width``."""
        try:
            modes, agents, *rest = text.split(":")
            width = float(rest[0]) if rest else default_width(int(agents))
            game = cls(int(modes), int(agents), width, task)
        except (ValueError, IndexError):
            raise OptionsError(f"games are written M:N or M:N:width, got {text!r}.") from None
        if game.num_modes < 2 or game.num_agents < 1:
            raise OptionsError(f"a game has M >= 2 modes and N >= 1 agents, got {text!r}.")
        if task not in PLAYED:
            raise OptionsError(f"tasks of games are {', '.join(PLAYED)}, got {task!r}.")
        return game

    def __str__(self) -> str:
        named = "" if self.task == "guard" else f"{self.task} "
        usual = self.width == default_width(self.num_agents)
        width = "" if usual else f", width {self.width:g}"
        return f"{named}M={self.num_modes}, N={self.num_agents}{width}"

    @property
    def values(self) -> dict[str, float]:
        """What a team can reach with and without a common z."""
        modes, agents = self.num_modes, self.num_agents
        if self.task == "learning_prey":
            common, alone = correlated_prey_value(modes), independent_prey_value(agents, modes)
        else:
            common, alone = correlated_guard_value(modes), independent_guard_value(agents, modes)
        return {"with a common z": common, "independent": alone}


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
    """The games of a command line by title, every one on every task."""
    written = command.options.games.split(",")
    games = [Game.of(text, task) for task in command.tasks for text in written]
    return {str(game): game for game in games}


def game_case(command: Command, game: Game, name: str, **own: Any) -> Case:
    """An algorithm on a game, with options of its own; a latent has four components."""
    options = game._asdict()
    task = options.pop("task")
    said = {f"task.env.{key}": value for key, value in options.items()}
    if task != "guard" and command.options.budget == "cpu":
        said |= {k: v for k, v in tuned(name, task, LONGER).items() if k not in command.given}
    latent = hasattr(find_preset(name, "continuous").options, "latent_dim")
    given = "algorithm.latent_dim" in command.given
    size = {"algorithm.latent_dim": 4} if latent and not given else {}
    return make_case(command, task, name, said | size | own)
