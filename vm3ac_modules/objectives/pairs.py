r"""The pair pass of a loss: which log-density trains the policies, which the predictor.

Shapes: ``*B`` batch, ``N`` agents. Source: Kim et al. 2023, arXiv:2303.00451, Eq. (50).
"""

from __future__ import annotations

from typing import Literal

from tensordict import TensorDictParams
from torch import Tensor

from vm3ac_modules.functional.pairwise import gather_pairs, scatter_others
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.regularizers import PairTerms
from vm3ac_modules.objectives.slots import ParameterSlots

__all__ = ["REVERSE_MODELS", "check_predictor", "pair_terms", "predictor_loss"]

REVERSE_MODELS = ("own", "partner")
"""Whose model predicts agent i from j."""


def check_predictor(predictor: object, reverse_model: str, owner: str) -> None:
    """Check what a loss was given as a predictor.

    Args:
        predictor: the predictor.
        reverse_model: which model predicts agent i from j.
        owner: name of the loss, for the message.

    Raises:
        ValueError: if there is none, or ``reverse_model`` is unknown.
    """
    if predictor is None:
        raise ValueError(f"{owner} needs a predictor_network: build a VariationalPredictor.")
    if reverse_model not in REVERSE_MODELS:
        raise ValueError(f"reverse_model must be one of {REVERSE_MODELS}, got {reverse_model!r}.")


def pair_terms(
    predictor: VariationalPredictor,
    slots: ParameterSlots,
    params: TensorDictParams,
    action: Tensor,
    observation: Tensor,
    reverse_model: Literal["own", "partner"],
) -> PairTerms:
    r"""Evaluate the predictor once per direction and side of Eq. (50).

    The policies' side sees :math:`\xi` as constants and predicts detached actions, so agent i's
    policy is reached through what agent i conditions on and through nothing else. The predictor's
    side sees all actions detached.

    Args:
        predictor: the predictor.
        slots: where the predictor keeps its parameters.
        params: its parameters.
        action: reparameterized joint action, ``[*B, N, A]``.
        observation: ``[*B, N, O]``.
        reverse_model: ``"own"``: :math:`\log q_i(a_i|a_j)` by agent i's model (the paper);
            ``"partner"``: by agent j's, at half the cost.

    Returns:
        The log-densities, ``[*B, N, N - 1]`` each.
    """
    fixed = action.detach()
    with slots.filled(params, detach=True):
        policy = predictor.partner_scores(action, fixed, observation)
    with slots.filled(params):
        if reverse_model == "partner":
            partner = predictor.partner_scores(fixed, fixed, observation)
            own = gather_pairs(scatter_others(partner).transpose(-1, -2))
            return PairTerms(policy, partner, own)
        return PairTerms(policy, *predictor.pair_scores(fixed, fixed, observation))


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
