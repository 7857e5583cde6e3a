"""One door to StarCraft-like battles: a map, a backend, and a number of rows."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torchrl.envs import EnvBase, ParallelEnv

from vm3ac_modules.envs.battles._micromanagement import REWARDS
from vm3ac_modules.envs.battles.smac import make_smac_env
from vm3ac_modules.envs.battles.smaclite import SMACliteEnv
from vm3ac_modules.envs.battles.smax import SMAXEnv
from vm3ac_modules.envs.guard import GAMES, GuardEnv
from vm3ac_modules.envs.matrix import MATRIX_GAMES, MatrixGameEnv
from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.options import check_taken, meant

__all__ = [
    "BACKENDS",
    "BattleBackend",
    "check_battle",
    "lost_episodes",
    "make_battle_env",
    "time_limit",
]

BattleBackend = Literal["smax", "smaclite", "smac", "smacv2", "games"]
"""Who plays: SMAX, embedded, SMAClite, also on the CPU, StarCraft II, or small games of our own."""
BACKENDS: tuple[str, ...] = get_args(BattleBackend)
SMALL_GAMES = (*MATRIX_GAMES, *(name for name in GAMES if name not in MATRIX_GAMES))
"""Maps of ``backend="games"``: matrix games with known optima, and the guard's."""


def make_battle_env(
    map_name: str,
    num_envs: int = 1,
    *,
    backend: BattleBackend = "smax",
    reward: Literal["sparse", "shaped"] = "sparse",
    seed: int | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> EnvBase:
    """Build an environment of battles.

    Args:
        map_name: name of the map.
        num_envs: rows B.
        backend: ``"smax"`` needs the extra of that name, ``"smaclite"`` a package that is not on
            PyPI; ``"smac"`` and ``"smacv2"`` need the game; ``"games"`` are
            :data:`~vm3ac_modules.envs.matrix.MATRIX_GAMES`, ``"guard"`` and ``"same_mode"``.
        reward: ``"sparse"`` (deaths, time and victory, the paper's) or ``"shaped"`` (the backend's
            own).
        seed: seed of the environment.
        device: device of its entries.
        options: passed to the environment, e.g. ``max_steps``.

    Returns:
        The environment, ``[B]``.

    Raises:
        ValueError: for an unknown backend, map or reward.
        ImportError: if what the backend needs is not installed; says how to install it.

    Example:
        >>> import pytest
        >>> from importlib.util import find_spec
        >>> _ = find_spec("jaxmarl") or pytest.skip("needs the extra smax")
        >>> make_battle_env("3m", 2, seed=0).batch_size
        torch.Size([2])
    """
    check_battle(backend, reward)
    if backend == "games":
        return _small_game(map_name, num_envs, device, seed, **options)
    if backend == "smax":
        return SMAXEnv(map_name, num_envs, device, seed, reward=reward, **options)
    if backend == "smaclite":
        return SMACliteEnv(map_name, num_envs, device, seed, reward=reward, **options)
    if "max_steps" in options:
        raise ValueError(
            f"max_steps cannot be set with backend={backend!r}: StarCraft's maps have limits of "
            "their own."
        )
    return make_smac_env(map_name, backend, num_envs, device, seed, reward=reward, **options)


def check_battle(backend: str, reward: str) -> None:
    """Refuse names that no battle has.

    Args:
        backend: who plays it.
        reward: what pays.

    Raises:
        ValueError: for an unknown backend or reward; names the valid ones.
    """
    if backend not in BACKENDS:
        hint = meant(backend, BACKENDS)
        raise ValueError(f"unknown backend {backend!r}{hint}; valid: {', '.join(BACKENDS)}.")
    if reward not in REWARDS:
        hint = meant(reward, REWARDS)
        raise ValueError(f"unknown reward {reward!r}{hint}; valid: {', '.join(REWARDS)}.")
    if backend == "games" and reward != "sparse":
        raise ValueError("backend='games': a game pays what it pays; leave reward out.")


def _small_game(
    name: str,
    num_envs: int,
    device: torch.device | str,
    seed: int | None,
    **options: Any,
) -> EnvBase:
    """A game by name, over numbers of actions."""
    if name in MATRIX_GAMES:
        if options:
            raise ValueError(f"{name} has no options, got {', '.join(options)}.")
        return MatrixGameEnv(name, num_envs, device, seed)
    if name not in GAMES:
        hint = meant(name, SMALL_GAMES)
        raise ValueError(f"unknown game {name!r}{hint}; valid: {', '.join(SMALL_GAMES)}.")
    if fixed := [key for key in ("max_steps", "actions") if key in options]:
        raise ValueError(f"{fixed[0]} of {name} is fixed: one step, of numbers.")
    check_taken(GuardEnv, ["num_envs", "device", "seed", "actions", *options], name)
    return GuardEnv(num_envs, device, seed, **{**GAMES[name], "actions": "categorical", **options})


def time_limit(env: EnvBase) -> int:
    """The longest that a battle can last, in steps.

    Args:
        env: an environment of :func:`make_battle_env`, transformed or not.

    Returns:
        The limit; that of the longest game if there are several.

    Example:
        >>> from vm3ac_modules.envs import make_smac_env
        >>> from vm3ac_modules.testing import SMACStub
        >>> time_limit(make_smac_env("3m", backend=SMACStub, seed=0))
        20
    """
    games = innermost(env)
    if isinstance(games, (SMAXEnv, SMACliteEnv, MatrixGameEnv)):
        return games.max_steps
    if isinstance(games, GuardEnv):
        return 1
    return max(_of_all(games, "episode_limit"))


def lost_episodes(env: EnvBase) -> int:
    """How many episodes crashes of the game cut short or kept from beginning.

    Args:
        env: an environment of :func:`make_battle_env`, transformed or not.

    Returns:
        Their number, over all games; only StarCraft II loses any.

    Example:
        >>> from vm3ac_modules.envs import make_smac_env
        >>> from vm3ac_modules.testing import SMACStub
        >>> lost_episodes(make_smac_env("3m", backend=SMACStub, seed=0))
        0
    """
    games = innermost(env)
    embedded = isinstance(games, (SMAXEnv, SMACliteEnv, MatrixGameEnv, GuardEnv))
    return 0 if embedded else sum(_of_all(games, "lost_episodes"))


def _of_all(games: EnvBase, name: str) -> list[int]:
    if isinstance(games, ParallelEnv):
        if games.is_closed:
            games.start()
        return [int(value) for value in getattr(games, name)]
    return [int(getattr(games, name))]
