r"""An adversary that learns where teams are and never sees a latent: a table over places.

Shapes: ``B`` rows, ``T`` teams, ``M`` places.

Source: von Stengel and Koller 1997, "Team-maxmin equilibria"; Celli and Gatti 2018, "Computational
results for extensive-form adversarial team games".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Adversary", "best_response_value", "prey_value"]


class Adversary:
    r"""A smoothed best response to where each team has been lately.

    .. math:: g = \mathrm{softmax}(\pm \kappa f / \textstyle\sum_m f_m)

    f is a team's running mean of w, how much all its agents are at each place. A guard goes to
    where the team is most (plus), a prey to where it is least (minus).

    Args:
        num_teams: number of teams T; each faces an adversary of its own.
        num_places: number of places M.
        rows: rows B of all teams, as many each, team by team.
        sharpness: :math:`\kappa` > 0.
        rate: rate in (0, 1] of the running mean, per round of all rows.
        flees: whether it goes to where the team is least.
        game: name of the game, for messages.
        device: where the table lies.

    Raises:
        ValueError: an option out of its range, or rows that do not divide among the teams.

    Example:
        >>> guard = Adversary(1, 2, rows=4, rate=0.5)
        >>> guard.watch(torch.tensor([[1.0, 0.0]]).expand(4, 2))
        >>> guard.frequency, guard.shares().argmax()
        (tensor([[0.7500, 0.2500]]), tensor(0))
    """

    def __init__(
        self,
        num_teams: int,
        num_places: int,
        *,
        rows: int,
        sharpness: float = 20.0,
        rate: float = 0.02,
        flees: bool = False,
        game: str = "Adversary",
        device: torch.device | str = "cpu",
    ) -> None:
        if num_teams < 1:
            raise ValueError(f"{game}: num_teams must be at least 1, got {num_teams}.")
        if rows % num_teams:
            raise ValueError(f"{game}: {rows} rows do not divide among {num_teams} teams.")
        if not 0 < sharpness < math.inf:
            raise ValueError(f"{game}: sharpness must be positive and finite, got {sharpness}.")
        if not 0 < rate <= 1:
            raise ValueError(f"{game}: rate must lie in (0, 1], got {rate}.")
        self.sharpness, self.rate, self.flees, self.game = sharpness, rate, flees, game
        self.each = rows // num_teams
        shape = (num_teams, num_places)
        self.frequency = torch.full(shape, 1.0 / num_places, device=device)

    def forget(self) -> None:
        """Know nothing again: all places alike."""
        self.frequency = torch.full_like(self.frequency, 1.0 / self.frequency.shape[-1])

    def shares(self) -> Tensor:
        """How likely it is at each place, for every team, ``[T, M]``."""
        share = self.frequency / self.frequency.sum(-1, keepdim=True).clamp_min(1e-12)
        sharpness = -self.sharpness if self.flees else self.sharpness
        return torch.softmax(sharpness * share, dim=-1)

    def of_rows(self, of_teams: Tensor) -> Tensor:
        """What every row has of its team.

        Args:
            of_teams: ``[T, M]``.

        Returns:
            ``[B, M]``.
        """
        return of_teams.repeat_interleave(self.each, dim=0)

    def watch(self, together: Tensor, ended: Tensor | None = None) -> None:
        """Learn from where teams are.

        Args:
            together: how much all agents are at each place, ``[B, M]``; what is no number counts
                as nowhere, since it must not stay in the table.
            ended: rows that count, bool ``[B]``; all by default. The rate is that of a round, so
                a share of the rows moves the table by as large a share of it.
        """
        counts = torch.ones_like(together[:, 0]) if ended is None else ended.to(together)
        share = counts.unflatten(0, (-1, self.each)).mean(1, keepdim=True)
        seen = together.nan_to_num() * counts.unsqueeze(-1)
        mean = seen.unflatten(0, (-1, self.each)).mean(1) / share.clamp_min(1e-12)
        self.frequency = torch.lerp(self.frequency, mean, self.rate * share)

    def state(self) -> Tensor:
        """What every row's adversary has seen, ``[B, M]``: all that its next step depends on."""
        return self.of_rows(self.frequency)

    def load(self, state: Tensor | None) -> None:
        """Put back what :meth:`state` gave.

        Args:
            state: of a game with as many places and teams, any number of rows.

        Raises:
            ValueError: if it is that of another game.
        """
        teams, places = self.frequency.shape
        fits = state is not None and state.shape[-1] == places and not len(state) % teams
        if fits:
            assert state is not None
            # Rows of one team have seen the same.
            by_team = state.unflatten(0, (teams, -1))
            fits = bool((by_team == by_team[:, :1]).all())
        if not fits:
            shape = None if state is None else list(state.shape)
            raise ValueError(
                f"{self.game}: the saved guard has shape {shape}, this game has {places} "
                f"modes and {teams} teams: it is that of another game."
            )
        self.frequency = by_team[:, 0].to(self.frequency, copy=True)


def best_response_value(metrics: Mapping[str, Tensor]) -> float:
    r"""What a frozen policy is worth against a guard that knows it, from episodes that it played.

    .. math:: \sum_m p_m - \max_m p_m, \qquad p_m = P(\text{all agents at mode } m)

    Args:
        metrics: ``mode_<m>`` of every mode, ``[E]`` each.

    Returns:
        The share of episodes in which the team meets where the best response does not stand.

    Example:
        >>> metrics = {"mode_0": torch.tensor([1.0, 0.0]), "mode_1": torch.tensor([0.0, 1.0])}
        >>> best_response_value(metrics)
        0.5
    """
    met = _met(metrics)
    return float(met.sum() - met.max())


def prey_value(metrics: Mapping[str, Tensor]) -> float:
    r"""What a frozen policy is worth against a prey that knows it, from episodes that it played.

    .. math:: \min_m p_m, \qquad p_m = P(\text{all agents at exit } m)

    Args:
        metrics: ``mode_<m>`` of every exit, ``[E]`` each.

    Returns:
        The share of episodes in which a prey is caught that takes the exit that suits it best.

    Example:
        >>> metrics = {"mode_0": torch.tensor([1.0, 0.0]), "mode_1": torch.tensor([0.0, 1.0])}
        >>> prey_value(metrics)
        0.5
    """
    return float(_met(metrics).min())


def _met(metrics: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([x.mean() for name, x in metrics.items() if name.startswith("mode_")])
