"""Refuses, by name and before anything is written, state of an environment that cannot be carried.

Evaluations, exported agents and later sessions build the environment afresh. What its transforms
learned of the data has to come along; what cannot would be lost without a word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, StepCounter, Transform, VecNormV2
from torchrl.envs.batched_envs import BatchedEnvBase

from vm3ac_modules.envs.carried import foreign_parts, own_state
from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.learning.seeding import fork_rng

STEPS, SEED = 2, 0


class Found(NamedTuple):
    """What another episode from the same start finds of one part."""

    part: Any
    shapes: dict[str, tuple[int, ...]]
    """Of all that its state holds."""
    running: list[str]
    """What changed of it."""
    hidden: list[str]
    """Attributes that changed and are no state."""

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.part).__name__


def check_carried(task: Task, env: EnvBase, seeds: int) -> set[str]:
    """Refuse state that changes with the data and is no plain, freezable buffer of all rows.

    Two small environments are built and played for a moment, and only where there are transforms
    of the user's; games in processes of their own are not started for it. Returns the entries that
    are of a row each, and of an episode only.
    """
    if task.row_is_process:
        return set()
    # Steps are counted, and nothing is learned from them.
    foreign = [part for part in foreign_parts(env) if type(part) is not StepCounter]
    if not foreign and not isinstance(innermost(env), BatchedEnvBase):
        return set()
    with fork_rng(SEED):
        found = [_changes(task.make(rows, seed=SEED, training=False)) for rows in (1, 2)]
    of_rows: set[str] = set()
    for place, (one, two) in enumerate(zip(*found, strict=True)):
        apart = [key for key, shape in one.shapes.items() if two.shapes.get(key) != shape]
        _check(two, [key for key in apart if key in two.running], seeds)
        of_rows |= {f"{place}:{one.name}/{key}" for key in apart}
    return of_rows


def _plain(part: Any) -> dict[str, Any]:
    """Numbers and arrays that are attributes, and no buffers."""
    kinds = (torch.Tensor, np.ndarray, float, int, TensorDictBase)
    return {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, kinds) and not isinstance(value, bool) and name != "training"
    }


def _changes(env: EnvBase) -> list[Found]:
    base = innermost(env)
    parts: list[Any] = foreign_parts(env)
    if isinstance(base, BatchedEnvBase):
        parts.append(base)
    before = _snapshot(env, parts)
    with torch.no_grad():
        env.rollout(STEPS)
    after = _snapshot(env, parts)
    env.close(raise_if_closed=False)
    found = []
    for part, (state, plain), (state_after, plain_after) in zip(parts, before, after, strict=True):
        shapes = {k: tuple(v.shape) for k, v in state_after.items()}
        running = [k for k, v in state_after.items() if not _same(state.get(k), v)]
        hidden = [k for k, v in plain_after.items() if not _same(plain.get(k), v)]
        # What a transform works with besides its state follows from it.
        found.append(Found(part, shapes, running, [] if running else hidden))
    return found


def _snapshot(env: EnvBase, parts: list[Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """State and attributes after a reset to the same start."""
    with fork_rng(SEED):
        env.set_seed(SEED, static_seed=True)
        env.reset()
    found = []
    for part in parts:
        if isinstance(part, Transform):
            pair = own_state(part), _plain(part)
        else:
            workers = [state for state in part.state_dict().values() if isinstance(state, dict)]
            pair = {f"{i}.{k}": v for i, w in enumerate(workers) for k, v in _leaves(w)}, {}
        state, plain = ({k: _copy(v) for k, v in one.items()} for one in pair)
        found.append((state, plain))
    return found


def _leaves(state: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(state, dict):
        return [pair for k, v in state.items() for pair in _leaves(v, f"{prefix}{k}.")]
    return [(prefix, state)]


def _copy(value: Any) -> Any:
    if isinstance(value, (torch.Tensor, TensorDictBase)):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(other, torch.Tensor):
        return one.shape == other.shape and bool(torch.equal(one, other))
    if isinstance(other, TensorDictBase):
        keys = [set(td.keys(True, True)) for td in (one, other)]
        return keys[0] == keys[1] and bool((one == other).all())
    return bool(np.array_equal(one, other, equal_nan=isinstance(other, float)))


def _check(found: Found, per_row: list[str], seeds: int) -> None:
    part, name, running, hidden = found.part, found.name, found.running, found.hidden
    advice = (
        "keep running statistics in buffers that do not depend on the number of rows, and give "
        "the transform a method freeze() (torchrl.envs.VecNormV2(..., reduce_batch_dims=True) "
        "does both)"
    )
    if isinstance(part, VecNormV2) and not part.stateful:
        raise ValueError(
            f"{name}(stateful=False) keeps its statistics in the data, where evaluations and "
            f"exported agents cannot have them from: {advice}."
        )
    if isinstance(part, BatchedEnvBase) and running:
        raise ValueError(
            f"{name} keeps running statistics in its workers ({', '.join(running)}), which do not "
            "come into evaluations and exported agents: append the normalizer to the environment "
            "of all rows instead."
        )
    if hidden:
        raise ValueError(
            f"{name} changes {', '.join(hidden)} with the data, which no checkpoint holds, so "
            f"evaluations would begin with fresh ones: {advice}."
        )
    if per_row:
        raise ValueError(
            f"{name} keeps statistics for every row apart ({', '.join(per_row)}), which an "
            f"environment of other rows cannot have: {advice}."
        )
    if running and not hasattr(part, "freeze"):
        raise ValueError(
            f"{name} changes {', '.join(running)} with the data and cannot be frozen for "
            f"evaluations: {advice}."
        )
    if running and seeds > 1:
        raise ValueError(
            f"{name} would pool the statistics of {seeds} seeds that are trained at once: use "
            "seeds=1, one process per seed."
        )
