"""One door to StarCraft-like battles: a map, a backend, and a number of rows."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torchrl.envs import EnvBase

__all__ = ["BACKENDS", "BattleBackend", "make_battle_env"]

BattleBackend = Literal["smax", "smac", "smacv2"]
"""Who plays the battle: SMAX, embedded, or StarCraft II through SMAC or SMACv2."""
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
        backend: ``"smax"`` needs the extra of that name; ``"smac"`` and ``"smacv2"`` need the game.
        reward: ``"sparse"`` (deaths, time and victory, the paper's) or ``"shaped"`` (SMAX only).
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
        >>> _ = pytest.importorskip("jaxmarl")
        >>> make_battle_env("3m", 2, seed=0).batch_size
        torch.Size([2])
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; valid: {', '.join(BACKENDS)}.")
    if backend == "smax":
        from vm3ac_modules.envs.smax import SMAXEnv

        return SMAXEnv(map_name, num_envs, device, seed, reward=reward, **options)
    if reward != "sparse":
        raise ValueError(
            f"reward={reward!r} is SMAX's own; backend {backend!r} has reward='sparse' only."
        )
    from vm3ac_modules.envs.smac import make_smac_env

    return make_smac_env(
        map_name, backend=backend, num_envs=num_envs, seed=seed, device=device, **options
    )
