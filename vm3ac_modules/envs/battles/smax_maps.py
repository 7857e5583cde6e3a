"""Maps of the StarCraft multi-agent challenge: units, time limits, and which of them SMAX has.

Units and time limits are those of SMAC (Samvelyan et al. 2019, arXiv:1902.04043) and, for random
teams, of SMACv2 (Ellis et al. 2023, arXiv:2212.07489).
"""

from __future__ import annotations

from dataclasses import dataclass

from vm3ac_modules.envs.battles._maps import unknown_map, who_has

__all__ = ["SMAC_MAPS", "SMAX_MAPS", "SmaxMap", "smax_map"]

# SMAX's numbers of the unit types that these maps use.
UNIT_IDS = {"m": 0, "s": 2, "z": 3, "g": 4, "h": 5}


@dataclass(frozen=True)
class SmaxMap:
    """Who fights on a map and for how long.

    Args:
        allies: units of the agents, a letter each: m(arine), s(talker), z(ealot), zerglin(g),
            h(ydralisk).
        enemies: units of the other side.
        max_steps: SMAC's time limit, in steps.
        random: types and places are drawn anew for each episode, as in SMACv2.
    """

    allies: str
    enemies: str
    max_steps: int
    random: bool = False

    @property
    def unit_ids(self) -> list[int]:
        """SMAX's number of each unit's type, allies first, ``[N + M]``."""
        return [UNIT_IDS[letter] for letter in self.allies + self.enemies]


SMAX_MAPS: dict[str, SmaxMap] = {
    "3m": SmaxMap("mmm", "mmm", 60),
    "8m": SmaxMap("m" * 8, "m" * 8, 120),
    "25m": SmaxMap("m" * 25, "m" * 25, 150),
    "2s3z": SmaxMap("sszzz", "sszzz", 120),
    "3s5z": SmaxMap("ssszzzzz", "ssszzzzz", 150),
    "5m_vs_6m": SmaxMap("m" * 5, "m" * 6, 70),
    "8m_vs_9m": SmaxMap("m" * 8, "m" * 9, 120),
    "10m_vs_11m": SmaxMap("m" * 10, "m" * 11, 150),
    "27m_vs_30m": SmaxMap("m" * 27, "m" * 30, 180),
    "3s5z_vs_3s6z": SmaxMap("ssszzzzz", "ssszzzzzz", 170),
    "3s_vs_3z": SmaxMap("sss", "zzz", 150),
    "3s_vs_4z": SmaxMap("sss", "zzzz", 200),
    "3s_vs_5z": SmaxMap("sss", "zzzzz", 250),
    "6h_vs_8z": SmaxMap("h" * 6, "z" * 8, 150),
    "2m_vs_1z": SmaxMap("mm", "z", 150),
    "corridor": SmaxMap("z" * 6, "g" * 24, 400),
    "smacv2_5_units": SmaxMap("m" * 5, "m" * 5, 200, random=True),
    "smacv2_10_units": SmaxMap("m" * 10, "m" * 10, 200, random=True),
    "smacv2_20_units": SmaxMap("m" * 20, "m" * 20, 200, random=True),
}

_COLOSSUS = "a colossus, whose shots hit an area"
_MEDIVAC = "a medivac, which heals"
_BANELING = "banelings, which blow up on contact"
# Maps of SMAC with units or mechanics that SMAX does not have.
NOT_IN_SMAX: dict[str, str] = {
    "1c3s5z": _COLOSSUS,
    "2c_vs_64zg": _COLOSSUS,
    "MMM": _MEDIVAC,
    "MMM2": _MEDIVAC,
    "2s_vs_1sc": "a spine crawler, a building that shoots",
    "so_many_baneling": _BANELING,
    "bane_vs_bane": _BANELING,
}

SMAC_MAPS: tuple[str, ...] = (
    *(name for name, about in SMAX_MAPS.items() if not about.random),
    *NOT_IN_SMAX,
)
"""Names of all maps of SMAC."""


def smax_map(name: str) -> SmaxMap:
    """Look up a map by name.

    Args:
        name: e.g. ``"3s_vs_3z"``.

    Returns:
        Its units and time limit.

    Raises:
        ValueError: SMAX has no such map; lists those it has and says why it lacks this one.

    Example:
        >>> from vm3ac_modules.envs.battles.smax_maps import smax_map
        >>> smax_map("3s_vs_3z").max_steps
        150
    """
    if name in SMAX_MAPS:
        return SMAX_MAPS[name]
    if name in NOT_IN_SMAX:
        raise ValueError(
            f"SMAXEnv: the map {name!r} has {NOT_IN_SMAX[name]}, and SMAX has no such unit; play "
            f"it with {who_has(name, 'smax')} or take another map; available: "
            f"{', '.join(SMAX_MAPS)}"
        )
    raise unknown_map("SMAXEnv", name, "smax")
