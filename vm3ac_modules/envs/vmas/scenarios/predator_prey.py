"""Predator-prey of Kim et al. (2023), arXiv:2303.00451, as a VMAS scenario.

The paper gives the rules; what it leaves open (map, radii, step, growth of the reward, start
points) follows the authors' public predator-prey code. Distances are in units of the square's side.
"""

from __future__ import annotations

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

__all__ = ["PredatorPrey"]

# Sizes and time limits of Kim et al. (2023), arXiv:2303.00451. Read without importing this file.
TASKS = {
    "predator_prey_2": {"max_steps": 100, "num_agents": 2, "num_preys": 16, "captures_needed": 1},
    "predator_prey_3": {"max_steps": 100, "num_agents": 3, "num_preys": 16, "captures_needed": 1},
    "predator_prey_4": {"max_steps": 100, "num_agents": 4, "num_preys": 16, "captures_needed": 2},
}


NUM_PREYS = 16
HALF_WIDTH = 0.5
SPACING = 0.8 / 3
LATTICE = (-0.4, -0.4 + SPACING, 0.4 - SPACING, 0.4)
PREDATOR_RADIUS = 0.1
CAPTURE_RADIUS = 0.125
START_CLEARANCE = 0.15
CAPTURE_REWARD = 10.0
LEVEL_SCALE = 4.0
DISPERSION_STEP = 5
START_CANDIDATES = 256
"""Per start: 7% of the square are far enough from every prey, so of 10^8 starts one has no such
candidate, and takes the farthest."""
GROWTHS = ("linear", "double", "none")
STARTS = ("auto", "independent", "shared", "center")


