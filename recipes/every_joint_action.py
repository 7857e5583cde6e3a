"""FOP where nothing is left to explore: do its policies follow its critic of joint actions?

    python recipes/every_joint_action.py [games=climbing,non_monotonic] [temperature=0.5] [seeds=5]

Every update sees every joint action of a matrix game equally often, so that exploration, replay and
luck of draws explain nothing. The other options are those of ``vm3ac battle backend=games
algorithm=fop``. A line per game and seed: the largest error of the joint critic (in reward), what
the joint action pays that it ranks first, and what the policies' likeliest actions pay.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from vm3ac_modules.algorithms import build, find_preset
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.cli.arguments import fail, run, say
from vm3ac_modules.cli.reproduce._results import markdown_table
from vm3ac_modules.cli.reproduce.known_answers import joint_values
from vm3ac_modules.envs.matrix import MATRIX_GAMES, MatrixGame, MatrixGameEnv
from vm3ac_modules.files import write_text
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.options import Options, option

ONE_STEP = tuple(name for name, game in MATRIX_GAMES.items() if game.longest() == 1)
COLUMNS = ("seed", "best", "largest_error", "critic_pays", "policies_pay")
COPIES = 4  # of every joint action in a batch


@dataclass(frozen=True, kw_only=True)
class EveryJointAction(Options):
    """Options of this program."""

    games: str = option("climbing,penalty,non_monotonic", "matrix games of one step")
    temperature: float = option(0.5, "constant temperature, in scaled reward per nat", above=0)
    floor: float = option(0.9, "share of uniformly random actions in the policies", least=0, most=1)
    updates: int = option(500, "updates of every run", least=1)
    seeds: int = option(5, "seeds 0, 1, ...", least=1)
    out: str = option("", "directory of every_joint_action.md; empty: nothing is written")


def every_joint_action(matrix: MatrixGame) -> TensorDict:
    """A batch that holds every joint action of a one-step game equally often, ``[B, 2]``."""
    numbers = torch.arange(matrix.num_actions)
    joint = torch.cartesian_prod(*[numbers] * matrix.num_agents).repeat(COPIES, 1)
    rows, agents = joint.shape
    observation, reward = torch.zeros(2, rows, 2, agents, 1).unbind()
    observation[:, 0], reward[:, 0] = 1.0, matrix.rewards[(0, *joint.unbind(-1))][:, None, None]
    entries = {
        "observation": observation,
        "action": torch.stack((joint, torch.zeros_like(joint)), 1),
        "reward": reward,
        "action_mask": torch.ones(rows, 2, agents, matrix.num_actions, dtype=torch.bool),
    }
    first = torch.tensor([True, False]).expand(rows, 2).unsqueeze(-1)
    flags = {"terminated": first, "mask": first, "state": first.float()}
    return TensorDict({"agents": entries, **flags}, [rows, 2])


def play(cfg: EveryJointAction, game: str, seed: int) -> dict[str, Any]:
    """Train one seed, and compare its critic and its policies with the game."""
    matrix, preset = MATRIX_GAMES[game], find_preset("fop", "discrete").options
    options = tuned("fop", f"battle/games/sparse/{game}", preset.names())
    options |= {"temperature_start": cfg.temperature}
    seed_everything(seed)
    agent = build("fop", MatrixGameEnv(game), **options)
    loss: Any = agent.loss
    loss.actor_network_params.get("epsilon").fill_(cfg.floor)
    batch = every_joint_action(matrix)
    for _ in range(cfg.updates):
        agent.update(batch, 10.0)
    values = joint_values(loss, matrix) / options["reward_scale"]
    with torch.no_grad():
        likeliest = loss.policies(loss.read(batch))[0, 0].argmax(-1)
    paid = matrix.rewards[0].flatten()
    return {
        "game": game,
        "seed": seed,
        "best": matrix.optimum(),
        "largest_error": round(float((values - paid).abs().max()), 2),
        "critic_pays": float(paid[values.argmax()]),
        "policies_pay": float(matrix.rewards[(0, *likeliest)]),
    }


def compute(cfg: EveryJointAction) -> list[dict[str, Any]]:
    """A row per game and seed."""
    games = cfg.games.split(",")
    if other := [name for name in games if name not in ONE_STEP]:
        fail(f"{other[0]} is no matrix game of one step; valid: {', '.join(ONE_STEP)}.")
    torch.set_num_threads(1)
    rows = [play(cfg, game, seed) for game in games for seed in range(cfg.seeds)]
    lines = [[row["game"], *(f"{row[key]:g}" for key in COLUMNS)] for row in rows]
    text = markdown_table(["game", *COLUMNS], lines)
    say(text)
    if cfg.out:
        write_text(Path(cfg.out) / "every_joint_action.md", text)
    return rows


def main(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Run the program."""
    return run(compute, "every_joint_action.py", __doc__, EveryJointAction, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
