"""Entries of a group of agents: of what VMAS tells of each, or a scenario of all at once.

Shapes: ``B`` rows, ``N`` agents of the group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

__all__ = ["check_row_state", "in_range", "join_alike", "join_unlike", "of_shape", "told"]


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
    seen = of_shape(scenario, "observations()", scenario.observations(), "BNO")
    own: dict[str, Any] = {"observation": seen.clone()}
    shape = seen.shape[:2]
    if rewards:
        paid = of_shape(scenario, "rewards()", scenario.rewards(), "BN")
        own["reward"] = paid.unsqueeze(-1).clone()
    if metrics := scenario.metrics():
        of_team = {
            key: of_shape(scenario, f"metrics()[{key!r}]", value, "B").float()[:, None, None]
            for key, value in metrics.items()
        }
        own["info"] = {key: value.expand(*shape, 1).clone() for key, value in of_team.items()}
    return TensorDict(own, shape)


def of_shape(scenario: Any, what: str, found: Tensor, wanted: str) -> Tensor:
    """What a scenario told, if it has the shape that it should; a device is not asked.

    Args:
        scenario: it, with its world.
        what: the method, for the message.
        found: what it gave.
        wanted: letters of the shape: B rows, N agents; any size for another letter.

    Raises:
        ValueError: names the scenario's class and the method, what came and what should.
    """
    sizes = {"B": scenario.world.batch_dim, "N": len(scenario.world.agents)}
    shape: Any = getattr(found, "shape", None)
    right_number = shape is not None and len(shape) == len(wanted)
    if right_number and all(sizes.get(d, n) == n for d, n in zip(wanted, shape, strict=True)):
        return found
    came = type(found).__name__ if shape is None else list(shape)
    right = ", ".join(str(sizes.get(letter, letter)) for letter in wanted)
    raise ValueError(
        f"{type(scenario).__name__}.{what} returned {came}, wanted [{right}] "
        f"([{', '.join(wanted)}]: B rows, N agents)."
    )


def check_row_state(scenario: Any) -> None:
    """Refuse names of the state that a scenario does not have once it was reset.

    Args:
        scenario: a ``SeededScenario``.

    Raises:
        ValueError: names the class and the attribute.
    """
    rows = scenario.world.batch_dim
    for name in scenario.row_state:
        value = getattr(scenario, name, None)
        if not isinstance(value, Tensor) or value.shape[:1] != (rows,):
            kind = type(value).__name__
            came = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else kind
            raise ValueError(
                f"{type(scenario).__name__}.row_state names {name!r}, which is {came} after a "
                f"reset, wanted a tensor [{rows}, ...]: name attributes that hold the state."
            )
