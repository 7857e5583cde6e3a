r"""Means and shifts over padded episodes.

Shapes: ``B`` episodes, ``T`` transitions of the longest one. An episode batch has ``T + 1`` slots;
slot t holds what was seen at step t and the transition from t to t + 1; the slot after an
episode's last transition holds what was seen last, for the bootstrap.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["last_transitions", "masked_mean", "previous_actions"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    r"""Mean over the transitions that are real, :math:`\sum m x / \sum m`, by selection.

    Args:
        values: ``[B, T]`` or with further dimensions, which are averaged too.
        mask: bool ``[B, T]``.

    Returns:
        A scalar; 0 if nothing is real. NaN where masked reaches neither it nor its gradient.

    Example:
        >>> masked_mean(torch.tensor([[1.0, float("nan")]]), torch.tensor([[True, False]]))
        tensor(1.)
    """
    rows = mask.reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim)).expand(values.shape)
    total = torch.where(rows, values, torch.zeros_like(values)).sum()
    return total / rows.sum().clamp_min(1)


def last_transitions(mask: Tensor) -> Tensor:
    """The last real transition of every episode.

    Args:
        mask: bool ``[B, T]``, True for the first transitions of each row and then False.

    Returns:
        bool ``[B, T]``.

    Example:
        >>> last_transitions(torch.tensor([[True, True, False]]))
        tensor([[False,  True, False]])
    """
    following = torch.cat((mask[:, 1:], torch.zeros_like(mask[:, :1])), dim=1)
    return mask & ~following


def previous_actions(action: Tensor, num_actions: int) -> Tensor:
    """One-hot of every agent's previous action, zeros in an episode's first slot.

    Args:
        action: int64 ``[B, T, N]``.
        num_actions: number of actions A.

    Returns:
        float ``[B, T, N, A]``.

    Example:
        >>> previous_actions(torch.tensor([[[1], [0]]]), 2)
        tensor([[[[0., 0.]],
        <BLANKLINE>
                 [[0., 1.]]]])
    """
    earlier = torch.nn.functional.one_hot(action[:, :-1], num_actions)
    return torch.nn.functional.pad(earlier, (0, 0, 0, 0, 1, 0)).to(torch.get_default_dtype())
