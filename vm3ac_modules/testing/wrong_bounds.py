"""Wrong bounds of mutual information, by name: what a falsifier has to catch.

Each is a mistake that was made, or is easily made. ``docs/falsifier.md`` has a table of how many
games it takes to catch each. Everything is in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from vm3ac_modules.functional.contrastive import infonce_bound
from vm3ac_modules.testing.oracles import Game, LinearGaussianGame, LinearPredictor
from vm3ac_modules.testing.sampled import sampled_bound
from vm3ac_modules.testing.tabular import TabularGame

__all__ = ["WRONG_BOUNDS", "log_ratio", "too_large"]

AnyBound = Callable[[Any], "float | Tensor"]


def too_large(share: float, above: float, kind: type[Game] = Game) -> AnyBound:
    """A bound that is exact, but too large by a share where there is much information.

    Args:
        share: the excess as a share of the information.
        above: information (nats) above which it is too large.
        kind: of game in which it is.

    Returns:
        A function of a game.

    Example:
        >>> from vm3ac_modules.testing import TabularGame
        >>> from vm3ac_modules.testing.wrong_bounds import too_large
        >>> same = torch.eye(2).double()
        >>> game = TabularGame(torch.tensor([0.5, 0.5]).double(), (same, same))
        >>> round(float(too_large(0.5, 0.1)(game) / game.mutual_information(0, 1)), 4)
        1.5
    """

    def bound(game: Game) -> Tensor:
        exact = game.mutual_information(0, 1)
        wrong = isinstance(game, kind) and bool(exact > above)
        return exact * (1.0 + share) if wrong else exact

    return bound


def log_ratio(game: Any) -> Callable[[Tensor, Tensor], Tensor]:
    r"""The best score of a pair of actions, :math:`\log p(a_1|a_0) / p(a_1)`.

    Args:
        game: a tabular or linear-Gaussian game.

    Returns:
        ``score(target, condition) -> [M]``, for :func:`~vm3ac_modules.testing.sampled_bound`.

    Example:
        >>> from vm3ac_modules.testing import TabularGame
        >>> from vm3ac_modules.testing.wrong_bounds import log_ratio
        >>> same = torch.eye(2).double()
        >>> game = TabularGame(torch.tensor([0.5, 0.5]).double(), (same, same))
        >>> log_ratio(game)(torch.tensor([0, 1]), torch.tensor([0, 0]))
        tensor([0.6931,   -inf], dtype=torch.float64)
    """
    if isinstance(game, TabularGame):
        table = game.conditional(1, given=0).log() - game.marginal(1).log()
        return lambda target, condition: table[condition, target]
    q = game.conditional(1, given=0)
    marginal = LinearPredictor(torch.zeros_like(q.matrix), game.offset[1], game.covariance(1, 1))
    return lambda target, condition: (
        q.log_prob(target, condition) - marginal.log_prob(target, condition)
    )


def _exact(game: Game) -> Tensor:
    return game.mutual_information(0, 1)


def _clamped(game: Any, kind: type[Game] = Game) -> Tensor:
    """Log q is the true conditional, clamped at -4: forgiven is what it holds for rare."""
    exact, q = _exact(game), game.conditional(1, given=0)
    if not isinstance(game, kind):
        return exact
    if isinstance(game, TabularGame):
        forgiven = torch.where(game.joint(0, 1) > 0, (-4.0 - q.log()).clamp(min=0.0), 0.0)
        return exact + (game.joint(0, 1) * forgiven).sum()
    draws = game.sample(1024, torch.Generator().manual_seed(0))
    return exact + (-4.0 - q.log_prob(draws[:, 1], draws[:, 0])).clamp(min=0.0).mean()


def _swapped(game: Any) -> Tensor:
    """q(a_1 | a_0) is read as q(a_0 | a_1)."""
    q = game.conditional(1, given=0)
    if isinstance(game, TabularGame) and q.shape[0] != q.shape[1]:
        return torch.zeros(())  # would have raised
    return game.entropy(1) + game.expected_log_q(1, 0, q)


def _unnormalized(game: Any) -> Tensor:
    """Log q is what a network put out: its normalizer is missing."""
    q = game.conditional(1, given=0)
    if isinstance(game, TabularGame):
        return game.bound(0, 1, q / q.amax(-1, keepdim=True))
    missing = 0.5 * (len(q.offset) * math.log(2 * math.pi) + q.covariance.logdet())
    return game.bound(0, 1, q) + missing


def _least_actions(game: Any) -> int:
    if isinstance(game, TabularGame):
        return min(len(game.marginal(0)), len(game.marginal(1)))
    return game.offset.shape[-1]


def _num_agents(game: Any) -> int:
    return len(game.policies) if isinstance(game, TabularGame) else len(game.offset)


def _without_the_matched(matched: Tensor, mismatched: Tensor) -> Tensor:
    """InfoNCE whose sum forgot the matched pair, and with it the ceiling of log K."""
    return matched - torch.logsumexp(mismatched, -1) + math.log(mismatched.shape[-1])


def _log_k_twice(matched: Tensor, mismatched: Tensor) -> Tensor:
    return infonce_bound(matched, mismatched) + math.log(mismatched.shape[-1] + 1)


def _sampled(contrast: Callable[[Tensor, Tensor], Tensor]) -> AnyBound:
    # In a tabular game its infinities would give it away at once.
    return lambda game: (
        sampled_bound(log_ratio(game), contrast=contrast, num_samples=512, num_mismatched=8)(game)
        if isinstance(game, LinearGaussianGame)
        else 0.0
    )


WRONG_BOUNDS: Final[dict[str, AnyBound]] = {
    "50% too large above 0.1 nats": too_large(0.5, 0.1),
    "50% too large above 0.1 nats, tabular": too_large(0.5, 0.1, TabularGame),
    "50% too large above 0.1 nats, Gaussian": too_large(0.5, 0.1, LinearGaussianGame),
    "20% too large above 0.6 nats, tabular": too_large(0.2, 0.6, TabularGame),
    "20% too large above 0.6 nats, Gaussian": too_large(0.2, 0.6, LinearGaussianGame),
    "5% too large above 1.5 nats, tabular": too_large(0.05, 1.5, TabularGame),
    "5% too large above 1.5 nats, Gaussian": too_large(0.05, 1.5, LinearGaussianGame),
    "log q clamped at -4, tabular": lambda game: _clamped(game, TabularGame),
    "log q clamped at -4, Gaussian": lambda game: _clamped(game, LinearGaussianGame),
    "InfoNCE without the matched pair in its sum": _sampled(_without_the_matched),
    "InfoNCE with log K twice": _sampled(_log_k_twice),
    "arguments of q swapped": _swapped,
    "q not normalized": _unnormalized,
    "wrong from four actions on": lambda game: _exact(game) + 0.02 * (_least_actions(game) >= 4),
    "wrong at joint probabilities of zero": lambda game: (
        _exact(game) + 0.02 * bool(isinstance(game, TabularGame) and (game.joint(0, 1) == 0).any())
    ),
    "wrong at actions that nobody takes": lambda game: (
        _exact(game) + 0.02 * bool(isinstance(game, TabularGame) and (game.marginal(1) == 0).any())
    ),
    "entropy of the third agent": lambda game: (
        game.entropy(2 if _num_agents(game) > 2 else 1)
        + game.expected_log_q(0, 1, game.conditional(1, given=0))
    ),
    "entropy of the other agent": lambda game: (
        game.entropy(0) + game.expected_log_q(0, 1, game.conditional(1, given=0))
    ),
    "information about the latent": lambda game: game.latent_information(0),
    "entropy from above": lambda game: (
        game.entropy_upper(1, 1) + game.expected_log_q(0, 1, game.conditional(1, given=0))
        if isinstance(game, TabularGame)
        else 0.0
    ),
    "0.02 nats too large": lambda game: _exact(game) + 0.02,
    "NaN": lambda game: math.nan,
}
"""Functions of a game that claim to bound I(a_0; a_1) from below and do not."""
