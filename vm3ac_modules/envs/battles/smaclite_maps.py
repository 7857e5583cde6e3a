"""Maps of SMAC that SMAClite has, those that are scenario files of this package included.

Units and time limits are those of SMAC (Samvelyan et al. 2019, arXiv:1902.04043). SMAClite itself
knows no time limit.
"""

from __future__ import annotations

from vm3ac_modules.envs.battles._maps import unknown_map

__all__ = ["OWN_SCENARIOS", "SMACLITE_MAPS", "smaclite_limit"]

SMACLITE_MAPS: dict[str, int] = {
    "2s3z": 120,
    "3s5z": 150,
    "3s5z_vs_3s6z": 170,
    "3s_vs_5z": 250,
    "2s_vs_1sc": 300,
    "10m_vs_11m": 150,
    "27m_vs_30m": 180,
    "MMM": 150,
    "MMM2": 180,
    "corridor": 400,
    "2c_vs_64zg": 400,
    "bane_vs_bane": 200,
    "3m": 60,
    "8m_vs_9m": 120,
    "3s_vs_3z": 150,
}
"""Time limit of each map, in steps."""
OWN_SCENARIOS = frozenset({"3m", "8m_vs_9m", "3s_vs_3z"})
"""Maps that SMAClite lacks and that lie here, in ``smaclite_scenarios``."""


def smaclite_limit(name: str) -> int:
    """Look up the time limit of a map.

    Args:
        name: e.g. ``"2s3z"``.

    Returns:
        Steps.

    Raises:
        ValueError: SMAClite has no such map; lists those it has and says who else has this one.

    Example:
        >>> smaclite_limit("MMM2")
        180
    """
    if name in SMACLITE_MAPS:
        return SMACLITE_MAPS[name]
    raise unknown_map("SMACliteEnv", name, "smaclite")
