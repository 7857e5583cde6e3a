"""Figure 5: where four predators are five steps after they all started at the center.

    python recipes/reproduce/figure5.py --budget cpu [--stage early] [--actions mean] [key=value]

The paper shows predator-prey with N = 4, where two predators must meet to catch a prey: the agents'
positions after five steps "in the early stage of the training", VM3-AC above MA-SAC, a column per
seed, preys as black squares. It says that VM3-AC's agents move in groups of two while MA-SAC's
spread independently, and gives no number; how early is not said.

Here agents are trained with the task's normal starts and play --episodes rows from the center.
--stage early trains a tenth of the budget's frames (frames=... is taken as it is); --stage final
takes figure3.py's runs. Mean actions from one common start differ only through z, so MA-SAC's
episodes then coincide; with --actions sample they differ by each policy's noise. The first episode
is drawn filled.

It writes into --out:

    positions.csv   x and y of every agent, episode, seed and algorithm
    distances.csv   means over episodes of the distance of all pairs and to the nearest other agent:
                    groups of two have a small nearest distance at a large pairwise one
    figure5_<task>.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import BUDGETS, ERRORS, fail, make_parser, parse, positive
from results import write_rows
from runs import make_case, trained
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from vm3ac_modules.evaluation import positions_figure
from vm3ac_modules.evaluation.protocol import restart_episodes
from vm3ac_modules.learning import evaluation_seed, fork_rng
from vm3ac_modules.runs import load_agent

TASKS = ("predator_prey_4",)
ALGORITHMS = ("vm3ac", "ma_sac")
STEPS = 5
HALF_WIDTH = 0.5


def watch(run_dir: Path, episodes: int, actions: str) -> tuple[Tensor, Tensor]:
    """Positions after five steps from the center ``[E, N, 2]``, and of the preys ``[M, 2]``."""
    agent = load_agent(run_dir)
    seed = evaluation_seed(agent.config["seed"])
    env = agent.make_env(episodes, start="center", seed=seed)
    kind = ExplorationType.RANDOM if actions == "sample" else ExplorationType.DETERMINISTIC
    with fork_rng(seed), torch.no_grad(), set_exploration_type(kind):
        env.set_seed(seed, static_seed=True)
        restart_episodes(env)
        env.rollout(STEPS, agent.agent.policy, break_when_any_done=False)
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


def run(args: argparse.Namespace) -> None:
    """Train what is missing, play, write and draw."""
    if other := [task for task in args.tasks if not task.startswith("predator_prey_")]:
        raise ValueError(f"{other[0]} has no center to start from; figure 5 is of predator_prey_*.")
    knobs: dict[str, Any] = {}
    if args.stage == "early" and "frames" not in args.overrides:
        knobs["frames"] = int(BUDGETS[args.budget].knobs["frames"]) // 10
    pairs = [(task, algorithm) for task in args.tasks for algorithm in args.algorithms]
    cases = {pair: make_case(args, *pair, **knobs) for pair in pairs}
    rows = trained(args, cases.values())
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    places: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for task in args.tasks:
        panels: dict[str, dict[str, Tensor]] = {}
        for algorithm in args.algorithms:
            for row in rows[cases[task, algorithm]]:
                positions, preys = watch(args.runs / row["run_dir"], args.episodes, args.actions)
                known = {"task": task, "algorithm": algorithm, "seed": row["seed"]}
                known |= {"frames": row["frames"], "actions": args.actions}
                panels.setdefault(algorithm, {})[f"seed {row['seed']}"] = positions
                measured.append({**known, "episodes": args.episodes, **distances(positions)})
                places += table_of(known, positions)
        if panels:
            picture = args.out / f"figure5_{task}.png"
            positions_figure(picture, panels, preys, half_width=HALF_WIDTH)
            print(f"-> {picture}")
    write_rows(args.out / "positions.csv", places)
    write_rows(args.out / "distances.csv", measured)
    print(f"-> {args.out}/positions.csv, distances.csv")


def table_of(known: dict[str, Any], positions: Tensor) -> list[dict[str, Any]]:
    """A row per episode and agent."""
    return [
        {**known, "episode": episode, "agent": agent, "x": f"{x:.5f}", "y": f"{y:.5f}"}
        for episode, agents in enumerate(positions.tolist())
        for agent, (x, y) in enumerate(agents)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the figure."""
    parser = make_parser(__doc__ or "", "runs/reproduce/figure5", TASKS, ALGORITHMS)
    add = parser.add_argument
    add("--stage", choices=("early", "final"), default="early", help="of training (default early)")
    add("--actions", choices=("mean", "sample"), default="mean", help="played (default mean)")
    add("--episodes", type=positive, default=16, help="episodes (default 16)")
    try:
        run(parse(parser, arguments))
    except ERRORS as error:
        fail(str(error))


if __name__ == "__main__":
    main()
