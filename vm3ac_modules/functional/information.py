r"""Variational lower bounds of mutual information, Eqs. (6)-(9), and the entropies they need.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``K`` extra latents. Everything is in nats.

The entropy in the bound is that of the MARGINAL policy, :math:`\tilde\pi(a|s) = E_z \pi(a|s,z)`,
Eq. (7). The family :math:`H_K` brackets it from below:

.. math:: H_K = -E \log \Big[ \frac{1}{K+1} \sum_{k=0}^{K} \pi(a|s, z_k) \Big],
    \quad a \sim \pi(\cdot|s, z_0), \qquad H_0 \le H_1 \le \dots \to H(a|s)

K = 0 is the conditional entropy that the paper uses in Eq. (46). Leaving :math:`z_0` out of the
mean gives an upper bound of the ENTROPY, which bounds no mutual information.

Sources: Kim et al. 2023, arXiv:2303.00451; Barber & Agakov 2003, "The IM algorithm", NIPS;
Yin & Zhou 2018, "Semi-Implicit Variational Inference", arXiv:1805.11183 (for the family).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

__all__ = [
    "BoundParts",
    "barber_agakov_bound",
    "bound_gap",
    "categorical_log_density",
    "gaussian_log_density",
    "latent_variance_share",
    "leave_one_out_log_prob",
    "mixture_log_prob",
    "smaller_of_pairs",
    "symmetric_bound",
]


class BoundParts(NamedTuple):
    """A lower bound of mutual information and the terms it is the sum of, in nats."""

    total: Tensor
    """``entropy_term + prediction_term``."""
    entropy_term: Tensor
    """Entropy of the predicted action (mean of both entropies in the symmetric form)."""
    prediction_term: Tensor
    """Expected log-density of the predictor (mean of both directions in the symmetric form)."""


def barber_agakov_bound(entropy: Tensor, log_q: Tensor) -> BoundParts:
    r"""Lower bound of mutual information from one predictor, Eq. (6).

    .. math:: I(a_i; a_j|s) \ge H(a_j|s) + E \log q(a_j|a_i, s)

    The printed derivation has a product sign where this sum belongs (docs/readings.md).

    Args:
        entropy: entropy of the predicted action, or a lower bound of it, ``[*B]``.
        log_q: (expected) log-density of the predictor, ``[*B]``. It must be normalized and not
            clamped from below, else the result is no bound.

    Returns:
        The bound and its parts, ``[*B]``.

    Example:
        >>> barber_agakov_bound(torch.tensor(1.5), torch.tensor(-1.0)).total
        tensor(0.5000)
    """
    return BoundParts(entropy + log_q, entropy, log_q)


def symmetric_bound(
    entropy_i: Tensor, entropy_j: Tensor, log_q_j_given_i: Tensor, log_q_i_given_j: Tensor
) -> BoundParts:
    r"""Lower bound of mutual information from predictors in both directions, Eq. (8).

    .. math:: I(a_i; a_j|s) \ge \tfrac12 \{ H(a_i|s) + H(a_j|s)
        + E[\log q(a_j|a_i, s) + \log q(a_i|a_j, s)] \}

    Args:
        entropy_i: entropy of agent i's action, ``[*B]``.
        entropy_j: entropy of agent j's action, ``[*B]``.
        log_q_j_given_i: (expected) log-density of the predictor of j from i, ``[*B]``.
        log_q_i_given_j: (expected) log-density of the predictor of i from j, ``[*B]``.

    Returns:
        The bound and its parts, ``[*B]``.

    Example:
        >>> one = torch.tensor(1.0)
        >>> symmetric_bound(one, 2 * one, -one, -one).total
        tensor(0.5000)
    """
    entropy = 0.5 * (entropy_i + entropy_j)
    prediction = 0.5 * (log_q_j_given_i + log_q_i_given_j)
    return BoundParts(entropy + prediction, entropy, prediction)


def bound_gap(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""What the bound (6) leaves out: the integrand of Eq. (9).

    .. math:: I - \text{bound} = E_{a_i} KL( p(a_j|a_i, s) \| q(a_j|a_i, s) )
        = E [ \log p(a_j|a_i, s) - \log q(a_j|a_i, s) ] \ge 0

    Args:
        log_p: log-density of the true conditional at draws of the joint, ``[*B]``.
        log_q: log-density of the predictor at the same draws, ``[*B]``.

    Returns:
        ``[*B]``; its mean over draws is the gap.

    Example:
        >>> bound_gap(torch.tensor(-1.0), torch.tensor(-1.5))
        tensor(0.5000)
    """
    return log_p - log_q


