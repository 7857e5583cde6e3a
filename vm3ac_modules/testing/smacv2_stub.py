"""A small battle behind SMACv2's interface, which checks what it is told to draw.

Shapes: ``n`` units of a team.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.testing.smac_stub import SIDE, SMACStub

__all__ = ["SMACv2Stub"]

FIELD = 32
"""Side of the map below SMACv2's fields, ``32x32_flat``."""
UNITS = {
    "10gen_terran": {"marine", "marauder", "medivac"},
    "10gen_protoss": {"stalker", "zealot", "colossus"},
    "10gen_zerg": {"zergling", "hydralisk", "baneling"},
}
"""Units of each field's race; a field has numbers for no others."""


def _check(holds: bool, what: str, got: Any) -> None:
    if not holds:
        raise ValueError(f"SMACv2Stub: {what}, got {got!r}")


class _Teams:
    """Draws teams, as SMACv2's ``WeightedTeamsDistribution`` does, from a generator of no seed."""

    def __init__(self, config: dict[str, Any], units: set[str]) -> None:
        self.config, self.rng = config, np.random.default_rng()
        types, weights = config["unit_types"], config["weights"]
        alone = config.get("exception_unit_types", ())
        _check(len(set(types)) == len(types) and set(types) <= units, f"units of {units}", types)
        _check(len(weights) == len(types), f"a weight for each of {types}", weights)
        whole = math.isclose(sum(weights), 1.0, abs_tol=1e-8)
        _check(whole and min(weights) >= 0.0, "weights are probabilities that sum to 1", weights)
        _check(set(alone) < set(types), f"exceptions are some of {types}", alone)
        _check(isinstance(config["observe"], bool), "observe is true or false", config["observe"])

    def _team(self, size: int) -> list[str]:
        """A team in an order of Python's global stream; not of exceptions alone."""
        config, alone = self.config, set(self.config.get("exception_unit_types", ()))
        team: list[str] = []
        while not team or set(team) <= alone:
            drawn = self.rng.choice(config["unit_types"], size=size, p=config["weights"])
            team = [str(unit) for unit in drawn]
            random.shuffle(team)
        return team

    def generate(self) -> dict[str, dict[str, Any]]:
        """The types of both teams' units: the enemies are the same, and more or fewer."""
        units, enemies = self.config["n_units"], self.config["n_enemies"]
        team = self._team(units)
        others = [*team, *(self._team(enemies - units) if enemies > units else ())][:enemies]
        return {"team_gen": {"ally_team": team, "enemy_team": others, "id": 0}}


class _Points:
    """Draws places in a part of the field, from a generator of no seed."""

    def __init__(self, left: float, right: float) -> None:
        self.left, self.right, self.rng = left, right, np.random.default_rng()

    def generate(self, n: int) -> NDArray[np.float64]:
        """Places, ``[n, 2]``."""
        return self.rng.uniform((self.left, 0.0), (self.right, FIELD), (n, 2))


class _Places:
    """Draws where teams begin, as SMACv2's ``SurroundedAndReflectPositionDistribution``.

    With probability ``1 - p`` the allies stand in the middle, and else opposite the enemies.
    """

    def __init__(self, config: dict[str, Any], units: set[str]) -> None:
        self.config, self.rng = config, np.random.default_rng()
        sides = config["map_x"], config["map_y"]
        _check(0.0 <= config["p"] <= 1.0, "p is a probability", config["p"])
        _check(sides == (FIELD, FIELD), f"the field is {FIELD} by {FIELD}", sides)
        self.left, self.right = _Points(0.0, FIELD / 2 - 1), _Points(FIELD / 2, FIELD)
        self.anywhere = _Points(0.0, FIELD)

    def generate(self) -> dict[str, dict[str, Any]]:
        """Places of both teams, ``[n, 2]`` each."""
        n, m = self.config["n_units"], self.config["n_enemies"]
        if self.rng.random() > self.config["p"]:
            allies, enemies = np.full((n, 2), FIELD / 2), self.anywhere.generate(m)
        else:
            allies = self.left.generate(n)
            mirrored = np.stack([FIELD - allies[:, 0], allies[:, 1]], axis=1)
            enemies = np.concatenate([mirrored, self.right.generate(max(m - n, 0))])[:m]
        found = {"ally_start_positions": allies, "enemy_start_positions": enemies}
        return {name: {"item": places, "id": 0} for name, places in found.items()}


