"""Cooperative treasure collection of Kim et al. (2023), arXiv:2303.00451, as a VMAS scenario.

The paper gives the roles and the rewards. What it leaves open (radii, masses, speeds, where
treasures appear) follows the task's source: Iqbal & Sha, "Actor-Attention-Critic for Multi-Agent
Reinforcement Learning" (2019), arXiv:1810.02912, and its public code. The walls are ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from vm3ac_modules.envs.vmas.scenarios._common import (
    DiscWorld,
    JointScenario,
    check_options,
    distances,
    others,
)

__all__ = ["TreasureCollection"]

# Sizes of Kim et al. (2023), arXiv:2303.00451. Read without importing this file.
TASKS = {
    "treasure_collection_4": {"max_steps": 100, "num_agents": 4},
    "treasure_collection_5": {"max_steps": 100, "num_agents": 5},
}


NUM_BANKS = 2
NUM_TREASURES = 6
HALF_WIDTH = 1.0
TREASURE_HALF_WIDTH = 0.95
HUNTER_RADIUS, HUNTER_MASS = 0.05, 1.0
BANK_RADIUS, BANK_MASS = 0.075, 2.25
TREASURE_RADIUS = 0.025
DEPOSIT_DISTANCE = HUNTER_RADIUS + BANK_RADIUS
COLLECT_DISTANCE = HUNTER_RADIUS + TREASURE_RADIUS
NOTHING = -1
AMOUNTS = ("deposit_reward", "collect_reward", "collision_penalty", "shaping")
SWITCHES = ("share_collect", "collide_with_banks")


def _colors(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(NUM_BANKS, shape, generator=generator, device=generator.device)


class TreasureCollection(JointScenario):
    """Hunters take colored treasures to the bank of their color; two banks come to meet them.

    Agents ``0 .. H - 1`` are the hunters, ``H = N - 2``; agent ``H`` is the bank of color 0 and
    agent ``H + 1`` that of color 1. There are always six treasures. A step moves the agents; then,
    judged on what each hunter held before:

    1. a holder within 0.125 of its treasure's bank deposits it;
    2. a hunter with free hands takes the treasure nearest to it, if within 0.075; of several
       hunters on one treasure the first takes it, the others nothing;
    3. a treasure that was taken reappears anywhere in ``[-0.95, 0.95]^2``, in any color;
    4. a hunter within 0.1 of another hunter collides.

    Motion has inertia, agents bounce off each other, and ``[-1, 1]^2`` is walled by clipping. The
    task never terminates. The options are given to :class:`~vm3ac_modules.envs.VMASEnv`:

    * ``num_agents`` (4): the hunters and two banks;
    * ``deposit_reward`` (5): R1, paid to all agents for each deposit;
    * ``collect_reward`` (5): R2, paid to all hunters for each treasure taken, or with
      ``share_collect=False`` to the one who took it;
    * ``collision_penalty`` (5): R3, paid by each hunter that collides, once per step however many
      it touches; banks never pay. With ``collide_with_banks=True`` touching a bank (0.125) is a
      collision too, so that every deposit costs its hunter one;
    * ``shaping`` (0): subtracts from each hunter's reward ``shaping`` times the distance, where the
      step ends, to its treasure's bank, or with free hands to the nearest treasure. The source uses
      0.1, and shapes the banks as well, which this does not.

    Shapes: the observation of an agent is ``[B, 8N + 24]``: own position, velocity and code;
    relative position, velocity and code of each other agent, in order; relative positions of the
    treasures; their colors, one-hot. A code is four numbers: the color of a bank and the color held
    by a hunter, one-hot or zero. The state is ``[B, 8N + 24]`` with absolute positions. Metrics of
    the running episode, ``[B, 1]`` each: ``collected``, ``deposited``, ``hunter_collisions``
    (penalties: one per hunter and step) and ``deposits_hunter_0`` and so on. For pictures:
    ``positions`` ``[B, N, 2]``, ``treasures`` ``[B, 6, 2]``, ``colors`` ``[B, 6]`` of 0 and 1,
    ``hold`` ``[B, H]``, -1 for nothing. Source: Kim et al. (2023), arXiv:2303.00451.

    Example:
        >>> from vm3ac_modules.envs import TreasureCollection, VMASEnv
        >>> env = VMASEnv(TreasureCollection(), num_envs=3, num_agents=5)
        >>> env.reset()["agents", "observation"].shape
        torch.Size([3, 5, 64])
    """

    row_state = (
        *JointScenario.row_state,
        *("treasures", "colors", "hold", "collected", "deposits", "hunter_collisions"),
    )

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> DiscWorld:
        """Build the world; see the class for the options."""
        self._read_options(kwargs)
        self.start_stream(device)
        world = DiscWorld(batch_dim, device, dt=0.1, drag=0.25, half_width=HALF_WIDTH)
        hunters = [(HUNTER_RADIUS, HUNTER_MASS)] * self.num_hunters
        banks = [(BANK_RADIUS, BANK_MASS)] * NUM_BANKS
        world.add_discs(hunters + banks, collide=True, u_multiplier=1.5, max_speed=1.0)
        self._make_tensors(batch_dim, device)
        return world

    def _make_tensors(self, rows: int, device: torch.device) -> None:
        hunters = self.num_hunters
        self._bank_colors = torch.arange(NUM_BANKS, device=device)
        bank = torch.arange(self.num_agents, device=device) - hunters
        self._bank_codes = self._one_hot(bank).expand(rows, -1, -1)
        self._distinct = ~torch.eye(hunters, dtype=torch.bool, device=device)
        self.treasures = torch.zeros(rows, NUM_TREASURES, 2, device=device)
        self.colors = torch.zeros(rows, NUM_TREASURES, dtype=torch.int64, device=device)
        self.hold = torch.full((rows, hunters), NOTHING, device=device)
        self.deposits = torch.zeros(rows, hunters, device=device)
        self.collected = torch.zeros(rows, device=device)
        self.hunter_collisions = torch.zeros(rows, device=device)
        self._rewards = torch.zeros(rows, self.num_agents, device=device)

    def _read_options(self, kwargs: dict[str, Any]) -> None:
        self.num_agents: int = kwargs.pop("num_agents", 4)
        self.deposit_reward = float(kwargs.pop("deposit_reward", 5.0))
        self.collect_reward = float(kwargs.pop("collect_reward", 5.0))
        self.collision_penalty = float(kwargs.pop("collision_penalty", 5.0))
        self.shaping = float(kwargs.pop("shaping", 0.0))
        self.share_collect: bool = kwargs.pop("share_collect", True)
        self.collide_with_banks: bool = kwargs.pop("collide_with_banks", False)
        n, values = self.num_agents, vars(self)
        check_options(
            "treasure collection",
            kwargs,
            (n > NUM_BANKS, f"num_agents must be at least 3, two of them banks, got {n}"),
            *((values[k] >= 0, f"{k} must not be negative, got {values[k]}") for k in AMOUNTS),
            *((values[k] in (0, 1), f"{k} is true or false, got {values[k]!r}") for k in SWITCHES),
        )
        self.num_hunters = n - NUM_BANKS

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Start an episode in all rows, or in one."""
        rows, count = self.rows_at(env_index)
        self.place(self.uniform((count, self.num_agents, 2), HALF_WIDTH, env_index), env_index)
        self.treasures[rows], self.colors[rows] = self._draw_treasures(count, env_index)
        self.hold[rows] = NOTHING
        for name in ("deposits", "collected", "hunter_collisions", "_rewards"):
            getattr(self, name)[rows] = 0.0

    def _draw_treasures(self, rows: int, env_index: int | None = None) -> tuple[Tensor, Tensor]:
        """Places ``[rows, 6, 2]`` and colors ``[rows, 6]``."""
        size = (rows, NUM_TREASURES)
        places = self.uniform((*size, 2), TREASURE_HALF_WIDTH, env_index)
        return places, self.draw(_colors, size, env_index)

    def post_step(self) -> None:
        """Deposit, collect, replace what was taken, collide: all changes of a step, once."""
        hunters, banks = self.positions.split((self.num_hunters, NUM_BANKS), dim=1)
        to_banks = distances(hunters, banks)
        deposited = (self.hold != NOTHING) & (self._to_own(to_banks) < DEPOSIT_DISTANCE)
        taken = self._choose(distances(hunters, self.treasures))
        collected = taken.any(-1)
        collided = self._collide(hunters, to_banks)
        self._hand_over(deposited, taken)
        self.deposits = self.deposits + deposited
        self.collected = self.collected + collected.sum(-1)
        self.hunter_collisions = self.hunter_collisions + collided.sum(-1)
        all_agents = self.deposit_reward * deposited.sum(-1, keepdim=True)
        shared = collected.sum(-1, keepdim=True) if self.share_collect else collected
        paid = all_agents + self.collect_reward * shared - self.collision_penalty * collided
        if self.shaping:
            nearest = distances(hunters, self.treasures).amin(-1)
            to_go = torch.where(self.hold == NOTHING, nearest, self._to_own(to_banks))
            paid = paid - self.shaping * to_go
        self._rewards = torch.cat([paid, all_agents.expand(-1, NUM_BANKS)], dim=-1)

    def _to_own(self, to_banks: Tensor) -> Tensor:
        """Distance to the bank of what each hunter holds, ``[B, H]``; any if it holds nothing."""
        return to_banks.gather(-1, self.hold.clamp_min(0).unsqueeze(-1)).squeeze(-1)

    def _choose(self, distance: Tensor) -> Tensor:
        """Which hunter takes which treasure, ``[B, H, 6]`` bool with one hunter per treasure."""
        nearest = distance.argmin(-1, keepdim=True)
        wanted = torch.zeros_like(distance, dtype=torch.bool).scatter(-1, nearest, True)
        wanted &= (distance < COLLECT_DISTANCE) & (self.hold == NOTHING).unsqueeze(-1)
        return wanted & (wanted.cumsum(1) == 1)

    def _hand_over(self, deposited: Tensor, taken: Tensor) -> None:
        """Change what is held, and put new treasures in the places of those taken."""
        color = (taken * self.colors.unsqueeze(1)).sum(-1)
        kept = self.hold.masked_fill(deposited, NOTHING)
        self.hold = torch.where(taken.any(-1), color, kept)
        # All are drawn, whatever was taken, so that a row's play does not move the others' stream.
        places, colors = self._draw_treasures(self.world.batch_dim)
        gone = taken.any(1)
        self.treasures = torch.where(gone.unsqueeze(-1), places, self.treasures)
        self.colors = torch.where(gone, colors, self.colors)

    def _collide(self, hunters: Tensor, to_banks: Tensor) -> Tensor:
        """Which hunter touches what it is to avoid, ``[B, H]`` bool."""
        touching = (distances(hunters, hunters) < 2 * HUNTER_RADIUS) & self._distinct
        collided = touching.any(-1)
        if self.collide_with_banks:
            collided |= (to_banks < DEPOSIT_DISTANCE).any(-1)
        return collided

    def rewards(self) -> Tensor:
        """The rewards of the last step, ``[B, N]``."""
        return self._rewards

    def observations(self) -> Tensor:
        """What every agent sees: the state, relative to itself, ``[B, N, 8N + 24]``."""
        agents = self._agents()
        own = agents[..., :2].unsqueeze(2)
        # relative positions, but velocities and codes as they are
        partners = others(agents) - pad(own, (0, agents.shape[-1] - 2))
        treasures = self.treasures.unsqueeze(1) - own
        colors = self._one_hot(self.colors).flatten(1).unsqueeze(1)
        parts = (agents, partners.flatten(2), treasures.flatten(2))
        return torch.cat([*parts, colors.expand(-1, self.num_agents, -1)], dim=-1)

    def state(self) -> Tensor:
        """The state for a centralized critic, ``[B, 8N + 24]``."""
        parts = (self._agents(), self.treasures, self._one_hot(self.colors))
        return torch.cat([part.flatten(1) for part in parts], dim=-1)

    def _agents(self) -> Tensor:
        """Position, velocity and code of all agents, ``[B, N, 8]``."""
        held = self._one_hot(pad(self.hold, (0, NUM_BANKS), value=NOTHING))
        return torch.cat([self.positions, self.velocities, self._bank_codes, held], dim=-1)

    def _one_hot(self, colors: Tensor) -> Tensor:
        """Colors as two numbers each, zeros where there is none.

        Not ``torch``'s function, which looks at the values and so waits for the device.
        """
        return (colors.unsqueeze(-1) == self._bank_colors).float()

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the running episode, ``[B]`` each."""
        per_hunter = {f"deposits_hunter_{i}": x for i, x in enumerate(self.deposits.unbind(-1))}
        return {
            "collected": self.collected,
            "deposited": self.deposits.sum(-1),
            "hunter_collisions": self.hunter_collisions,
            **per_hunter,
        }
