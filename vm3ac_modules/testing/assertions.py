"""Falsify an estimator that claims to bound mutual information from below.

Everything is in nats. Source: Kim et al. 2023, arXiv:2303.00451, Eq. (6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from vm3ac_modules.testing.coordinated import default_games
from vm3ac_modules.testing.oracles import Game
from vm3ac_modules.testing.tabular import TabularGame

__all__ = [
    "CoveredInformation",
    "assert_valid_lower_bound",
    "covered_information",
    "searched_games",
]

_EXAMPLES = 300


class _InvalidBoundError(AssertionError):
    """Raised inside the search, to tell a falsified bound from a failure of the estimator."""


class CoveredInformation(NamedTuple):
    """What a search covers; printed, it is a few lines."""

    information: Tensor
    """Exact I(a_0; a_1) of every game (nats), in ascending order."""
    tabular: int
    """Number of tabular games."""
    with_zeros: int
    """Number of tabular games with pairs of actions that never happen."""
    most_actions: int
    """Largest number of actions of an agent in a tabular game."""
    most_dimensions: int
    """Largest number of components of an action in a Gaussian game."""
    most_agents: int
    """Largest number of agents."""

    def __str__(self) -> str:
        info, count = self.information, len(self.information)
        quarters = ", ".join(f"{float(info.quantile(q)):.2f}" for q in (0.25, 0.5, 0.75))
        above = ", ".join(f"{int((info > x).sum())} above {x}" for x in (0.1, 0.6, 1.5, 3.0))
        return (
            f"{count} games, {self.tabular} of them tabular ({self.with_zeros} with impossible "
            f"pairs); up to {self.most_agents} agents, {self.most_actions} actions or "
            f"{self.most_dimensions} components\n"
            f"I(a_0; a_1) from {float(info[0].abs()):.2f} to {float(info[-1]):.2f} nats, quartiles "
            f"{quarters}; {above}"
        )


def assert_valid_lower_bound(
    bound: Callable[[Any], float | Tensor],
    *,
    games: SearchStrategy[Any] | None = None,
    max_examples: int = _EXAMPLES,
    tolerance: float = 1e-3,
) -> None:
    r"""Search for a game in which a claimed lower bound exceeds the exact mutual information.

    .. math:: \mathrm{bound}(\mathrm{game}) \le I(a_0; a_1) + \mathrm{tolerance}

    Hypothesis draws the games and shrinks the one that falsifies the claim. The search is
    derandomized: it gives the same verdict every time. An estimator in closed form is handed in as
    it is; one that needs draws goes through :func:`~vm3ac_modules.testing.sampled_bound`.
    docs/falsifier.md says which mistakes of which size it finds.

    References:
        Barber and Agakov 2003, "The IM algorithm"; Kim et al. 2023, arXiv:2303.00451, Eq. (6).

    Args:
        bound: maps a game to the claimed bound of ``I(a_0; a_1)`` (nats).
        games: strategy of games; None draws a third each of what
            :func:`~vm3ac_modules.testing.default_games` returns: from 2 to 4 agents who coordinate,
            up to about 4 nats.
        max_examples: how many games are tried before the claim is accepted.
        tolerance: what rounding may add (nats). The default leaves room for float32 in games of 4
            nats; 1e-9 suits a closed form in float64.

    Raises:
        AssertionError: with the shrunk game, which can be pasted and run, the claimed bound and
            the exact value. A NaN is no bound either.

    Example:
        >>> from vm3ac_modules.testing import assert_valid_lower_bound, tabular_games
        >>> def sum_of_terms(game):
        ...     return game.bound(0, 1, game.conditional(1, given=0))
        >>> assert_valid_lower_bound(sum_of_terms, max_examples=30)
        >>> def product_as_printed(game):
        ...     best = game.conditional(1, given=0)
        ...     return -game.entropy(1) * game.expected_log_q(0, 1, best)
        >>> assert_valid_lower_bound(product_as_printed, games=tabular_games(), max_examples=10)
        Traceback (most recent call last):
        ...
        AssertionError: ... nats exceeds I(a_0; a_1) = ... nats in TabularGame(...

    See Also:
        :func:`vm3ac_modules.functional.barber_agakov_bound`, and :func:`covered_information` for
        what is searched.
    """
    # A failed test shows the line that called this one, and the message.
    __tracebackhide__ = True

    if not 0.0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance}.")

    def check(game: Game) -> None:
        claimed = float(torch.as_tensor(bound(game)).detach())
        exact = float(game.mutual_information(0, 1).detach())
        # Negated, so that a NaN fails.
        if not claimed <= exact + tolerance:
            raise _InvalidBoundError(
                f"the bound of {claimed:.9g} nats exceeds I(a_0; a_1) = {exact:.9g} nats in {game}"
            )

    try:
        _search(check, games, max_examples, Phase.generate, Phase.shrink)
    except _InvalidBoundError as error:
        # Only the message: hypothesis' own notes show the same game again.
        raise AssertionError(str(error)) from None


def covered_information(
    games: SearchStrategy[Any] | None = None, max_examples: int = _EXAMPLES
) -> CoveredInformation:
    """Tell what :func:`assert_valid_lower_bound` searches: how much information its games have.

    Args:
        games: strategy of games, as for the search.
        max_examples: how many games are tried.

    Returns:
        The exact information of every game and what kinds there are, for ``print``.

    Example:
        >>> from vm3ac_modules.testing import covered_information
        >>> print(covered_information(max_examples=60))
        60 games, ... tabular (... with impossible pairs); up to ... agents, ... actions or ...
        I(a_0; a_1) from 0.00 to ... nats, quartiles ...; ... above 0.1, ... above 0.6, ...
    """
    tried = searched_games(games, max_examples)
    tabular = [game for game in tried if isinstance(game, TabularGame)]
    gaussian = [game for game in tried if not isinstance(game, TabularGame)]
    sizes = [table.shape[-1] for game in tabular for table in game.policies]
    agents = [len(game.policies) for game in tabular] + [len(game.offset) for game in gaussian]
    information = torch.stack([game.mutual_information(0, 1).detach() for game in tried])
    return CoveredInformation(
        information=information.sort().values,
        tabular=len(tabular),
        with_zeros=sum(bool((game.joint(0, 1) == 0).any()) for game in tabular),
        most_actions=max(sizes, default=0),
        most_dimensions=max((game.offset.shape[-1] for game in gaussian), default=0),
        most_agents=max(agents),
    )


def searched_games(
    games: SearchStrategy[Any] | None = None,
    max_examples: int = _EXAMPLES,
    seed: int | None = None,
) -> list[Any]:
    """The games that :func:`assert_valid_lower_bound` tries, in order, if none falsifies the claim.

    Args:
        games: strategy of games, as for the search.
        max_examples: how many games are tried.
        seed: of another search, to learn how much of a verdict was luck; None for the one.

    Returns:
        The games.

    Example:
        >>> from vm3ac_modules.testing import searched_games
        >>> len(searched_games(max_examples=9))
        9
    """
    tried: list[Any] = []
    _search(tried.append, games, max_examples, Phase.generate, seed=seed)
    return tried


def _search(
    check: Callable[[Any], None],
    games: SearchStrategy[Any] | None,
    max_examples: int,
    *phases: Phase,
    seed: int | None = None,
) -> None:
    """Let hypothesis call ``check`` on games; the same ones every time."""
    searched = default_games() if games is None else [games]

    def visit(game: Any) -> None:
        check(game)

    for strategy in searched:
        search = settings(
            # Apart, so that each kind has its share whatever hypothesis finds interesting.
            max_examples=-(-max_examples // len(searched)),
            deadline=None,
            derandomize=seed is None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            # The explain phase would repeat the search; the message says what is needed.
            phases=phases,
            # An estimator may be slow: it may even fit a predictor to each game.
            suppress_health_check=[HealthCheck.too_slow],
        )
        test = search(given(strategy)(visit))
        if seed is not None:
            test = hypothesis.seed(seed)(test)
        test()
