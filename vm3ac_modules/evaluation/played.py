"""How decided policies over discrete actions are in the episodes that they play.

Shapes: ``B`` episodes, ``L`` time limit, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vm3ac_modules.functional.categorical import categorical_entropy

__all__ = ["decidedness"]


def decidedness(log_prob: Tensor, action_mask: Tensor, happened: Tensor) -> dict[str, Tensor]:
    r"""Entropy of policies, and how far the likeliest legal action is ahead of the second.

    .. math:: H = -\sum_a \pi(a) \log \pi(a), \qquad
        g = \ell_{(1)} - \ell_{(2)} \text{ over legal actions}

    where both are near those of the uniform policy (log A and 0), playing the likeliest actions is
    another policy than the one that was trained: it follows what the networks began with.

    Args:
        log_prob: log-probabilities (nats), ``[B, L, N, A]``.
        action_mask: legal actions, bool ``[B, L, N, A]``.
        happened: steps of the episodes, bool ``[B, L]``; the rest is padding.

    Returns:
        ``policy_entropy`` and ``logit_gap`` (nats), ``[B]`` each: means over the steps and agents
        with more than one legal action; nan for an episode without any.

    Example:
        >>> log_prob = torch.tensor([0.5, 0.25, 0.25]).log().reshape(1, 1, 1, 3)
        >>> found = decidedness(log_prob, torch.ones(1, 1, 1, 3).bool(), torch.ones(1, 1).bool())
        >>> {name: round(float(value), 3) for name, value in found.items()}
        {'policy_entropy': 1.04, 'logit_gap': 0.693}
    """
    choice = (action_mask.sum(-1) > 1) & happened.unsqueeze(-1)
    legal = log_prob.masked_fill(~action_mask, -torch.inf)
    first, second = legal.topk(2, dim=-1).values.unbind(-1)
    count = choice.sum((-2, -1))

    def mean(values: Tensor) -> Tensor:
        return values.masked_fill(~choice, 0.0).sum((-2, -1)) / count

    return {
        "policy_entropy": mean(categorical_entropy(log_prob)),
        "logit_gap": mean(first - second),
    }
