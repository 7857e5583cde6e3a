"""Teams of SMACv2: for each race and size what is drawn at every reset.

Units, their shares and the sizes are those of SMACv2 (Ellis et al. 2023, arXiv:2212.07489).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vm3ac_modules.envs.battles._maps import unknown_map

__all__ = ["SMACV2_MAPS", "SMACv2Map", "smacv2_options"]

FIELD = 32
"""Side of SMACv2's flat field."""
SURROUNDED = 0.5
"""Share of the episodes that begin reflected, not surrounded."""
RACES: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    "terran": ({"marine": 0.45, "marauder": 0.45, "medivac": 0.1}, ("medivac",)),
    "protoss": ({"stalker": 0.45, "zealot": 0.45, "colossus": 0.1}, ()),
    "zerg": ({"zergling": 0.45, "hydralisk": 0.45, "baneling": 0.1}, ("baneling",)),
}
"""Units of a race with their probabilities, and those that a team may not consist of alone."""
FIELDS = tuple(f"10gen_{race}" for race in RACES)
"""What SMACv2 calls the maps that the teams are placed on."""
SIZES = ((5, 5), (10, 10), (20, 20), (10, 11), (20, 23))
PROTOCOL: Mapping[str, Any] = MappingProxyType(
    {"conic_fov": False, "obs_own_pos": True, "use_unit_ranges": True, "min_attack_range": 2}
)
"""Options of SMACv2's benchmark: no cone of sight, ranges of the units' own."""


@dataclass(frozen=True)
class SMACv2Map:
    """Random teams of one race.

    Args:
        race: ``"terran"``, ``"protoss"`` or ``"zerg"``.
        num_agents: units of the agents' team.
        num_enemies: units of the other one, which has the same types as far as they go.
    """

    race: str
    num_agents: int
    num_enemies: int

    @property
    def field(self) -> str:
        """What SMACv2 calls the map that the teams are placed on."""
        return f"10gen_{self.race}"

    @property
    def capability_config(self) -> dict[str, Any]:
        """What SMACv2 is told to draw at every reset; new at each call, for SMACv2 writes in it."""
        units, exceptions = RACES[self.race]
        teams = {
            "dist_type": "weighted_teams",
            "unit_types": list(units),
            "weights": list(units.values()),
            "observe": True,
        }
        if exceptions:
            teams["exception_unit_types"] = list(exceptions)
        places = {
            "dist_type": "surrounded_and_reflect",
            "p": SURROUNDED,
            "map_x": FIELD,
            "map_y": FIELD,
        }
        return {
            "n_units": self.num_agents,
            "n_enemies": self.num_enemies,
            "team_gen": teams,
            "start_positions": places,
        }


SMACV2_MAPS: dict[str, SMACv2Map] = {
    f"{race}_{n}_vs_{m}": SMACv2Map(race, n, m) for race in RACES for n, m in SIZES
}


def smacv2_options(map_name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of SMACv2's wrapper for a map by name, those that are given included.

    Args:
        map_name: e.g. ``"terran_5_vs_5"``, or any of SMACv2's own with a ``capability_config``.
        options: arguments of the user's own, which prevail.

    Returns:
        ``map_name``, ``capability_config`` and the rest.

    Raises:
        ValueError: for a race or team size without a configuration; lists those that have one.

    Example:
        >>> sorted(smacv2_options("zerg_5_vs_5", {})["capability_config"])
        ['n_enemies', 'n_units', 'start_positions', 'team_gen']
    """
    if "capability_config" in options:
        return {**PROTOCOL, "map_name": map_name, **options}
    if map_name not in SMACV2_MAPS:
        known = [*SMACV2_MAPS, "any field with env.capability_config={...}"]
        hint = " (a field: say the size of the teams, too)" if map_name in FIELDS else ""
        raise unknown_map("backend='smacv2'", map_name, "smacv2", known=known, hint=hint)
    own = SMACV2_MAPS[map_name]
    return {
        **PROTOCOL,
        "map_name": own.field,
        "capability_config": own.capability_config,
        **options,
    }
