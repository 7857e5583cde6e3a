r"""How strongly the agents' simultaneous actions depend on each other, given the state.

Actions that follow the state move together across states without any coordination. So every
quantity here is taken within a state first, and averaged over states before it is normalized:

.. math:: C_{pq} = E_s[c_{pq}(s)] / \sqrt{E_s[c_{pp}(s)]\, E_s[c_{qq}(s)]}

Shapes: ``S`` states, ``D`` joint actions drawn in each, ``N`` agents, ``A`` action, ``P = N A``
components of the joint action, ``Z`` outcomes of a categorical latent.

Source: Kim et al. 2023, arXiv:2303.00451, Eq. (5) for the information.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vm3ac_modules.functional.categorical import categorical_entropy
from vm3ac_modules.functional.correlation import marginal_log_prob, pairwise_information

__all__ = [
    "Dependence",
    "information_with_entropy",
    "largest_canonical_correlation",
    "normalized_dependence",
    "within_state_covariance",
]

# Standard deviations below a millionth of an action's size are rounding.
_ROUNDING = 1e-12
# Nats; less is rounding of log-probabilities.
_NO_ENTROPY = 1e-9


class Dependence(NamedTuple):
    """A matrix of normalized dependence and how well it is known."""

    matrix: Tensor
    """``[P, P]``, 1 on the diagonal; nan where a component does not vary in any state."""
    error: Tensor
    """Standard error over the states, ``[P, P]``; 0 on the diagonal, nan for a single state."""


def within_state_covariance(actions: Tensor) -> Tensor:
    r"""Covariance of all components of the joint action over the draws of each state.

    .. math:: c_{pq}(s) = \frac{1}{D - 1} \sum_d (a_{dp} - \bar a_p)(a_{dq} - \bar a_q)

    Args:
        actions: joint actions, each with a fresh common latent, ``[S, D, N, A]``.

    Returns:
        ``[S, P, P]`` in double precision, components agent by agent; exactly 0 where an action
        varies by no more than rounding.

    Raises:
        ValueError: for less than two draws.

    Example:
        >>> actions = torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
        >>> within_state_covariance(torch.cat((actions, -actions), dim=2))
        tensor([[[ 1., -1.],
                 [-1.,  1.]]], dtype=torch.float64)
    """
    draws = actions.shape[1]
    if draws < 2:
        raise ValueError(f"a covariance within a state needs at least two draws, got {draws}.")
    joint = actions.double().flatten(2)
    centered = joint - joint.mean(1, keepdim=True)
    size, spread = (x.square().mean(1, keepdim=True) for x in (joint, centered))
    centered = torch.where(spread > _ROUNDING * size, centered, 0.0)
    return centered.mT @ centered / (draws - 1)


def information_with_entropy(outcomes: Tensor, log_prior: Tensor) -> Tensor:
    r"""Mutual information of every pair's actions, Eq. (5), their entropies on the diagonal.

    For indices of actions this is what a covariance is for numbers: 0 if independent, and no larger
    than both diagonal entries. An average over states cannot cancel, as it is never negative.

    Args:
        outcomes: log-probabilities under every outcome of the latent, ``[Z, S, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.

    Returns:
        ``[S, N, N]`` in double precision, nats.

    Example:
        >>> outcomes = torch.eye(2).log().clamp_min(-1e9)[:, None, None].expand(2, 1, 2, 2)
        >>> information_with_entropy(outcomes, torch.tensor([0.5, 0.5]).log())
        tensor([[[0.6931, 0.6931],
                 [0.6931, 0.6931]]], dtype=torch.float64)
    """
    # Normalized anew: single precision would leave 1e-7 nats of information where there is none.
    outcomes = outcomes.double().log_softmax(-1)
    log_prior = log_prior.double().log_softmax(-1)
    entropy = categorical_entropy(marginal_log_prob(outcomes, log_prior))
    entropy = torch.where(entropy > _NO_ENTROPY, entropy, 0.0)
    return pairwise_information(outcomes, log_prior) + torch.diag_embed(entropy)


def normalized_dependence(parts: Tensor) -> Dependence:
    r"""Average over states, then normalize by the diagonal: C of the module's formula.

    The error is that of a ratio of means, to first order.

    Args:
        parts: of :func:`within_state_covariance` or :func:`information_with_entropy`,
            ``[S, P, P]``.

    Returns:
        The matrix and its standard error.

    Example:
        >>> parts = torch.tensor([[[4.0, 1.0], [1.0, 1.0]]])
        >>> normalized_dependence(parts).matrix
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    states, mean = len(parts), parts.mean(0)
    own = mean.diagonal()
    own = torch.where(own > 0.0, own, torch.nan)
    norm = (own.unsqueeze(-1) * own).sqrt()
    matrix = mean / norm
    if states < 2:
        return Dependence(matrix, torch.full_like(matrix, torch.nan))
    relative = parts.diagonal(dim1=-2, dim2=-1) / own
    shrink = 0.5 * (relative.unsqueeze(-1) + relative.unsqueeze(-2))
    influence = parts / norm - matrix * shrink
    return Dependence(matrix, influence.std(0) / math.sqrt(states))


def largest_canonical_correlation(matrix: Tensor, num_agents: int) -> Tensor:
    r"""One number per pair of agents from the correlations of their actions' components.

    .. math:: \max_{u, v} \mathrm{corr}(u^\top a_i, v^\top a_j)
        = \sigma_{\max}(C_{ii}^{-1/2} C_{ij} C_{jj}^{-1/2})

    It does not depend on the axes in which an action is written, is the absolute correlation
    where A = 1, and vanishes only where all cross correlations do. Being a maximum it is never
    negative: compare it with what independent draws give. Of one Gaussian's correlations it bounds
    the information from below, by ``-1/2 log(1 - c^2)``; averaged over states whose covariances
    differ it bounds nothing.

    References:
        Hotelling 1936, "Relations between two sets of variates", Biometrika 28.

    Args:
        matrix: correlations, ``[N A, N A]``, agent by agent.
        num_agents: number of agents N.

    Returns:
        ``[N, N]`` in [0, 1], 1 on the diagonal; nan for an agent whose action does not vary.

    Example:
        >>> matrix = torch.tensor([[1.0, -0.8], [-0.8, 1.0]])
        >>> largest_canonical_correlation(matrix, num_agents=2)
        tensor([[1.0000, 0.8000],
                [0.8000, 1.0000]])
    """
    size = (num_agents, matrix.shape[-1] // num_agents)
    blocks = matrix.nan_to_num(0.0).reshape(*size, *size)
    values, vectors = torch.linalg.eigh(blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    # Components that are copies of each other, or constant, span fewer directions.
    kept = values > 1e-6
    scales = torch.where(kept, values.clamp_min(1e-6).rsqrt(), 0.0)
    whiten = vectors * scales.unsqueeze(-2) @ vectors.mT
    cross = torch.einsum("iab,ibjc,jcd->ijad", whiten, blocks, whiten)
    largest = torch.linalg.svdvals(cross)[..., 0].clamp_max(1.0)
    varies = kept.any(-1)
    return torch.where(varies.unsqueeze(-1) & varies, largest, torch.nan)
