"""Any parallel environment of PettingZoo with continuous actions and agents that are alike.

Source: Terry et al., "PettingZoo: Gym for Multi-Agent Reinforcement Learning" (2021),
arXiv:2009.14471.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from vm3ac_modules.envs.pettingzoo._batched import BatchedSimulatorEnv
from vm3ac_modules.envs.pettingzoo._simulator import Simulated

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
      It may stay listed in ``agents``, or drop out of the answers without an end of its own.
    * Numbers that are not finite, missing or misshapen entries, and agents that join or come back
      are refused; the message names the environment, the agent, the step and the entry.
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
        SimulatorError: in a step or reset, for an answer that is not one of the parallel API.

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
        make = partial(Simulated, module, kwargs)
        super().__init__(make, make().layout(), num_envs, device, seed, num_workers)
