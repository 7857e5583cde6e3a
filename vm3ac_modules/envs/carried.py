"""What transforms of the user's learn from the data, and how it comes into other environments.

A normalizer's statistics belong to the policy that was trained behind it. They are kept in a
checkpoint, put into every environment that the policy plays in later, and frozen there.

Shapes: ``N`` agents, ``O`` observation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.utils import unravel_key
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer
from torchrl.data import Composite, TensorSpec
from torchrl.envs import Compose, EnvBase, ObservationNorm, Transform, TransformedEnv, VecNormV2
from torchrl.envs.transforms import VecNorm

from vm3ac_modules.keys import Keys

__all__ = ["Affine", "affine_observation", "carried", "load_carried"]

NORMALIZERS = (VecNorm, VecNormV2, ObservationNorm)
"""Transforms of TorchRL that are an affine map of every component."""


class Affine(NamedTuple):
    """What a normalizer does to an observation: ``(o - loc) / scale``, ``[N, O]`` each."""

    loc: Tensor
    scale: Tensor


def levels(env: EnvBase) -> list[TransformedEnv]:
    """The environments with transforms around a simulator, the innermost first."""
    found = []
    while isinstance(env, TransformedEnv):
        found.append(env)
        env = env.base_env
    return found[::-1]


def _flat(part: Transform) -> Iterator[Transform]:
    if isinstance(part, Compose):
        for one in part:
            yield from _flat(one)
    else:
        yield part


def foreign_parts(env: EnvBase) -> list[Transform]:
    """Transforms that are not of this package, in the order in which they act."""
    parts = [part for level in levels(env) for part in _flat(level.transform)]
    return [part for part in parts if not type(part).__module__.startswith("vm3ac_modules.")]


def own_state(part: Transform) -> dict[str, Tensor]:
    """A transform's state by name, flat; the tensors are its own. Empty before its first reset."""
    found: dict[str, Tensor] = {}
    if any(isinstance(buffer, UninitializedBuffer) for buffer in part.buffers()):
        return found
    for name, value in part.state_dict().items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": tensor for inner, tensor in value.items()}
        elif isinstance(value, Tensor):
            found[name] = value
    return found


def carried(env: EnvBase, without: Collection[str] = ()) -> dict[str, dict[str, Tensor]]:
    """Return the state of transforms from outside this package, for a checkpoint.

    Args:
        env: any environment.
        without: entries ``"<transform>/<name>"`` to leave out: those with a value per row (stacked
            frames), which a reset sets again.

    Returns:
        Copies of the state by transform, which is named by its place and class.

    Example:
        >>> from torchrl.envs import ObservationNorm
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", num_envs=2, seed=0)
        >>> norm = ObservationNorm(0.0, 2.0, in_keys=[("agents", "observation")])
        >>> [*carried(env.append_transform(norm))]
        ['1:ObservationNorm']
    """
    named = {f"{i}:{type(p).__name__}": own_state(p) for i, p in enumerate(foreign_parts(env))}
    return {
        name: {
            key: value.detach().clone()
            for key, value in state.items()
            if f"{name}/{key}" not in without
        }
        for name, state in named.items()
        if state
    }


