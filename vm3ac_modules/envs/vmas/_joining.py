"""Entries of a group of agents: of what VMAS tells of each, or a scenario of all at once.

Shapes: ``B`` rows, ``N`` agents of the group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

__all__ = ["in_range", "join_alike", "join_unlike", "told"]


def join_alike(own: Mapping[str, list[Any]], batch: torch.Size) -> TensorDictBase:
    """A group of agents with entries of the same shapes, ``[B, N]``."""
    size = len(next(iter(own.values())))
    return TensorDict({key: _stack(values) for key, values in own.items()}, [*batch, size])


def join_unlike(own: Mapping[str, list[Any]], batch: torch.Size) -> TensorDictBase:
    """A group of agents with entries of several shapes, ``[B, N]``."""
    agents = [dict(zip(own, values, strict=True)) for values in zip(*own.values(), strict=True)]
    # Each as a group of one, so that flat entries get their last dimension.
    columns = [TensorDict(_stack([agent]), [*batch, 1]).squeeze(-1) for agent in agents]
    return TensorDict.maybe_dense_stack(columns, 1)


def _stack(values: list[Any]) -> Any:
    """What agents report, ``[B]`` or ``[B, ...]`` each, or mappings of such, as ``[B, N, ...]``."""
    if isinstance(values[0], Mapping):
        return {key: _stack([value[key] for value in values]) for key in values[0]}
    stacked = torch.stack(values, 1)
    return stacked if values[0].ndim > 1 else stacked.unsqueeze(-1)


def in_range(action: Tensor, names: Sequence[str]) -> Tensor:
    """Actions in [-1, 1], ``[B, N, 2]``.

    On a CPU, where a look costs nothing, one out of its range is an error; a device is not made to
    wait for a look, and there they are clamped. NaN goes through a clamp, and shows in the next
    observation.

    Raises:
        ValueError: with agent, row and action.
    """
    action = action.detach()
    if action.device.type != "cpu":
        return action.clamp(-1.0, 1.0)
    right = (action.abs() <= 1.0).all(-1)
    if not right.all():
        row, agent = (~right).nonzero()[0].tolist()
        raise ValueError(
            f"the action of {names[agent]} in row {row} is {action[row, agent].tolist()}, out of "
            "its range [-1, 1]."
        )
    return action


def told(scenario: Any, rewards: bool) -> TensorDictBase:
    """What a ``JointScenario`` tells of its agents, ``[B, N]``; without rewards at a reset.

    Copies, since a reset of one row writes into what the scenario keeps.
    """
    own: dict[str, Any] = {"observation": scenario.observations().clone()}
    shape = own["observation"].shape[:2]
    if rewards:
        own["reward"] = scenario.rewards().unsqueeze(-1).clone()
    if metrics := scenario.metrics():
        of_team = {key: value.float()[:, None, None] for key, value in metrics.items()}
        own["info"] = {key: value.expand(*shape, 1).clone() for key, value in of_team.items()}
    return TensorDict(own, shape)
