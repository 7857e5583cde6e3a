r"""Categorical policies with illegal actions: log-probabilities, exploration floors, draws.

Shapes: ``*B`` batch, ``A`` actions. Illegal actions get the finite log-probability
:data:`ILLEGAL`, whose exponential is exactly 0: sums over actions and their gradients stay finite,
which they would not with minus infinity (``0 * inf``).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "ILLEGAL",
    "categorical_entropy",
    "draw_categorical",
    "epsilon_floor",
    "expectation",
    "gumbel_noise",
    "masked_log_softmax",
]

ILLEGAL = -1e9
"""Log-probability of an action that cannot be taken (nats)."""


def masked_log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    r"""Log-probabilities over the legal actions.

    .. math:: \log \pi(a) = \ell_a - \log \sum_{b\ \mathrm{legal}} e^{\ell_b}

    Args:
        logits: ``[*B, A]``.
        mask: bool ``[*B, A]``, True where legal. A row without a legal action (padding) counts all
            as legal, so that nothing there is NaN.

    Returns:
        ``[*B, A]``, nats; :data:`ILLEGAL` where illegal.

    Example:
        >>> masked_log_softmax(torch.zeros(3), torch.tensor([True, True, False])).exp()
        tensor([0.5000, 0.5000, 0.0000])
    """
    legal = mask | ~mask.any(-1, keepdim=True)
    illegal = torch.full_like(logits, ILLEGAL)
    log_prob = torch.log_softmax(torch.where(legal, logits, illegal), dim=-1)
    return torch.where(legal, log_prob, illegal)


def epsilon_floor(log_prob: Tensor, epsilon: Tensor | float) -> Tensor:
    r"""Mix a policy with the uniform one over its legal actions.

    .. math:: \pi_\epsilon(a) = (1 - \epsilon)\, \pi(a) + \epsilon / |A_{\mathrm{legal}}|

    DOP, VDAC and FOP explore so and train the mixed policy. (Their code floors before it removes
    the illegal actions; docs/readings.md.)

    Args:
        log_prob: of :func:`masked_log_softmax`, ``[*B, A]``.
        epsilon: share of the uniform policy in [0, 1], a number or broadcastable tensor.

    Returns:
        ``[*B, A]``, nats.

    Example:
        >>> legal = torch.tensor([True, True, False])
        >>> log_prob = masked_log_softmax(torch.tensor([9.0, -9.0, 0.0]), legal)
        >>> epsilon_floor(log_prob, 0.5).exp()
        tensor([0.7500, 0.2500, 0.0000])
    """
    legal = log_prob > 0.5 * ILLEGAL
    share = torch.as_tensor(epsilon, dtype=log_prob.dtype, device=log_prob.device)
    uniform = share.log() - legal.sum(-1, keepdim=True).to(log_prob.dtype).log()
    mixed = torch.logaddexp(log_prob + torch.log1p(-share), uniform)
    return torch.where(legal, mixed, log_prob)


def expectation(log_prob: Tensor, values: Tensor) -> Tensor:
    r"""Exact expectation over actions, :math:`\sum_a \pi(a) f(a)`.

    Args:
        log_prob: ``[*B, A]``, nats.
        values: finite ``f``, broadcastable to ``[*B, A]``.

    Returns:
        ``[*B]``.

    Example:
        >>> expectation(torch.tensor([0.25, 0.75]).log(), torch.tensor([0.0, 4.0]))
        tensor(3.)
    """
    return (log_prob.exp() * values).sum(-1)


def categorical_entropy(log_prob: Tensor) -> Tensor:
    r"""Entropy :math:`-\sum_a \pi(a) \log \pi(a)`.

    Args:
        log_prob: ``[*B, A]``, nats.

    Returns:
        ``[*B]``, nats.

    Example:
        >>> categorical_entropy(torch.tensor([0.5, 0.5]).log())
        tensor(0.6931)
    """
    return -expectation(log_prob, log_prob)


def gumbel_noise(log_prob: Tensor) -> Tensor:
    """Standard Gumbel noise, from the device's default generator.

    Args:
        log_prob: gives shape, dtype and device, ``[*B, A]``.

    Returns:
        ``[*B, A]``.

    Example:
        >>> gumbel_noise(torch.zeros(5, 3)).shape
        torch.Size([5, 3])
    """
    return -torch.empty_like(log_prob).exponential_().log()


def draw_categorical(log_prob: Tensor, noise: Tensor) -> Tensor:
    r"""Draw actions, with the noise as data: :math:`\arg\max_a \log \pi(a) + g_a`.

    Args:
        log_prob: ``[*B, A]``, nats.
        noise: standard Gumbel noise, ``[*B, A]``; zeros give the most probable action.

    Returns:
        int64 ``[*B]``.

    Example:
        >>> draw_categorical(torch.tensor([0.2, 0.8]).log(), torch.zeros(2))
        tensor(1)
    """
    return (log_prob + noise).argmax(-1)
