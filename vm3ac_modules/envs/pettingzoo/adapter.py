"""Any parallel environment of PettingZoo with continuous actions and agents that are alike.

Source: Terry et al., "PettingZoo: Gym for Multi-Agent Reinforcement Learning" (2021),
arXiv:2009.14471.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from vm3ac_modules.envs._rows import Floats, Layout, Row, headless
from vm3ac_modules.envs.pettingzoo._batched import BatchedSimulatorEnv
from vm3ac_modules.extras import require_extra

__all__ = ["BatchedPettingZooEnv"]


class BatchedPettingZooEnv(BatchedSimulatorEnv):
    """``B`` instances of a PettingZoo parallel environment as one environment.

    All agents form the group ``"agents"``, in the order of ``possible_agents``; actions are in the
    environment's own bounds. ``"state"`` ``[B, S]`` is there if the environment has a flat one.
    Infos are dropped.

    * The episode ends when no agent is left. It is truncated if that step truncated an agent which
      it did not terminate, and terminated otherwise. An environment that reports its own time limit
      as a termination (``multiwalker_v9`` does) is believed: lift that limit by an option and let
      ``make_env`` count the steps. Where it truncates (MPE, after ``max_cycles=25`` steps) the
      lower of the two limits holds.
    * An agent that leaves before the others observes zeros and is paid 0 from then on; its actions
      are ignored, but a bonus that a loss pays for entropy or mutual information still counts them.
    * Every episode is reset with a seed of its own. What an environment draws from NumPy's global
      generator in spite of its seed is outside our control.
    * No window is opened: ``SDL_VIDEODRIVER`` is set to ``dummy`` unless it is set already.

    Args:
        module: import path of a module with a function ``parallel_env``, ``mpe2.simple_spread_v3``.
        num_envs: number of rows, ``B``.
        device: device of the entries; the simulation is on the CPU.
        seed: seed of the rows' streams; without one it is drawn from torch's default generator.
        num_workers: number of processes that share the rows; 1 simulates in this process.
        **kwargs: options of ``parallel_env``. ``continuous_actions=True`` is added where it is one.

    Raises:
        ValueError: no such module or option, or agents that are not alike and continuous.
        ImportError: PettingZoo is not installed; names the extra to install.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("mpe2")
        >>> from vm3ac_modules.envs import BatchedPettingZooEnv
        >>> env = BatchedPettingZooEnv("mpe2.simple_spread_v3", num_envs=2, seed=0, N=2)
        >>> env.rollout(3)["next", "agents", "reward"].shape
        torch.Size([2, 3, 2, 1])
    """

    def __init__(
        self,
        module: str,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        num_workers: int = 1,
        **kwargs: Any,
    ) -> None:
        make = partial(_Simulator, module, kwargs)
        super().__init__(make, make().layout(), num_envs, device, seed, num_workers)


def _parallel_env(module: str, options: Mapping[str, Any]) -> Any:
    require_extra("pettingzoo", "pettingzoo", f"the environment {module!r}")
    with headless():
        try:
            parallel_env = importlib.import_module(module).parallel_env
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"no PettingZoo environment at {module!r}: {error}; give the import path of a "
                "module with a function parallel_env, such as mpe2.simple_spread_v3 (MPE comes "
                "with the extra 'pettingzoo')"
            ) from error
        try:
            return _with_continuous_actions(parallel_env, options)
        except TypeError as error:
            raise ValueError(f"{module}.parallel_env refuses {dict(options)}: {error}") from error


def _with_continuous_actions(parallel_env: Any, options: Mapping[str, Any]) -> Any:
    # Tried rather than looked up: PettingZoo's constructors hide their options behind **kwargs.
    try:
        return parallel_env(**{"continuous_actions": True, **options})
    except TypeError as error:
        if "continuous_actions" not in str(error):
            raise
    return parallel_env(**options)


class _Simulator:
    """One PettingZoo environment, its agents in a fixed order."""

    def __init__(self, module: str, options: Mapping[str, Any]) -> None:
        self.module, self.env = module, _parallel_env(module, options)
        self.agents: list[Any] = list(getattr(self.env, "possible_agents", ()))
        if not self.agents:
            raise ValueError(f"{module}: has no possible_agents, so its agents cannot be counted")
        self.action_spaces = [self.env.action_space(agent) for agent in self.agents]

    def layout(self) -> Layout:
        """Sizes and bounds; says what is not supported."""
        low = self._bound("action", self.action_spaces, "low")
        high = self._bound("action", self.action_spaces, "high")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError(
                f"{self.module}: the actions {self.action_spaces[0]} have an infinite bound, but "
                "squashed policies need finite ones; clip the environment's action space"
            )
        seen = [self.env.observation_space(agent) for agent in self.agents]
        size = self._bound("observation", seen, "low").shape[-1]
        self.env.reset(seed=0)
        state = self._state()
        return Layout(
            len(self.agents), size, low, high, state_size=0 if state is None else state.size
        )

    def _bound(self, name: str, spaces: Sequence[Any], bound: str) -> Floats:
        """A bound of all agents' spaces, ``[N, size]``."""
        found = ", ".join(f"{a}: {s}" for a, s in zip(self.agents, spaces, strict=True))
        kind = np.floating if name == "action" else np.number
        if not all(hasattr(space, bound) and np.issubdtype(space.dtype, kind) for space in spaces):
            needed = "continuous actions, boxes of floats" if name == "action" else "boxes"
            raise ValueError(
                f"{self.module}: the {name} spaces are {found}, but a continuous recipe needs "
                f"{needed}; look for an option of the environment"
            )
        if len({space.shape for space in spaces}) > 1 or len(spaces[0].shape) != 1:
            raise ValueError(
                f"{self.module}: the {name} spaces are {found}; supported are flat vectors of one "
                "size for all agents: flatten or pad them in the environment"
            )
        return np.stack([getattr(space, bound) for space in spaces]).astype(np.float32)

    def _state(self) -> Floats | None:
        try:
            state = np.asarray(self.env.state(), np.float32)
        except (AttributeError, NotImplementedError):
            return None
        return state if state.ndim == 1 else None

    def reset(self, seed: int, row: Row) -> None:
        observations, _ = self.env.reset(seed=seed)
        self.live = [agent for agent in self.agents if agent in self.env.agents]
        self._observe(observations, row)

    def step(self, action: Floats, row: Row) -> None:
        # Cast and clipped in the space's own precision, whose bounds float32 may round out of it.
        actions = {
            agent: np.clip(own.astype(space.dtype), space.low, space.high)
            for agent, own, space in zip(self.agents, action, self.action_spaces, strict=True)
            if agent in self.live
        }
        observations, rewards, terminations, truncations, _ = self.env.step(actions)
        row.reward[:] = [rewards[agent] if agent in self.live else 0.0 for agent in self.agents]
        ended = {agent for agent in self.live if terminations[agent] or truncations[agent]}
        cut = any(truncations[agent] and not terminations[agent] for agent in ended)
        if joined := set(self.env.agents) - set(self.live):
            raise ValueError(
                f"{self.module}: the agents {sorted(map(str, joined))} joined in mid-episode, "
                "which is not supported; give them observations and rewards from the reset on"
            )
        self.live = [agent for agent in self.env.agents if agent not in ended]
        if not self.live:
            row.ends[:] = not cut, cut
        self._observe(observations, row)

    def _observe(self, observations: Mapping[Any, Any], row: Row) -> None:
        for i, agent in enumerate(self.agents):
            row.observation[i] = observations.get(agent, 0.0)
        if row.state.size:
            row.state[:] = self.env.state()
