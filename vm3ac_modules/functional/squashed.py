r"""The tanh-squashed Gaussian policy, scored at its pre-squash sample.

.. math:: a = c + h \tanh u, \quad u \sim N(\mu, \sigma^2), \qquad
    \log\pi(a) = \log N(u; \mu, \sigma^2) - \sum_d [\log h_d + \log(1 - \tanh^2 u_d)]

with centre c and half range h of the action space. Several heads are compared at the same u, where
the Jacobian is common. Going back from the action by atanh is wrong by nats in float32 for large u
(beyond 7).

Shapes: ``*B`` batch, ``N`` agents, ``A`` action. Source: Haarnoja et al. 2018, "Soft Actor-Critic",
arXiv:1801.01290, Appendix C.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["SquashedSample", "sample_squashed_gaussian", "squash", "squash_log_det"]


class SquashedSample(NamedTuple):
    """A reparameterized draw of a tanh-squashed Gaussian."""

    action: Tensor
    """Action in the environment's range, ``[*B, A]``."""
    pre_squash: Tensor
    """The Gaussian sample u, ``[*B, A]``."""
    log_prob: Tensor
    """Log-density of the action in the environment's range (nats), ``[*B]``."""


def squash(u: Tensor, center: Tensor, half_range: Tensor) -> Tensor:
    r"""Map a pre-squash sample into the action range, :math:`a = c + h \tanh u`.

    Args:
        u: pre-squash sample, ``[*B, A]``.
        center: centre of the range, ``[A]``.
        half_range: half of the range, ``[A]``.

    Returns:
        ``[*B, A]``.

    Example:
        >>> import torch
        >>> squash(torch.zeros(1), torch.tensor([2.0]), torch.tensor([0.5]))
        tensor([2.])
    """
    return center + half_range * u.tanh()


def squash_log_det(u: Tensor, half_range: Tensor) -> Tensor:
    r"""Log-determinant of the squash, :math:`\sum_d \log h_d + 2(\log 2 - u_d - \mathrm{softplus}(-2u_d))`.

    The closed form stays finite where ``log(1 - tanh(u)**2)`` has rounded to minus infinity.

    Args:
        u: pre-squash sample, ``[*B, A]``.
        half_range: half of the range, ``[A]``.

    Returns:
        ``[*B]``, nats.

    Example:
        >>> import torch
        >>> squash_log_det(torch.zeros(1), torch.ones(1))
        tensor(0.)
    """  # noqa: E501 - one displayed formula
    return (half_range.log() + 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))).sum(-1)


def sample_squashed_gaussian(
    loc: Tensor, scale: Tensor, noise: Tensor, center: Tensor, half_range: Tensor
) -> SquashedSample:
    """Draw and score in one call, from noise that the caller provides.

    Args:
        loc: mean of the pre-squash Gaussian, ``[*B, A]``.
        scale: its standard deviation, ``[*B, A]``.
        noise: standard normal draws, ``[*B, A]``.
        center: centre of the action range, ``[A]``.
        half_range: half of the action range, ``[A]``.

    Returns:
        The action, the pre-squash sample and the log-density.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> sample_squashed_gaussian(0 * one, one, 0 * one, 0 * one, one).log_prob
        tensor(-0.9189)
    """
    u = loc + scale * noise
    # (u - loc) / scale is the noise itself: no division by a small scale.
    energy = 0.5 * noise.square() + 0.5 * math.log(2 * math.pi)
    log_normal = -(energy + scale.log()).sum(-1)
    return SquashedSample(
        squash(u, center, half_range), u, log_normal - squash_log_det(u, half_range)
    )
