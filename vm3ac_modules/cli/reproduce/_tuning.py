"""One protocol for all algorithms of a comparison: what is the same for all, and what is chosen.

The same for all: updates, batch, rows, evaluations and starts. Algorithms without an entropy term
get one floor of exploration, since their policies' own noise dies away. Chosen for each algorithm
on each task, on seeds that are not reported and over a quarter of the updates: the learning rate,
whether agents share parameters (they see their index then, or they could not part from a common
start), and beta where BETAS has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from vm3ac_modules.algorithms import find_preset
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.cli.reproduce._cases import make_case
from vm3ac_modules.cli.reproduce._choosing import (
    EVALUATIONS,
    Choice,
    Own,
    Tried,
    late_mean,
    left_open,
    said,
    try_out,
)
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._results import Row
from vm3ac_modules.options import OptionsError

SHARE = 4
"""Updates of a reported run to one on which options are chosen."""
FLOOR = "0.1"
"""Gaussian noise of algorithms without entropy, half ranges: that of MADDPG's preset."""
GRID: tuple[tuple[Own, ...], ...] = (
    ({"lr": "3e-4"}, {"lr": "1e-3"}),
    (
        {"algorithm.share_params": "false"},
        {"algorithm.share_params": "true", "task.agent_index": "true"},
    ),
)
BETAS = {"predator_prey_4": ("0.2", "0.02")}
"""Table 2's, and the one at which sharing agents are known to learn."""


def protocol(command: Command, task: str, algorithm: str) -> Own:
    """Options that every algorithm of a comparison gets on a task, save those that are chosen."""
    own: Own = dict(tuned(algorithm, task, ["num_envs"]))
    if not hasattr(find_preset(algorithm, "continuous").options, "beta"):
        own["algorithm.exploration_noise"] = FLOOR
    return left_open(command, own)


def candidates(command: Command, task: str, algorithm: str) -> list[Own]:
    """What is chosen from; an option of the command line is taken as it is."""
    axes = list(GRID)
    if hasattr(find_preset(algorithm, "continuous").options, "beta") and task in BETAS:
        axes.append(tuple({"algorithm.beta": beta} for beta in BETAS[task]))
    axes = [axis for axis in axes if left_open(command, axis[0])]
    pairs = ([one for part in parts for one in part.items()] for parts in product(*axes))
    return [dict(found) for found in pairs]


def for_updates(command: Command, task: str, algorithm: str, own: Own, updates: int) -> Own:
    """The frames after which a run has made so many updates, and evaluations that go with them."""
    if "frames" in said(command):
        raise OptionsError("give updates or frames, not both.")
    training: Any = make_case(command, task, algorithm, own).settings.training
    rows, per_step = training.num_envs, training.updates_per_step
    steps = -(-updates // per_step)
    wanted, most = training.init_random_frames, rows * steps // 4
    if "init_random_frames" in command.given and wanted > most:
        raise OptionsError(
            f"init_random_frames is {most} at most beside so few updates: {updates}."
        )
    random = -(-min(wanted, most) // rows) * rows
    frames = rows * steps + random
    length: Own = {
        "frames": frames,
        "init_random_frames": random,
        "eval_every_frames": -(-frames // (EVALUATIONS * rows)) * rows,
        "checkpoint_every_frames": frames,
        "draw": "false",
    }
    return left_open(command, length)


def choose(command: Command, task: str, name: str, updates: int) -> Choice | None:
    """An algorithm's options for the reported runs, after training what they are chosen on.

    Args:
        command: the command line, which says with how many seeds they are chosen.
        task: the task.
        name: the algorithm.
        updates: updates of a reported run.

    Returns:
        What is chosen; None if a candidate was not trained.
    """
    same, cases = protocol(command, task, name), []
    for part in candidates(command, task, name):
        length = for_updates(command, task, name, same | part, max(1, updates // SHARE))
        own = same | part | length | left_open(command, {"information_rows": 0})
        cases.append((part, make_case(command, task, name, own)))
    found = try_out(command, cases, score)
    if found is None:
        return None
    best, tried = found
    own = same | best.own
    known = {"task": task, "algorithm": name}
    lines = [known | line_of(one, chosen=one is best) for one in tried]
    return Choice(own | for_updates(command, task, name, own, updates), lines)


def line_of(tried: Tried, *, chosen: bool) -> dict[str, Any]:
    """A row of tuning.csv."""
    return {
        "lr": tried.own.get("lr", ""),
        "share_params": tried.own.get("algorithm.share_params", ""),
        "beta": tried.own.get("algorithm.beta", ""),
        "return_mean": round(tried.score[0], 3),
        "seeds": " ".join(row["seed"] for row in tried.rows),
        "updates": tried.rows[0]["updates"],
        "chosen": chosen,
    }


def score(command: Command, rows: Sequence[Row]) -> tuple[float, ...]:
    """Mean return of the evaluations in the second half of a case's runs."""
    return (late_mean(command, rows, "return_mean", 1 / 2),)
