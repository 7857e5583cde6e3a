"""Clipping with one gradient norm per agent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear

__all__ = ["clip_gradients_per_agent"]


def clip_gradients_per_agent(network: nn.Module, max_norm: float, seed_dims: int = 0) -> Tensor:
    """Scale down the gradient of every agent whose norm is above a limit.

    Agents' losses are summed, so one agent's large gradient must not shrink the others' steps.

    Args:
        network: a network of agent-batched layers; parameters that the agents share count as one
            agent's, and an agent's twin critics are taken together.
        max_norm: the limit, > 0.
        seed_dims: number of leading seed dimensions; every seed has norms of its own.

    Returns:
        Every agent's norm before clipping, ``[*S, N]``.

    Raises:
        ValueError: if ``max_norm <= 0``, or no layer of the network has a gradient.

    Example:
        >>> from vm3ac_modules.nn import AgentMLP
        >>> net = AgentMLP(2, 1, num_agents=3, hidden=(4,))
        >>> net(torch.ones(4, 3, 2)).sum().backward()
        >>> clip_gradients_per_agent(net, 1.0).shape
        torch.Size([3])
    """
    if not max_norm > 0:
        raise ValueError(f"max_grad_norm must be positive, got {max_norm}.")
    rows = [
        parameter.grad.movedim(-3, seed_dims)
        for layer in network.modules()
        if isinstance(layer, AgentLinear)
        for parameter in layer.parameters()
        if parameter.grad is not None
    ]
    if not rows:
        raise ValueError("the network has no agent-batched layer with a gradient to clip.")
    squares = [row.flatten(seed_dims + 1).square().sum(-1) for row in rows]
    norms = torch.stack(squares).sum(0).sqrt()
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for row in rows:
        row.mul_(factor.reshape(*factor.shape, *(1,) * (row.ndim - factor.ndim)))
    return norms