def load_carried(env: EnvBase, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put back what :func:`carried` gave, and freeze it: the environment is for playing only.

    Args:
        env: an environment built in the same way, of any number of rows.
        state: the state; parts that are not in it stay as they are.

    Raises:
        ValueError: the state has a transform that the environment lacks.

    See Also:
        :func:`carried`.
    """
    parts = {f"{i}:{type(part).__name__}": part for i, part in enumerate(foreign_parts(env))}
    if strange := sorted(state.keys() - parts.keys()):
        raise ValueError(
            f"the environment lacks the transforms {strange} that the agent was trained behind "
            f"(it has {sorted(parts)}); build it with those of the training"
        )
    for name, saved in state.items():
        part = parts[name]
        nested: dict[str, Any] = {}
        for key, value in saved.items():
            outer, _, inner = key.partition("/")
            place = nested.setdefault(outer, {}) if inner else nested
            place[inner or outer] = value.detach().clone()
        part.load_state_dict(nested, strict=False)
    for part in parts.values():
        if hasattr(part, "freeze"):
            part.freeze()


class Untouched(Transform):
    """Copy entries before transforms change them: the rewards of the task, what agents see.

    Args:
        copies: where each entry is copied to.
    """

    def __init__(self, copies: Mapping[Any, Any]) -> None:
        super().__init__()
        self.copies = {unravel_key(key): unravel_key(copy) for key, copy in copies.items()}

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        for key, copy in self.copies.items():
            value = next_tensordict.get(key, None)
            if value is not None:
                next_tensordict.set(copy, value.clone())
        return next_tensordict

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        self._call(tensordict_reset)
        spec = self.parent.full_reward_spec
        for key, copy in self.copies.items():
            if tensordict_reset.get(copy, None) is None:
                # A reset pays nothing.
                tensordict_reset.set(copy, spec[key].zero())
        return tensordict_reset

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Refuse use outside an environment: a replay holds what it was given."""
        raise RuntimeError("Untouched works inside an environment, not in a replay buffer")

    def transform_output_spec(self, output_spec: Composite) -> Composite:
        """Add the copies to the observation spec."""
        output_spec = output_spec.clone()
        seen = output_spec["full_observation_spec"]
        for key, copy in self.copies.items():
            kind = "full_reward_spec" if key in output_spec["full_reward_spec"].keys(True) else None
            spec: TensorSpec = (output_spec[kind] if kind else seen)[key]
            seen[copy] = spec.clone()
        return output_spec


def keep_untouched(env: EnvBase, keys: Keys) -> None:
    """Let an environment tell the task's own rewards, and what a normalizer is given.

    Does nothing to an environment that has no transforms yet.
    """
    wanted = {keys.observation: keys.raw_observation}
    for level in levels(env):
        parts = list(level.transform) if isinstance(level.transform, Compose) else [level.transform]
        at = next(
            (i for i, p in enumerate(parts) if isinstance(p, NORMALIZERS) and _writes(p, keys)),
            None,
        )
        if at is not None and wanted:
            level.insert_transform(at, Untouched(wanted))
            wanted = {}
    for level in levels(env):
        count = len(level.transform) if isinstance(level.transform, Compose) else 1
        for i in range(count):
            before = level.transform[i] if isinstance(level.transform, Compose) else level.transform
            if keys.reward in before.parent.full_reward_spec.keys(True):
                level.insert_transform(i, Untouched({keys.reward: keys.task_reward}))
                return


def _writes(part: Transform, keys: Keys) -> bool:
    return unravel_key(keys.observation) in {unravel_key(key) for key in part.out_keys}


def affine_observation(env: EnvBase, keys: Keys | None = None) -> list[Affine]:
    """What normalizers do to the observation before the policy reads it, one behind the other.

    Args:
        env: an environment whose statistics are those of the training.
        keys: the tensordict vocabulary.

    Returns:
        The maps from ``keys.raw_observation`` to ``keys.observation``; empty without a normalizer.

    Raises:
        ValueError: a transform behind a normalizer changes observations in another way.

    Example:
        >>> from vm3ac_modules.envs import make_env
        >>> affine_observation(make_env("predator_prey_2", num_envs=2, seed=0))
        []
    """
    keys = Keys() if keys is None else keys
    found: list[Affine] = []
    for part in (p for level in levels(env) for p in _flat(level.transform)):
        if not _writes(part, keys) or not (found or isinstance(part, NORMALIZERS)):
            continue
        if not isinstance(part, NORMALIZERS):
            raise ValueError(
                f"{type(part).__name__} changes observations behind a normalizer, and cannot be "
                "written into an agent's file; put it before the normalizer"
            )
        loc, scale = (
            value if isinstance(value, Tensor) else value.get(keys.observation)
            for value in (part.loc, part.scale)
        )
        if not part.standard_normal:
            loc, scale = -loc / scale, 1 / scale
        shape = env.observation_spec[keys.observation].shape[-2:]
        try:
            both = (torch.broadcast_to(value.detach(), shape).clone() for value in (loc, scale))
            found.append(Affine(*both))
        except RuntimeError as error:
            raise ValueError(
                f"{type(part).__name__} has statistics {list(loc.shape)}, not one for every "
                f"agent's component {list(shape)}"
            ) from error
    return found
