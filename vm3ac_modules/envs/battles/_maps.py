"""Which backend has which map, for messages that refuse an unknown one."""

from __future__ import annotations

from collections.abc import Collection

from vm3ac_modules.options import meant


def maps_of() -> dict[str, Collection[str]]:
    """Names of the maps of every backend."""
    # Imported late: these modules refuse unknown maps by what stands here.
    from vm3ac_modules.envs.battles.smaclite_maps import SMACLITE_MAPS
    from vm3ac_modules.envs.battles.smacv2_maps import SMACV2_MAPS
    from vm3ac_modules.envs.battles.smax_maps import SMAC_MAPS, SMAX_MAPS
    from vm3ac_modules.envs.guard import GAMES
    from vm3ac_modules.envs.matrix import MATRIX_GAMES

    return {
        "smax": SMAX_MAPS,
        "smaclite": SMACLITE_MAPS,
        "smac": SMAC_MAPS,
        "smacv2": SMACV2_MAPS,
        "games": {**MATRIX_GAMES, **GAMES},
    }


def who_has(name: str, but: str) -> str:
    """The other backends that have a map, e.g. ``backend='smax' or backend='smaclite'``.

    Args:
        name: the map.
        but: the backend that lacks it.
    """
    found = []
    for backend, maps in maps_of().items():
        if backend != but and name in maps:
            game = " (StarCraft II)" if backend.startswith("smac") and backend[4:] != "lite" else ""
            found.append(f"backend={backend!r}{game}")
    return " or ".join(found)


def unknown_map(
    owner: str, name: str, backend: str, *, known: Collection[str] = (), hint: str = ""
) -> ValueError:
    """The error of a map that a backend lacks: who has it, or what was meant, and what there is.

    Args:
        owner: whose map it is, for the message.
        name: the map.
        backend: the backend that lacks it.
        known: the maps that it has; those of the backend by default.
        hint: said if nobody else has the map.
    """
    available = known or maps_of()[backend]
    others = who_has(name, backend)
    said = f": {others} has it" if others else hint or meant(name, available)
    return ValueError(f"{owner}: unknown map {name!r}{said}; available: {', '.join(available)}")
