"""Collect steps with worker processes, each of which plays a share of the rows.

A round is what the workers play between two sendings of weights: ``T`` steps of all rows. It is
handed on step by step, so that counters, replay, hooks and updates see what one process gives.

Shapes: ``R`` rows of all workers, worker by worker, ``b`` of one, ``T`` steps of a round.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import EnvBase

from vm3ac_modules.envs._processes import in_worker
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.envs.rng import transforms_of
from vm3ac_modules.learning._collecting import Collected, collected_steps
from vm3ac_modules.learning.agent import Agent, with_transforms
from vm3ac_modules.learning.seeding import seed_everything, worker_seed

Kind = Literal["multi_sync", "multi_async", "ray"]
"""Ways of collecting in several processes."""


class WorkersError(RuntimeError):
    """Worker processes cannot be started, or do not stay alive."""


@dataclass(frozen=True)
class Spread:
    """How the rows of a training are spread over processes.

    Args:
        kind: ``"multi_sync"``, ``"multi_async"`` (this machine) or ``"ray"`` (a cluster).
        workers: number of processes W, which divides the rows.
        rows: rows R of all workers.
        steps: steps T of a round.
        seed: seed of the run; see :func:`~vm3ac_modules.learning.worker_seed`.
        make: makes a share of the environment, called with its rows, ``device`` and ``seed``.
    """

    kind: Kind
    workers: int
    rows: int
    steps: int
    seed: int
    make: Callable[..., EnvBase]

    @property
    def share(self) -> int:
        """Rows b of a worker."""
        return self.rows // self.workers

    @property
    def frames(self) -> int:
        """Environment steps of a round."""
        return self.rows * self.steps


class WorkerPolicy(TensorDictModuleBase):
    """What is sent to the workers: the policy, and what draws the latents of their environments.

    Args:
        policy: the policy to collect with.
        drawing: modules of the environment's :class:`~vm3ac_modules.envs.EpisodeLatent` parts.
    """

    def __init__(self, policy: TensorDictModuleBase, drawing: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.policy, self.drawing = policy, nn.ModuleList(drawing)
        self.in_keys, self.out_keys = list(policy.in_keys), list(policy.out_keys)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Play the policy."""
        return self.policy(tensordict)


class WorkerCollector(Collector):
    """A worker's collector, whose environment draws latents with the modules that are sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for part, module in zip(drawing_parts(self.env), self.policy.drawing, strict=True):
            part.draw_with(module)

    def __bool__(self) -> bool:
        """True: TorchRL's length of an endless collector is no integer, which ends Ray's actors."""
        return True


def drawing_parts(env: EnvBase) -> list[EpisodeLatent]:
    """The transforms of an environment whose modules learn."""
    return [part for part in transforms_of(env) if isinstance(part, EpisodeLatent)]


def worker_env(make: Callable[..., EnvBase], transforms: Any, rows: int, seed: int) -> EnvBase:
    """Build a worker's share of the environment, and seed the process that it is built in."""
    env = with_transforms(in_worker(partial(make, rows, device="cpu", seed=seed)), transforms)
    seed_everything(seed)
    return env


class Workers(ABC):
    """Base of what starts worker processes, sends them weights, and fetches what they played.

    Args:
        spread: what is spread, and over how many.
        agent: whose policy plays.
        env: an environment like the workers', in this process.
        restarted: called with a sentence when a process took another's place.
    """

    def __init__(
        self, spread: Spread, agent: Agent, env: EnvBase, restarted: Callable[[str], None]
    ) -> None:
        self.spread, self.restarted = spread, restarted
        self.transforms = agent.env_transforms
        modules = [part.module for part in drawing_parts(env)]
        self.learned = WorkerPolicy(agent.policy, modules)
        # On the CPU, where the workers play, with the weights that were sent last.
        self.sent = copy.deepcopy(self.learned).to("cpu").requires_grad_(False)

    def take_weights(self) -> TensorDictBase:
        """The newest weights, copied from the learner; what workers start with and are sent."""
        weights = TensorDict.from_module(self.sent).data
        return weights.update_(TensorDict.from_module(self.learned).data)

    def makers(self, frames: int, workers: Iterable[int]) -> list[Callable[[], EnvBase]]:
        """Builders of the environments of workers that start at a frame."""
        share, seed = self.spread.share, self.spread.seed
        return [
            partial(
                worker_env,
                self.spread.make,
                self.transforms,
                rows=share,
                seed=worker_seed(seed, worker, frames),
            )
            for worker in workers
        ]

    @abstractmethod
    def start(self, frames: int, random_frames: int) -> None:
        """Start the processes.

        Args:
            frames: environment steps that the run has done.
            random_frames: environment steps to be played at random from here on.

        Raises:
            WorkersError: if they cannot start.
        """

    @abstractmethod
    def play(self, frames: int, random_frames: int) -> TensorDictBase:
        """Send the weights and fetch a round, ``[R, T]``; replace processes that ended meanwhile.

        Raises:
            WorkersError: if the processes fail by themselves, or end again and again.
        """

    @abstractmethod
    def close(self) -> None:
        """End all processes."""


class SpreadCollecting:
    """Steps of all rows, collected by worker processes; an endless sequence of :class:`Collected`.

    Args:
        agent: the agent.
        workers: who plays.
        frames: environment steps that the run has done.
        random_frames: environment steps, from the run's first on, with random actions.
    """

    def __init__(
        self, agent: Agent, workers: Workers, *, frames: int = 0, random_frames: int = 0
    ) -> None:
        self.agent, self.workers, self.random_frames = agent, workers, random_frames
        spread = workers.spread
        # Rounds end at multiples of their frames also after a resume within one.
        self.frames = frames // spread.frames * spread.frames
        self.done_before = (frames - self.frames) // spread.rows
        self.device = next(agent.loss.parameters()).device
        workers.start(frames, self._random_left())

    def _random_left(self) -> int:
        return max(0, self.random_frames - self.frames)

    def __iter__(self) -> Iterator[Collected]:
        """A step of all rows per turn."""
        spread = self.workers.spread
        while True:
            batch = self.workers.play(self.frames, self._random_left()).to(self.device)
            for step in range(self.done_before, spread.steps):
                yield collected_steps(self.agent, batch[:, step : step + 1], spread.rows)
            self.frames, self.done_before = self.frames + spread.frames, 0

    def close(self) -> None:
        """End the workers."""
        self.workers.close()


def spread_collecting(
    agent: Agent,
    env: EnvBase,
    spread: Spread,
    *,
    frames: int,
    random_frames: int,
    restarted: Callable[[str], None],
) -> SpreadCollecting:
    """The way of collecting that a spread asks for.

    Args:
        agent: the agent.
        env: an environment like the workers', in this process.
        spread: what is spread, and over how many.
        frames: environment steps that the run has done.
        random_frames: environment steps, from the run's first on, with random actions.
        restarted: called with a sentence when a process took another's place.
    """
    workers: Workers
    if spread.kind == "ray":
        from vm3ac_modules.learning._ray_workers import RayWorkers

        workers = RayWorkers(spread, agent, env, restarted)
    else:
        from vm3ac_modules.learning._process_workers import ProcessWorkers

        workers = ProcessWorkers(spread, agent, env, restarted)
    try:
        return SpreadCollecting(agent, workers, frames=frames, random_frames=random_frames)
    except BaseException:
        workers.close()
        raise


def joined(parts: Sequence[TensorDictBase]) -> TensorDictBase:
    """Rounds of workers beside each other: ``[b, T]`` each, ``[R, T]`` together."""
    return torch.cat([part.exclude("collector") for part in parts])
