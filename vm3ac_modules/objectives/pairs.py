r"""The pair pass of a loss: which log-density trains the policies, which the predictor.

An *estimator* of the mutual information between two agents' actions says what holds the place of
:math:`\log q(a_j|a_i)`: with ``"barber_agakov"``, Eq. (6), that itself; with one of
:data:`~vm3ac_modules.functional.contrastive.CONTRASTIVE`

.. math:: \hat I(a_i; a_j|s) + \log\pi_K(a_j|s)

where log q is the score of matched and mismatched pairs. Both have the expectation
:math:`I - H_K(a_j|s)` at their best, so losses and targets read the one like the other.

Of N - 1 partners per agent k may be drawn anew for every transition; the sum over them, weighed by
(N - 1)/k, has the expectation of the sum over all, and so has its gradient.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``M`` mismatched draws, ``k`` partners per agent.
Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (6), (11), (50).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vm3ac_modules.functional.contrastive import CONTRASTIVE, Contrastive
from vm3ac_modules.functional.pairwise import (
    gather_pairs,
    gather_partners,
    partners_at,
    scatter_others,
)
from vm3ac_modules.functional.soft_value import pair_weight
from vm3ac_modules.objectives.options import check_choice
from vm3ac_modules.objectives.slots import LossNetwork

__all__ = [
    "ESTIMATORS",
    "REVERSE_MODELS",
    "Contrast",
    "Estimator",
    "PairTerms",
    "bonus_weight",
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
    """Log-densities per agent and partner (nats), ``[*B, N, k]`` each.

    All k = N - 1 partners, ascending, or those at the offsets that were drawn; with a contrastive
    estimator what holds their place, see the module.
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
    offsets: Tensor | None = None,
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
            ``"partner"``: by agent j's, at half the cost if all partners enter.
        contrast: mismatched actions and what compares with them; None for the log-densities
            themselves.
        offsets: which partners enter, ``[*B, k]`` of :func:`draw_offsets`; None for all.

    Returns:
        The log-densities, ``[*B, N, k]`` each.
    """
    fixed, num_agents = action.detach(), action.shape[-2]
    partners = None if offsets is None else partners_at(offsets, num_agents)

    def score(condition: Tensor, partners: Tensor | None, both: bool = False) -> Sequence[Tensor]:
        if contrast is not None:
            inputs = condition, fixed, observation
            return _estimates(predictor.module, inputs, contrast, partners, both)
        return _log_densities(predictor.module, condition, fixed, observation, partners, both)

    with predictor.filled(detach=True):
        [policy] = score(action, partners)
    with predictor.filled():
        if reverse_model == "own":
            return PairTerms(policy, *score(fixed, partners, both=True))
        if offsets is None or partners is None:
            [partner] = score(fixed, None)
            own = gather_pairs(scatter_others(partner).transpose(-1, -2))
            return PairTerms(policy, partner, own)
        # Partner j = i + d predicts agent i, which stands N - d places behind it.
        around = partners_at(torch.cat((offsets, num_agents - offsets), dim=-1), num_agents)
        partner, backward = score(fixed, around)[0].chunk(2, dim=-1)
        return PairTerms(policy, partner, torch.take_along_dim(backward, partners, dim=-2))


def _log_densities(
    q: Any,
    condition: Tensor,
    target: Tensor | None,
    observation: Tensor,
    partners: Tensor | None,
    both: bool,
) -> Sequence[Tensor]:
    """Of partners by every agent and, with ``both``, of itself by each partner's action."""
    if both:
        found: Sequence[Tensor] = q.pair_log_prob(condition, target, observation, partners=partners)
        return found
    return [q.partner_log_prob(condition, target, observation, partners=partners)]


def _estimates(
    q: Any,
    inputs: tuple[Tensor, Tensor, Tensor],
    contrast: Contrast,
    partners: Tensor | None,
    both: bool,
) -> list[Tensor]:
    """The same sides, each of an estimate instead of a log-density."""
    condition, fixed, observation = (x.unsqueeze(-3) for x in inputs)
    rows = None if partners is None else partners.unsqueeze(-3)
    # The predictor's network runs once for all targets of a condition: they only broadcast.
    target = torch.cat((fixed, contrast.others), dim=-3)
    targets = [target, None] if contrast.estimator.needs_peak else [target]
    found = [_log_densities(q, condition, each, observation, rows, both) for each in targets]
    log_prob = [of_partners(contrast.log_prob, partners), contrast.log_prob.unsqueeze(-1)]
    sides = zip(zip(*found, strict=True), log_prob, strict=False)
    return [_estimate(contrast, *scores) + of_target for scores, of_target in sides]


def _estimate(contrast: Contrast, scores: Tensor, *peak: Tensor) -> Tensor:
    matched, mismatched = scores.split((1, scores.shape[-3] - 1), dim=-3)
    peaks = [each.squeeze(-3) for each in peak]
    return contrast.estimator.bound(matched.squeeze(-3), mismatched.movedim(-3, -1), *peaks)


def of_partners(values: Tensor, partners: Tensor | None = None) -> Tensor:
    """What belongs to every agent's partners.

    Args:
        values: a value per agent, ``[*B, N]``.
        partners: numbers of agents, ``[*B, N, k]``; None for all, ascending.

    Returns:
        ``[*B, N, k]``.

    Example:
        >>> of_partners(torch.tensor([0.0, 1.0, 2.0])).tolist()
        [[1.0, 2.0], [0.0, 2.0], [0.0, 1.0]]
    """
    if partners is not None:
        return gather_partners(values.unsqueeze(-1), partners).squeeze(-1)
    num_agents = values.shape[-1]
    return gather_pairs(values.unsqueeze(-2).expand(*values.shape, num_agents))


def pair_estimates(pairs: PairTerms, log_prob: Tensor, offsets: Tensor | None = None) -> Tensor:
    """The estimator's mutual information of a draw, whatever the estimator.

    Args:
        pairs: what :func:`pair_terms` returned.
        log_prob: ``log pi_K`` of what agents did (nats), ``[*B, N]``.
        offsets: which partners enter, ``[*B, k]``; None for all.

    Returns:
        Constant estimates of I(a_i; a_j | s) by agent i's model (nats), ``[*B, N, k]``.
    """
    partners = None if offsets is None else partners_at(offsets, log_prob.shape[-1])
    return pairs.partner.detach() - of_partners(log_prob.detach(), partners)


def bonus_weight(pairs: PairTerms, kind: Literal["paper", "mean"]) -> float:
    r"""Weight of every pair in a bonus: the algorithm's, times (N - 1)/k.

    Args:
        pairs: the log-densities, ``[*B, N, k]`` each.
        kind: ``"paper"`` for 1/N, ``"mean"`` for 1/(N - 1), see
            :func:`~vm3ac_modules.functional.pair_weight`.

    Returns:
        The weight.

    Example:
        >>> ones = torch.ones(5, 4, 1)
        >>> bonus_weight(PairTerms(ones, ones, ones), "paper")
        0.75
    """
    num_agents, partners = pairs.policy.shape[-2:]
    return pair_weight(num_agents, kind) * ((num_agents - 1) / partners if partners else 1.0)


def predictor_loss(pairs: PairTerms) -> Tensor:
    r"""Negative log-likelihood of the predictor, averaged over the ordered pairs that entered.

    .. math:: -\frac{1}{N(N-1)} \sum_{i \ne j} [\log q_i(a_j|a_i) + \log q_i(a_i|a_j)]

    Its weight is 1, not beta/N: a small or annealed beta would starve q.

    Args:
        pairs: the log-densities, ``[*B, N, k]`` each.

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
