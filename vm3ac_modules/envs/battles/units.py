"""What a picture of a battle needs to know of its units."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["BattleUnits"]


@dataclass(frozen=True)
class BattleUnits:
    """All units of every row, the ``N`` agents first and then the ``M`` enemies, for a picture.

    Args:
        positions: in 0..32, ``[B, N + M, 2]``.
        health: as a fraction of the full health of the unit's type, ``[B, N + M]``.
        alive: ``[B, N + M]``.
        teams: 0 for an agent, 1 for an enemy, ``[B, N + M]``.
        types: the simulator's number of the unit's type (SMAX: 0 marine, 1 marauder, 2 stalker,
            3 zealot, 4 zergling, 5 hydralisk), ``[B, N + M]``.
        targets: whom the unit was told to attack in the last step, an index among all units, or -1
            for a unit that does not attack or is dead, ``[B, N + M]``.
        ranges: from how far the unit can attack, ``[B, N + M]``.
    """

    positions: Tensor
    health: Tensor
    alive: Tensor
    teams: Tensor
    types: Tensor
    targets: Tensor
    ranges: Tensor
