r"""Many seeds at once: S runs of one configuration as a leading dimension of all tensors.

Networks hold ``[S, ...]`` parameters, the environment has ``S * B`` rows, seed by seed, and the
replay interleaves the seeds so that each samples its own transitions. Every seed has its own
checkpoint, in the same form as that of a run alone.

Shapes: ``S`` seeds, ``B`` rows per seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import RandomSampler

__all__ = [
    "SeedSampler",
    "interleave",
    "join_optimizers",
    "join_states",
    "split_optimizer",
    "split_state",
]


class SeedSampler(RandomSampler):
    """Draw every seed's own transitions from a replay that interleaves the seeds.

    Args:
        seeds: number of seeds S; a batch holds the first seed's share, then the second's, ...
    """

    def __init__(self, seeds: int) -> None:
        super().__init__()
        self.seeds = seeds

    def sample(self, storage: Any, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Draw with replacement among the transitions that all seeds have.

        Args:
            storage: the replay's storage.
            batch_size: transitions of all seeds together.

        Returns:
            Indices, and no further information.
        """
        slots, each = len(storage) // self.seeds, batch_size // self.seeds
        draws = torch.randint(slots, (self.seeds, each), device=storage.device)
        offsets = torch.arange(self.seeds, device=draws.device).unsqueeze(-1)
        return (draws * self.seeds + offsets).flatten(), {}


def interleave(rows: TensorDictBase, seeds: int) -> TensorDictBase:
    """Rows seed by seed, ``[S * B]``, as the replay wants them: row by row, ``[B * S]``.

    Args:
        rows: one step of all rows.
        seeds: number of seeds S.

    Returns:
        The same rows in the replay's order.

    Example:
        >>> from tensordict import TensorDict
        >>> interleave(TensorDict({"x": torch.tensor([0, 1, 10, 11])}, [4]), 2)["x"].tolist()
        [0, 10, 1, 11]
    """
    rows = rows.reshape(-1)
    return rows if seeds == 1 else rows.reshape(seeds, -1).transpose(0, 1).reshape(-1)


def split_state(
    state: Mapping[str, Tensor], template: Mapping[str, Tensor], seeds: int
) -> list[dict[str, Tensor]]:
    """Every seed's part of a loss's ``state_dict``.

    Args:
        state: of a loss built for S seeds; what is no tensor in it is every seed's.
        template: of the same loss built for one, which tells what is stacked: buffers such as the
            action range may by chance have S rows.
        seeds: number of seeds S; 1 gives the state itself.

    Returns:
        One state per seed, in the form of a run alone; copies.

    Example:
        >>> split_state({"w": torch.tensor([[1.0], [2.0]])}, {"w": torch.zeros(1)}, 2)
        [{'w': tensor([1.])}, {'w': tensor([2.])}]
    """
    if seeds == 1:
        return [dict(state)]
    stacked = {
        key: isinstance(value, Tensor) and value.shape != template[key].shape
        for key, value in state.items()
    }
    return [
        {
            key: v[seed].reshape(template[key].shape).clone() if stacked[key] else v
            for key, v in state.items()
        }
        for seed in range(seeds)
    ]


def join_states(
    states: Sequence[Mapping[str, Tensor]], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Undo :func:`split_state`.

    Args:
        states: one per seed.
        like: state of the stacked loss; it tells which entries have a dimension of seeds.

    Returns:
        The stacked state.

    Example:
        >>> states = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}]
        >>> join_states(states, {"w": torch.zeros(2, 1)})["w"].shape
        torch.Size([2, 1])
    """
    first = states[0]
    return {
        key: torch.stack([s[key] for s in states]).reshape(like[key].shape)
        if isinstance(value, Tensor) and like[key].shape != value.shape
        else value
        for key, value in first.items()
    }


def split_optimizer(state: Any, seeds: int) -> list[Any]:
    """Every seed's part of an optimizer's ``state_dict``: all its tensors but scalars are stacked.

    Args:
        state: the nested state.
        seeds: number of seeds S; 1 gives the state itself.

    Returns:
        One state per seed; copies.

    Example:
        >>> split_optimizer({"step": torch.tensor(3), "m": torch.tensor([[1.0], [2.0]])}, 2)[1]
        {'step': tensor(3), 'm': tensor([2.])}
    """
    if seeds == 1:
        return [state]
    return [_each(state, partial(_slice, seed)) for seed in range(seeds)]


def join_optimizers(states: Sequence[Any]) -> Any:
    """Undo :func:`split_optimizer`.

    Args:
        states: one per seed.

    Returns:
        The stacked state.

    Example:
        >>> join_optimizers([{"m": torch.tensor([1.0])}, {"m": torch.tensor([2.0])}])["m"].shape
        torch.Size([2, 1])
    """
    if len(states) == 1:
        return states[0]
    first = states[0]
    if isinstance(first, Tensor):
        return torch.stack(list(states)) if first.ndim else first
    if isinstance(first, Mapping):
        return {key: join_optimizers([state[key] for state in states]) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(join_optimizers(column) for column in zip(*states, strict=True))
    return first


def _slice(seed: int, x: Tensor) -> Tensor:
    return x[seed].clone()


def _each(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(state, Tensor):
        return change(state) if state.ndim else state
    if isinstance(state, Mapping):
        return {key: _each(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_each(value, change) for value in state)
    return state
