r"""Social influence: how far an agent's action moves what it expects of the others next.

Shapes: ``*B`` batch, ``N`` agents, ``P = N - 1`` partners, ``M`` counterfactuals, ``A`` action, all
in units in which actions have half range 1.

Source: Jaques et al. 2019, "Social Influence as Intrinsic Motivation for Multi-Agent Deep
Reinforcement Learning", arXiv:1810.08647, Eq. (1), for Gaussian models of the others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["INFLUENCE_FORMS", "influence"]

INFLUENCE_FORMS = ("moments", "fixed", "samples")
"""How the marginal over counterfactual actions is described."""


def influence(
    mean: Tensor,
    counterfactual: Tensor,
    sigma: float,
    *,
    form: str = "moments",
    noise: Tensor | None = None,
) -> Tensor:
    r"""Divergence of the predicted next actions from their marginal over one's own action.

    .. math:: c_i = \sum_{j \ne i} D_{KL}\big(p(a'_j | a_i, a_{-i}, o_i) \,\|\,
        \textstyle\frac1M \sum_m p(a'_j | \tilde a_{i,m}, a_{-i}, o_i)\big), \quad
        p = \mathcal N(\mu, \sigma^2)

    ``"moments"`` replaces the mixture by the Gaussian with its mean and variance (closed form),
    ``"fixed"`` by one with its mean and :math:`\sigma^2`, ``"samples"`` keeps the mixture and
    estimates the divergence from draws.

    Args:
        mean: predicted mean given the action taken, ``[*B, N, P, A]``.
        counterfactual: predicted means given other actions, ``[*B, M, N, P, A]``.
        sigma: standard deviation of the model, > 0.
        form: ``"moments"``, ``"fixed"`` or ``"samples"``.
        noise: standard normals ``[*B, L, N, P, A]``, for ``"samples"``.

    Returns:
        ``[*B, N]``, nats; not negative for the closed forms.

    Raises:
        ValueError: for an unknown form, or ``"samples"`` without noise.

    Example:
        >>> mean = torch.full((1, 2, 1, 1), 0.5)
        >>> influence(mean, torch.zeros(1, 4, 2, 1, 1), 0.5, form="fixed")
        tensor([[0.5000, 0.5000]])
    """
    if form not in INFLUENCE_FORMS:
        raise ValueError(f"influence form must be one of {INFLUENCE_FORMS}, got {form!r}.")
    if form == "samples":
        if noise is None:
            raise ValueError("form='samples' needs noise.")
        return _sampled(mean, counterfactual, sigma, noise)
    center, variance = counterfactual.mean(-4), sigma**2
    shift = (mean - center).square()
    if form == "fixed":
        return (shift / (2.0 * variance)).sum((-1, -2))
    # Not var(), which warns where there is no partner.
    spread = variance + (counterfactual - center.unsqueeze(-4)).square().mean(-4)
    divergence = (spread / variance).log() + (variance + shift) / spread - 1.0
    return 0.5 * divergence.sum((-1, -2))


def _sampled(mean: Tensor, counterfactual: Tensor, sigma: float, noise: Tensor) -> Tensor:
    draws = mean.unsqueeze(-4) + sigma * noise
    own = -0.5 * noise.square().sum(-1)
    # [*B, L, M, N, P, A]: every draw under every component.
    offsets = (draws.unsqueeze(-4) - counterfactual.unsqueeze(-5)) / sigma
    components = -0.5 * offsets.square().sum(-1)
    mixture = torch.logsumexp(components, dim=-3) - math.log(counterfactual.shape[-4])
    return (own - mixture).mean(-3).sum(-1)
