r"""Correlation of discrete joint actions given a categorical latent, by enumeration.

Shapes: ``Z`` outcomes of the latent, ``*B`` batch, ``N`` agents, ``A`` actions. Everything is in
nats. Given the latent agents act independently,
:math:`p(a_i, a_j) = \sum_z p(z) \pi_i(a_i|z) \pi_j(a_j|z)`.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (5), (7), Appendix G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vm3ac_modules.functional.categorical import ILLEGAL, categorical_entropy
from vm3ac_modules.functional.pairwise import fill_diagonal_zero

__all__ = [
    "action_latent_information",
    "marginal_log_prob",
    "pairwise_information",
    "predicted_pairs",
]


def marginal_log_prob(outcomes: Tensor, log_prior: Tensor) -> Tensor:
    r"""Marginal policies, Eq. (7): :math:`\log \sum_z p(z) \pi_i(a | z)`.

    Args:
        outcomes: log-probabilities under every outcome, ``[Z, *B, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.

    Returns:
        ``[*B, N, A]``, nats.

    Example:
        >>> outcomes = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).log().clamp_min(-1e9)
        >>> marginal_log_prob(outcomes, torch.tensor([0.5, 0.5]).log()).exp()
        tensor([[0.5000, 0.5000]])
    """
    weights = log_prior.reshape(-1, *(1,) * (outcomes.ndim - 1))
    mixed = torch.logsumexp(outcomes + weights, dim=0)
    # Illegal under every outcome: the number stays the one that says so.
    largest = outcomes.amax(0)
    return torch.where(largest > 0.5 * ILLEGAL, mixed, largest)


def action_latent_information(outcomes: Tensor, log_prior: Tensor) -> Tensor:
    r"""Information of each agent's action about the latent, :math:`I(a_i; z | s)`.

    .. math:: I(a_i; z | s) = H(a_i | s) - E_z H(a_i | s, z) \le \log Z

    An upper bound of the information that the actions of two agents have about each other.

    Args:
        outcomes: log-probabilities under every outcome, ``[Z, *B, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.

    Returns:
        ``[*B, N]``, nats.

    Example:
        >>> outcomes = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).log().clamp_min(-1e9)
        >>> action_latent_information(outcomes, torch.tensor([0.5, 0.5]).log())
        tensor([0.6931])
    """
    conditional: Tensor = torch.tensordot(log_prior.exp(), categorical_entropy(outcomes), dims=1)
    entropy = categorical_entropy(marginal_log_prob(outcomes, log_prior))
    return entropy - conditional


def pairwise_information(outcomes: Tensor, log_prior: Tensor) -> Tensor:
    r"""Mutual information of the simultaneous actions of every pair, Eq. (5), exact.

    .. math:: I(a_i; a_j | s) = H(a_i | s) + H(a_j | s) - H(a_i, a_j | s)

    Args:
        outcomes: log-probabilities under every outcome, ``[Z, *B, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.

    Returns:
        ``[*B, N, N]``, nats; the diagonal is 0.

    Example:
        >>> outcomes = torch.eye(3).log().clamp_min(-1e9)[:, None].expand(3, 2, 3)
        >>> pairwise_information(outcomes, torch.full((3,), 1 / 3).log())
        tensor([[0.0000, 1.0986],
                [1.0986, 0.0000]])
    """
    probs = outcomes.exp()
    joint: Tensor = torch.einsum("z,z...ia,z...jb->...ijab", log_prior.exp(), probs, probs)
    entropy = -torch.special.xlogy(joint, joint).sum((-1, -2))
    own = categorical_entropy(marginal_log_prob(outcomes, log_prior))
    information: Tensor = own.unsqueeze(-1) + own.unsqueeze(-2) - entropy
    num_agents = information.shape[-1]
    itself = torch.eye(num_agents, dtype=torch.bool, device=information.device)
    return information.masked_fill(itself, 0.0)


def predicted_pairs(log_q: Tensor, action: Tensor) -> Tensor:
    """How well every partner's action was predicted, ``log q(a_j | a_i)``.

    Args:
        log_q: predictions of all actions of everyone from each one's action,
            ``[*B, N, N, A]``.
        action: what was done, int64 ``[*B, N]``.

    Returns:
        ``[*B, N, N]``, nats; the diagonal is 0.

    Example:
        >>> predicted_pairs(torch.full((2, 2, 3), -1.0), torch.tensor([0, 2]))
        tensor([[ 0., -1.],
                [-1.,  0.]])
    """
    index = action[..., None, :, None].expand(*log_q.shape[:-1], 1)
    return fill_diagonal_zero(log_q.gather(-1, index).squeeze(-1))
