"""SMAX as three pure functions over rows: the only place that touches JAX.

Shapes: ``B`` rows, ``N`` agents, ``M`` enemies, ``U = N + M`` units, ``A`` actions.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.envs.battles._micromanagement import Sizes, SparseReward
from vm3ac_modules.envs.battles.smax_maps import SmaxMap
from vm3ac_modules.extras import require_extra

# Side of SMAX's square map.
MAP_SIZE = 32.0
MOVES = 5
# SMAX folds its own time limit, which restarts nothing and bootstraps nothing, into its end flag.
ENDLESS = 2**30


def _cache_directory() -> str:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "vm3ac_modules" / "jax")


@contextmanager
def _silent_import() -> Iterator[None]:
    """Take back what JaxMARL does to the standard streams when it is imported.

    It greets, and it puts the interpreter's own streams in the place of those of a notebook or of
    pytest.
    """
    sink, own = io.StringIO(), sys.__stdout__
    with redirect_stdout(sink), redirect_stderr(sys.stderr):
        vars(sys)["__stdout__"] = sink
        try:
            yield
        finally:
            vars(sys)["__stdout__"] = own


@cache
def load_jax() -> tuple[Any, Any, Any]:
    """JAX, SMAX with a scripted enemy, and its scenarios: on the CPU, compiled programs kept."""
    for module in ("jax", "jaxmarl"):
        require_extra(module, "smax", "an SMAX environment")
    # JAX on a GPU would set most of its memory aside, next to torch.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache_directory())
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    with _silent_import():
        import jax
        from jaxmarl.environments.smax.heuristic_enemy_smax_env import HeuristicEnemySMAX
        from jaxmarl.environments.smax.smax_env import Scenario
    return jax, HeuristicEnemySMAX, Scenario


class SmaxGame:
    """The battles of ``B`` rows, as compiled functions of a state that the caller keeps.

    A row's draws depend on its seed and on how many steps it has made, hence neither on the other
    rows nor on ``B``. A row whose battle is over stays as it is and pays 0.
    """

    def __init__(
        self, units: SmaxMap, sparse: SparseReward | None, walls_cause_death: bool
    ) -> None:
        jax, simulator, scenario = load_jax()
        self.jax, self.sparse = jax, sparse
        self.num_agents, self.num_enemies = len(units.allies), len(units.enemies)
        types, random = jax.numpy.array(units.unit_ids, jax.numpy.uint8), units.random
        self.env = simulator(
            scenario=scenario(types, self.num_agents, self.num_enemies, random, random),
            walls_cause_death=walls_cause_death,
            max_steps=ENDLESS,
        )
        self.step: Callable[..., Any] = jax.jit(self._step_rows)
        self.reset: Callable[..., Any] = jax.jit(self._reset_rows)

    @property
    def sizes(self) -> Sizes:
        """Sizes of the entries."""
        game, seen = self.env, self.env.observation_spaces[self.env.agents[0]]
        return Sizes(self.num_agents, MOVES + self.num_enemies, seen.shape[0], game.state_size)

    @property
    def num_units(self) -> int:
        """``U``."""
        return self.num_agents + self.num_enemies

    def blank(self, rows: int) -> Any:
        """A state to hand to the first reset, which must replace every row."""
        seeds = np.zeros(rows, np.uint32)
        shapes = self.jax.eval_shape(self.jax.vmap(self._fresh), seeds)
        return self.jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

    def _fresh(self, seed: Any) -> tuple[Any, Any]:
        start, course = self.jax.random.split(self.jax.random.PRNGKey(seed))
        return course, self.env.reset(start)[1]

    # The time limit is an argument: another one is no other program to compile.
    def _reset_rows(
        self, state: Any, seeds: Any, mask: Any, limit: Any
    ) -> tuple[Any, dict[str, Any]]:
        jax = self.jax

        def row(old: Any, seed: Any, replace: Any) -> Any:
            new = jax.tree.map(lambda a, b: jax.numpy.where(replace, a, b), self._fresh(seed), old)
            return new, self._observe(new[1], limit)

        out: tuple[Any, dict[str, Any]] = jax.vmap(row)(state, seeds, mask)
        return out

    def _step_rows(self, state: Any, action: Any, limit: Any) -> tuple[Any, dict[str, Any]]:
        jax, jnp = self.jax, self.jax.numpy

        def row(before: Any, joint: Any) -> Any:
            course, old = before
            key = jax.random.fold_in(course, old.state.step)
            actions = dict(zip(self.env.agents, joint, strict=True))
            _, new, rewards, _, _ = self.env.step_env(key, old, actions)
            over = self._over(old, limit)
            reward = jnp.where(over, 0.0, self._reward(old, new, rewards))
            new = jax.tree.map(lambda a, b: jnp.where(over, b, a), new, old)
            seen = self._observe(new, limit) | {"reward": jnp.full((self.num_agents, 1), reward)}
            return (course, new), seen

        out: tuple[Any, dict[str, Any]] = jax.vmap(row)(state, action)
        return out

    def _sides(self, state: Any) -> tuple[Any, Any]:
        alive = state.state.unit_alive
        return alive[: self.num_agents], alive[self.num_agents :]

    def _won(self, state: Any) -> Any:
        allies, enemies = self._sides(state)
        return allies.any() & ~enemies.any()

    def _terminated(self, state: Any) -> Any:
        allies, enemies = self._sides(state)
        return ~allies.any() | ~enemies.any()

    def _over(self, state: Any, limit: Any) -> Any:
        return self._terminated(state) | (state.state.step >= limit)

    def _reward(self, old: Any, new: Any, rewards: dict[str, Any]) -> Any:
        if self.sparse is None:
            return rewards[self.env.agents[0]]
        died = [
            (was & ~now).sum() for was, now in zip(self._sides(old), self._sides(new), strict=True)
        ]
        return self.sparse(died[1], died[0], self._won(new))

    def _observe(self, state: Any, limit: Any) -> dict[str, Any]:
        jnp, agents = self.jax.numpy, self.env.agents
        seen, legal = self.env.get_obs(state), self.env.get_avail_actions(state)
        allies, enemies = self._sides(state)
        terminated = self._terminated(state)
        truncated = (state.state.step >= limit) & ~terminated
        numbers = jnp.stack([self._won(state), (~allies).sum(), (~enemies).sum()])
        return {
            "observation": jnp.stack([seen[name] for name in agents]),
            "action_mask": jnp.stack([legal[name] for name in agents]).astype(bool),
            "alive": allies,
            "state": self._world(state.state),
            "ends": jnp.stack([terminated | truncated, terminated, truncated]),
            "info": numbers.astype(jnp.float32),
        }

    def _world(self, units: Any) -> Any:
        """Bodies of all units, zero for the dead, then their teams and types, ``[12 U]``."""
        jnp, game = self.jax.numpy, self.env
        kinds = len(game.unit_type_names)
        cooldown = units.unit_weapon_cooldowns / game.unit_type_weapon_cooldowns[units.unit_types]
        features = [
            (units.unit_health / game.unit_type_health[units.unit_types])[:, None],
            units.unit_positions / MAP_SIZE,
            # SMAX lets it run below zero for as long as the unit does not shoot.
            cooldown.clip(0.0, 1.0)[:, None],
            self.jax.nn.one_hot(units.unit_types, kinds),
        ]
        body = jnp.where(units.unit_alive[:, None], jnp.concatenate(features, axis=1), 0.0)
        return jnp.concatenate(
            [body.ravel(), units.unit_teams, units.unit_types / (kinds - 1)]
        ).astype(jnp.float32)

    def describe(self, state: Any) -> dict[str, NDArray[Any]]:
        """What a picture needs of a state, as arrays with ``B`` rows."""
        units = state[1].state
        types = np.asarray(units.unit_types)
        alive, attacks = np.asarray(units.unit_alive), np.asarray(units.prev_attack_actions)
        target = np.empty_like(attacks)
        n = self.num_agents
        # An enemy numbers its targets from the last ally down.
        target[:, :n] = attacks[:, :n] - MOVES + n
        target[:, n:] = n - 1 - (attacks[:, n:] - MOVES)
        target[(attacks < MOVES) | ~alive] = -1
        full_health = np.asarray(self.env.unit_type_health)[types]
        return {
            "positions": np.array(units.unit_positions),
            "health": np.asarray(units.unit_health) / full_health,
            "alive": alive.copy(),
            "types": types.astype(np.int64),
            "targets": target.astype(np.int64),
            "ranges": np.asarray(self.env.unit_type_attack_ranges)[types],
        }


@cache
def smax_game(units: SmaxMap, sparse: SparseReward | None, walls_cause_death: bool) -> SmaxGame:
    """The game of these rules: one per process, since compiling it takes seconds."""
    return SmaxGame(units, sparse, walls_cause_death)
