"""What a run's last evaluation watches of its task, and the pictures made from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.evaluation.battles import battle_gif, unit_trace
from vm3ac_modules.evaluation.figures import learning_curve, rollout_gif
from vm3ac_modules.evaluation.protocol import EvaluationResult
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs._logs import SeedFiles
from vm3ac_modules.runs.record import read_csv_log

POINTS = ("preys", "treasures", "landmarks", "shelters")
"""Where a scenario keeps the points that its agents go to."""


def observer(task: Task, env: EnvBase) -> Callable[[EnvBase], Tensor] | None:
    """What is to be watched for a picture of an episode; None where the simulator shows nothing."""
    base: Any = innermost(env)
    if task.picture == "battle":
        return unit_trace if hasattr(base, "units") else None
    return positions if hasattr(base, "positions") or hasattr(base, "scenario") else None


def positions(env: EnvBase) -> Tensor:
    """Agents, then points that they go to, then whether each point is there, ``[E, N + 2M, 2]``.

    A flag fills both coordinates, so that one tensor says all.
    """
    base: Any = innermost(env)
    if hasattr(base, "positions"):
        found: Tensor = base.positions
        return found
    agents = torch.stack([agent.state.pos for agent in base.agents], dim=1)
    points = next((p for n in POINTS if (p := getattr(base.scenario, n, None)) is not None), None)
    if not isinstance(points, Tensor):
        return agents
    points = points.expand(agents.shape[0], -1, -1)
    there = getattr(base.scenario, "alive", torch.ones_like(points[..., 0])).to(points.dtype)
    return torch.cat((agents, points, there.unsqueeze(-1).expand_as(points)), dim=1)


def draw_all(
    run: RunBase, env: EnvBase, files: SeedFiles, result: EvaluationResult, baseline: float
) -> None:
    """Draw the learning curve and the first episode of the last evaluation."""
    task = run.task
    backend = f" ({task.about['backend'].upper()})" if "backend" in task.about else ""
    seed = files.settings.training.seed
    title = f"{run.agent.algorithm} on {task.title}{backend}, seed {seed}"
    rows = read_csv_log(files.run_dir / "eval.csv")
    learning_curve(files.run_dir / "curve.png", rows, baseline=baseline, title=title)
    if result.trace is None:
        return
    path, length = files.run_dir / "rollout.gif", int(result.lengths[0])
    if task.picture == "battle":
        battle_gif(path, result.trace[0, : length + 1], title=title)
    else:
        draw_rollout(path, env, result.trace[0, :length].cpu(), title)


def draw_rollout(path: Path, env: EnvBase, trace: Tensor, title: str) -> None:
    """Draw an episode ``[T, N + 2M, 2]`` that was watched with :func:`positions`."""
    base: Any = innermost(env)
    if hasattr(base, "positions"):
        # Seen from the side, a walk is long and flat: the window goes along with the first one.
        trace = trace - trace[:, :1]
        half_width = float(trace.abs().max()) * 1.2 + 0.5
        rollout_gif(path, trace, None, None, None, half_width=half_width, radius=0.4, title=title)
        return
    num_agents = len(base.agents)
    agents, rest = trace[:, :num_agents], trace[:, num_agents:]
    points = there = None
    if rest.shape[1]:
        points, flags = rest.chunk(2, dim=1)
        there = flags[..., 0] > 0.5
    walls = getattr(base.scenario.world, "x_semidim", None)
    half_width = float(walls) if walls else float(trace.abs().max()) * 1.1
    shape = base.agents[0].shape
    radius = float(getattr(shape, "radius", None) or shape.circumscribed_radius())
    rollout_gif(
        path, agents, points, there, None, half_width=half_width, radius=radius, title=title
    )
