"""What the StarCraft-like environments share: entries, the sparse reward, legal actions.

Shapes: ``B`` rows, ``N`` agents, ``M`` enemies, ``A`` actions, ``O`` observation, ``S`` state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

METRICS = ("battle_won", "dead_allies", "dead_enemies")
ENDS = ("done", "terminated", "truncated")
REWARDS = ("sparse", "shaped")


@dataclass(frozen=True)
class SparseReward:
    """Constants of the sparse reward; penalties are positive numbers that are taken away.

    Args:
        enemy_death: for each enemy that died in this step.
        ally_death: taken away for each ally that died in this step.
        step_cost: taken away in every step.
        win: in the step that wins the battle.
    """

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
    """Sizes of the entries of a battle.

    Args:
        num_agents: ``N``.
        num_actions: ``A``.
        observation_size: ``O``.
        state_size: ``S``.
    """

    num_agents: int
    num_actions: int
    observation_size: int
    state_size: int


def set_specs(env: EnvBase, sizes: Sizes) -> None:
    """Give an environment the specs of a battle.

    Args:
        env: its batch size and device are used.
        sizes: sizes of the entries.
    """
    batch, device = env.batch_size, env.device
    group = (*batch, sizes.num_agents)
    names: dict[str, Any] = {"shape": batch, "device": device}

    def agents(**specs: Any) -> Composite:
        return Composite(agents=Composite(**specs, shape=group, device=device), **names)

    def flag(*shape: int) -> Categorical:
        return Categorical(2, shape=shape, dtype=torch.bool, device=device)

    env.action_spec = agents(action=Categorical(sizes.num_actions, shape=group, device=device))
    env.reward_spec = agents(reward=Unbounded((*group, 1), device=device))
    seen = agents(
        observation=Unbounded((*group, sizes.observation_size), device=device),
        action_mask=flag(*group, sizes.num_actions),
        alive=flag(*group),
    )
    seen["state"] = Unbounded((*batch, sizes.state_size), device=device)
    metric = Unbounded((*batch, 1), device=device)
    seen["info"] = Composite({name: metric.clone() for name in METRICS}, **names)
    env.observation_spec = seen
    ends = {name: flag(*batch, 1) for name in ENDS}
    env.done_spec = Composite(ends, **names)


def random_legal(mask: Tensor) -> Tensor:
    """Legal actions, drawn uniformly from torch's default generator.

    Args:
        mask: which actions are legal, bool ``[*B, N, A]``.

    Returns:
        Actions, int64 ``[*B, N]``.
    """
    # The legal ones score in [1, 2), the others in [0, 1).
    return (mask + torch.rand(mask.shape, device=mask.device)).argmax(-1)


def check_legal(action: Tensor, mask: Tensor, owner: str) -> None:
    """Check that every action is legal.

    Args:
        action: actions, int64 ``[*B, N]``.
        mask: which actions are legal, bool ``[*B, N, A]``.
        owner: name of the environment, for the message.

    Raises:
        ValueError: names the row, the agent, its action and the legal ones.
    """
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


def paid_by(reward: str, constants: Mapping[str, float], owner: str) -> SparseReward | None:
    """What pays for a step; None: the game itself.

    Args:
        reward: ``"sparse"`` or ``"shaped"``.
        constants: those of :class:`SparseReward` that are not its defaults.
        owner: name of the environment, for messages.

    Raises:
        ValueError: an unknown reward or constant, or constants with ``"shaped"``, which has none.
    """
    if reward not in REWARDS:
        raise ValueError(f"{owner}: reward must be 'sparse' or 'shaped', got {reward!r}")
    for name in constants:
        if name not in CONSTANTS:
            raise ValueError(f"{owner}: unknown option {name!r}; of rewards: {sorted(CONSTANTS)}")
        if reward != "sparse":
            raise ValueError(f"{owner}: {name} is a constant of reward='sparse', got {reward!r}")
    return SparseReward(**constants) if reward == "sparse" else None
