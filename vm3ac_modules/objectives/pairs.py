r"""The pair pass of a loss: which log-density trains the policies, which the predictor.

Shapes: ``*B`` batch, ``N`` agents. Source: Kim et al. 2023, arXiv:2303.00451, Eq. (50).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from vm3ac_modules.functional.pairwise import gather_pairs, scatter_others
from vm3ac_modules.objectives.slots import LossNetwork

__all__ = ["REVERSE_MODELS", "PairTerms", "pair_terms", "predictor_loss"]

REVERSE_MODELS = ("own", "partner")
"""Whose model predicts agent i from j."""


class PairTerms(NamedTuple):
    """Log-densities per agent and partner (nats), ``[*B, N, N - 1]`` each, partners ascending."""

    policy: Tensor
    """``log q_i(sg a_j | a_i)`` with a constant predictor: trains the policies, term (b)."""
    partner: Tensor
    """``log q_i(a_j | a_i)``, actions detached: trains the predictor."""
    own: Tensor
    """``log q_i(a_i | a_j)``, actions detached: trains the predictor, term (a)."""


def pair_terms(
    predictor: LossNetwork,
    action: Tensor,
    observation: Tensor,
    reverse_model: Literal["own", "partner"],
) -> PairTerms:
    r"""Evaluate the predictor once per direction and side of Eq. (50).

    The policies' side sees :math:`\xi` as constants and predicts detached actions, so agent i's
    policy is reached through what agent i conditions on and through nothing else. The predictor's
    side sees all actions detached.

    Args:
        predictor: a :class:`~vm3ac_modules.modules.VariationalPredictor` and its parameters.
        action: reparameterized joint action, ``[*B, N, A]``.
        observation: ``[*B, N, O]``.
        reverse_model: ``"own"``: :math:`\log q_i(a_i|a_j)` by agent i's model (the paper);
            ``"partner"``: by agent j's, at half the cost.

    Returns:
        The log-densities, ``[*B, N, N - 1]`` each.
    """
    q, fixed = predictor.module, action.detach()
    with predictor.filled(detach=True):
        policy = q.partner_log_prob(action, fixed, observation)
    with predictor.filled():
        if reverse_model == "partner":
            partner = q.partner_log_prob(fixed, fixed, observation)
            own = gather_pairs(scatter_others(partner).transpose(-1, -2))
            return PairTerms(policy, partner, own)
        return PairTerms(policy, *q.pair_log_prob(fixed, fixed, observation))


def predictor_loss(pairs: PairTerms) -> Tensor:
    r"""Negative log-likelihood of the predictor, averaged over ordered pairs, per transition.

    .. math:: -\frac{1}{N(N-1)} \sum_{i \ne j} [\log q_i(a_j|a_i) + \log q_i(a_i|a_j)]

    Its weight is 1, not beta/N: a small or annealed beta would starve q.

    Args:
        pairs: the log-densities, ``[*B, N, N - 1]`` each.

    Returns:
        ``[*B]``, nats.

    Example:
        >>> ones = torch.ones(5, 2, 1)
        >>> predictor_loss(PairTerms(ones, ones, ones)).shape
        torch.Size([5])
    """
    num_agents, partners = pairs.partner.shape[-2:]
    total = (pairs.partner + pairs.own).sum((-1, -2))
    return total * (-1.0 / max(num_agents * partners, 1))
