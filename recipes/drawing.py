"""What an evaluation watches of an environment, and the picture made from it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.evaluation import EvaluationResult, rollout_gif

# Where a scenario keeps the points that its agents go to.
POINTS = ("preys", "treasures", "landmarks")


def can_draw(env: EnvBase) -> bool:
    """Whether the environment says where its agents are."""
    base = env.base_env
    return hasattr(base, "positions") or hasattr(base, "scenario")


def positions(env: EnvBase) -> Tensor:
    """Agents, then points that they go to, then whether each point is there, ``[E, N + 2M, 2]``.

    A flag fills both coordinates, so that one tensor says all.
    """
    base = env.base_env
    if hasattr(base, "positions"):
        return base.positions
    agents = torch.stack([agent.state.pos for agent in base.agents], dim=1)
    points = next((p for n in POINTS if (p := getattr(base.scenario, n, None)) is not None), None)
    if not isinstance(points, Tensor):
        return agents
    points = points.expand(agents.shape[0], -1, -1)
    there = getattr(base.scenario, "alive", torch.ones_like(points[..., 0])).to(points.dtype)
    return torch.cat((agents, points, there.unsqueeze(-1).expand_as(points)), dim=1)


def draw_rollout(path: Path, env: EnvBase, result: EvaluationResult, title: str) -> None:
    """Draw the first episode of an evaluation that was watched with :func:`positions`."""
    assert result.trace is not None
    trace, base = result.trace[0, : int(result.lengths[0])].cpu(), env.base_env
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
