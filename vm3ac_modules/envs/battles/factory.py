"""One door to StarCraft-like battles: a map, a backend, and a number of rows."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torchrl.envs import EnvBase, ParallelEnv

from vm3ac_modules.envs.battles._micromanagement import REWARDS
from vm3ac_modules.envs.battles.smac import make_smac_env
from vm3ac_modules.envs.battles.smaclite import SMACliteEnv
from vm3ac_modules.envs.battles.smax import SMAXEnv
from vm3ac_modules.envs.rng import innermost

__all__ = [
    "BACKENDS",
    "BattleBackend",
    "check_battle",
    "lost_episodes",
    "make_battle_env",
    "time_limit",
]

BattleBackend = Literal["smax", "smaclite", "smac", "smacv2"]
"""Who plays: SMAX, embedded, SMAClite, also on the CPU, or StarCraft II through SMAC or SMACv2."""
BACKENDS: tuple[str, ...] = get_args(BattleBackend)


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
            PyPI; ``"smac"`` and ``"smacv2"`` need the game.
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
        raise ValueError(f"unknown backend {backend!r}; valid: {', '.join(BACKENDS)}.")
    if reward not in REWARDS:
        raise ValueError(f"unknown reward {reward!r}; valid: {', '.join(REWARDS)}.")


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
    if isinstance(games, (SMAXEnv, SMACliteEnv)):
        return games.max_steps
    return max(_of_all(games, "episode_limit"))


def lost_episodes(env: EnvBase) -> int:
    """How many episodes crashes of the game cut short or kept from beginning.

    Args:
        env: an environment of :func:`make_battle_env`, transformed or not.

    Returns:
        Their number, over all games; SMAX and SMAClite lose none.

    Example:
        >>> from vm3ac_modules.envs import make_smac_env
        >>> from vm3ac_modules.testing import SMACStub
        >>> lost_episodes(make_smac_env("3m", backend=SMACStub, seed=0))
        0
    """
    games = innermost(env)
    embedded = isinstance(games, (SMAXEnv, SMACliteEnv))
    return 0 if embedded else sum(_of_all(games, "lost_episodes"))


def _of_all(games: EnvBase, name: str) -> list[int]:
    if isinstance(games, ParallelEnv):
        if games.is_closed:
            games.start()
        return [int(value) for value in getattr(games, name)]
    return [int(getattr(games, name))]
