"""Figure 5: where four predators are five steps after they all started at the center.

    vm3ac reproduce figure5 budget=cpu [stage=early] [actions=mean] [key=value]

The paper shows predator-prey with N = 4, where two predators must meet to catch a prey: the agents'
positions after five steps "in the early stage of the training", VM3-AC above MA-SAC, a column per
seed, preys as black squares. It says that VM3-AC's agents move in groups of two while MA-SAC's
spread independently, and gives no number; how early is not said.

All episodes start at the center, those of the training too, as the paper says. stage=early trains
a tenth of the budget's frames (frames=... is taken as it is), stage=final all. Mean actions from
one common start differ only through z, so MA-SAC's episodes then coincide; with actions=sample they
differ by each policy's noise. The first episode is drawn filled.

It writes into out:

    positions.csv   x and y of every agent, episode, seed and algorithm
    distances.csv   means over episodes of the distance of all pairs and to the nearest other agent:
                    groups of two have a small nearest distance at a large pairwise one
    figure5_<task>.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.envs.utils import ExplorationType

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._cases import grid, make_case
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._trainings import trained_panels
from vm3ac_modules.evaluation.comparison import positions_figure
from vm3ac_modules.evaluation.protocol import fixed_starts
from vm3ac_modules.files import write_csv
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.options import option
from vm3ac_modules.runs.loading import load_agent

__all__ = ["main"]

TASKS = ("predator_prey_4",)
ALGORITHMS = ("vm3ac", "ma_sac")
STEPS = 5
HALF_WIDTH = 0.5


@dataclass(frozen=True, kw_only=True)
class Figure5(Comparison):
    """Options of this program."""

    tasks: str = ",".join(TASKS)
    algorithms: str = ",".join(ALGORITHMS)
    out: str = "runs/reproduce/figure5"
    stage: str = option("early", "of the training", choices=("early", "final"))
    actions: str = option("mean", "actions that are played", choices=("mean", "sample"))
    episodes: int = option(16, "episodes", least=1)


def watch(run_dir: Path, episodes: int, actions: str) -> tuple[Tensor, Tensor]:
    """Positions after five steps from the center ``[E, N, 2]``, and of the preys ``[M, 2]``."""
    found = load_agent(run_dir)
    seed = evaluation_seed(found.seed)
    env = found.make_env(episodes, seed=seed)
    kind = ExplorationType.RANDOM if actions == "sample" else ExplorationType.DETERMINISTIC
    with fixed_starts(env, seed, kind):
        env.rollout(STEPS, found.policy, break_when_any_done=False)
    positions = torch.stack([body.state.pos for body in env.base_env.agents], dim=1)
    return positions, env.base_env.scenario.preys


def distances(positions: Tensor) -> dict[str, float]:
    """Means over episodes and agents of ``[E, N, 2]``: of all pairs, and to the nearest other."""
    apart = torch.cdist(positions, positions)
    num_agents = positions.shape[1]
    others = ~torch.eye(num_agents, dtype=torch.bool)
    nearest = apart.masked_fill(~others, torch.inf).min(-1).values
    pairs = apart.sum((-2, -1)) / (num_agents * (num_agents - 1))
    found = {"pairwise_distance": pairs, "nearest_distance": nearest}
    return {name: round(float(values.mean()), 6) for name, values in found.items()}


def make(command: Command) -> None:
    """Train what is missing, play, write and draw."""
    if other := [task for task in command.tasks if not task.startswith("predator_prey_")]:
        raise ValueError(f"{other[0]} has no center to start from; figure 5 is of predator_prey_*.")
    chosen, own = command.options, dict[str, object]({"task.env.start": "center"})
    if chosen.stage == "early" and "frames" not in command.given:
        whole = make_case(command, command.tasks[0], command.algorithms[0]).settings.training.frames
        own["frames"] = whole // 10
    runs = trained_panels(command, grid(command, lambda task, name: own))
    torch.set_num_threads(1)
    command.out.mkdir(parents=True, exist_ok=True)
    places: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for task, by_name in runs.items():
        panels: dict[str, dict[str, Tensor]] = {}
        for algorithm, rows in by_name.items():
            for row in rows:
                run_dir = command.runs / row["run_dir"]
                positions, preys = watch(run_dir, chosen.episodes, chosen.actions)
                known = {"task": task, "algorithm": algorithm, "seed": row["seed"]}
                known |= {"frames": row["frames"], "actions": chosen.actions}
                panels.setdefault(algorithm, {})[f"seed {row['seed']}"] = positions
                measured.append({**known, "episodes": chosen.episodes, **distances(positions)})
                places += table_of(known, positions)
        picture = command.figure(f"figure5_{task}")
        positions_figure(picture, panels, preys, half_width=HALF_WIDTH)
        say(f"-> {picture[0]}")
    write_csv(command.out / "positions.csv", places)
    write_csv(command.out / "distances.csv", measured)
    say(f"-> {command.out}/positions.csv, distances.csv")


def table_of(known: dict[str, Any], positions: Tensor) -> list[dict[str, Any]]:
    """A row per episode and agent."""
    return [
        {**known, "episode": episode, "agent": agent, "x": f"{x:.5f}", "y": f"{y:.5f}"}
        for episode, agents in enumerate(positions.tolist())
        for agent, (x, y) in enumerate(agents)
    ]


main = program(make, Figure5, __doc__, __name__)
"""Make the figure."""
