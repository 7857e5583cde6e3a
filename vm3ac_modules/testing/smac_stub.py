"""A small battle with the methods of SMAC's games, for tests where StarCraft is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SMACStub"]

NO_OP, STOP, FIRST_ATTACK = 0, 1, 6
# north, south, east, west, in SMAC's order from action 2 on
MOVES = np.array([(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)])
REACH = 6.0
SIDE = 16.0


class SMACStub:
    """A stand-in for StarCraft: two small armies on a field of 16 by 16.

    Enemies shoot at a unit in range, or approach one.
    Actions, masks, counts and errors are those of ``smac.env.StarCraft2Env``: 0 is for the dead
    and only for them, an illegal action raises ``AssertionError``, the time limit is reported as a
    termination, ``dead_allies`` and ``dead_enemies`` count the dead so far. A shot costs its target
    a point, and two armies that fire at the same time may both fall.

    Args:
        map_name: ignored; accepted since StarCraft's environments take one.
        seed: seed of the starting positions.
        num_agents: ``N``.
        num_enemies: ``M``.
        hit_points: of each unit.
        enemy_hit_points: of each enemy; as many as an ally's by default.
        episode_limit: time limit, in steps.
        enemy_shoots: whether enemies shoot.
        continuing_episode: ``info`` then tells that the time limit was reached, as SMAC's does.
        raise_at: the step, counted from the start of the game, that raises ``ConnectionError``.
        empty_at: the step that loses its connection as SMAC reports it: ``(0, True, {})``.

    Example:
        >>> from vm3ac_modules.testing import SMACStub
        >>> game = SMACStub(seed=0)
        >>> _ = game.reset()
        >>> game.step([1, 1, 1])
        (0.0, False, {'battle_won': False, 'dead_allies': 0, 'dead_enemies': 0})
    """

    def __init__(
        self,
        map_name: str = "stub",
        seed: int | None = None,
        *,
        num_agents: int = 3,
        num_enemies: int = 3,
        hit_points: int = 3,
        enemy_hit_points: int | None = None,
        episode_limit: int = 20,
        enemy_shoots: bool = True,
        continuing_episode: bool = False,
        raise_at: int | None = None,
        empty_at: int | None = None,
    ) -> None:
        self.n_agents, self.n_enemies = num_agents, num_enemies
        self.hit_points = hit_points
        self.enemy_hit_points = hit_points if enemy_hit_points is None else enemy_hit_points
        self.episode_limit, self.enemy_shoots = episode_limit, enemy_shoots
        self.continuing_episode = continuing_episode
        self.raise_at, self.empty_at = raise_at, empty_at
        self.closed, self._total = False, 0
        self._rng = np.random.default_rng(seed)

    def get_env_info(self) -> dict[str, int]:
        """Sizes and time limit."""
        units = self.n_agents + self.n_enemies
        return {
            "n_agents": self.n_agents,
            "n_actions": FIRST_ATTACK + self.n_enemies,
            "obs_shape": 3 * units,
            "state_shape": 3 * units,
            "episode_limit": self.episode_limit,
        }

    def reset(self) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
        """Start an episode: allies on the left, enemies on the right."""
        n, m = self.n_agents, self.n_enemies
        self.health = np.array([self.hit_points] * n + [self.enemy_hit_points] * m)
        self.position = self._rng.uniform(-2.0, 2.0, (n + m, 2)) + SIDE / 2
        self.position[:n, 0] -= SIDE / 4
        self.position[n:, 0] += SIDE / 4
        self._step = 0
        return self.get_obs(), self.get_state()

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        """Everyone acts at the same time.

        Args:
            actions: one of each agent.

        Returns:
            Damage done in points, whether the episode is over, and the counts.

        Raises:
            AssertionError: an illegal action.
            ConnectionError: in the step ``raise_at``.
        """
        for action, legal in zip(actions, self.get_avail_actions(), strict=True):
            assert legal[action], f"illegal action {action}"
        self._total += 1
        if self._total == self.raise_at:
            raise ConnectionError("the stub lost its connection")
        if self._total == self.empty_at:
            return 0.0, True, {}
        damage = self._fight(actions)
        self._step += 1
        before = self.health[self.n_agents :].sum()
        self.health = np.maximum(self.health - damage, 0)
        return float(before - self.health[self.n_agents :].sum()), *self._outcome()

    def _fight(self, actions: list[int]) -> NDArray[np.int64]:
        """Move who moves; the damage to each unit."""
        n = self.n_agents
        damage = np.zeros(len(self.health), dtype=np.int64)
        targets = [self._nearest(j) for j in range(n, len(self.health))]
        for i, action in enumerate(actions):
            if action >= FIRST_ATTACK:
                damage[n + action - FIRST_ATTACK] += 1
            elif action > STOP:
                self.position[i] = np.clip(self.position[i] + MOVES[action - 2], 0.0, SIDE)
        for j, target in enumerate(targets, start=n):
            if target is None or not self.enemy_shoots:
                continue
            way = self.position[target] - self.position[j]
            if np.linalg.norm(way) <= REACH:
                damage[target] += 1
            else:
                self.position[j] += way / np.linalg.norm(way)
        return damage

    def _nearest(self, enemy: int) -> int | None:
        alive = np.flatnonzero(self.health[: self.n_agents] > 0)
        if not self.health[enemy] or not len(alive):
            return None
        way = self.position[alive] - self.position[enemy]
        return int(alive[np.linalg.norm(way, axis=1).argmin()])

    def _outcome(self) -> tuple[bool, dict[str, Any]]:
        dead = self.health == 0
        dead_allies = int(dead[: self.n_agents].sum())
        dead_enemies = int(dead[self.n_agents :].sum())
        lost, cleared = dead_allies == self.n_agents, dead_enemies == self.n_enemies
        info = {
            "battle_won": cleared and not lost,
            "dead_allies": dead_allies,
            "dead_enemies": dead_enemies,
        }
        late = self._step >= self.episode_limit and not (lost or cleared)
        if late and self.continuing_episode:
            info["episode_limit"] = True
        return lost or cleared or late, info

    def get_obs(self) -> list[NDArray[np.float32]]:
        """For each agent all living units, seen from its place; zeros for the dead."""
        seen = []
        for i in range(self.n_agents):
            alive = (self.health > 0) & (self.health[i] > 0)
            relative = (self.position - self.position[i]) / SIDE
            units = np.concatenate([relative, self.health[:, None]], axis=1) * alive[:, None]
            seen.append(units.ravel().astype(np.float32))
        return seen

    def get_state(self) -> NDArray[np.float32]:
        """Places and health of all living units."""
        units = np.concatenate([self.position / SIDE, self.health[:, None]], axis=1)
        return (units * (self.health > 0)[:, None]).ravel().astype(np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        """For each agent which actions are legal."""
        n = self.n_agents
        reach = np.linalg.norm(self.position[:n, None] - self.position[None, n:], axis=-1) <= REACH
        attack = reach & (self.health[n:] > 0)
        return [
            [0, 1, 1, 1, 1, 1, *attack[i].astype(int).tolist()]
            if self.health[i]
            else [1] + [0] * (FIRST_ATTACK - 1 + self.n_enemies)
            for i in range(n)
        ]

    def close(self) -> None:
        """End the game."""
        self.closed = True
