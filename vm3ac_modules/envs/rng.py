"""Random streams of any environment, in and out of a checkpoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchrl.envs import Compose, EnvBase, Transform, TransformedEnv

__all__ = ["env_rng_state", "innermost", "set_env_rng_state"]


def env_rng_state(env: EnvBase) -> dict[str, Tensor]:
    """The state of an environment's own random streams.

    All environments of this package have one. One of the user's has one if its class has methods
    ``get_rng_state`` and ``set_rng_state``; without them a resumed run goes on with other draws.

    Args:
        env: any environment; its transforms are looked through.

    Returns:
        Tensors for a checkpoint; empty for an environment that gives none.

    Raises:
        ValueError: the environment gives something else than a dictionary of tensors.

    Example:
        >>> from vm3ac_modules.envs import env_rng_state, make_env, set_env_rng_state
        >>> env = make_env("predator_prey_2", num_envs=2, seed=0)
        >>> state, first = env_rng_state(env), env.reset()["state"]
        >>> set_env_rng_state(env, state)
        >>> bool((env.reset()["state"] == first).all())
        True
    """
    base = innermost(env)
    # Asked of the class: a ParallelEnv would hand any name on to its workers.
    if not hasattr(type(base), "get_rng_state"):
        return {}
    state: dict[str, Tensor] = base.get_rng_state()
    wrong = not isinstance(state, dict)
    if wrong or not all(isinstance(value, Tensor) for value in state.values()):
        held = type(state).__name__ if wrong else f"a dictionary of {_kinds(state)}"
        raise ValueError(
            f"{type(base).__name__}.get_rng_state() gave {held}, but a checkpoint holds its random "
            "streams as a dictionary of tensors; give that, or call the method by another name"
        )
    return state


def _kinds(state: dict[str, Any]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in state.values()}))


def set_env_rng_state(env: EnvBase, state: dict[str, Tensor]) -> None:
    """Put back what :func:`env_rng_state` gave.

    Args:
        env: an environment built in the same way.
        state: its state; an empty one is put back only where there is nothing to put.

    Raises:
        ValueError: the state is of another kind of environment.
    """
    base = innermost(env)
    if hasattr(type(base), "set_rng_state"):
        base.set_rng_state(state)
    elif state:
        raise ValueError(
            f"set_env_rng_state: the state has the entries {sorted(state)}, but "
            f"{type(base).__name__} has no set_rng_state; use the kind that it was saved from"
        )


def innermost(env: EnvBase) -> EnvBase:
    """The simulator behind all transforms.

    Args:
        env: any environment.
    """
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return env


def transforms_of(env: EnvBase) -> list[Transform]:
    """The transforms around an environment, one by one."""
    if not isinstance(env, TransformedEnv):
        return []
    return list(env.transform) if isinstance(env.transform, Compose) else [env.transform]