def gaussian_log_density(
    x: Tensor, loc: Tensor, scale: float | Tensor, *, normalized: bool = True
) -> Tensor:
    r"""Log-density of a diagonal Gaussian, summed over the last dimension.

    .. math:: \log N(x; \mu, \sigma^2) = -\sum_d \Big[ \frac{(x_d - \mu_d)^2}{2 \sigma_d^2}
        + \log\sigma_d + \tfrac12 \log 2\pi \Big]

    Args:
        x: where to evaluate, ``[*B, A]``.
        loc: mean, ``[*B, A]``.
        scale: standard deviation > 0, a number or broadcastable to ``[*B, A]``.
        normalized: with False the last two terms, constant where ``scale`` is, are dropped (a
            per-step constant that would reward or punish survival where episodes can end early).
            What is left is no log-density: no bound may be computed from it.

    Returns:
        ``[*B]``, nats.

    Raises:
        ValueError: if ``scale`` is a number <= 0, or if ``normalized=False`` is asked for with a
            scale that is learned (it would grow without limit).

    Example:
        >>> gaussian_log_density(torch.zeros(2), torch.zeros(2), 1.0)
        tensor(-1.8379)
    """
    if not isinstance(scale, Tensor):
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}.")
    elif not normalized and scale.requires_grad:
        raise ValueError(
            "normalized=False needs a constant scale: without its normalizer a learned scale "
            "grows without limit."
        )
    energy = 0.5 * ((x - loc) / scale).square()
    if normalized:
        log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
        energy = energy + (log_scale + 0.5 * math.log(2 * math.pi))
    return -energy.sum(-1)


def categorical_log_density(logits: Tensor, action: Tensor, *, smoothing: float = 0.0) -> Tensor:
    r"""Log-probability of a discrete action, optionally mixed with the uniform distribution.

    .. math:: \log [ (1 - \epsilon)\, \mathrm{softmax}(\mathrm{logits})_a + \epsilon / |A| ]

    Args:
        logits: unnormalized log-probabilities, ``[*B, A]``.
        action: int64 index, ``[*B]``.
        smoothing: epsilon in [0, 1]; a positive one bounds the result from below while it stays a
            normalized probability (clamping would not).

    Returns:
        ``[*B]``, nats.

    Raises:
        ValueError: if ``smoothing`` is outside [0, 1].

    Example:
        >>> categorical_log_density(torch.zeros(4), torch.tensor(2)).exp()
        tensor(0.2500)
    """
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"smoothing must be in [0, 1], got {smoothing}.")
    log_prob = log_softmax(logits, dim=-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)
    if smoothing == 0.0:
        return log_prob
    uniform = torch.full_like(log_prob, smoothing / logits.shape[-1])
    return torch.log((1.0 - smoothing) * log_prob.exp() + uniform)


def mixture_log_prob(own: Tensor, extra: Tensor) -> Tensor:
    r"""Log-density of an action, averaged over its own latent and K extra ones.

    .. math:: \log\pi_K(a|s) = \log \Big[ \frac{1}{K+1} \sum_{k=0}^{K} \pi(a|s, z_k) \Big]

    Minus its expectation is :math:`H_K(a|s) \le H(a|s)`. Per draw only
    :math:`-\log\pi_K \le -\log\pi(a|s, z_0) + \log(K + 1)` holds.

    Args:
        own: log-density under the latent that generated the action, ``[*B]``.
        extra: log-densities of the same action under K more latents, ``[*B, K]``; K = 0 returns
            ``own`` (the paper's form).

    Returns:
        ``[*B]``, nats.

    Example:
        >>> mixture_log_prob(torch.tensor(0.0), torch.tensor([0.0, 0.0]))
        tensor(0.)
    """
    if extra.shape[-1] == 0:
        return own
    return torch.logsumexp(torch.cat((own.unsqueeze(-1), extra), dim=-1), dim=-1) - math.log(
        extra.shape[-1] + 1
    )


