"""What the StarCraft-like environments share: entries, the sparse reward, legal actions.

Shapes: ``B`` rows, ``N`` agents, ``M`` enemies, ``A`` actions, ``O`` observation, ``S`` state.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from numbers import Real
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._vector import set_specs
from vm3ac_modules.keys import Keys
from vm3ac_modules.options import check_taken

METRICS = ("battle_won", "dead_allies", "dead_enemies")
REWARDS = ("sparse", "shaped")


@dataclass(frozen=True)
class SparseReward:
    """Constants of the sparse reward; penalties are positive numbers that are taken away."""

    enemy_death: float = 10.0
    ally_death: float = 1.0
    step_cost: float = 0.1
    win: float = 200.0

    def __call__(self, enemies_died: Any, allies_died: Any, won: Any) -> Any:
        """The reward of a step, from numbers or arrays."""
        paid = self.enemy_death * enemies_died + self.win * won
        return paid - self.ally_death * allies_died - self.step_cost


CONSTANTS = frozenset(field.name for field in fields(SparseReward))
"""Names of the sparse reward's constants."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the entries of a battle: N, A, O and S."""

    num_agents: int
    num_actions: int
    observation_size: int
    state_size: int


class BattleEnv(EnvBase):
    """An environment of battles: its specs, and random actions that are legal."""

    _mask: Tensor
    """Which actions are legal now, on the CPU."""

    def _set_battle_specs(self, sizes: Sizes) -> None:
        group, device = (*self.batch_size, sizes.num_agents), self.device
        flag = partial(Categorical, 2, dtype=torch.bool, device=device)
        agents = {
            "observation": Unbounded((*group, sizes.observation_size), device=device),
            "action_mask": flag(shape=(*group, sizes.num_actions)),
            "alive": flag(shape=group),
        }
        action = Categorical(sizes.num_actions, shape=group, device=device)
        set_specs(
            self,
            sizes.num_agents,
            action=action,
            agents=agents,
            state_size=sizes.state_size,
            metrics=METRICS,
        )

    def rand_action(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        """Legal actions, drawn uniformly for each agent.

        Args:
            tensordict: where to write them; a new one by default.
        """
        self._check_started()
        if tensordict is None:
            tensordict = TensorDict(batch_size=self.batch_size, device=self.device)
        action = random_legal(self._mask).reshape(*self.batch_size, -1)
        return tensordict.set(Keys().action, action.to(self.device))

    @abstractmethod
    def _check_started(self) -> None:
        """Refuse actions before the first reset."""


def random_legal(mask: Tensor) -> Tensor:
    """Actions, int64 ``[*B, N]``, drawn uniformly from the legal ones, bool ``[*B, N, A]``."""
    # The legal ones score in [1, 2), the others in [0, 1).
    return (mask + torch.rand(mask.shape, device=mask.device)).argmax(-1)


def check_legal(action: Tensor, mask: Tensor, owner: str) -> None:
    """Refuse actions ``[*B, N]`` that the mask ``[*B, N, A]`` bars; names the first one."""
    last = mask.shape[-1] - 1
    inside = action.clamp(0, last)
    legal = mask.gather(-1, inside.unsqueeze(-1)).squeeze(-1) & (inside == action)
    if bool(legal.all()):
        return
    *row, agent = (~legal).nonzero()[0].tolist()
    place = f"row {row[0]}, agent {agent}" if row else f"agent {agent}"
    allowed = mask[(*row, agent)].nonzero().flatten().tolist()
    raise ValueError(
        f"{owner}: illegal action {int(action[(*row, agent)])} of {place}; legal now: {allowed}; "
        "draw from a distribution masked with ('agents', 'action_mask')"
    )


def paid_by(
    reward: str, constants: Mapping[str, float], owner: Callable[..., Any]
) -> SparseReward | None:
    """What pays for a step, by ``"sparse"`` or ``"shaped"``; None for the game itself.

    Refuses all but the constants of the sparse reward, each a finite number, in the owner's name.
    """
    who = owner.__name__
    if reward not in REWARDS:
        raise ValueError(f"{who}: reward must be 'sparse' or 'shaped', got {reward!r}")
    check_taken(owner, constants, who, also=CONSTANTS)
    for name, value in constants.items():
        if reward != "sparse":
            raise ValueError(f"{who}: {name} is a constant of reward='sparse', got {reward!r}")
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{who}: {name} must be a finite number, got {value!r}")
    return SparseReward(**constants) if reward == "sparse" else None
