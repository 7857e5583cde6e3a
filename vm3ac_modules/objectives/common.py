"""Shared mechanics of the losses: reduction over batch and agents, key lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor

from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.network import NetworkModule

__all__ = [
    "REDUCTIONS",
    "call_network",
    "matrix_mean",
    "next_outcome",
    "ordered_keys",
    "reduce_loss",
    "scalar_means",
    "valid_mask",
    "without_masked",
]

REDUCTIONS = ("mean", "sum", "none")
"""What a loss can do with its batch dimensions."""
WRITTEN_MASKS: tuple[NestedKey, ...] = (("collector", "mask"), "shifted_valid")
"""Where TorchRL's collectors and shifting transforms tell which transitions count."""


def ordered_keys(keys: Iterable[NestedKey | None]) -> list[NestedKey]:
    """Keys in the order of first appearance, each once, without None.

    Args:
        keys: nested keys.

    Returns:
        The list; the same in every process, whatever the hash seed.

    Example:
        >>> ordered_keys(["b", ("a", "c"), "b", None])
        ['b', ('a', 'c')]
    """
    return list(dict.fromkeys(unravel_key(key) for key in keys if key is not None))


def call_network(
    network: TensorDictModuleBase,
    inputs: dict[NestedKey, Tensor],
    out_keys: Sequence[NestedKey],
    batch_size: torch.Size,
) -> list[Tensor]:
    """Call a tensordict module on tensors by key.

    Modules of this package are called without a tensordict, which saves time.

    Args:
        network: the module.
        inputs: key -> tensor; at least the module's ``in_keys``.
        out_keys: what is wanted.
        batch_size: of the tensordict, ``[*B]``.

    Returns:
        One tensor per key of ``out_keys``.

    Raises:
        MissingKeysError: if the module does not write one of ``out_keys``.

    Example:
        >>> from vm3ac_modules.modules.network import NetworkModule
        >>> module = NetworkModule(torch.nn.Linear(2, 3), {"input": "x"}, ["y"])
        >>> [y] = call_network(module, {"x": torch.zeros(5, 2)}, ["y"], torch.Size([5]))
        >>> y.shape
        torch.Size([5, 3])
    """
    if isinstance(network, NetworkModule) and network.out_keys == list(out_keys):
        return list(network.call(inputs))
    out = network(TensorDict(inputs, batch_size))
    require_keys(out, out_keys, type(network).__name__)
    return [out.get(key) for key in out_keys]


def next_outcome(
    following: TensorDictBase, reward_key: NestedKey, terminated_key: NestedKey, agents: torch.Size
) -> tuple[Tensor, Tensor]:
    """Reward and end of the game after a transition, agent by agent.

    A team's reward that had lost its dimension of agents would be added to another row's value
    wherever it broadcasts, so shapes are taken at their word.

    Args:
        following: the ``"next"`` part of a batch.
        reward_key: of every agent's reward, ``[*B, N, 1]``.
        terminated_key: of the flags, ``[*B, 1]`` for the team or ``[*B, N, 1]``.
        agents: ``[*B, N]``.

    Returns:
        The reward ``[*B, N]``, and the flags ``[*B, 1]`` or ``[*B, N]``.

    Raises:
        ValueError: for another shape; says which is expected.

    Example:
        >>> td = TensorDict({"reward": torch.ones(5, 3, 1), "terminated": torch.zeros(5, 1)}, [5])
        >>> reward, terminated = next_outcome(td, "reward", "terminated", torch.Size([5, 3]))
        >>> reward.shape, terminated.shape
        (torch.Size([5, 3]), torch.Size([5, 1]))
    """
    reward, terminated = following.get(reward_key), following.get(terminated_key)
    each, team = (*agents, 1), (*agents[:-1], 1)
    if reward.shape != each:
        raise ValueError(
            f"the reward {reward_key!r} must be [*B, N, 1] = {list(each)}, got "
            f"{list(reward.shape)}: give every agent its own, expand a team's over the agents."
        )
    if terminated.shape == each:
        return reward.squeeze(-1), terminated.squeeze(-1)
    if terminated.shape != team:
        raise ValueError(
            f"{terminated_key!r} must be [*B, 1] = {list(team)} or [*B, N, 1] = {list(each)}, got "
            f"{list(terminated.shape)}."
        )
    return reward.squeeze(-1), terminated


def valid_mask(tensordict: TensorDictBase, named: NestedKey | None = "auto") -> Tensor | None:
    """Transitions that count.

    Args:
        tensordict: the batch, ``[*S, *B]``.
        named: a loss's ``loss_mask_key``: ``"auto"`` for the masks that TorchRL writes, the key of
            the only one, or None for no masking.

    Returns:
        bool ``[*S, *B]``; None if nothing is masked.

    Raises:
        ValueError: if a mask has dimensions that the batch has not, or ``named`` is no key.

    Example:
        >>> td = TensorDict({("collector", "mask"): torch.tensor([[True], [False]])}, [2])
        >>> valid_mask(td)
        tensor([ True, False])
    """
    mask = None
    if named is not None and not isinstance(named, (str, tuple)):
        raise ValueError(f"loss_mask_key must be 'auto', None or a key, got {named!r}.")
    keys = WRITTEN_MASKS if named == "auto" else () if named is None else (named,)
    for found in (tensordict.get(key, None) for key in keys):
        if found is not None:
            rows = _per_row(found, tensordict.batch_size)
            mask = rows if mask is None else mask & rows
    return mask


