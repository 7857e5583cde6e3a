"""Known answers first: who finds the best return of a small game, and within which budget.

    vm3ac reproduce known_answers budget=cpu [tasks=climbing,guard] [algorithms=vm3ac,fop]

Not a figure of the paper. The games of vm3ac battle backend=games have optima that are known by
hand: matrix games (coordination, climbing, penalty, non_monotonic, two_step) and the guard game
over discrete actions, whose value is that of the frozen policy against the best response: 2^-N at
most without a common z, 1 - 1/M with one. Every algorithm plays what algorithms/tuning.py says for
these games: about 450 updates (guard: 800; on policy 150), one schedule for all matrix games.

A run has found an answer if all episodes of its last evaluation, likeliest actions and z ~ prior,
return the optimum; it took the episodes of the first evaluation from which on that is so (of the
slowest seed in the table). In the
guard game the answer counts as found above the middle of both values. Where there is a critic of
joint actions that is made of the agents' own (vm3ac, fop), the table says besides in how many seeds
it ranks an optimal joint action of a one-step game first, at the end of the training.
It writes into out:

    known_answers.csv   a row per game, algorithm, seed, way to act and way to come by z
    known_answers.md    who found what; means over seeds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._budgets import SMALL_GAMES, Program
from vm3ac_modules.cli.reproduce._cases import grid
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._results import Row, cell, markdown_table
from vm3ac_modules.cli.reproduce._trainings import log_of, plays_of, trained_panels
from vm3ac_modules.envs.matrix import MATRIX_GAMES, MatrixGame
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.options import option
from vm3ac_modules.runs.loading import load_agent
from vm3ac_modules.testing.games import correlated_guard_value, independent_guard_value

__all__ = ["main"]

GAMES = (*MATRIX_GAMES, "guard")
ALGORITHMS = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")
COMMON, APART = ("sample", "none"), ("independent",)
GUARD = {"common": correlated_guard_value(4), "independent": independent_guard_value(2, 4)}
"""What two agents can reach at four modes."""
CLOSE = 1e-3


@dataclass(frozen=True, kw_only=True)
class KnownAnswers(Comparison):
    """Options of this program."""

    program: ClassVar[Program] = SMALL_GAMES
    own_runs: ClassVar[bool] = True
    tasks: str = ",".join(GAMES)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/known_answers"
    episodes: int = option(1024, "episodes of every way to act and to come by z", least=1)


def answer_of(game: str) -> tuple[str, float]:
    """The column that a game is judged by, and from where on its answer is found."""
    if game in MATRIX_GAMES:
        return "return_mean", MATRIX_GAMES[game].optimum() - CLOSE
    return "best_response_value", (GUARD["common"] + GUARD["independent"]) / 2


def found_at(log: Mapping[str, Sequence[float]], game: str) -> float | None:
    """Frames of the first evaluation from which on the answer was played; None for never."""
    column, least = answer_of(game)
    # Of matrix games the likeliest actions are judged: drawn ones stand in the first column.
    column = f"greedy_{column}" if f"greedy_{column}" in log else column
    since = None
    for frame, value in zip(log["frame"], log[column], strict=True):
        since = (frame if since is None else since) if value >= least else None
    return since


def make(command: Command) -> None:
    """Train what is missing, play, write."""
    if other := [name for name in command.tasks if name not in GAMES]:
        raise ValueError(f"{other[0]} is no game with a known answer; valid: {', '.join(GAMES)}.")
    runs = trained_panels(command, grid(command))
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    for game, by_name in runs.items():
        for algorithm, rows in by_name.items():
            for row in rows:
                since = found_at(log_of(command, row), game)
                known = {"game": game, "algorithm": algorithm, "seed": row["seed"]}
                known |= {"found_at": "" if since is None else f"{since:.0f}"}
                known |= {"critic_knows": critic_knows(command, row, game)}
                for actions in ("mean", "drawn"):
                    table += plays(command, row, known, actions)
    command.out.mkdir(parents=True, exist_ok=True)
    write_csv(command.out / "known_answers.csv", table)
    write_text(command.out / "known_answers.md", markdown(table))
    say(markdown(table) + f"\n-> {command.out}/known_answers.csv")


@torch.no_grad()
def critic_knows(command: Command, row: Row, game: str) -> str:
    """Whether a run's joint critic ranks an optimal joint action first: yes, no, or nothing."""
    if game not in MATRIX_GAMES or MATRIX_GAMES[game].longest() > 1:
        return ""
    loss: Any = load_agent(command.runs / row["run_dir"]).agent.loss
    if not isinstance(getattr(loss, "qvalue_network", None), FactorizedCritic):
        return ""
    matrix = MATRIX_GAMES[game]
    values = joint_values(loss, matrix)
    paid = float(matrix.rewards[0].flatten()[values.argmax()])
    return "yes" if paid >= matrix.optimum() - CLOSE else "no"


@torch.no_grad()
def joint_values(loss: Any, matrix: MatrixGame) -> Tensor:
    """What FOP's critics think of the joint actions of a one-step game, the smaller, ``[A^N]``."""
    numbers = torch.arange(matrix.num_actions)
    joint = torch.cartesian_prod(*[numbers] * matrix.num_agents)
    seen = torch.ones(len(joint), matrix.num_agents, 1)
    legal = torch.ones(len(joint), matrix.num_agents, matrix.num_actions, dtype=torch.bool)
    critic = loss.qvalue_network
    with loss.network("qvalue").filled():
        values = critic.individual(seen)
        soft = loss.soft_values(values, legal)
        found: Tensor = critic.joint(values, soft, seen[:, 0], joint).amin(-1)
    return found


def plays(
    command: Command, row: Row, known: Mapping[str, str], actions: Any
) -> list[dict[str, Any]]:
    """What a run's policy gets by where z comes from."""
    modes = (*COMMON, *APART)
    found = plays_of(command, row, modes, {**known, "actions": actions}, actions)
    return [{**one, "best_response_value": one.get("best_response_value", "")} for one in found]


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """A row per game and algorithm: how many seeds found the answer, and what they get."""
    head = ["game", "best", "algorithm", "found", "episodes", "common z", "a z each", "drawn"]
    head += ["critic knows"]
    lines: list[list[str]] = []
    for game in dict.fromkeys(row["game"] for row in table):
        column, _ = answer_of(game)
        best = MATRIX_GAMES[game].optimum() if game in MATRIX_GAMES else GUARD["common"]
        of_game = [row for row in table if row["game"] == game]
        for name in dict.fromkeys(row["algorithm"] for row in of_game):
            own = [row for row in of_game if row["algorithm"] == name]
            first = {row["seed"]: row["found_at"] for row in own}
            since = [int(frames) for frames in first.values() if frames != ""]
            steps = MATRIX_GAMES[game].longest() if game in MATRIX_GAMES else 1
            wanted = ((COMMON, "mean"), (APART, "mean"), (COMMON, "drawn"))
            cells = [
                cell(
                    [
                        float(row[column])
                        for row in own
                        if row["latent"] in latents and row["actions"] == actions
                    ],
                    2,
                )
                for latents, actions in wanted
            ]
            episodes = str(max(since) // steps) if since else "-"
            said = [game, f"{best:g}", name, f"{len(since)} of {len(first)}", episodes]
            critics = list({row["seed"]: row["critic_knows"] for row in own}.values())
            knowing = f"{critics.count('yes')} of {len(critics)}" if any(critics) else "-"
            lines.append([*said, *cells, knowing])
    return markdown_table(head, lines)


main = program(make, KnownAnswers, __doc__, __name__)
"""Make the table."""
