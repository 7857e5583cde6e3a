r"""Tree-backup targets of padded episodes.

Shapes: ``B`` episodes, ``T`` transitions of the longest one. An episode batch has ``T + 1`` slots;
see :mod:`vm3ac_modules.functional.episodes`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["tree_backup_target"]


def tree_backup_target(
    reward: Tensor,
    taken: Tensor,
    expected: Tensor,
    joint_log_prob: Tensor,
    terminated: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    lam: float,
    steps: int = 5,
) -> Tensor:
    r"""Off-policy target that cuts its trace by the policy's own probability of what was done.

    .. math::
        \delta_t &= r_t + \gamma (1 - d_t)\, \bar E_{t+1} - \bar Q_t \\
        y_t &= \bar Q_t + \sum_{l=0}^{n-1} (\gamma \lambda)^l
            \Big[ \prod_{c=1}^{l} \pi(a_{t+c}) \Big] \delta_{t+l}

    It needs no behavior policy. Where an episode was cut off, its last error bootstraps from what
    was seen last; errors after the end do not exist, so no trace crosses it.

    References:
        Precup, Sutton and Singh 2000, "Eligibility Traces for Off-Policy Policy Evaluation", ICML;
        Wang et al. 2021, "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients",
        arXiv:2007.12322.

    Args:
        reward: of each transition, ``[B, T]``.
        taken: value :math:`\bar Q` of what was done, ``[B, T]``.
        expected: expected value :math:`\bar E` under the policy of each slot, ``[B, T + 1]``.
        joint_log_prob: log-probability of what all agents did, under the policy (nats), ``[B, T]``.
        terminated: bool ``[B, T]``: the game is over, nothing follows.
        mask: bool ``[B, T]`` of the real transitions: the first ones of each row.
        gamma: discount per step.
        lam: weight lambda in [0, 1] of what lies further ahead.
        steps: number n >= 1 of transitions that a target looks at.

    Returns:
        ``[B, T]``; 0 where masked. What lies there may be NaN.

    Raises:
        ValueError: for ``steps < 1``.

    Example:
        >>> one, real = torch.ones(1, 2), torch.tensor([[True, True]])
        >>> over = torch.tensor([[False, True]])
        >>> never, sure = torch.full((1, 2), -100.0), torch.zeros(1, 2)
        >>> given = {"terminated": over, "mask": real, "gamma": 0.5, "lam": 1.0}
        >>> tree_backup_target(one, 0 * one, 4 * torch.ones(1, 3), never, **given)
        tensor([[3., 1.]])
        >>> tree_backup_target(one, 0 * one, 4 * torch.ones(1, 3), sure, **given)
        tensor([[3.5000, 1.0000]])
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    zero = torch.zeros_like(reward)
    follows = torch.where(mask & ~terminated, expected[:, 1:], zero)
    error = torch.where(mask, reward + gamma * follows - taken, zero)
    log_prob = torch.where(mask, joint_log_prob, zero)
    target, log_trace = torch.where(mask, taken, zero) + error, zero
    for lag in range(1, min(steps, reward.shape[1])):
        # In log space: the joint probability of many agents underflows within a few steps.
        log_trace = log_trace + _ahead(log_prob, lag)
        target = target + (gamma * lam) ** lag * log_trace.exp() * _ahead(error, lag)
    return torch.where(mask, target, zero)


def _ahead(values: Tensor, lag: int) -> Tensor:
    """Values of ``lag`` transitions later, 0 beyond the last."""
    return torch.nn.functional.pad(values[:, lag:], (0, lag))
