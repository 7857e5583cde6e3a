"""A small battle with the methods of SMAClite, for tests where it is not installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.testing.smac_stub import FIRST_ATTACK, REACH, SMACStub

__all__ = ["SMACliteStub"]


class SMACliteStub(SMACStub):
    """The battle of :class:`SMACStub` behind the interface of ``smaclite.env.SMACliteEnv``.

    As there: a reset takes the seed, a step takes Python's integers only and gives observations,
    reward, whether the battle is over, ``False`` and ``battle_won``, which says only whether the
    enemies are dead; there is no time limit, no count of the dead, and units that fell are gone
    from ``agents`` and ``enemies``. The state ends with everyone's last actions, which a reset
    leaves as they were.

    Args:
        map_name: ignored; games have it.
        seed: seed of the places where the first episode begins, if its reset has none.
        use_cpp_rvo2: kept for tests to look at; nobody collides here.
        options: of :class:`SMACStub`.

    Example:
        >>> battle = SMACliteStub()
        >>> seen, _ = battle.reset(seed=0)
        >>> _, reward, over, _, info = battle.step([1, 1, 1])
        >>> reward, over, info
        (0.0, False, {'battle_won': False})
    """

    def __init__(
        self,
        map_name: str = "stub",
        seed: int | None = None,
        *,
        use_cpp_rvo2: bool = False,
        **options: Any,
    ) -> None:
        self.use_cpp_rvo2 = use_cpp_rvo2
        super().__init__(map_name, seed, **{"episode_limit": 2**30, **options})
        info = self.get_env_info()
        self.obs_size, self.n_actions = info["obs_shape"], info["n_actions"]
        self.last_actions = np.zeros(self.n_actions * self.n_agents)
        self.state_size = info["state_shape"] + self.last_actions.size
        self.map_info = SimpleNamespace(unit_type_ids=None)
        self.agents: dict[int, Any] = {}
        self.enemies: dict[int, Any] = {}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        """Start an episode; the seed is that of its places."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        super().reset()
        n = self.n_agents
        sides = ((range(n), self.hit_points), (range(self.n_enemies), self.enemy_hit_points))
        self.agents, self.enemies = (
            {i: self._unit(i, health) for i in members} for members, health in sides
        )
        self._update()
        return tuple(self.get_obs()), {"battle_won": False}

    @staticmethod
    def _unit(index: int, health: int) -> Any:
        return SimpleNamespace(
            id_in_faction=index,
            max_hp=health,
            hp=health,
            target=None,
            attack_range=REACH,
            radius=0.5,
            type="stub",
        )

    def _update(self) -> None:
        """Places and health of those who live; the others are gone."""
        for first, team in ((0, self.agents), (self.n_agents, self.enemies)):
            for index, unit in list(team.items()):
                unit.hp = self.health[first + index]
                unit.pos = self.position[first + index].astype(np.float32)
                if unit.hp == 0:
                    del team[index]

    def step(self, actions: list[int]) -> Any:
        """Everyone acts at the same time.

        Args:
            actions: one of each agent.

        Returns:
            Observations, damage done in points, whether the battle is over, False, and whether the
            enemies are dead.

        Raises:
            AssertionError: an action that is no ``int`` of Python's.
            ValueError: an illegal action of one who lives.
        """
        assert all(type(action) is int for action in actions)
        self.last_actions = np.eye(self.n_actions)[np.array(actions)].ravel()
        for index, (action, legal) in enumerate(
            zip(actions, self.get_avail_actions(), strict=True)
        ):
            if not legal[action]:
                raise ValueError(f"Invalid action for agent {index}: {action}")
        for index, unit in self.agents.items():
            aim = actions[index] - FIRST_ATTACK
            unit.target = self.enemies.get(aim) if aim >= 0 else None
        damage, over, _ = super().step(actions)
        self._update()
        return tuple(self.get_obs()), damage, over, False, {"battle_won": not self.enemies}

    def get_state(self) -> NDArray[np.float32]:
        """Places and health of all living units, and everyone's last action."""
        return np.concatenate([super().get_state(), self.last_actions.astype(np.float32)])

    def get_avail_actions(self) -> list[NDArray[np.float64]]:  # type: ignore[override]
        """For each agent which actions are legal, as 0 and 1."""
        return [np.asarray(legal, float) for legal in super().get_avail_actions()]
