"""Collect data with a policy: steps of all rows, or whole episodes, behind one interface.

Shapes: ``R`` rows of the environment, seed by seed, ``L`` time limit.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import EnvBase

from vm3ac_modules.learning._captured_step import capture_step
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.capture import CapturedPolicy
from vm3ac_modules.learning.episodes import EpisodeCollector, Round

# Policies bring the transforms that they need (Agent.wrap); torchrl before 0.14 does not ask.
OWN_TRANSFORMS: dict[str, Any] = (
    {"auto_register_policy_transforms": False}
    if "auto_register_policy_transforms" in inspect.signature(Collector.__init__).parameters
    else {}
)


class Collected(NamedTuple):
    """The steps of one turn of collecting."""

    data: TensorDictBase
    """What is stored: steps ``[R]``, or episodes ``[R, L + 1]``."""
    frames: int
    """Environment steps, per seed."""
    rewards: Tensor
    """Rewards, or returns of whole episodes, to be checked."""
    steps: TensorDictBase
    """What hooks see: one step of all rows ``[R, 1]``, or the ends of episodes ``[R]``."""
    ended: Tensor
    """Rows whose episode is over, bool; on the environment's device."""
    played: Round | None = None
    """The round, where whole episodes are played."""


def collected_steps(agent: Agent, steps: TensorDictBase, frames: int) -> Collected:
    """One step of all rows, ``[R, 1]``, as a turn of collecting gives it."""
    keys = agent.keys
    stored = dict.fromkeys([*agent.recorded, ("next", keys.done)])
    done, rewards = steps.get(("next", keys.done)), steps.get(("next", *keys.reward))
    return Collected(steps.select(*stored), frames, rewards, steps, done)


class StepCollecting:
    """One step of all rows at a time, by TorchRL's collector; episodes follow one another."""

    def __init__(self, agent: Agent, env: EnvBase, random_frames: int = 0) -> None:
        self.agent = agent
        [rows] = env.batch_size
        policy: TensorDictModuleBase = agent.policy
        if agent.captures_steps:
            policy = CapturedPolicy(policy)
            capture_step(env)
        self.frames = rows // agent.seeds
        self.collector = Collector(
            env,
            policy,
            frames_per_batch=rows,
            total_frames=-1,
            init_random_frames=agent.seeds * random_frames,
            device=env.device,
            **OWN_TRANSFORMS,
        )

    def __iter__(self) -> Iterator[Collected]:
        """A step of all rows per turn."""
        for steps in self.collector:
            yield collected_steps(self.agent, steps, self.frames)

    def close(self) -> None:
        """Shut the collector down."""
        self.collector.shutdown()


class EpisodeCollecting:
    """One episode of every row at a time, all rows from one reset."""

    def __init__(self, agent: Agent, env: EnvBase, max_steps: int) -> None:
        self.agent = agent
        self.collector = EpisodeCollector(
            env, agent.policy, max_steps, agent.recorded, keys=agent.keys
        )

    def __iter__(self) -> Iterator[Collected]:
        """A round of episodes per turn."""
        while True:
            played = self.collector.play()
            frames = int(played.lengths.sum())
            over = torch.ones_like(played.lengths, dtype=torch.bool)
            ends = self._ends(played, over)
            yield Collected(played.episodes, frames, played.returns, ends, over, played)

    def close(self) -> None:
        """Nothing is held between rounds."""

    def _ends(self, played: Round, over: Tensor) -> TensorDict:
        """Where every episode began and what it returned, ``[R]``."""
        keys, start = self.agent.keys, played.episodes[:, 0]
        found = {
            keys.situation: start.get(keys.state, None),
            keys.latent: start.get(keys.latent, None),
            ("next", keys.done): over.unsqueeze(-1),
            ("next", *keys.episode_reward): played.returns[:, None, None],
        }
        return TensorDict({k: v for k, v in found.items() if v is not None}, [len(over)])


def collecting(
    agent: Agent, env: EnvBase, *, episodes: bool, max_steps: int, random_frames: int = 0
) -> StepCollecting | EpisodeCollecting:
    """The way of collecting that a task asks for, an endless sequence of :class:`Collected`."""
    if episodes:
        return EpisodeCollecting(agent, env, max_steps)
    return StepCollecting(agent, env, random_frames)