DISTRIBUTIONS = {"weighted_teams": _Teams, "surrounded_and_reflect": _Places}
"""Those of SMACv2's distributions that its benchmark uses."""


class SMACv2Stub(SMACStub):
    """The same battle behind the interface of SMACv2's ``StarCraftCapabilityEnvWrapper``.

    Teams and places are drawn at every reset, from generators that no seed reaches, and an agent
    sees its own type behind the rest. As there, observations draw from Python's and NumPy's global
    streams, and the configuration is asked for and written in. SMACv2 fails late, or plays
    something else, where a configuration is wrong; the stub refuses it when it is built.

    Args:
        map_name: a field, e.g. ``"10gen_terran"``.
        capability_config: ``n_units``, ``n_enemies``, ``team_gen`` and ``start_positions``.
        options: of :class:`SMACStub`; those that only SMACv2 has are taken and not used.

    Raises:
        KeyError: without a configuration, for an unknown field, distribution, or entry left out.
        ValueError: a configuration that SMACv2's benchmark cannot draw from.

    Example:
        >>> from vm3ac_modules.envs.battles.smacv2_maps import smacv2_options
        >>> game = SMACv2Stub(**smacv2_options("terran_10_vs_11", {"seed": 0}))
        >>> _ = game.reset()
        >>> len(game.team), len(game.enemy_team), game.get_env_info()["n_agents"]
        (10, 11, 10)
    """

    def __init__(self, **options: Any) -> None:
        config = options.pop("capability_config")
        for name in ("conic_fov", "obs_own_pos", "use_unit_ranges", "min_attack_range"):
            options.pop(name, None)
        units = UNITS[options["map_name"]]
        sizes = {key: config[key] for key in ("n_units", "n_enemies")}
        _check(min(sizes.values()) >= 1, "teams have at least one unit", sizes)
        super().__init__(num_agents=sizes["n_units"], num_enemies=sizes["n_enemies"], **options)
        self.env_key_to_distribution_map: dict[str, Any] = {}
        for key in ("team_gen", "start_positions"):
            part = config[key]
            part |= {"env_key": key, **sizes}
            self.env_key_to_distribution_map[key] = DISTRIBUTIONS[part["dist_type"]](part, units)
        _check(set(config) == {*sizes, "team_gen", "start_positions"}, "no other entries", config)
        self.unit_types: list[str] = list(config["team_gen"]["unit_types"])
        self.team: list[str] = []
        self.enemy_team: list[str] = []

    def get_env_info(self) -> dict[str, int]:
        """Sizes and time limit."""
        info = super().get_env_info()
        kinds = len(self.unit_types)
        return {**info, "obs_shape": info["obs_shape"] + kinds, "cap_shape": kinds}

    def reset(self) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
        """Draw teams and places and start an episode."""
        drawn: dict[str, Any] = {}
        for distribution in self.env_key_to_distribution_map.values():
            drawn |= distribution.generate()
        self.team, self.enemy_team = (drawn["team_gen"][f"{s}_team"] for s in ("ally", "enemy"))
        super().reset()
        places = [drawn[f"{side}_start_positions"]["item"] for side in ("ally", "enemy")]
        self.position[:] = np.concatenate(places) * SIDE / FIELD
        return self.get_obs(), self.get_state()

    def get_obs(self) -> list[NDArray[np.float32]]:
        """What the stub shows, and each agent's own type."""
        # The order in which agents look, and which enemies are told of: both are for nothing here.
        random.shuffle(list(range(self.n_agents)))
        np.random.rand()  # noqa: NPY002
        kinds = np.eye(len(self.unit_types), dtype=np.float32)
        own = [kinds[self.unit_types.index(unit)] for unit in self.team]
        return [np.concatenate(parts) for parts in zip(super().get_obs(), own, strict=True)]
