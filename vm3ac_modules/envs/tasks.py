"""Tasks: a name, a time limit, how it is made, played and drawn.

``make_env`` and ``make_battle_env`` build a task's environment, with the same keys for all.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchrl.envs import EnvBase, TransformedEnv

import vm3ac_modules.envs.vmas.scenarios
from vm3ac_modules.envs._adversary import best_response_value, prey_value
from vm3ac_modules.envs._known import known_failures
from vm3ac_modules.envs._scenario_files import read_scenarios
from vm3ac_modules.envs._task import Plays, Task
from vm3ac_modules.envs.battles.factory import (
    BattleBackend,
    check_battle,
    make_battle_env,
)
from vm3ac_modules.envs.guard import GAMES
from vm3ac_modules.extras import require_extra
from vm3ac_modules.options import OptionsError, check_taken, meant

__all__ = [
    "FOREIGN",
    "Plays",
    "Task",
    "available_environments",
    "battle_task",
    "find_task",
    "make_env",
    "vmas_scenarios",
]

VMAS_PREFIX = "vmas/"
FOREIGN = ("pettingzoo/", "python:")
"""How the name of a task begins that is found by import path."""
KNOWN_PACKAGES = ("pettingzoo", "mpe2")
"""Packages whose modules are imported whoever names them."""
SCENARIOS = "vm3ac_modules.envs.vmas.scenarios"


def _made(path: str, /, *arguments: Any, **options: Any) -> EnvBase:
    """Call what a module of this room defines; it is imported when it is needed."""
    module, name = path.split(":")
    function = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    check_taken(function, options, name)
    made: EnvBase = function(*arguments, **options)
    return made


def _scenario(module: str, /, **options: Any) -> EnvBase:
    """A scenario class of ours."""
    require_extra("vmas", "vmas", f"the scenario {module}")
    loaded = importlib.import_module(f"{SCENARIOS}.{module}")
    scenario = getattr(loaded, next(iter(getattr(loaded, "__all__", ())), ""), None)
    if scenario is None:
        named = f"{loaded.__file__}: the first name of __all__"
        raise ValueError(f"{named} must be the scenario's class.")
    return _made("vmas.env:VMASEnv", scenario(), **options)


def _vmas(scenario: str, /, **options: Any) -> EnvBase:
    """A scenario of VMAS's own."""
    require_extra("vmas", "vmas", f"the scenario {VMAS_PREFIX}{scenario}")
    if scenario not in vmas_scenarios():
        raise _unknown(VMAS_PREFIX + scenario)
    return _made("vmas.env:VMASEnv", scenario, **options)


BEST_RESPONSES = {"guard": best_response_value, "prey": prey_value}
"""What a frozen policy is worth against each adversary of our scenarios that knows it."""
PREFIXES: dict[str, Callable[..., EnvBase]] = {
    VMAS_PREFIX: _vmas,
    "pettingzoo/": partial(_made, "pettingzoo.adapter:BatchedPettingZooEnv"),
    "python:": partial(_made, "python_env:python_env"),
}


@cache
def own_tasks() -> dict[str, Task]:
    """The paper's tasks by name, read from the scenarios' files: importing those needs VMAS.

    Every file of :mod:`vm3ac_modules.envs.vmas.scenarios` that has ``TASKS`` (name -> ``max_steps``
    and options) adds them, so a new scenario is a file of its own. One that cannot be read is left
    out with a warning.
    """
    found: dict[str, Task] = {}
    tasks, unreadable = read_scenarios(vm3ac_modules.envs.vmas.scenarios.__path__)
    for error in unreadable:
        warnings.warn(f"the tasks of this scenario are left out: {error}.", stacklevel=2)
    for name, (module, values) in tasks.items():
        options = {k: v for k, v in values.items() if k != "max_steps"}
        found[name] = Task(name, partial(_scenario, module), values["max_steps"], options)
    # Where the paper gives no limit (treasure collection, multi-walker), that of the source.
    walkers = {f"multiwalker_{n}": {"num_agents": n} for n in (2, 3, 4)}
    make = partial(_made, "pettingzoo.multiwalker:MultiwalkerEnv")
    return found | {name: Task(name, make, 500, options) for name, options in walkers.items()}