def leave_one_out_log_prob(extra: Tensor) -> Tensor:
    r"""Log-density of an action, averaged over the extra latents alone.

    .. math:: H(a|s) \le H_{up,K} = -E \log \Big[ \frac{1}{K} \sum_{k=1}^{K} \pi(a|s, z_k) \Big]

    It gives an upper bound of the entropy, for diagnostics. Never train on it: with ``E log q``
    added, it bounds nothing.

    Args:
        extra: log-densities of the action under K latents independent of it, ``[*B, K]``, K >= 1.

    Returns:
        ``[*B]``, nats.

    Raises:
        ValueError: if K = 0.

    Example:
        >>> leave_one_out_log_prob(torch.zeros(3))
        tensor(0.)
    """
    if extra.shape[-1] == 0:
        raise ValueError("the upper side of the entropy needs at least one extra latent.")
    return torch.logsumexp(extra, dim=-1) - math.log(extra.shape[-1])


def smaller_of_pairs(rows: Tensor) -> Tensor:
    r"""For every pair the smaller of two bounds from above, chosen and reported on different rows.

    .. math:: \tfrac12 ( \bar x^{(2)}_{k_1} + \bar x^{(1)}_{k_2} ), \quad
        k_h = \arg\min_{k \in \{i, j\}} \bar x^{(h)}_k

    Each half of the rows chooses an agent, and the other half says how much it is. The smaller of
    two noisy means would be too small in expectation, and no bound any more where both are near
    zero. What is returned here is in expectation at least the smaller of the two expectations.

    Args:
        rows: estimates from above, such as of :math:`I(a_i; z|s)`, ``[*B, R, N]``, R independent
            rows; a single row gives the mean of both.

    Returns:
        ``[*B, N, N]``; the diagonal is the agent's own mean.

    Example:
        >>> smaller_of_pairs(torch.tensor([[1.0, 3.0], [1.0, 3.0]]))
        tensor([[1., 1.],
                [1., 3.]])
    """
    if rows.shape[-2] < 2:
        mean = rows.mean(-2)
        return 0.5 * (mean.unsqueeze(-1) + mean.unsqueeze(-2))
    halves = rows[..., ::2, :].mean(-2), rows[..., 1::2, :].mean(-2)

    def told(chooses: Tensor, tells: Tensor) -> Tensor:
        of_row = chooses.unsqueeze(-1) <= chooses.unsqueeze(-2)
        return torch.where(of_row, tells.unsqueeze(-1), tells.unsqueeze(-2))

    return 0.5 * (told(*halves) + told(*halves[::-1]))


def latent_variance_share(loc: Tensor, scale: Tensor) -> Tensor:
    r"""Share rho of the (pre-squash) action variance that comes from the latent.

    .. math:: \rho = \frac{\mathrm{tr\,Var}_z E[u|s,z]}{\mathrm{tr\,Var}(u|s)}

    Args:
        loc: means under K draws of the latent, ``[*B, K, N, A]``, K >= 2.
        scale: standard deviations under the same draws, ``[*B, K, N, A]``.

    Returns:
        ``[*B, N]``, in [0, 1].

    Raises:
        ValueError: if K < 2.

    Example:
        >>> loc = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1)
        >>> latent_variance_share(loc, torch.ones(2, 1, 1))
        tensor([0.5000])
    """
    if loc.shape[-3] < 2:
        raise ValueError(f"a variance over latents needs at least two, got {loc.shape[-3]}.")
    between = loc.var(dim=-3, correction=0).sum(-1)
    within = scale.square().mean(dim=-3).sum(-1)
    return between / (between + within)
