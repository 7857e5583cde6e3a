"""Shared mechanics of the losses: reduction over batch and agents, key lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor
from torchrl.objectives import LossModule

from vm3ac_modules.module import NetworkModule

__all__ = ["REDUCTIONS", "batch_mean", "call_network", "ordered_keys", "reduce_loss"]

REDUCTIONS = ("mean", "sum", "none")
"""What a loss can do with its batch dimensions."""


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
    """Call any tensordict module on these entries; our own ones without the tensordict.

    Args:
        network: the module.
        inputs: key -> tensor; at least the module's ``in_keys``.
        out_keys: what is wanted.
        batch_size: of the tensordict, ``[*B]``.

    Returns:
        One tensor per key of ``out_keys``.

    Example:
        >>> from vm3ac_modules.module import NetworkModule
        >>> module = NetworkModule(torch.nn.Linear(2, 3), {"input": "x"}, ["y"])
        >>> [y] = call_network(module, {"x": torch.zeros(5, 2)}, ["y"], torch.Size([5]))
        >>> y.shape
        torch.Size([5, 3])
    """
    if isinstance(network, NetworkModule) and network.out_keys == list(out_keys):
        return list(network.call(inputs))
    out = network(TensorDict(inputs, batch_size))
    return [out.get(key) for key in out_keys]


def batch_mean(x: Tensor, seed_dims: int) -> Tensor:
    """Mean over everything but the leading seed dimensions.

    Args:
        x: ``[*S, ...]``.
        seed_dims: number of seed dimensions.

    Returns:
        ``[*S]``.

    Example:
        >>> batch_mean(torch.ones(7, 5, 3), 1).shape
        torch.Size([7])
    """
    return x.flatten(seed_dims).mean(-1) if x.ndim > seed_dims else x


def reduce_loss(
    loss: LossModule, values: Tensor, tensordict: TensorDictBase, seed_dims: int, reduction: str
) -> Tensor:
    """Reduce a loss per transition, selecting what the loss's mask marks as valid.

    Args:
        loss: the loss module; its ``loss_mask_key`` names the mask.
        values: summed over agents, ``[*S, *B]``.
        tensordict: the batch.
        seed_dims: number of leading seed dimensions, which are never reduced.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        ``[*S]``, or ``values`` itself for ``"none"``.
    """
    mask = None
    for key in loss._loss_mask_keys():
        found = tensordict.get(key, None)
        if found is not None:
            expanded = loss._expand_loss_mask(found, values)
            mask = expanded if mask is None else mask & expanded
    if mask is not None:
        # Selection, not a product: a padded position may hold NaN.
        values = torch.where(mask, values, torch.zeros_like(values))
    if reduction == "none" or values.ndim == seed_dims:
        return values
    rows = values.flatten(seed_dims)
    if reduction == "mean" and mask is None:
        return rows.mean(-1)
    total = rows.sum(-1)
    if reduction == "sum" or mask is None:
        return total
    return total / mask.flatten(seed_dims).sum(-1).clamp_min(1)