def _per_row(mask: Tensor, batch: torch.Size) -> Tensor:
    """A mask with or without last dimensions of size 1, expanded to the batch."""
    while mask.ndim > len(batch) and mask.shape[-1] == 1:
        mask = mask.squeeze(-1)
    if mask.ndim > len(batch):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit a batch {tuple(batch)}."
        )
    return mask.reshape(*mask.shape, *(1,) * (len(batch) - mask.ndim)).expand(batch)


def without_masked(
    tensordict: TensorDictBase, mask: Tensor | None, keys: Iterable[NestedKey]
) -> TensorDictBase:
    """The batch with zeros where it is masked, so that NaN there reaches no gradient.

    Args:
        tensordict: the batch, ``[*S, *B]``; not changed.
        mask: bool ``[*S, *B]``, or None.
        keys: the entries to clean.

    Returns:
        The batch itself without a mask, else another one with these entries.
    """
    if mask is None:
        return tensordict
    cleaned = {}
    for key in keys:
        value = tensordict.get(key)
        rows = mask.reshape(*mask.shape, *(1,) * (value.ndim - mask.ndim))
        cleaned[key] = torch.where(rows, value, torch.zeros_like(value))
    return TensorDict(cleaned, tensordict.batch_size)


def reduce_loss(values: Tensor, mask: Tensor | None, seed_dims: int, reduction: str) -> Tensor:
    """Reduce a value per transition over the batch, by selection where it is masked.

    Args:
        values: ``[*S, *B]``.
        mask: bool ``[*S, *B]`` of the transitions that count, or None for all.
        seed_dims: number of leading seed dimensions, which are never reduced.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        ``[*S]``; for ``"none"`` ``[*S, *B]``, zero where masked. The mean of no transitions, be
        the batch empty or all of it masked, is 0, with gradients of 0.

    Example:
        >>> mask = torch.tensor([True, False])
        >>> reduce_loss(torch.tensor([1.0, float("nan")]), mask, 0, "mean")
        tensor(1.)
    """
    if mask is not None:
        values = torch.where(mask, values, torch.zeros_like(values))
    if reduction == "none" or values.ndim == seed_dims:
        return values
    rows = values.flatten(seed_dims)
    if reduction == "mean" and mask is None and rows.shape[-1]:
        return rows.mean(-1)
    total = rows.sum(-1)
    if reduction == "sum" or mask is None:
        return total
    return total / mask.flatten(seed_dims).sum(-1).clamp_min(1)


def scalar_means(
    scalars: dict[str, Tensor], mask: Tensor | None, seed_dims: int
) -> dict[str, Tensor]:
    """Means of diagnostics over agents and the transitions that count, all in one pass.

    Args:
        scalars: ``[*S, *B, N]`` by name.
        mask: bool ``[*S, *B]``, or None for all.
        seed_dims: number of leading seed dimensions.

    Returns:
        ``[*S]`` by name, constants.

    Example:
        >>> scalar_means({"a": torch.ones(5, 2), "b": torch.zeros(5, 2)}, None, 0)
        {'a': tensor(1.), 'b': tensor(0.)}
    """
    values = torch.stack([value.detach() for value in scalars.values()], dim=seed_dims)
    if mask is None:
        means = reduce_loss(values, None, seed_dims + 1, "mean")
    else:
        mask = mask.unsqueeze(seed_dims).expand(values.shape[:-1])
        means = reduce_loss(values.mean(-1), mask, seed_dims + 1, "mean")
    return dict(zip(scalars, means.unbind(-1), strict=True))


def matrix_mean(pairs: Tensor, mask: Tensor | None, seed_dims: int) -> Tensor:
    """Mean of a pair matrix (or grid) over the transitions that count.

    Args:
        pairs: ``[*S, *B, N, M]``.
        mask: bool ``[*S, *B]``, or None for all.
        seed_dims: number of leading seed dimensions.

    Returns:
        ``[*S, N, M]``.

    Example:
        >>> matrix_mean(torch.ones(5, 2, 2), None, 0).shape
        torch.Size([2, 2])
    """
    if mask is None:
        if pairs.ndim == seed_dims + 2:
            return pairs
        rows = pairs.flatten(seed_dims, -3)
        return rows.mean(seed_dims) if rows.shape[seed_dims] else rows.sum(seed_dims)
    entries = pairs.movedim((-2, -1), (seed_dims, seed_dims + 1))
    shape = (*mask.shape[:seed_dims], 1, 1, *mask.shape[seed_dims:])
    mask = mask.reshape(shape).expand(entries.shape)
    return reduce_loss(entries, mask, seed_dims + 2, "mean")
