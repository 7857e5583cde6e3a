"""One battle of SMAClite: the only place that touches it.

Shapes: ``N`` agents, ``M`` enemies, ``U = N + M`` units, ``A`` actions.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.envs._rows import Layout, Row
from vm3ac_modules.envs.battles._micromanagement import METRICS, SparseReward
from vm3ac_modules.envs.battles.smaclite_maps import OWN_SCENARIOS

FIRST_TARGET = 6
"""Number of the first action that has a target."""
INSTALL = 'pip install "git+https://github.com/uoe-agents/smaclite.git"'
INSTALL_RVO2 = 'pip install "git+https://github.com/micadam/SMAClite-Python-RVO2.git"'
SCENARIOS = Path(__file__).parent / "smaclite_scenarios"
MakeBattle = Callable[..., Any]
"""Makes a battle with the methods of SMAClite's environment.

Called with ``map_name`` and ``use_cpp_rvo2``.
"""


def smaclite_battle(map_name: str, *, use_cpp_rvo2: bool = False) -> Any:
    """SMAClite's environment of a map; says how to install what is missing."""
    if find_spec("smaclite") is None:
        raise ImportError(
            "SMACliteEnv: SMAClite is not installed, and PyPI does not have it; "
            f"{INSTALL} (without the game, on the CPU), or take backend='smax' (SMAXEnv)"
        )
    if use_cpp_rvo2 and find_spec("rvo2") is None:
        raise ImportError(
            "SMACliteEnv: use_cpp_rvo2=true needs the package rvo2, SMAClite's avoidance of "
            f"collisions in C++, which PyPI does not have; {INSTALL_RVO2}, or leave the option out"
        )
    from smaclite.env import SMACliteEnv

    # The seed is a reset's; without one it would draw from NumPy's global stream.
    return SMACliteEnv(map_info=_scenario(map_name), use_cpp_rvo2=use_cpp_rvo2, seed=0)


@cache
def _scenario(map_name: str) -> Any:
    from smaclite.env.maps.map import MapInfo, MapPreset

    if map_name in OWN_SCENARIOS:
        return MapInfo.from_file(str(SCENARIOS / f"{map_name}.json"))
    return MapPreset[f"MAP_{map_name.upper()}"].map_info


class SmacliteGame:
    """Battles one after the other, written into a row.

    Args:
        make_battle: makes SMAClite's environment, called with ``map_name``; see `MakeBattle`.
        map_name: the map.
        max_steps: time limit, which SMAClite does not know.
        sparse: what pays for a step; None for SMAClite's own reward.
    """

    def __init__(
        self,
        make_battle: MakeBattle,
        map_name: str,
        max_steps: int,
        sparse: SparseReward | None,
    ) -> None:
        with redirect_stdout(io.StringIO()):
            # It says which search of neighbors it uses.
            self.battle = make_battle(map_name=map_name)
        self.max_steps, self.sparse = max_steps, sparse
        self.num_agents, self.num_enemies = self.battle.n_agents, self.battle.n_enemies
        units = self.num_agents + self.num_enemies
        self.bodies: NDArray[np.float32] = np.zeros((units, 7), np.float32)

    def layout(self) -> Layout:
        """Sizes of a row."""
        battle = self.battle
        return Layout(
            num_agents=self.num_agents,
            observation_size=battle.obs_size,
            num_actions=battle.n_actions,
            state_size=battle.state_size,
            metrics=METRICS,
        )

    def reset(self, seed: int, row: Row) -> None:
        """Start an episode; all its randomness comes from the seed."""
        # SMAClite keeps the last actions of the episode before, which its state shows.
        self.battle.last_actions = np.zeros(self.battle.n_actions * self.num_agents)
        seen, _ = self.battle.reset(seed=seed)
        self.steps, self.dead = 0, (0, 0)
        self.bodies[:] = 0.0
        self._observe(seen, row)

    def step(self, action: NDArray[np.int64], row: Row) -> None:
        """Go on by the actions ``[N]``, which are legal."""
        # SMAClite takes Python's integers only.
        seen, own, *_ = self.battle.step(action.tolist())
        self.steps += 1
        before = self.dead
        won, lost = self._observe(seen, row)
        if self.sparse is None:
            row.reward[:] = own
        else:
            allies, enemies = (now - was for now, was in zip(self.dead, before, strict=True))
            row.reward[:] = self.sparse(enemies, allies, won)
        over = won or lost
        row.ends[:] = over, self.steps >= self.max_steps and not over

    def _observe(self, seen: Any, row: Row) -> tuple[bool, bool]:
        """Write what is seen now; whether the battle was won, and whether it was lost."""
        battle = self.battle
        self._track()
        row.observation[:] = np.stack(seen)
        row.state[:] = battle.get_state()
        row.action_mask[:] = np.stack(battle.get_avail_actions())
        row.alive[:] = [i in battle.agents for i in range(self.num_agents)]
        self.dead = self.num_agents - len(battle.agents), self.num_enemies - len(battle.enemies)
        lost = not battle.agents
        won = not battle.enemies and not lost
        row.metrics[:] = won, *self.dead
        return won, lost

    def describe(self) -> NDArray[np.float32]:
        """Position, health, alive, type, target and range of every unit, ``[U, 7]``.

        The target is an index among all units, or -1. The dead stay where they fell.
        """
        return self.bodies.copy()

    def _track(self) -> None:
        bodies, battle = self.bodies, self.battle
        bodies[:, [2, 3]], bodies[:, 5] = 0.0, -1.0
        types = battle.map_info.unit_type_ids or {}
        for first, team in ((0, battle.agents), (self.num_agents, battle.enemies)):
            for index, unit in team.items():
                kind, reach = float(types.get(unit.type, 0)), unit.attack_range + unit.radius
                alive = (unit.hp / unit.max_hp, 1.0)
                bodies[first + index] = (*unit.pos, *alive, kind, self._aim(unit.target), reach)

    def _aim(self, target: Any) -> float:
        """Whom a unit attacks or heals, as a number among all units; -1 for nobody who lives."""
        if target is None or target.hp <= 0:
            return -1.0
        index: int = target.id_in_faction
        ours = self.battle.agents.get(index) is target
        return float(index if ours else self.num_agents + index)
