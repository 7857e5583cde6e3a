"""Cooperative navigation of Kim et al. (2023), arXiv:2303.00451, as a VMAS scenario.

The paper gives the rewards. What it leaves open (radii, motion, when a landmark is occupied)
follows the task's source, ``simple_spread`` of the multi-agent particle environments: Lowe et al.,
"Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments" (2017), arXiv:1706.02275.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.envs.vmas.scenarios._common import (
    DiscWorld,
    JointScenario,
    check_options,
    distances,
    others,
)

__all__ = ["CooperativeNavigation"]

# Sizes and time limits of Kim et al. (2023), arXiv:2303.00451. Read without importing this file.
TASKS = {"cooperative_navigation_3": {"max_steps": 50, "num_agents": 3}}


HALF_WIDTH = 1.0
CANDIDATES = 64
# Drawn uniformly, at most this share of the layouts is too narrow: a bound by the union over the
# pairs of landmarks. All candidates of a row then fail with a probability of 1e-8.
MOST_TOO_NARROW = 0.75
COUNTS = ("steps", "occupied", "distance", "full_steps", "collisions")


class CooperativeNavigation(JointScenario):
    """N agents cover N landmarks without touching each other; who goes where is theirs to settle.

    With ``d[n, l]`` the distance of agent ``n`` to landmark ``l`` after the step, agent ``i`` is
    paid ``-sum_l min_n d[n, l]``; plus 1 if every landmark is occupied, i.e. has an agent within
    0.1; minus 10 if agent ``i`` overlaps another. The first two are the same for all agents. Motion
    has inertia, agents bounce off each other, and the plane has no walls. The task never
    terminates.

    The paper writes the sum of distances as a reward; it is subtracted here, since agents are to
    approach the landmarks. The options are given to :class:`~vm3ac_modules.envs.VMASEnv`:

    * ``num_agents`` (3): also the number of landmarks;
    * ``occupied_reward`` (1) and ``collision_penalty`` (10): R3 and R2;
    * ``per_pair`` (False): pay the penalty once for each agent touched, rather than once a step;
    * ``occupied_radius`` (0.1): how near occupies a landmark;
    * ``agent_radius`` (0.15): two agents closer than twice this overlap;
    * ``u_multiplier`` (5): force of a full action; the terminal speed is 0.4 of it per axis;
    * ``min_landmark_dist`` (0): smallest distance of two landmarks at the start, at most
      ``sqrt(6 / (pi N (N - 1)))`` (0.56 for three agents). From twice the agents' radius on, all
      landmarks can be occupied without a collision.

    Agents and landmarks start anywhere in ``[-1, 1]^2``, overlaps included. Shapes: the observation
    of an agent is ``[B, 4N + 2]`` (own position, own velocity, relative positions of the landmarks
    and of the other agents); the state is ``[B, 6N]`` (positions, velocities, landmarks). Metrics,
    ``[B, 1]`` each: of the last step, ``occupied`` (landmarks) and ``dist`` (the sum of the least
    distances); of the episode so far, ``all_occupied`` (share of the steps) and ``collisions``
    (overlapping pairs per step). All are zero before the first step. For pictures: ``positions``
    ``[B, N, 2]`` and ``landmarks`` ``[B, N, 2]``. Source: Kim et al. (2023), arXiv:2303.00451.

    Example:
        >>> from vm3ac_modules.envs import CooperativeNavigation, VMASEnv
        >>> env = VMASEnv(CooperativeNavigation(), num_envs=4)
        >>> env.reset()["agents", "observation"].shape
        torch.Size([4, 3, 14])
    """

    row_state = (*JointScenario.row_state, "landmarks", *COUNTS)

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> DiscWorld:
        """Build the world; see the class for the options."""
        self._read_options(kwargs)
        self.start_stream(device)
        n = self.num_agents
        world = DiscWorld(batch_dim, device, dt=0.1, drag=0.25)
        discs = [(self.agent_radius, 1.0)] * n
        world.add_discs(discs, collide=True, u_multiplier=self.u_multiplier)
        self._pairs = torch.triu_indices(n, n, 1, device=device)
        self._distinct = ~torch.eye(n, dtype=torch.bool, device=device)
        self.landmarks = torch.zeros(batch_dim, n, 2, device=device)
        self._rewards = torch.zeros(batch_dim, n, device=device)
        self.steps, self.occupied, self.distance, self.full_steps, self.collisions = (
            torch.zeros(batch_dim, device=device) for _ in COUNTS
        )
        return world

    def _read_options(self, kwargs: dict[str, Any]) -> None:
        self.num_agents: int = kwargs.pop("num_agents", 3)
        self.occupied_reward = float(kwargs.pop("occupied_reward", 1.0))
        self.collision_penalty = float(kwargs.pop("collision_penalty", 10.0))
        self.per_pair: bool = kwargs.pop("per_pair", False)
        self.occupied_radius = float(kwargs.pop("occupied_radius", 0.1))
        self.agent_radius = float(kwargs.pop("agent_radius", 0.15))
        self.u_multiplier = float(kwargs.pop("u_multiplier", 5.0))
        self.min_landmark_dist = float(kwargs.pop("min_landmark_dist", 0.0))
        n, spacing = self.num_agents, self.min_landmark_dist
        widest = math.sqrt(4 * MOST_TOO_NARROW / (math.pi * max(1, n * (n - 1) / 2)))
        values, positive = vars(self), ("occupied_radius", "agent_radius", "u_multiplier")
        check_options(
            "cooperative navigation",
            kwargs,
            (n >= 1, f"num_agents must be at least 1, got {n}"),
            (self.per_pair in (0, 1), f"per_pair is true or false, got {self.per_pair!r}"),
            *((values[k] > 0, f"{k} must be positive, got {values[k]}") for k in positive),
            *(
                (values[k] >= 0, f"{k} must not be negative, got {values[k]}")
                for k in ("occupied_reward", "collision_penalty")
            ),
            (
                0 <= spacing <= widest,
                f"min_landmark_dist must be in [0, {widest:.3f}] for {n} landmarks, got {spacing}",
            ),
        )

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Start an episode in all rows, or in one."""
        rows, count = self.rows_at(env_index)
        self.place(self.uniform((count, self.num_agents, 2), HALF_WIDTH, env_index), env_index)
        self.landmarks[rows] = self._draw_landmarks(count, env_index)
        for name in (*COUNTS, "_rewards"):
            getattr(self, name)[rows] = 0.0

    def _draw_landmarks(self, rows: int, env_index: int | None) -> Tensor:
        """Landmarks at least ``min_landmark_dist`` apart, ``[rows, N, 2]``."""
        n = self.num_agents
        if n == 1 or self.min_landmark_dist == 0:
            return self.uniform((rows, n, 2), HALF_WIDTH, env_index)
        layouts = self.uniform((rows, CANDIDATES, n, 2), HALF_WIDTH, env_index)
        first, second = self._pairs
        spacing = (layouts[:, :, first] - layouts[:, :, second]).norm(dim=-1).amin(-1)
        # The first layout that is wide enough or, should none be, the widest.
        best = spacing.clamp_max(self.min_landmark_dist).argmax(-1)
        return layouts[torch.arange(rows, device=best.device), best]

    def post_step(self) -> None:
        """Measure and pay: all changes of a step, once."""
        positions = self.positions
        nearest = distances(self.landmarks, positions).amin(-1)
        occupied = nearest < self.occupied_radius
        full = occupied.all(-1).to(nearest.dtype)
        touching = (distances(positions, positions) < 2 * self.agent_radius) & self._distinct
        penalties = touching.sum(-1) if self.per_pair else touching.any(-1)
        self.distance = nearest.sum(-1)
        shared = self.occupied_reward * full - self.distance
        self._rewards = shared.unsqueeze(-1) - self.collision_penalty * penalties
        self.occupied = occupied.sum(-1).to(nearest.dtype)
        self.full_steps = self.full_steps + full
        self.collisions = self.collisions + touching.sum((-2, -1)) / 2
        self.steps = self.steps + 1

    def rewards(self) -> Tensor:
        """The rewards of the last step, ``[B, N]``."""
        return self._rewards

    def observations(self) -> Tensor:
        """What every agent sees: all but the others' velocities, ``[B, N, 4N + 2]``."""
        positions = self.positions
        landmarks = self.landmarks.unsqueeze(1).expand(-1, self.num_agents, -1, -1)
        relative = torch.cat([landmarks, others(positions)], dim=2) - positions.unsqueeze(2)
        return torch.cat([positions, self.velocities, relative.flatten(2)], dim=-1)

    def state(self) -> Tensor:
        """The state for a centralized critic, ``[B, 6N]``."""
        return torch.cat([self.positions, self.velocities, self.landmarks], dim=1).flatten(1)

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the running episode, ``[B]`` each."""
        steps = self.steps.clamp_min(1.0)
        return {
            "occupied": self.occupied,
            "dist": self.distance,
            "all_occupied": self.full_steps / steps,
            "collisions": self.collisions / steps,
        }
