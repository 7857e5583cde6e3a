r"""Bounds of mutual information from scores of matched and mismatched pairs of actions.

A matched pair (a_i, a_j) was drawn together, under one latent; in a mismatched one a_j was drawn in
the SAME state under another latent, so it knows nothing of a_i. A score f is any function of the
pair; the best one is the log-ratio :math:`\log p(a_j|a_i, s) / p(a_j|s)`, up to what each bound
says. ``log q(a_j|a_i, s)`` is such a score. No entropy and no density of the policy is needed.

Shapes: ``*B`` batch, ``M`` mismatched draws. Everything is in nats.

Sources: Nguyen, Wainwright and Jordan 2010, arXiv:0809.0853 (NWJ); Donsker and Varadhan 1983;
van den Oord, Li and Vinyals 2018, arXiv:1807.03748 (InfoNCE); Cheng et al. 2020, arXiv:2006.12013
(CLUB); Poole et al. 2019, "On Variational Bounds of Mutual Information", arXiv:1905.06922.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CONTRASTIVE",
    "Contrastive",
    "club_bound",
    "donsker_varadhan_bound",
    "held_out_nwj_bound",
    "infonce_bound",
    "nwj_bound",
]


def _check(name: str, mismatched: Tensor, least: int) -> None:
    if mismatched.shape[-1] < least:
        raise ValueError(
            f"{name} needs at least {least} mismatched draws per pair, got "
            f"{mismatched.shape[-1]} (shape {list(mismatched.shape)})."
        )


def infonce_bound(matched: Tensor, mismatched: Tensor) -> Tensor:
    r"""InfoNCE: which of M + 1 actions belongs to a_i; a lower bound for every score and every M.

    .. math:: I \ge E\Big[ f(a_i, a_j) - \log \frac{1}{M + 1} \sum_{m=0}^{M} e^{f(a_i, a_j^m)} \Big]
        \le \log(M + 1), \quad a_j^0 = a_j

    The best score is the log-ratio plus any function of a_i. What exceeds ``log(M + 1)`` is not
    seen, however good the score.

    References:
        van den Oord, Li and Vinyals 2018, arXiv:1807.03748; Poole et al. 2019, arXiv:1905.06922.

    Args:
        matched: scores of matched pairs, ``[*B]``.
        mismatched: scores of mismatched pairs, ``[*B, M]``, M >= 1.

    Returns:
        The summand per draw, ``[*B]``; its mean is the bound.

    Raises:
        ValueError: for M = 0.

    Example:
        >>> infonce_bound(torch.tensor(9.0), torch.tensor([-1.0, -1.0, -1.0])).exp()
        tensor(3.9995)

    See Also:
        :func:`donsker_varadhan_bound`, which has no such ceiling and is biased instead.
    """
    _check("InfoNCE", mismatched, 1)
    total = torch.logaddexp(matched, torch.logsumexp(mismatched, dim=-1))
    return matched - total + math.log(mismatched.shape[-1] + 1)


def nwj_bound(matched: Tensor, mismatched: Tensor, offset: float | Tensor = 0.0) -> Tensor:
    r"""NWJ: an unbiased lower bound for every score, with a spread that grows like e^I.

    .. math:: I \ge 1 + E[f(a_i, a_j) - c] - E_{a_j'} e^{f(a_i, a_j') - c}

    equal to I where f - c is the log-ratio.

    References:
        Nguyen, Wainwright and Jordan 2010, arXiv:0809.0853; Poole et al. 2019, arXiv:1905.06922.

    Args:
        matched: scores of matched pairs, ``[*B]``.
        mismatched: scores of mismatched pairs, ``[*B, M]``, M >= 1.
        offset: c, a number or ``[*B]``: anything that does not depend on these draws of a_j.

    Returns:
        The summand per draw, ``[*B]``; its mean is the bound.

    Raises:
        ValueError: for M = 0.

    Example:
        >>> nwj_bound(torch.tensor(0.0), torch.zeros(3))
        tensor(0.)

    See Also:
        :func:`held_out_nwj_bound`, for scores that are log-ratios up to a function of a_i only.
    """
    _check("NWJ", mismatched, 1)
    return 1.0 + matched - offset - (mismatched - _last(offset)).exp().mean(-1)


def _last(offset: float | Tensor) -> float | Tensor:
    return offset.unsqueeze(-1) if isinstance(offset, Tensor) else offset


def held_out_nwj_bound(matched: Tensor, mismatched: Tensor, peak: Tensor) -> Tensor:
    r"""NWJ whose offset comes from one half of the mismatched draws, and from the score's peak.

    .. math:: c = \log \frac{1}{H + 1} \Big[ e^{\max_a f(a_i, a)} + \sum_{m=1}^{H} e^{f(a_i, a_j^m)}
        \Big], \quad H = \lfloor M/2 \rfloor

    The other half is what :func:`nwj_bound` averages over, so c knows nothing of its draws and the
    bound is valid and unbiased for every score. A log-density ``log q(a_j|a_i)`` needs an offset:
    it is a log-ratio only up to a function of a_i. The peak keeps c from being far too small where
    no draw came near, for which the exponential would pay beyond all limits; with it no summand
    is below ``-H`` less how unlikely q held the matched pair, and none above ``1 + log(H + 1)``.

    References:
        Poole et al. 2019, arXiv:1905.06922, Section 2.2 (there with a learned c).

    Args:
        matched: scores of matched pairs, ``[*B]``.
        mismatched: scores of mismatched pairs, ``[*B, M]``, M >= 2.
        peak: what no score of a_i exceeds, ``[*B]``.

    Returns:
        The summand per draw, ``[*B]``; its mean is the bound.

    Raises:
        ValueError: for M < 2.

    Example:
        >>> held_out_nwj_bound(torch.tensor(5.0), torch.full((4,), 5.0), torch.tensor(5.0))
        tensor(0.)
    """
    _check("NWJ with a held-out offset", mismatched, 2)
    half = mismatched.shape[-1] // 2
    held_out = torch.logsumexp(mismatched[..., :half], dim=-1)
    offset = torch.logaddexp(held_out, peak) - math.log(half + 1)
    return nwj_bound(matched, mismatched[..., half:], offset)


def donsker_varadhan_bound(matched: Tensor, mismatched: Tensor) -> Tensor:
    r"""Donsker-Varadhan, given a_i: tight, but from M draws it is too LARGE in expectation.

    .. math:: I \ge E\big[ f(a_i, a_j) - \log E_{a_j'} e^{f(a_i, a_j')} \big]

    With M draws in place of the inner expectation the log makes the estimate too large by about
    :math:`\mathrm{Var}(e^f) / (2 M (E e^f)^2)`: it is a bound for M to infinity only, and no
    certificate (the falsifier refuses it). The best score is the log-ratio plus any function of
    a_i. It is never below :func:`nwj_bound` on the same draws.

    References:
        Donsker and Varadhan 1983, "Asymptotic evaluation of certain Markov process expectations for
        large time IV"; Belghazi et al. 2018, arXiv:1801.04062 (MINE, with one log for all a_i).

    Args:
        matched: scores of matched pairs, ``[*B]``.
        mismatched: scores of mismatched pairs, ``[*B, M]``, M >= 1.

    Returns:
        The summand per draw, ``[*B]``.

    Raises:
        ValueError: for M = 0.

    Example:
        >>> donsker_varadhan_bound(torch.tensor(2.0), torch.tensor([0.0, 0.0]))
        tensor(2.)
    """
    _check("Donsker-Varadhan", mismatched, 1)
    return matched - torch.logsumexp(mismatched, dim=-1) + math.log(mismatched.shape[-1])


def club_bound(log_q: Tensor, mismatched: Tensor) -> Tensor:
    r"""CLUB: an UPPER bound of mutual information, if log q is the true conditional.

    .. math:: I \le E \log p(a_j|a_i) - E_{a_j'} \log p(a_j'|a_i)

    With any other q it bounds nothing: it may lie on either side. That is why no loss and no
    diagnostic here uses it: the bracket of
    :func:`~vm3ac_modules.objectives.estimate_information` has an upper side that holds for every q.

    References:
        Cheng et al. 2020, "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information",
        arXiv:2006.12013.

    Args:
        log_q: log-densities of matched pairs, ``[*B]``.
        mismatched: log-densities of mismatched pairs, ``[*B, M]``, M >= 1.

    Returns:
        The summand per draw, ``[*B]``.

    Raises:
        ValueError: for M = 0.

    Example:
        >>> club_bound(torch.tensor(-1.0), torch.tensor([-2.0, -4.0]))
        tensor(2.)
    """
    _check("CLUB", mismatched, 1)
    return log_q - mismatched.mean(-1)


class Contrastive(NamedTuple):
    """A lower bound that a predictor's log-density can serve as a score of."""

    bound: Callable[..., Tensor]
    """Of matched ``[*B]`` and mismatched ``[*B, M]`` scores: the summand per draw, ``[*B]``."""
    least: int
    """Smallest number M of mismatched draws with which it says anything."""
    needs_peak: bool = False
    """Whether it also takes what no score of the condition exceeds, ``[*B]``."""


CONTRASTIVE: Final[dict[str, Contrastive]] = {
    "nwj": Contrastive(held_out_nwj_bound, 2, needs_peak=True),
    "infonce": Contrastive(infonce_bound, 1),
    # From a single draw it is a difference of scores, which has no upper limit at all.
    "donsker_varadhan": Contrastive(donsker_varadhan_bound, 2),
}
"""Lower bounds that need no entropy, by name: the estimators of the losses."""