def find_task(name: str, /, *, max_steps: int | None = None, **options: Any) -> Task:
    """A task over continuous actions by name.

    ========================  ===================================================  =========
    name                      environment                                          max_steps
    ========================  ===================================================  =========
    predator_prey_2|3|4       predator-prey of Kim et al. (2023)                   100
    treasure_collection_4|5   cooperative treasure collection, likewise            100
    cooperative_navigation_3  cooperative navigation, likewise                     50
    multiwalker_2|3|4         multi-walker, likewise                               500
    guard                     one step: meet where an adversary does not guard     1
    same_mode, penalty        the same game without it; with a cost of missing     1
    guarded_rendezvous        VMAS: meet at a shelter that is open at the end      20
    learning_prey             VMAS: wait at the exit that a prey will take         20
    rendezvous                VMAS: the same without an adversary                  20
    vmas/<scenario>           any scenario of VMAS                                 100
    pettingzoo/<module>       any parallel environment, by its import path         100
    python:<module>:<name>    the user's own: what this function gives             100
    ========================  ===================================================  =========

    Args:
        name: one of the above, e.g. ``"vmas/balance"``, ``"pettingzoo/mpe2.simple_spread_v3"``,
            ``"python:my_package.my_module:make"``.
        max_steps: time limit; that of the table by default. A limit of the environment's own
            (PettingZoo) holds besides.
        options: options of the environment, e.g. ``growth="double"``.

    Raises:
        ValueError: unknown name.

    Example:
        >>> find_task("predator_prey_2", growth="double").max_steps
        100
    """
    task = own_tasks().get(name)
    if name in GAMES:
        task = Task(name, partial(_made, "guard:GuardEnv"), 1, GAMES[name])
    for prefix, build in PREFIXES.items():
        if name.startswith(prefix):
            task = Task(name, partial(build, name.removeprefix(prefix)))
    if task is None:
        raise _unknown(name)
    options = {**task.options, **options}
    least = options.get("horizon", task.max_steps) if "adversary" in options else None
    usual = task.max_steps if least is None else least
    limit = usual if max_steps is None else max_steps
    if isinstance(least, int) and isinstance(limit, int) and limit < least:
        raise ValueError(
            f"{name} is scored at step {least}, which max_steps={limit} cuts off: give a shorter "
            f"horizon (task.env.horizon={limit})."
        )
    judged = best_response(name, options)
    # Without its adversary a game is another one.
    same = (judged is None) == (best_response(name, task.options) is None)
    failures = known_failures(name) if same else {}
    return replace(task, max_steps=limit, options=options, best_response=judged, failures=failures)


def best_response(
    name: str, options: Mapping[str, Any]
) -> Callable[[Mapping[str, Tensor]], float] | None:
    """What judges a frozen policy in a game, if its options make it one with an adversary.

    Args:
        name: the game.
        options: all options of its environment.
    """
    if name in GAMES:
        return best_response_value if options.get("guard", True) else None
    return BEST_RESPONSES.get(options.get("adversary", "none"))


def imports(name: str) -> str | None:
    """The module that building a task imports by its name; None for what is known here.

    Args:
        name: name of a task.

    Example:
        >>> imports("python:my_package.my_module:make"), imports("predator_prey_2")
        ('my_package.my_module', None)
    """
    if name.startswith("python:"):
        return name.removeprefix("python:").partition(":")[0]
    module = name.removeprefix("pettingzoo/")
    known = module == name or module.partition(".")[0] in KNOWN_PACKAGES
    return None if known else module


def battle_name(map_name: str, backend: str, reward: str) -> str:
    """What a battle is called as a task."""
    return f"battle/{backend}/{reward}/{map_name}"


