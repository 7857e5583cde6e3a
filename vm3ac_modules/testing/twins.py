"""Slow, readable twins of vectorized functions: loops over indices, one line per formula.

Shapes: ``*B`` batch, ``N`` agents. Source: Kim et al. 2023, arXiv:2303.00451.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pair_sum_loop", "soft_value_target_loop"]


def pair_sum_loop(pairs: Tensor) -> Tensor:
    r"""Add up every agent's partners one by one, :math:`\sum_{j \ne i} p_{ij}`.

    Args:
        pairs: pair matrix ``[*B, N, N]``.

    Returns:
        ``[*B, N]``.

    Example:
        >>> from vm3ac_modules.testing import pair_sum_loop
        >>> pair_sum_loop(torch.tensor([[9.0, 1.0], [2.0, 9.0]])).tolist()
        [1.0, 2.0]

    See Also:
        :func:`vm3ac_modules.functional.pair_sum`.
    """
    num_agents = pairs.shape[-1]
    total = torch.zeros(pairs.shape[:-1], dtype=pairs.dtype)
    for i in range(num_agents):
        for j in range(num_agents):
            if j != i:
                total[..., i] = total[..., i] + pairs[..., i, j]
    return total


def soft_value_target_loop(
    q_values: Tensor,
    log_prob: Tensor,
    log_q: Tensor,
    log_q_rev: Tensor,
    beta: float | Tensor,
    weight: float,
) -> Tensor:
    r"""Compute the target of the state value, Eq. (46), agent by agent.

    .. math:: \hat V_i = \min_k Q_{i,k} - \beta_i \log\pi_K(a_i|o_i)
        + \beta_i w \sum_{j \ne i} [\log q_{\xi_i}(a_j|a_i) + \log q_{\xi_i}(a_i|a_j)]

    Args:
        q_values: values of the K critics, ``[*B, N, K]``.
        log_prob: log-density of each agent's action (nats), ``[*B, N]``.
        log_q: pair matrix of i predicting j (nats), ``[*B, N, N]``.
        log_q_rev: pair matrix of i predicting itself from j (nats), ``[*B, N, N]``.
        beta: temperature, number or ``[N]``.
        weight: weight of the sum over partners.

    Returns:
        ``[*B, N]``.

    Example:
        >>> from vm3ac_modules.testing import soft_value_target_loop
        >>> pairs = -torch.ones(2, 2)
        >>> soft_value_target_loop(torch.ones(2, 1), torch.zeros(2), pairs, pairs, 0.5, 0.5)
        tensor([0.5000, 0.5000])

    See Also:
        :func:`vm3ac_modules.functional.soft_value_target`.
    """
    num_agents = log_prob.shape[-1]
    temperature = torch.as_tensor(beta, dtype=log_prob.dtype).expand(num_agents)
    targets = []
    for i in range(num_agents):
        value = q_values[..., i, :].min(dim=-1).values - temperature[i] * log_prob[..., i]
        for j in range(num_agents):
            if j != i:
                bonus = log_q[..., i, j] + log_q_rev[..., i, j]
                value = value + temperature[i] * weight * bonus
        targets.append(value)
    return torch.stack(targets, dim=-1)
