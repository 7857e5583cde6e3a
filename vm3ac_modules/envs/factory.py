"""``make_env``: every environment by name, with the same keys and the same time limit."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torchrl.envs import Compose, EnvBase, StepCounter, TransformedEnv

from vm3ac_modules.envs.checks import check_homogeneous_continuous
from vm3ac_modules.envs.transforms import AgentInfoToRoot, EpisodeCounter
from vm3ac_modules.keys import Keys, require_extra

__all__ = ["available_environments", "make_env", "vmas_scenarios"]

VMAS_PREFIX = "vmas/"


@dataclass(frozen=True)
class Task:
    """How a name becomes an environment.

    Args:
        build: called with ``num_envs``, ``device``, ``seed`` and options.
        max_steps: time limit if none is given.
        options: options that the name stands for; the caller's prevail.
    """

    build: Callable[..., EnvBase]
    max_steps: int = 100
    options: dict[str, Any] = field(default_factory=dict)


def _scenario(module: str, name: str, **options: Any) -> EnvBase:
    """A scenario class of ours."""
    require_extra("vmas", "vmas", f"the scenario {name}")
    from vm3ac_modules.envs.vmas.env import VMASEnv

    scenario = getattr(importlib.import_module(f"vm3ac_modules.envs.vmas.scenarios.{module}"), name)
    return VMASEnv(scenario(), **options)


def _vmas(scenario: str, **options: Any) -> EnvBase:
    """A scenario of VMAS's own."""
    require_extra("vmas", "vmas", f"the scenario {VMAS_PREFIX}{scenario}")
    if scenario not in vmas_scenarios():
        raise _unknown(VMAS_PREFIX + scenario)
    from vm3ac_modules.envs.vmas.env import VMASEnv

    return VMASEnv(scenario, **options)


def _multiwalker(**options: Any) -> EnvBase:
    from vm3ac_modules.envs.pettingzoo.multiwalker import MultiwalkerEnv

    return MultiwalkerEnv(**options)


def _pettingzoo(module: str, **options: Any) -> EnvBase:
    from vm3ac_modules.envs.pettingzoo.adapter import BatchedPettingZooEnv

    return BatchedPettingZooEnv(module, **options)


def _python(path: str, **options: Any) -> EnvBase:
    from vm3ac_modules.envs.python_env import python_env

    return python_env(path, **options)


_PP = partial(_scenario, "predator_prey", "PredatorPrey")
_CTC = partial(_scenario, "treasure_collection", "TreasureCollection")
_CN = partial(_scenario, "cooperative_navigation", "CooperativeNavigation")

# Sizes and time limits of Kim et al. (2023), arXiv:2303.00451; where the paper gives no limit
# (treasure collection, multi-walker) that of the task's source.
TASKS: dict[str, Task] = {
    "predator_prey_2": Task(_PP, 100, {"num_agents": 2, "num_preys": 16, "captures_needed": 1}),
    "predator_prey_3": Task(_PP, 100, {"num_agents": 3, "num_preys": 16, "captures_needed": 1}),
    "predator_prey_4": Task(_PP, 100, {"num_agents": 4, "num_preys": 16, "captures_needed": 2}),
    "treasure_collection_4": Task(_CTC, 100, {"num_agents": 4}),
    "treasure_collection_5": Task(_CTC, 100, {"num_agents": 5}),
    "cooperative_navigation_3": Task(_CN, 50, {"num_agents": 3}),
    "multiwalker_2": Task(_multiwalker, 500, {"num_agents": 2}),
    "multiwalker_3": Task(_multiwalker, 500, {"num_agents": 3}),
    "multiwalker_4": Task(_multiwalker, 500, {"num_agents": 4}),
}
PREFIXES: dict[str, Callable[..., EnvBase]] = {
    VMAS_PREFIX: _vmas,
    "pettingzoo/": _pettingzoo,
    "python:": _python,
}


def _task(name: str) -> Task:
    if name in TASKS:
        return TASKS[name]
    for prefix, build in PREFIXES.items():
        if name.startswith(prefix):
            return Task(partial(build, name.removeprefix(prefix)))
    raise _unknown(name)


