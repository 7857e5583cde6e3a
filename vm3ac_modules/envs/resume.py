"""Environments that go on in mid-episode after a checkpoint, where their simulator can.

Shapes: ``R`` rows of the environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer
from torchrl.envs import EnvBase, Transform, TransformedEnv

from vm3ac_modules.envs.rng import env_rng_state, innermost, set_env_rng_state, transforms_of

__all__ = ["ResumableEpisodes", "ResumableScenario", "goes_on"]


class ResumableScenario(ABC):
    """A scenario whose whole state can be saved: a VMAS scenario that is to resume exactly is one.

    Ours name their state in ``row_state`` and inherit the rest.
    """

    row_state: ClassVar[tuple[str, ...]]
    """Attributes that the next step depends on, ``[R, ...]`` each."""

    @abstractmethod
    def simulator_state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as copies, ``[R, ...]`` each."""

    @abstractmethod
    def load_simulator_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`simulator_state` gave."""


def goes_on(env: EnvBase) -> bool:
    """Whether an environment's episodes go on after a checkpoint instead of starting anew.

    Args:
        env: any environment; its transforms are looked through.
    """
    base: Any = innermost(env)
    # Environments in processes of their own answer to every name.
    return getattr(base, "resumable", False) is True


class ResumableEpisodes(Transform):
    """Remember what an environment showed last, and show it again at the first reset after a load.

    Append it behind all other transforms. The reset after :meth:`load` then starts no episode:
    simulator, counters, latents and random streams are what they were.

    Example:
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", num_envs=3, seed=0)
        >>> env = env.append_transform(ResumableEpisodes())
        >>> first = env.rollout(4)
        >>> saved = env.transform[-1].save(env)
        >>> other = make_env("predator_prey_2", num_envs=3, seed=1)
        >>> other = other.append_transform(ResumableEpisodes())
        >>> _ = other.transform[-1].load(other, saved)
        >>> bool((other.reset()["step_count"] == 4).all())
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: TensorDictBase | None = None
        self._pending: tuple[EnvBase, Mapping[str, Any]] | None = None

    def save(self, env: EnvBase) -> dict[str, Any]:
        """All that is needed to go on.

        Args:
            env: the environment that this is appended to.

        Returns:
            ``shown`` and ``simulator``, tensors ``[R, ...]`` by name; ``counters``, the state of
            the transforms; and ``streams``, of the environment's random numbers. The first two are
            empty where the simulator cannot go on, or has not begun; nothing is shown where every
            row's episode is over, since the next reset starts others.
        """
        base: Any = innermost(env)
        shown: dict[str, Tensor] = {}
        simulator: dict[str, Tensor] = {}
        if goes_on(env) and self._shown is not None:
            simulator = base.simulator_state()
            if not bool(self._shown.get("done").all()):
                flat = self._shown.flatten_keys(".")
                shown = {str(key): value.clone() for key, value in flat.items()}
        parts = transforms_of(env)
        unborn = any(isinstance(b, UninitializedBuffer) for part in parts for b in part.buffers())
        # Before the first reset some transforms have no shape yet, and nothing to say.
        counters = {} if unborn else _copied(env.state_dict())
        streams = env_rng_state(env)
        return {"shown": shown, "simulator": simulator, "counters": counters, "streams": streams}

    def load(self, env: EnvBase, state: Mapping[str, Any]) -> bool:
        """Let the next reset put everything back.

        Args:
            env: an environment built in the same way.
            state: what :meth:`save` gave.

        Returns:
            Whether episodes go on; else the next reset starts new ones, with the saved counters
            and random streams.
        """
        _load_counters(env, state["counters"])
        set_env_rng_state(env, state["streams"])
        if not state["shown"]:
            if state["simulator"]:
                base: Any = innermost(env)
                base.load_simulator_state(dict(state["simulator"]))
            return False
        self._pending = (env, state)
        return True

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        if self._pending is not None:
            tensordict_reset = self._go_on(tensordict_reset)
            self._shown = tensordict_reset.copy()
            return tensordict_reset
        started = tensordict.get("_reset", None)
        fresh = tensordict_reset.exclude("_reset")
        if started is None or self._shown is None:
            self._shown = fresh.copy()
        else:
            rows = started.reshape(fresh.batch_size)
            before = self._shown.select(*fresh.keys(True, True), strict=False)
            self._shown = torch.where(rows, fresh, before)
        return tensordict_reset

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        # A shallow copy, without what a reset does not show.
        rewards = self.parent.reward_keys if self.parent is not None else []
        self._shown = next_tensordict.exclude(*rewards)
        return next_tensordict

    def _go_on(self, tensordict_reset: TensorDictBase) -> TensorDictBase:
        assert self._pending is not None
        (env, state), self._pending = self._pending, None
        base: Any = innermost(env)
        base.load_simulator_state(dict(state["simulator"]))
        device = tensordict_reset.device
        shown = TensorDict(dict(state["shown"]), tensordict_reset.batch_size, device=device)
        tensordict_reset.update(shown.unflatten_keys("."))
        for part in transforms_of(env):
            if hasattr(part, "go_on"):
                part.go_on(tensordict_reset)
        # The reset that was just made drew and counted.
        _load_counters(env, state["counters"])
        set_env_rng_state(env, state["streams"])
        return tensordict_reset


def _load_counters(env: EnvBase, counters: Mapping[str, Any]) -> None:
    """Load the state of the transforms; what gets its shape at the first reset is loaded then."""
    buffers = env.transform.named_buffers() if isinstance(env, TransformedEnv) else ()
    lazy = {k for k, v in buffers if isinstance(v, UninitializedBuffer) or v.shape == (0,)}
    unborn = {key for key in counters if key.removeprefix("transform.") in lazy}
    given = {key: value for key, value in _copied(counters).items() if key not in unborn}
    env.load_state_dict(given, strict=not unborn)


def _copied(state: Any) -> Any:
    """A copy all the way down: a transform may go on writing into what it is handed."""
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


def find_resumable(env: TransformedEnv) -> ResumableEpisodes:
    """The transform of an environment that remembers what was shown; appended if there is none.

    Args:
        env: the environment; it is changed.
    """
    for part in transforms_of(env):
        if isinstance(part, ResumableEpisodes):
            return part
    part = ResumableEpisodes()
    env.append_transform(part)
    return part
