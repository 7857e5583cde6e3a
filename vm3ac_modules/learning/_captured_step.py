"""A step of a simulation as one CUDA graph: what the simulator rebinds is written in place instead.

A graph reads and writes the same memory at every replay; a simulator puts new tensors into its
attributes. So every tensor that it holds gets a place of its own, and the recorded step ends by
copying there what the attributes then hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.envs.vmas.env import VMASEnv
from vm3ac_modules.learning.capture import CapturedCall, Recorder

__all__ = ["CapturedStep", "base_of", "capture_step"]

LOG = logging.getLogger("vm3ac_modules")
WHAT = "The environment's step"
ATOMS = (int, float, bool, str, bytes, type(None), torch.Generator, torch.device, torch.dtype)


def base_of(env: EnvBase) -> EnvBase:
    """The environment below all transforms."""
    while (inner := getattr(env, "base_env", None)) is not None:
        env = inner
    return env


def capture_step(env: EnvBase, record: Recorder | None = None) -> bool:
    """Replay the steps of an environment from now on, where it can be done.

    Args:
        env: an environment on a GPU.
        record: how a step is recorded; as a CUDA graph by default.

    Returns:
        Whether it can: for scenarios of ours, which ask the device nothing.
    """
    base = base_of(env)
    if not isinstance(base, VMASEnv) or not base.moves_jointly:
        return False
    base.joint_step = CapturedStep(base, record)  # type: ignore[method-assign]
    return True


class CapturedStep:
    """What ``VMASEnv.joint_step`` does, recorded and replayed.

    The recording is compared with a step done one by one, from the same state and streams; a
    scenario that counts on the host, or asks the device for a value, goes on uncaptured, with a
    warning. What resets and checkpoints put into the scenario's attributes between two steps is
    noticed.

    Args:
        env: an environment whose agents move jointly.
        record: how a step is recorded; as a CUDA graph by default.
    """

    def __init__(self, env: VMASEnv, record: Recorder | None = None) -> None:
        self.env, self.record = env, record
        self.step = type(env).joint_step.__get__(env)
        self.against: str | None = None
        self.graph: CapturedCall | None = None
        self.calls = 0

    def __call__(self, action: Tensor) -> TensorDictBase:
        """Move all agents by one step.

        Args:
            action: ``[B, N, 2]`` in [-1, 1].

        Returns:
            All entries of the step.
        """
        self.calls += 1
        if self.against is not None or self.calls <= 2:
            return self.step(action)
        if self.graph is None or not self._still_fits():
            return self._capture(action)
        for holder, name, own in self.held:
            now = holder[name]
            if now is not own:
                own.copy_(now)
                holder[name] = own
        return self.graph(TensorDict({"action": action}, []))

    def _still_fits(self) -> bool:
        """Whether what is held is what the graph knows, but for values."""
        if self.generators != self._generators():
            return False
        return all(
            isinstance(now := holder.get(name), Tensor)
            and (now is own or (now.shape, now.dtype) == (own.shape, own.dtype))
            for holder, name, own in self.held
        )

    def _generators(self) -> list[torch.Generator]:
        return list(getattr(self.env.scenario, "generators", []))

    def _capture(self, action: Tensor) -> TensorDictBase:
        """One step, and a graph of it; the two are compared."""
        self.generators = self._generators()
        self.held = []
        for holder, name in list(_tensors(self.env.scenario, self.env._env)):
            holder[name] = holder[name].clone()
            self.held.append((holder, name, holder[name]))
        before = self._state()
        counted = _atoms(self.env.scenario, self.env._env)
        given = TensorDict({"action": action}, [], device=action.device)
        self.graph = CapturedCall(
            self._recorded, WHAT, generators=self.generators, record=self.record, warmup=0
        )
        if not self.graph.recorded(given):
            self._restore(before)
            self.against, self.graph = self.graph.against, None
            return self.step(action)
        found = self.graph(given)
        after = [own.clone() for *_, own in self.held]
        self._restore(before)
        told = self.step(action)
        self._settle()
        if _atoms(self.env.scenario, self.env._env) != counted:
            self._refuse("the scenario counts on the host")
        elif not (_same(told, found) and _alike(after, [own for *_, own in self.held])):
            self._refuse("a recorded step is not the step")
        return told

    def _refuse(self, reason: str) -> None:
        self.against, self.graph = reason, None
        LOG.warning("%s is not replayed as a CUDA graph: %s", WHAT, reason)

    def _recorded(self, given: TensorDictBase) -> TensorDictBase:
        told = self.step(given.get("action"))
        self._settle()
        return told

    def _settle(self) -> None:
        """Copy what the attributes hold into their own places."""
        for holder, name, own in self.held:
            if holder[name] is not own:
                own.copy_(holder[name])
                holder[name] = own

    def _state(self) -> tuple[list[Tensor], list[Tensor]]:
        values = [own.clone() for *_, own in self.held]
        return values, [generator.get_state() for generator in self.generators]

    def _restore(self, state: tuple[list[Tensor], list[Tensor]]) -> None:
        for (holder, name, own), value in zip(self.held, state[0], strict=True):
            own.copy_(value)
            holder[name] = own
        for generator, saved in zip(self.generators, state[1], strict=True):
            generator.set_state(saved)


def _objects(*roots: Any) -> Iterator[Any]:
    """All containers that can be reached from objects: dictionaries of attributes, and lists."""
    seen: set[int] = set()
    left = list(roots)
    while left:
        item = left.pop()
        if isinstance(item, (Tensor, type, *ATOMS)) or callable(item) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list | tuple | set | frozenset):
            left.extend(item)
            continue
        values = item if isinstance(item, dict) else getattr(item, "__dict__", None)
        if values is not None:
            yield values
            left.extend(values.values())


def _tensors(*roots: Any) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Every place that holds a tensor, as a dictionary and a key."""
    for values in _objects(*roots):
        for name, value in values.items():
            if isinstance(value, Tensor):
                yield values, name


def _atoms(*roots: Any) -> list[tuple[str, Any]]:
    """What the host counts: every number that is held."""
    return [
        (str(name), value)
        for values in _objects(*roots)
        for name, value in values.items()
        if isinstance(value, bool | int | float)
    ]


def _alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(
        torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def _same(one: TensorDictBase, other: TensorDictBase) -> bool:
    keys = set(one.keys(True, True))
    return keys == set(other.keys(True, True)) and _alike(
        [one.get(key) for key in keys], [other.get(key) for key in keys]
    )
