"""What Hydra does not say: clear messages for bad options, and tasks of stock scenarios."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from vm3ac_modules.envs.tasks import vmas_scenarios

STOCK_TASK = {
    "max_steps": 100,
    "beta": 0.1,
    "latent_dim": 8,
    "reward_scale": 1.0,
    "num_envs": 64,
    "critic_input": "observations",
    "env": {},
}
"""Task knobs of an environment that the paper does not use."""

FOREIGN = ("pettingzoo/", "python:")
"""How a task begins that is found by import path."""


def stock_tasks() -> list[str]:
    """Names ``vmas/<scenario>``, read off VMAS's files without importing it."""
    return [f"vmas/{name}" for name in vmas_scenarios()] if find_spec("vmas") else []


def register_stock_tasks(arguments: Sequence[str] | None = None) -> None:
    """Make ``task=vmas/<scenario>`` known to Hydra, and a task by import path that was asked for.

    Args:
        arguments: the command line; ``sys.argv`` by default.
    """
    store = ConfigStore.instance()
    given = sys.argv[1:] if arguments is None else arguments
    asked = [a.removeprefix("task=") for a in given if a.startswith("task=")]
    # Simulators that are no tensors: fewer rows.
    foreign = [(task, {"num_envs": 16}) for task in asked if task.startswith(FOREIGN)]
    for task, knobs in [*((task, {}) for task in stock_tasks()), *foreign]:
        group, _, name = task.rpartition("/")
        node = {"name": task, **STOCK_TASK, **knobs}
        store.store(group=f"task/{group}".rstrip("/"), name=name, node=node, package="task")


def options(config_dir: Path, group: str) -> list[str]:
    """Names that a group can be set to."""
    names = sorted(path.stem for path in (config_dir / group).glob("*.yaml"))
    return names + (stock_tasks() if group == "task" else [])


def fail(message: str) -> NoReturn:
    """End the program with one sentence."""
    print(message, file=sys.stderr)
    sys.exit(2)


def integer(key: str, value: Any, least: int) -> int:
    """The value if it is an integer, which True and 2.9 are not; else end with one sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        fail(f"{key} must be an integer of at least {least}, got {value!r}.")
    return value


def number(key: str, value: Any) -> float:
    """The value if it is a finite number, which True is not; else end with one sentence."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fail(f"{key} must be a finite number, got {value!r}.")
    return float(value)


def boolean(key: str, value: Any) -> bool:
    """The value if it is true or false; else end with one sentence."""
    if not isinstance(value, bool):
        fail(f"{key} must be true or false, got {value!r}.")
    return value


def check_overrides(
    arguments: Sequence[str], config_dir: Path, config: str = "train_continuous"
) -> None:
    """End with a message that lists the valid names if an override cannot be meant.

    Args:
        arguments: the command line.
        config_dir: the directory of the configuration.
        config: name of the configuration.
    """
    overrides = [a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-")]
    bare = [a for a in arguments if "=" not in a and not a.startswith("-")]
    if bare:
        fail(f"{bare[0]!r} is not of the form key=value; see --help.")
    groups = sorted(path.name for path in config_dir.iterdir() if path.is_dir())
    defaults = OmegaConf.load(config_dir / f"{config}.yaml").defaults
    chosen = {
        key: value
        for entry in defaults
        if entry != "_self_"
        for key, value in entry.items()
        if key in groups
    }
    for key, value in overrides:
        if key in groups:
            valid = options(config_dir, key)
            by_path = key == "task" and value.startswith(FOREIGN)
            if value not in valid and "," not in value and not by_path:
                also = f", {'..., '.join(FOREIGN)}..." if key == "task" else ""
                fail(f"unknown {key} {value!r}; valid: {', '.join(valid)}{also}.")
            chosen[key] = value
    known = valid_keys(config_dir, chosen, config)
    for key, _ in overrides:
        name = key.lstrip("+~")
        if name in groups or name.startswith("hydra.") or key.startswith("+"):
            continue
        if name not in known and not name.startswith(("task.env", "env.")):
            near = difflib.get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            fail(f"unknown key {name!r}.{hint} Valid: {', '.join(sorted(known))}.")


def valid_keys(config_dir: Path, chosen: dict[str, str], config: str) -> set[str]:
    """Every key of the configuration with these group options."""
    known = {str(key) for key in OmegaConf.load(config_dir / f"{config}.yaml")}
    known -= {"defaults", "hydra"}
    for group, option in chosen.items():
        file = config_dir / group / f"{option}.yaml"
        keys = _keys(file) if file.exists() else set(STOCK_TASK)
        prefix = "" if group == "loop" else f"{group}."
        known |= {f"{prefix}{key}" for key in keys}
    return known


def _keys(file: Path) -> set[str]:
    """Keys of a group's option, those of the option that it starts from included."""
    own = OmegaConf.load(file)
    bases = [name for name in own.get("defaults", []) if name != "_self_"]
    inherited = set().union(*(_keys(file.with_name(f"{name}.yaml")) for name in bases))
    return inherited | {str(key) for key in own} - {"defaults"}
