r"""The pair pass of a loss: which log-density trains the policies, which the predictor.

An *estimator* of the mutual information between two agents' actions says what holds the place of
:math:`\log q(a_j|a_i)`: with ``"barber_agakov"``, Eq. (6), that itself; with one of
:data:`~vm3ac_modules.functional.contrastive.CONTRASTIVE`

.. math:: \hat I(a_i; a_j|s) + \log\pi_K(a_j|s)

where log q is the score of matched and mismatched pairs. Both have the expectation
:math:`I - H_K(a_j|s)` at their best, so losses and targets read the one like the other.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``M`` mismatched draws. Source: Kim et al. 2023,
arXiv:2303.00451, Eqs. (6), (50).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vm3ac_modules.functional.contrastive import CONTRASTIVE, Contrastive
from vm3ac_modules.functional.pairwise import gather_pairs, scatter_others
from vm3ac_modules.objectives.options import check_choice
from vm3ac_modules.objectives.slots import LossNetwork

__all__ = [
    "ESTIMATORS",
    "REVERSE_MODELS",
    "Contrast",
    "Estimator",
    "PairTerms",
    "check_estimator",
    "of_partners",
    "pair_estimates",
    "pair_terms",
    "predictor_loss",
]

REVERSE_MODELS = ("own", "partner")
"""Whose model predicts agent i from j."""

Estimator = Literal["barber_agakov", "nwj", "infonce", "donsker_varadhan"]
"""What estimates the mutual information of two agents' actions."""

ESTIMATORS = ("barber_agakov", *CONTRASTIVE)
"""The names of the estimators."""


def check_estimator(name: str, num_latents: int) -> Contrastive | None:
    """Refuse an estimator that is not known, or has too few draws to compare with.

    Args:
        name: of the estimator.
        num_latents: extra latents K, under each of which every agent acts once more.

    Returns:
        The bound of matched and mismatched scores; None for ``"barber_agakov"``, which has none.

    Raises:
        ValueError: for an unknown name or too few latents.

    Example:
        >>> check_estimator("infonce", 0)
        Traceback (most recent call last):
        ...
        ValueError: estimator='infonce' compares ... needs num_latents >= 1, got 0.
    """
    check_choice("estimator", name, ESTIMATORS)
    if name == "barber_agakov":
        return None
    found = CONTRASTIVE[name]
    if num_latents < found.least:
        raise ValueError(
            f"estimator={name!r} compares what a partner did with what it would have done in the "
            f"same state under other latents: it needs num_latents >= {found.least}, got "
            f"{num_latents}."
        )
    return found


class Contrast(NamedTuple):
    """What a contrastive estimator compares with, constants all."""

    estimator: Contrastive
    """The bound of matched and mismatched scores."""
    others: Tensor
    """What agents do in the same states under other latents: actions ``[*B, M, N, A]``, or
    log-probabilities of all A actions."""
    log_prob: Tensor
    """``log pi_K`` of what agents did, or its expectation (nats), ``[*B, N]``."""


class PairTerms(NamedTuple):
    """Log-densities per agent and partner (nats), ``[*B, N, N - 1]`` each, partners ascending.

    With a contrastive estimator what holds their place, see the module.
    """

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
    contrast: Contrast | None = None,
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
        contrast: mismatched actions and what compares with them; None for the log-densities
            themselves.

    Returns:
        The log-densities, ``[*B, N, N - 1]`` each.
    """
    if contrast is not None:
        return _contrastive_terms(predictor, action, observation, reverse_model, contrast)
    q, fixed = predictor.module, action.detach()
    with predictor.filled(detach=True):
        policy = q.partner_log_prob(action, fixed, observation)
    with predictor.filled():
        if reverse_model == "partner":
            partner = q.partner_log_prob(fixed, fixed, observation)
            own = gather_pairs(scatter_others(partner).transpose(-1, -2))
            return PairTerms(policy, partner, own)
        return PairTerms(policy, *q.pair_log_prob(fixed, fixed, observation))


def _contrastive_terms(
    predictor: LossNetwork,
    action: Tensor,
    observation: Tensor,
    reverse_model: Literal["own", "partner"],
    contrast: Contrast,
) -> PairTerms:
    """The same sides, each of an estimate instead of a log-density."""
    q, fixed = predictor.module, action.detach().unsqueeze(-3)
    # The predictor's network runs once for all targets of a condition: they only broadcast.
    target = torch.cat((fixed, contrast.others), dim=-3)
    action, observation = action.unsqueeze(-3), observation.unsqueeze(-3)
    of_partner = of_partners(contrast.log_prob)
    of_itself = contrast.log_prob.unsqueeze(-1)

    def estimate(scores: Tensor, *peak: Tensor) -> Tensor:
        matched, mismatched = scores.split((1, scores.shape[-3] - 1), dim=-3)
        peaks = [each.squeeze(-3) for each in peak]
        return contrast.estimator.bound(matched.squeeze(-3), mismatched.movedim(-3, -1), *peaks)

    def of_all_partners(condition: Tensor) -> Tensor:
        targets = [target, None] if contrast.estimator.needs_peak else [target]
        found = (q.partner_log_prob(condition, each, observation) for each in targets)
        return estimate(*found) + of_partner

    with predictor.filled(detach=True):
        policy = of_all_partners(action)
    with predictor.filled():
        if reverse_model == "partner":
            partner = of_all_partners(fixed)
            own = gather_pairs(scatter_others(partner).transpose(-1, -2))
            return PairTerms(policy, partner, own)
        targets = [target, None] if contrast.estimator.needs_peak else [target]
        found = [q.pair_log_prob(fixed, each, observation) for each in targets]
        partner, own = (estimate(*side) for side in zip(*found, strict=True))
        return PairTerms(policy, partner + of_partner, own + of_itself)


def of_partners(values: Tensor) -> Tensor:
    """What belongs to every agent's partners.

    Args:
        values: a value per agent, ``[*B, N]``.

    Returns:
        ``[*B, N, N - 1]``, partners ascending.

    Example:
        >>> of_partners(torch.tensor([0.0, 1.0, 2.0])).tolist()
        [[1.0, 2.0], [0.0, 2.0], [0.0, 1.0]]
    """
    num_agents = values.shape[-1]
    return gather_pairs(values.unsqueeze(-2).expand(*values.shape, num_agents))


def pair_estimates(pairs: PairTerms, log_prob: Tensor) -> Tensor:
    """The estimator's mutual information of a draw, whatever the estimator.

    Args:
        pairs: what :func:`pair_terms` returned.
        log_prob: ``log pi_K`` of what agents did (nats), ``[*B, N]``.

    Returns:
        Constant estimates of I(a_i; a_j | s) by agent i's model (nats), ``[*B, N, N - 1]``.
    """
    return pairs.partner.detach() - of_partners(log_prob.detach())


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
