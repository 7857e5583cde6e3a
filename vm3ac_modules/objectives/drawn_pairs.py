r"""Which pairs of agents enter a call of a loss: all, or k partners of every agent, drawn anew.

Agent i's partners are those that stand so many places, the *offsets*, behind it round the circle of
agents. A transition has the same offsets for all agents, so every agent has each other one as its
partner with the same probability, none twice, and is a partner of k others itself.

Shapes: ``*S`` seeds, ``*B`` batch, ``N`` agents, ``A`` action, ``k`` partners per agent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.functional.pairwise import pair_mean, scatter_offsets, scatter_others
from vm3ac_modules.objectives.common import matrix_mean, reduce_loss
from vm3ac_modules.objectives.options import check_count

__all__ = ["check_pairs", "draw_offsets", "drawn_offsets", "logged_pairs"]


def check_pairs(pairs: int | None, predictor: Any) -> int | None:
    """Refuse a number of partners that there are not.

    Args:
        pairs: partners k per agent and transition; None for all.
        predictor: what predicts them; None if it is missing.

    Returns:
        How many have to be drawn; None where all of them enter.

    Raises:
        ValueError: for less than one partner or more than N - 1, unless there is only one agent.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> check_pairs(3, vm.VariationalPredictor(4, Bounded(-1.0, 1.0, (3, 2))))
        Traceback (most recent call last):
        ...
        ValueError: pairs must be at most N - 1 = 2, the partners of each of 3 agents, got 3...
    """
    if pairs is None:
        return None
    check_count(pairs=pairs)
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, or None for all partners, got {pairs}.")
    num_agents = getattr(predictor, "num_agents", None)
    if num_agents is None:
        return int(pairs)
    if num_agents > 1 and pairs > num_agents - 1:
        raise ValueError(
            f"pairs must be at most N - 1 = {num_agents - 1}, the partners of each of {num_agents} "
            f"agents, got {pairs}: None takes all."
        )
    return int(pairs) if pairs < num_agents - 1 else None


def draw_offsets(action: Tensor, pairs: int | None) -> dict[str, Tensor]:
    """Draw for every transition which partners enter: those so many places behind every agent.

    Every agent gets each of its partners with the same probability, none twice; the same places
    for all agents, so that everybody is somebody's partner as often as anybody.

    Args:
        action: actions ``[*B, N, A]``; only shape and device are read.
        pairs: partners k per agent; None where all enter.

    Returns:
        ``partner_offset``, int64 ``[*B, k]``; nothing for None.

    Example:
        >>> draw_offsets(torch.zeros(5, 4, 2), 1)["partner_offset"].shape
        torch.Size([5, 1])
    """
    if pairs is None:
        return {}
    places = torch.rand(*action.shape[:-2], action.shape[-2] - 1, device=action.device)
    return {"partner_offset": places.topk(pairs).indices + 1}


def drawn_offsets(noise: Any, pairs: int | None) -> Tensor | None:
    """Read from a call's noise which partners enter.

    Args:
        noise: what a loss's ``draw_noise`` returned.
        pairs: partners k per agent; None where all enter.

    Returns:
        The offsets, ``[*B, k]``; None for all partners.

    Raises:
        ValueError: if they had to be drawn and were not.
    """
    offsets: Tensor | None = noise.get("partner_offset", None)
    if pairs is not None and offsets is None:
        raise ValueError(
            f"pairs={pairs}, but the noise lacks 'partner_offset', the partners that enter: draw "
            "it by the loss's draw_noise."
        )
    return offsets


def logged_pairs(
    grids: dict[str, Tensor], offsets: Tensor | None, mask: Tensor | None, seed_dims: int
) -> dict[str, Tensor]:
    """Means of diagnostics per pair, over the transitions in which the pair entered.

    Args:
        grids: ``[*S, *B, N, k]`` by name, constants.
        offsets: which partners entered, int64 ``[*S, *B, k]``; None for all.
        mask: transitions that count, bool ``[*S, *B]``; None for all.
        seed_dims: number of leading seed dimensions.

    Returns:
        Per name the mean over pairs, ``[*S]``, and ``<name>_matrix``, ``[*S, N, N]``; 0 on the
        diagonal, and for a pair that entered in no transition.

    Example:
        >>> grids = {"x": torch.tensor([[[5.0], [6.0], [7.0]]])}
        >>> logged_pairs(grids, torch.tensor([[1]]), None, 0)["x_matrix"].tolist()
        [[0.0, 5.0, 0.0], [0.0, 0.0, 6.0], [7.0, 0.0, 0.0]]
    """
    out: dict[str, Tensor] = {}
    for name, grid in grids.items():
        if offsets is None:
            matrix = scatter_others(matrix_mean(grid, mask, seed_dims))
            out[name], out[f"{name}_matrix"] = pair_mean(matrix), matrix
        else:
            mean = reduce_loss(grid.mean((-1, -2)), mask, seed_dims, "mean")
            out[name], out[f"{name}_matrix"] = mean, _means(grid, offsets, mask, seed_dims)
    return out


def _means(grid: Tensor, offsets: Tensor, mask: Tensor | None, seed_dims: int) -> Tensor:
    """Mean of every pair over the transitions in which it entered, ``[*S, N, N]``."""
    every = torch.arange(1, grid.shape[-2], device=offsets.device)
    entered = (offsets.unsqueeze(-1) == every).to(grid.dtype)
    if mask is not None:
        entered = torch.where(mask[..., None, None], entered, 0.0)
        grid = torch.where(mask[..., None, None], grid, 0.0)

    def rows(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:seed_dims], -1, x.shape[-1])

    # Every transition and place in it is a row: of all agents' values, and of the offset.
    counts = rows(entered).sum(-2).clamp_min(1.0)
    sums = rows(grid.transpose(-1, -2)).transpose(-1, -2) @ rows(entered)
    return scatter_offsets(sums / counts.unsqueeze(-2))