def make_env(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    max_steps: int | None = None,
    **kwargs: Any,
) -> TransformedEnv:
    """Build an environment by name.

    Every environment has one group ``"agents"`` of ``N`` agents and these entries:
    ``("agents", "observation")`` ``[B, N, O]``, ``("agents", "action")`` ``[B, N, A]``,
    ``("agents", "reward")`` ``[B, N, 1]``; ``"done"``, ``"terminated"``, ``"truncated"``,
    ``"step_count"`` and ``"episode"`` ``[B, 1]``; metrics under ``"info"``; and ``"state"``
    ``[B, S]`` where the task has one. The time limit truncates and never terminates.

    ========================  ===================================================  =========
    name                      environment                                          max_steps
    ========================  ===================================================  =========
    predator_prey_2|3|4       predator-prey of Kim et al. (2023)                   100
    treasure_collection_4|5   cooperative treasure collection, likewise            100
    cooperative_navigation_3  cooperative navigation, likewise                     50
    multiwalker_2|3|4         multi-walker, likewise                               500
    vmas/<scenario>           any scenario of VMAS                                 100
    pettingzoo/<module>       any parallel environment, by its import path         100
    python:<module>:<name>    the user's own: what this function gives             100
    ========================  ===================================================  =========

    Args:
        name: one of the above, e.g. ``"vmas/balance"``, ``"pettingzoo/mpe2.simple_spread_v3"``,
            ``"python:my_package.my_module:make"``.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the entries, and of the simulation where that can be chosen (VMAS).
        seed: seed of the environment's own streams; without one it is drawn from torch's default
            generator.
        max_steps: time limit; that of the table by default. A limit of the environment's own
            (PettingZoo) holds besides.
        **kwargs: options of the environment, e.g. ``growth="double"``.

    Returns:
        The environment, with batch size ``[B]``.

    Raises:
        ValueError: unknown name or option, or agents that are not alike and continuous.
        ImportError: the simulator is not installed; names the extra to install.

    Example:
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", num_envs=8, seed=0)
        >>> env.rollout(3)["next", "agents", "reward"].shape
        torch.Size([8, 3, 2, 1])
    """
    if num_envs < 1:
        raise ValueError(f"make_env: num_envs must be at least 1, got {num_envs}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"make_env: max_steps must be at least 1, got {max_steps}")
    task = _task(name)
    options = {**task.options, **kwargs}
    base = task.build(num_envs=num_envs, device=device, seed=seed, **options)
    check_homogeneous_continuous(base, Keys().group)
    transforms = Compose(
        AgentInfoToRoot(Keys().group),
        StepCounter(task.max_steps if max_steps is None else max_steps),
        EpisodeCounter(base.batch_size),
    )
    # Unwrapped, so that base_env is the simulator also where the user has transforms of their own.
    return TransformedEnv(base, transforms.to(base.device), auto_unwrap=True)


def _unknown(name: str) -> ValueError:
    names = ", ".join(available_environments())
    hint = "" if find_spec("vmas") else " (vmas/<scenario> once the extra 'vmas' is installed)"
    return ValueError(
        f"make_env: unknown environment {name!r}; valid names: {names}{hint}, "
        "pettingzoo/<module>, python:<module>:<function>"
    )


def vmas_scenarios() -> list[str]:
    """Names of the scenarios that the installed VMAS brings; empty where it is not installed.

    Read from the files, since importing each would be slow.

    Example:
        >>> from vm3ac_modules.envs.factory import vmas_scenarios
        >>> "balance" in vmas_scenarios()
        True
    """
    spec = find_spec("vmas")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "scenarios"
    return sorted({path.stem for path in folder.rglob("*.py")} - {"__init__"})


def available_environments() -> list[str]:
    """All names that :func:`make_env` takes here, save import paths of environments.

    Example:
        >>> from vm3ac_modules.envs import available_environments
        >>> available_environments()[:2]
        ['predator_prey_2', 'predator_prey_3']
    """
    return [*TASKS, *(VMAS_PREFIX + name for name in vmas_scenarios())]
