"""An environment of the user's own, named by the import path of the function that makes it."""

from __future__ import annotations

import importlib
import inspect
import traceback
from typing import Any

import torch
from torchrl.envs import EnvBase

from vm3ac_modules.envs.checks import check_layout

__all__ = ["python_env"]


def python_env(
    path: str,
    /,
    num_envs: int,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    **kwargs: Any,
) -> EnvBase:
    """Build a TorchRL environment with a function of the user's.

    The function is called as ``function(num_envs=..., device=..., seed=..., **kwargs)`` and gives
    an ``EnvBase`` of batch size ``[B]`` with one group ``"agents"`` of agents that are alike:
    ``("agents", "observation")`` ``[B, N, O]``, ``("agents", "action")`` ``[B, N, A]`` continuous
    with finite bounds, ``("agents", "reward")`` ``[B, N, 1]``, and ``"done"`` and ``"terminated"``
    ``[B, 1]`` at the root. Metrics go to ``("info", name)`` ``[B, 1]`` and a state to ``"state"``
    ``[B, S]``. It counts neither steps nor episodes (``"step_count"``, ``"episode"``) and ends no
    episode for its length: ``make_env`` does all that. TorchRL's ``check_env_specs`` tells whether
    it keeps its own word.

    For a checkpoint to hold its random streams it has methods ``get_rng_state()``, which gives a
    dictionary of tensors, and ``set_rng_state(state)``; see
    :func:`~vm3ac_modules.envs.rng.env_rng_state`.

    Args:
        path: ``"package.module:function"``.
        num_envs: number of rows, ``B``.
        device: device of all entries.
        seed: passed on.
        **kwargs: passed on.

    Returns:
        What the function gave.

    Raises:
        ValueError: no such module or function, one that takes other arguments or fails (says
            how, and in which line), or an environment of another form.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs.python_env import python_env
        >>> env = python_env("vm3ac_modules.envs:VMASEnv", 3, seed=0, scenario="balance")
        >>> env.batch_size
        torch.Size([3])
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ValueError(f"python:{path}: must be of the form python:package.module:function")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"python:{path}: {error}; {module_name!r} must be importable from here (on PYTHONPATH, "
            f"say) and define {attribute!r}"
        ) from error
    except Exception as error:
        raise ValueError(f"python:{path}: {_told(error)}") from error
    given = {"num_envs": num_envs, "device": device, "seed": seed, **kwargs}
    try:
        inspect.signature(function).bind(**given)
    except ValueError:
        pass  # what is built in has no signature to read
    except TypeError as error:
        called = f"{attribute}({', '.join(f'{name}=...' for name in given)})"
        raise ValueError(f"python:{path}: is called as {called}: {error}") from error
    try:
        env = function(**given)
    except Exception as error:
        raise ValueError(f"python:{path}: {_told(error)}") from error
    if not isinstance(env, EnvBase):
        raise ValueError(
            f"python:{path}: gave {type(env).__name__}, not a torchrl.envs.EnvBase; wrap it in one"
        )
    try:
        check_layout(env, num_envs)
        _check_device(env, torch.device(device))
    except ValueError as error:
        raise ValueError(f"python:{path}: {error}") from error
    return env


def _told(error: Exception) -> str:
    """An error of the user's code: its type, its text, and where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = last.filename, last.lineno
    if isinstance(error, SyntaxError):
        place = str(error.filename), error.lineno
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text} ({place[0]}:{place[1]})"


def _check_device(env: EnvBase, device: torch.device) -> None:
    if env.device is None or env.device.type != device.type:
        raise ValueError(
            f"the environment is on {env.device}, not {device}; hand its device to EnvBase, also "
            "if only its entries are moved there"
        )