class PredatorPrey(JointScenario):
    """N predators catch 16 still preys on a square lattice; a caught wave respawns, worth more.

    A prey is caught when at least ``captures_needed`` predators are within 0.125 of it. Every
    predator is then paid ``10 * level`` for each prey caught. When no prey is left, all respawn in
    place and the level grows; they can be caught from the next step on. Motion is kinematic:
    ``p <- clip(p + 0.05 u, -0.5, 0.5)`` for ``u`` in ``[-1, 1]^2``. The task never terminates.

    The options are given to :class:`~vm3ac_modules.envs.VMASEnv` or ``make_env``:

    * ``num_agents`` (2) and ``captures_needed`` (1);
    * ``num_preys``: 16, the only lattice there is;
    * ``growth``: ``"linear"`` adds ``growth_increment`` (1) to the level per wave, ``"double"``
      doubles it, ``"none"`` keeps it;
    * ``start``: ``"independent"`` and ``"shared"`` draw points farther than 0.15 from every prey,
      ``"center"`` puts all predators at the origin; ``"auto"`` is shared if one predator catches a
      prey alone, else independent, as in the authors' public predator-prey code.

    Shapes: the observation of an agent is ``[B, 2N + 49]`` (own position, relative positions of the
    other predators, of the preys (zero if caught), alive mask, level / 4); the state is
    ``[B, 2N + 17]`` (absolute positions, alive mask, level / 4). Metrics, ``[B, 1]`` each:
    ``captures``, ``waves`` and ``distance_after_5``, the mean distance between two predators after
    five steps (zero before). For pictures: ``positions`` ``[B, N, 2]``, ``preys`` ``[16, 2]`` in
    row-major order, ``alive`` ``[B, 16]`` bool. Source: Kim et al. (2023), arXiv:2303.00451.

    Example:
        >>> from vm3ac_modules.envs import PredatorPrey, VMASEnv
        >>> env = VMASEnv(PredatorPrey(), num_envs=4, num_agents=3)
        >>> env.reset()["agents", "observation"].shape
        torch.Size([4, 3, 55])
    """

    # no velocities: the motion has no inertia
    row_state = ("positions", "alive", "level", "captures", "waves", "steps", "dispersion")

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> DiscWorld:
        """Build the world; see the class for the options."""
        self._read_options(kwargs)
        self.start_stream(device)
        axis = torch.tensor(LATTICE)
        self.preys = torch.cartesian_prod(axis, axis).to(device)
        self._pairs = torch.triu_indices(self.num_agents, self.num_agents, 1, device=device)
        # A drag of 1 erases the velocity each step, so that the motion is kinematic; the multiplier
        # times dt^2 is the step of 0.05.
        world = DiscWorld(batch_dim, device, dt=0.1, drag=1.0, half_width=HALF_WIDTH)
        predators = [(PREDATOR_RADIUS, 1.0)] * self.num_agents
        world.add_discs(predators, collide=False, u_multiplier=5.0)
        self.alive = torch.ones(batch_dim, NUM_PREYS, dtype=torch.bool, device=device)
        ones = torch.ones(batch_dim, device=device)
        self.level, self.captures, self.waves, self.steps = ones, 0 * ones, 0 * ones, 0 * ones
        self.dispersion, self._team_reward = 0 * ones, 0 * ones
        return world

    def _read_options(self, kwargs: dict[str, Any]) -> None:
        self.num_agents: int = kwargs.pop("num_agents", 2)
        self.captures_needed: int = kwargs.pop("captures_needed", 1)
        self.growth: str = kwargs.pop("growth", "linear")
        increment = kwargs.pop("growth_increment", None)
        num_preys = kwargs.pop("num_preys", NUM_PREYS)
        start: str = kwargs.pop("start", "auto")
        n, c = self.num_agents, self.captures_needed
        check_options(
            "predator-prey",
            kwargs,
            (n >= 1, f"num_agents must be at least 1, got {n}"),
            (1 <= c <= n, f"captures_needed must be in 1..num_agents={n}, got {c}"),
            (num_preys == NUM_PREYS, f"num_preys must be 16 (4 x 4 lattice), got {num_preys}"),
            (self.growth in GROWTHS, f"growth must be one of {GROWTHS}, got {self.growth!r}"),
            (start in STARTS, f"start must be one of {STARTS}, got {start!r}"),
            (increment is None or self.growth == "linear", "growth_increment needs linear growth"),
        )
        self.growth_increment = 1.0 if increment is None else float(increment)
        auto = "shared" if self.captures_needed == 1 else "independent"
        self.start = auto if start == "auto" else start

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Start an episode in all rows, or in one."""
        rows, count = self.rows_at(env_index)
        self.alive[rows] = True
        self.level[rows] = 1.0
        for name in ("captures", "waves", "steps", "dispersion", "_team_reward"):
            getattr(self, name)[rows] = 0.0
        self.place(self._draw_starts(count, env_index), env_index)

    def _draw_starts(self, rows: int, env_index: int | None) -> Tensor:
        """Start points, ``[rows, N, 2]``."""
        shape = (rows, self.num_agents, 2)
        if self.start == "center":
            return torch.zeros(shape, device=self.preys.device)
        drawn = 1 if self.start == "shared" else self.num_agents
        points = self.uniform((rows, drawn, START_CANDIDATES, 2), HALF_WIDTH, env_index)
        # The lattice is a product of two axes, so the nearest prey is nearest along each of them.
        nearest = ((points - LATTICE[0]) / SPACING).round().clamp(0, len(LATTICE) - 1)
        clearance = (points - LATTICE[0] - nearest * SPACING).norm(dim=-1)
        # The first that is far enough or, should none be, the farthest.
        best = clearance.clamp_max(START_CLEARANCE).argmax(-1)
        chosen = best[..., None, None].expand(-1, -1, 1, 2)
        return points.gather(2, chosen).squeeze(2).expand(shape)

    def post_step(self) -> None:
        """Count captures, pay them and respawn an empty wave: all changes of a step, once."""
        positions = self.positions
        near = distances(positions, self.preys) <= CAPTURE_RADIUS
        caught = self.alive & (near.sum(1) >= self.captures_needed)
        count = caught.sum(-1).to(self.level.dtype)
        # The last prey of a wave is paid at the level of its wave.
        self._team_reward = CAPTURE_REWARD * self.level * count
        left = self.alive & ~caught
        cleared = ~left.any(-1)
        self.alive = left | cleared.unsqueeze(-1)
        self.level = torch.where(cleared, self._next_level(), self.level)
        self.captures = self.captures + count
        self.waves = self.waves + cleared
        self.steps = self.steps + 1
        if self.num_agents > 1:
            first, second = self._pairs
            distance = (positions[:, first] - positions[:, second]).norm(dim=-1).mean(-1)
            self.dispersion = self.dispersion.where(self.steps != DISPERSION_STEP, distance)

    def _next_level(self) -> Tensor:
        if self.growth == "linear":
            return self.level + self.growth_increment
        return self.level * 2.0 if self.growth == "double" else self.level

    def rewards(self) -> Tensor:
        """The team reward of the last step, for every predator, ``[B, N]``."""
        return self._team_reward.unsqueeze(-1).expand(-1, self.num_agents)

    def observations(self) -> Tensor:
        """What every predator sees: the state, relative to itself, ``[B, N, 2N + 49]``."""
        positions = self.positions
        own = positions.unsqueeze(2)
        preys = (self.preys - own) * self.alive[:, None, :, None]
        wave = self._wave().unsqueeze(1).expand(-1, self.num_agents, -1)
        relative = ((others(positions) - own).flatten(2), preys.flatten(2))
        return torch.cat([positions, *relative, wave], dim=-1)

    def state(self) -> Tensor:
        """The state for a centralized critic, ``[B, 2N + 17]``."""
        return torch.cat([self.positions.flatten(1), self._wave()], dim=-1)

    def _wave(self) -> Tensor:
        """Alive mask and scaled level, ``[B, 17]``."""
        level = self.level.unsqueeze(-1) / LEVEL_SCALE
        return torch.cat([self.alive.to(level.dtype), level], dim=-1)

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the running episode, ``[B]`` each."""
        return {
            "captures": self.captures,
            "waves": self.waves,
            "distance_after_5": self.dispersion,
        }
