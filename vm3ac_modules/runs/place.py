"""Read the task from a configuration: its name, or the map of a battle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vm3ac_modules.envs.tasks import Task, battle_task, find_task
from vm3ac_modules.options import OptionsError, meant

__all__ = ["MOVED", "PLACE", "mapping", "placed"]

MOVED = {
    **{f"task.{name}": f"algorithm.{name}" for name in ("beta", "latent_dim")},
    **{f"task.{name}": name for name in ("reward_scale", "num_envs", "critic_input")},
    **{
        f"algorithm.{name}": name
        for name in ("num_envs", "batch_size", "updates_per_episode", "max_grad_norm")
    },
}
"""Keys of the command line that have another name now."""

RESERVED = {
    "num_envs": "num_envs",
    "device": "device",
    "seed": "seed",
    "max_steps": "task.max_steps",
}
"""What the run hands to an environment by itself, and where it is given."""
PLACE = ("task", "map", "backend", "reward", "env")
"""Keys of a configuration that say what is trained on."""


def placed(given: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task that a configuration names, and its entries with all that they left to defaults.

    Args:
        given: the entries of :data:`PLACE` that the configuration has.

    Raises:
        OptionsError: for entries that do not go together, are unknown, or of another type.
        ValueError: for an unknown task.

    Example:
        >>> task, entries = placed({"task": {"name": "guard", "max_steps": 1}})
        >>> task.name, entries["task"]["env"]
        ('guard', {})
    """
    if "map" in given:
        if "task" in given:
            raise OptionsError("give a task or the map of a battle, not both.")
        place = {"map": "", "backend": "smax", "reward": "sparse", **given}
        place["env"] = mapping("env", given.get("env"))
        _check_reserved("env", place["env"], tuple(RESERVED)[:3])
        names = {key: place[key] for key in ("map", "backend", "reward")}
        return battle_task(*names.values(), **place["env"]), place
    for key in given:
        if key != "task":
            right = "task.env" if key == "env" else "map (vm3ac battle)"
            raise OptionsError(f"{key} is an option of battles: give {right}.")
    task = mapping("task", given.get("task"))
    if "name" not in task:
        raise OptionsError("say on which task: task: {name: predator_prey_2}, or map: 3m.")
    known = ("name", "max_steps", "env", "agent_index")
    for key in task:
        if key not in known:
            now = MOVED.get(f"task.{key}")
            hint = f" is {now} now." if now else f"{meant(key, known)}; valid: {', '.join(known)}."
            raise OptionsError(f"unknown key task.{key}{hint}")
    limit = task.get("max_steps")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise OptionsError(f"task.max_steps must be an integer >= 1 or null, got {limit!r}.")
    env = mapping("task.env", task.get("env"))
    _check_reserved("task.env", env, tuple(RESERVED))
    index = task.get("agent_index", False)
    if not isinstance(index, bool):
        raise OptionsError(f"task.agent_index must be true or false, got {index!r}.")
    # Said only if it is wanted: configurations from before it stay what they were.
    said = {"agent_index": True} if index else {}
    place = {"task": {"name": task["name"], "max_steps": limit, "env": env, **said}}
    return replace(find_task(task["name"], max_steps=limit, **env), agent_index=index), place


def _check_reserved(where: str, env: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in names:
        if key in env:
            raise OptionsError(f"{where}.{key} is set by the run: give {RESERVED[key]}.")


def mapping(key: str, value: Any) -> dict[str, Any]:
    """Options by name that a key of the configuration holds; empty where it says nothing.

    Args:
        key: the key, for messages.
        value: what the configuration has there.

    Raises:
        OptionsError: if it is no mapping.

    Example:
        >>> mapping("task.env", None), mapping("task.env", {"num_agents": 3})
        ({}, {'num_agents': 3})
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise OptionsError(f"{key} must be a mapping of options, got {value!r}.")
    return dict(value)