def battle_task(
    map_name: str,
    backend: BattleBackend = "smax",
    reward: Literal["sparse", "shaped"] = "sparse",
    **options: Any,
) -> Task:
    """A StarCraft-like battle or a small game, played in whole episodes with discrete actions.

    Args:
        map_name: name of the map.
        backend: see :func:`~vm3ac_modules.envs.make_battle_env`.
        reward: likewise.
        options: options of the environment, e.g. ``max_steps``.

    Raises:
        ValueError: for an unknown backend or reward; for games with a reward of another kind.

    Example:
        >>> battle_task("3m").name
        'battle/smax/sparse/3m'
    """
    check_battle(backend, reward)
    judged, same, usual = None, True, GAMES.get(map_name, {})
    if backend == "games":
        judged = best_response(map_name, {**usual, **options})
        same = (judged is None) == (best_response(map_name, usual) is None)
    name = battle_name(map_name, backend, reward)
    return Task(
        name,
        partial(make_battle_env, map_name, backend=backend, reward=reward),
        max_steps=None,
        options=options,
        plays="episodes",
        picture="rollout" if backend == "games" else "battle",
        about={"map": map_name, "backend": backend, "reward": reward},
        row_is_process=backend in ("smac", "smacv2"),
        best_response=judged,
        failures=known_failures(name) if same else {},
    )


def make_env(
    name: str,
    /,
    num_envs: int,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    max_steps: int | None = None,
    **options: Any,
) -> TransformedEnv:
    """Build the environment of a task by name.

    Every environment has one group ``"agents"`` of ``N`` agents and these entries:
    ``("agents", "observation")`` ``[B, N, O]``, ``("agents", "action")`` ``[B, N, A]``,
    ``("agents", "reward")`` ``[B, N, 1]``; ``"done"``, ``"terminated"``, ``"truncated"``,
    ``"step_count"`` and ``"episode"`` ``[B, 1]``; metrics under ``"info"``; and ``"state"``
    ``[B, S]`` where the task has one. The time limit truncates and never terminates.

    Args:
        name: see :func:`find_task`.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the entries, and of the simulation where that can be chosen (VMAS).
        seed: seed of the environment's own streams; without one it is drawn from torch's default
            generator.
        max_steps: time limit; the task's own by default.
        options: options of the environment, e.g. ``growth="double"``.

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
    task = find_task(name, max_steps=max_steps, **options)
    env = task.make(num_envs, device=device, seed=seed)
    assert isinstance(env, TransformedEnv)
    return env


def check_task(name: str) -> None:
    """Refuse the name of a task that does not exist; one that goes by import path is not looked up.

    Args:
        name: its name.

    Raises:
        OptionsError: says what was probably meant, and what there is.
    """
    if name not in available_environments() and not name.startswith(FOREIGN):
        raise _unknown(name)


def _unknown(name: str) -> OptionsError:
    known = available_environments()
    near = meant(name, known, prefix=VMAS_PREFIX)
    absent = "" if find_spec("vmas") else " (vmas/<scenario> once the extra 'vmas' is installed)"
    _, unreadable = read_scenarios(vm3ac_modules.envs.vmas.scenarios.__path__)
    left_out = (f" The tasks of one scenario could not be read: {error}." for error in unreadable)
    return OptionsError(
        f"unknown task {name!r}{near}; valid: {', '.join(known)}{absent}, pettingzoo/<module>, "
        f"python:<module>:<function>.{''.join(left_out)}"
    )


def vmas_scenarios() -> list[str]:
    """Names of the scenarios that the installed VMAS brings; empty where it is not installed.

    Read from the files, since importing each would be slow.

    Example:
        >>> from vm3ac_modules.envs.tasks import vmas_scenarios
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
        ['cooperative_navigation_3', 'guarded_rendezvous']
    """
    return [*own_tasks(), *GAMES, *(VMAS_PREFIX + name for name in vmas_scenarios())]
