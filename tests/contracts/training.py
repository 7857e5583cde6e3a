"""Tiny trainings, and what tells two of them apart."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vm3ac_modules.runs import LOOPS, Run, Settings, load_checkpoint

TIMED = {"wall_seconds", "frames_per_second", "updates_per_second"}
STEPS = {
    "frames": 64,
    "num_envs": 4,
    "batch_size": 8,
    "init_random_frames": 16,
    "hidden": [8, 8],
    "threads": 1,
    "task.max_steps": 6,
    "eval_episodes": 3,
    "eval_every_frames": 32,
    "checkpoint_every_frames": 32,
    "log_every_updates": 4,
    "information_rows": 4,
    "information_latents": 8,
    "buffer_size": 48,
}
BATTLES = {
    "map": "3m",
    "frames": 120,
    "num_envs": 4,
    "batch_size": 4,
    "updates_per_episode": 0.5,
    "start_episodes": 4,
    "buffer_size": 16,
    "hidden_size": 8,
    "eval_episodes": 4,
    "eval_every_frames": 60,
    "checkpoint_every_frames": 60,
    "log_every_updates": 1,
    "env.max_steps": 12,
}


def tiny_guard(place: Path, **options: Any) -> dict[str, Any]:
    """The smallest training on the guard game.

    Args:
        place: its run directory.
        options: values that differ.
    """
    return {
        "algorithm": {"name": "vm3ac_tight", "hidden": [8]},
        "task": {"name": "guard"},
        "frames": 64,
        "num_envs": 8,
        "batch_size": 8,
        "eval_episodes": 2,
        "draw": False,
        "information_rows": 0,
        "threads": 1,
        "run_dir": str(place),
        **options,
    }


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    if key in ("algorithm", "task"):
        config.setdefault(key, {})["name"] = value
        return
    if key == "loop":
        config.update({k: v for k, v in LOOPS[value][1].items() if k not in config})
        return
    *path, last = key.lstrip("+").split(".")
    for part in path:
        config = config.setdefault(part, {})
    config[last] = value


def configuration(*overrides: str, tiny: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A nested configuration, as ``Settings.of`` takes it.

    Args:
        overrides: ``key=value`` as on the command line, dots for what is nested.
        tiny: sizes, which the rest may change.
        options: values by name, ``__`` for dots; text is read as YAML.
    """
    battle = "map" in tiny
    config: dict[str, Any] = {"algorithm": {"name": "vm3ac"}}
    if not battle:
        config["task"] = {"name": "predator_prey_2"}
    chosen = dict(tiny)
    said = (text.partition("=") for text in overrides)
    chosen |= {key.lstrip("+"): yaml.safe_load(value) for key, _, value in said}
    for key, value in options.items():
        read = yaml.safe_load(value) if isinstance(value, str) else value
        chosen[key.replace("__", ".")] = str(read) if isinstance(read, Path) else read
    for key, value in chosen.items():
        _put(config, key, value)
    return config


class Stopped(Exception):
    """A run ended before its time."""


def watched(config: dict[str, Any] | Settings, look: Callable[[Run], None]) -> dict[str, Any]:
    """Train as :func:`~vm3ac_modules.runs.train` does, and look at the run behind every turn.

    Args:
        config: the configuration.
        look: called with the run.

    Returns:
        The run's summary.
    """
    settings = config if isinstance(config, Settings) else Settings.of(config)
    with Run(settings) as run:
        for collected in run.collect():
            run.store(collected)
            for batch in run.batches(collected):
                run.learned(run.agent.update(batch, run.training.max_grad_norm))
            run.after(collected)
            look(run)
        return run.finish()


def run_until(config: dict[str, Any], frame: int) -> None:
    """Train, and stop as a kill would behind the turn in which a frame is reached.

    Args:
        config: the configuration.
        frame: environment steps.
    """

    def stop(run: Run) -> None:
        if run.frames >= frame:
            raise Stopped

    try:
        watched(config, stop)
    except Stopped:
        return
    raise AssertionError(f"the run ended before frame {frame}")


def scramble() -> None:
    """Use every global stream of random numbers, as another program's life would."""
    torch.manual_seed(987)
    np.random.seed(654)  # noqa: NPY002
    random.seed(321)


def logged(path: Path) -> list[dict[str, str]]:
    """Rows of a log without its clock, to the last digit."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """All that a nested state holds, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, f"{place}[{index}]")
    else:
        yield place, value


def equal(one: Any, other: Any) -> bool:
    """Equal to the bit; NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or one.dtype != other.dtype:
            return False
        if one.shape != other.shape:
            return False
        if one.is_floating_point():
            one, other = one.nan_to_num(nan=1.25e9), other.nan_to_num(nan=1.25e9)
        return torch.equal(one, other)
    return bool(one == other or (one != one and other != other))


def differences(one: Path, other: Path) -> list[str]:
    """In what two runs' logs, checkpoints and replays differ, notes and clocks aside."""
    found = []
    for name in ("metrics.csv", "eval.csv"):
        mine, theirs = logged(one / name), logged(other / name)
        assert mine, f"{one / name} has no row"
        if len(mine) != len(theirs):
            found.append(f"{name}: {len(mine)} and {len(theirs)} rows")
        for index, (a, b) in enumerate(zip(mine, theirs, strict=False)):
            columns = sorted(a.keys() | b.keys())
            found += [f"{name} row {index} {k}" for k in columns if a.get(k) != b.get(k)]
    saved, again = load_checkpoint(one), load_checkpoint(other)
    if saved.frame != again.frame:
        found.append(f"frames {saved.frame} and {again.frame}")
    state, restored = dict(leaves(saved.state)), dict(leaves(again.state))
    untimed = [k for k in state | restored if "wall_seconds" not in k and ".notes" not in k]
    found += [f"state{k}" for k in untimed if not equal(state.get(k), restored.get(k))]
    if (saved.replay is None) != (again.replay is None):
        return [*found, "one has no replay"]
    if saved.replay is not None and again.replay is not None:
        for key in saved.replay.keys(True, True):
            if not equal(saved.replay[key], again.replay[key]):
                found.append(f"replay {key}")
    return found
