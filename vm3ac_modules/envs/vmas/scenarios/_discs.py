"""Discs that push each other: VMAS's motion for all rows and agents at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.envs.vmas._load import load_vmas

load_vmas()  # before the next imports: names the missing extra and swallows gym's notice

from vmas.simulator.core import Agent, Sphere, World  # noqa: E402
from vmas.simulator.utils import TorchUtils  # noqa: E402

__all__ = ["DiscWorld"]

TOUCHING = 1e-6
"""Two discs at the same point do not push each other, as in VMAS."""


class DiscWorld(World):
    """A world whose only entities are agents: discs that do not turn.

    VMAS moves entity by entity and asks about every pair whether any row has a contact, so that a
    device is waited for. :meth:`push` does the same arithmetic on ``[B, N, 2]`` and asks nothing:
    forces of actions, contacts, drag, the greatest speed, walls. It knows nothing else of VMAS, and
    nothing else can be asked for. VMAS's own ``step`` still works and is what tests compare with.

    Args:
        batch_dim: rows, ``B``.
        device: device of the simulation.
        dt: length of a step.
        drag: share of the velocity that a step takes away.
        half_width: walls of a square around the origin; None for none.
    """

    def __init__(
        self,
        batch_dim: int,
        device: torch.device,
        *,
        dt: float = 0.1,
        drag: float = 0.25,
        half_width: float | None = None,
    ) -> None:
        walls = {"x_semidim": half_width, "y_semidim": half_width}
        super().__init__(batch_dim, device, dt=dt, drag=drag, **walls)
        self.half_width = half_width

    def add_discs(
        self,
        discs: Sequence[tuple[float, float]],
        *,
        collide: bool = True,
        u_multiplier: float = 1.0,
        max_speed: float | None = None,
    ) -> None:
        """Add the agents ``agent_0``, ``agent_1``, .., once.

        Args:
            discs: radius and mass of each.
            collide: whether discs that touch push each other.
            u_multiplier: force of a full action.
            max_speed: the greatest speed; None for any.
        """
        body: dict[str, Any] = {"collide": collide, "u_multiplier": u_multiplier}
        body |= {"max_speed": max_speed, "rotatable": False}
        for i, (radius, mass) in enumerate(discs):
            self.add_agent(Agent(f"agent_{i}", shape=Sphere(radius), mass=mass, **body))
        radii = torch.tensor([radius for radius, _ in discs], device=self.device)
        self._reach = radii.unsqueeze(-1) + radii
        self._mass = torch.tensor([mass for _, mass in discs], device=self.device).unsqueeze(-1)
        self._zero = torch.zeros((), device=self.device)

    def to(self, device: torch.device) -> None:
        """Move the world."""
        super().to(device)
        self._reach, self._mass = self._reach.to(device), self._mass.to(device)
        self._zero = self._zero.to(device)

    def push(self, action: Tensor) -> None:
        """Move all agents by one step.

        Args:
            action: ``[B, N, 2]`` in [-1, 1].
        """
        agents: list[Any] = self.agents
        first = agents[0]
        position = torch.stack([agent.state.pos for agent in agents], 1)
        velocity = torch.stack([agent.state.vel for agent in agents], 1) * (1 - self._drag)
        force = action * first.u_multiplier
        if first.collide:
            force = force + self._contacts(position).sum(2)
        velocity = velocity + force / self._mass * self._sub_dt
        if first.max_speed is not None:
            velocity = TorchUtils.clamp_with_norm(velocity, first.max_speed)
        position = position + velocity * self._sub_dt
        if self.half_width is not None:
            position = position.clamp(-self.half_width, self.half_width)
        for i, agent in enumerate(agents):
            agent.state.pos, agent.state.vel = position[:, i], velocity[:, i]

    def _contacts(self, position: Tensor) -> Tensor:
        """Force on every agent by every other one, ``[B, N, N, 2]``."""
        apart = position.unsqueeze(2) - position.unsqueeze(1)
        distance = torch.linalg.vector_norm(apart, dim=-1)
        margin = self._contact_margin
        depth = torch.logaddexp(self._zero, (self._reach - distance) / margin) * margin
        along = apart / torch.where(distance > 0, distance, 1e-8).unsqueeze(-1)
        touching = (distance >= TOUCHING) & (distance <= self._reach)
        force = self._collision_force * along * depth.unsqueeze(-1)
        return torch.where(touching.unsqueeze(-1), force, 0.0)
