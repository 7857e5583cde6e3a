"""A team of processes, one per agent, as a policy that an environment can be played with.

No agent has a channel to another: each process is given its own observation and the time, and
answers with its own action. The host only carries both to and from the environment.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from vm3ac_modules.execution.agent_file import check_team
from vm3ac_modules.execution.agent_process import AgentLost, AgentProcess
from vm3ac_modules.execution.frames import SET, STEP
from vm3ac_modules.execution.process import ClockReading
from vm3ac_modules.keys import Keys, require_keys

__all__ = ["DecentralizedTeam", "Disturbance"]


@dataclass(frozen=True)
class Disturbance:
    """What goes wrong during an episode.

    Args:
        agent: the agent that it happens to.
        clock: how that agent reads the clock.
        seed_offset: added to that agent's seed.
        own_seeds: every agent has a seed of its own, so that latents are independent.
        kill_at: step at which the agent's process is killed; None for never.
        dropped: probability that an agent's observation is lost and it acts on the last one.
    """

    agent: int = 0
    clock: ClockReading = "reference"
    seed_offset: int = 0
    own_seeds: bool = False
    kill_at: int | None = None
    dropped: float = 0.0

    def seed_of(self, agent: int, seed: int) -> int:
        """The seed that an agent is given.

        Args:
            agent: which.
            seed: the team's.
        """
        if self.own_seeds:
            return (seed + 1 + agent) % 2**64
        return (seed + (self.seed_offset if agent == self.agent else 0)) % 2**64


@dataclass
class _Tally:
    """What happened while a team played."""

    steps: int = 0
    restarts: list[str] = field(default_factory=list)
    seconds_to_rejoin: list[float] = field(default_factory=list)


class DecentralizedTeam(TensorDictModuleBase):
    """The agents of a team, each in a process of its own; a policy for collectors and evaluations.

    Use it as a context manager, so that the processes end with it.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 5 and Appendix H.

    Args:
        paths: files of all agents, in the order of the agents.
        seed: the seed that all agents were given before deployment.
        disturbance: what goes wrong.
        rejoin: start an agent again whose process ended, instead of stopping the team.
        keys: the tensordict vocabulary.
        timeout: seconds to wait for an agent's answer.

    Raises:
        AgentFileError: if the files are not those of one team, or cannot be run.
        AgentLost: in ``forward``, if an agent's process ended and is not to rejoin.

    Example:
        >>> with DecentralizedTeam(paths, seed=7) as team:  # doctest: +SKIP
        ...     result = evaluate(team, env, max_steps=100, seed=7)
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        seed: int = 0,
        disturbance: Disturbance | None = None,
        rejoin: bool = False,
        keys: Keys | None = None,
        timeout: float = 120.0,
    ) -> None:
        super().__init__()
        self.records = check_team(paths)
        self.paths, self.timeout, self.rejoin = [Path(path) for path in paths], timeout, rejoin
        self.keys = keys = Keys() if keys is None else keys
        mask = [keys.action_mask] if self.records[0]["recurrent"] else []
        given = [keys.latent] if self.records[0]["latent"]["source"] == "given" else []
        self._per_agent, self._in_common = [keys.observation, *mask], given
        self.in_keys = [*self._per_agent, keys.step_count, *given]
        self.out_keys = [keys.action]
        self.agents = [self._spawn(agent) for agent in range(len(paths))]
        try:
            for agent in self.agents:
                agent.wait_ready()
            self.begin(seed, disturbance)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DecentralizedTeam:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, seed: int, disturbance: Disturbance | None = None) -> None:
        """Give all agents their seed and clock, and let them forget what was.

        Args:
            seed: the team's seed.
            disturbance: what shall go wrong from now on.
        """
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must satisfy 0 <= seed < 2^64, got {seed}.")
        self.seed = seed
        self.disturbance = Disturbance() if disturbance is None else disturbance
        if not 0 <= self.disturbance.agent < len(self.agents):
            raise ValueError(
                f"there is no agent {self.disturbance.agent} in a team of {len(self.agents)}."
            )
        self._noise, self._killed = np.random.default_rng(seed), False
        self.tally = _Tally()
        for agent in range(len(self.agents)):
            self._set(agent)

    def close(self) -> None:
        """End all processes."""
        for agent in self.agents:
            agent.stop()

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Let every agent act on its own observation.

        Args:
            tensordict: observations ``[R, N, O]``, the reference clock ``"episode"`` and
                ``"step_count"`` ``[R, 1]``, legal actions of discrete agents; for agents exported
                with latent ``"given"`` the latent ``[R, Z]``, which every agent is handed.

        Returns:
            The same tensordict with the joint action, ``[R, N, A]`` or ``[R, N]``.

        Raises:
            AgentLost: if an agent's process ended and is not to rejoin; names the agent, its
                process and how it ended.
            MissingKeysError: if an entry is missing.
        """
        require_keys(tensordict, self.in_keys, type(self).__name__)
        keys = self.keys
        observation = tensordict.get(keys.observation)
        rows = len(observation)
        step = tensordict.get(keys.step_count).reshape(rows).cpu().numpy()
        episode = np.zeros(rows, np.int64)
        if keys.episode in tensordict:
            episode = tensordict.get(keys.episode).reshape(rows).cpu().numpy()
        self._kill_if_due(step)
        # One copy for all agents; each is sent its own rows.
        split = [tensordict.get(key).detach().cpu().numpy() for key in self._per_agent]
        common = [tensordict.get(key).detach().cpu().numpy() for key in self._in_common]
        frames = []
        for agent in range(len(self.agents)):
            # The first observation of an episode always arrives: there is no older one.
            received = (self._noise.random(rows) >= self.disturbance.dropped) | (step == 0)
            own = [np.ascontiguousarray(value[:, agent]) for value in split]
            frames.append([episode, step, received, *own, *common])
        actions = self._ask(frames)
        self.tally.steps += 1
        joint = torch.from_numpy(np.stack(actions, axis=1)).to(observation.device)
        return tensordict.set(keys.action, joint)

    def _kill_if_due(self, step: NDArray[Any]) -> None:
        due = self.disturbance.kill_at
        if due is not None and not self._killed and int(step.min()) >= due:
            self._killed = True
            self.agents[self.disturbance.agent].kill()

    def _ask(self, frames: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
        """Send to all first, so that the processes work at the same time."""
        lost: dict[int, str] = {}
        actions: list[Any] = [None] * len(self.agents)
        for index, frame in enumerate(frames):
            try:
                self.agents[index].send(STEP, frame)
            except AgentLost as error:
                lost[index] = str(error)
        for index, agent in enumerate(self.agents):
            try:
                if index not in lost:
                    actions[index] = agent.action()
            except AgentLost as error:
                lost[index] = str(error)
        for index, report in lost.items():
            self._replace(index, report)
            self.agents[index].send(STEP, frames[index])
            actions[index] = self.agents[index].action()
        return actions

    def _replace(self, index: int, report: str) -> None:
        """Start an agent again; the new process needs its file, the seed and the time only."""
        begun = time.monotonic()
        self.agents[index].kill()
        if not self.rejoin:
            self.close()
            raise AgentLost(f"{report} The team was stopped after {self.tally.steps} steps.")
        self.agents[index].stop()
        self.agents[index] = self._spawn(index)
        self.agents[index].wait_ready()
        self._set(index)
        self.tally.restarts.append(f"{report} Started again at step {self.tally.steps}.")
        self.tally.seconds_to_rejoin.append(time.monotonic() - begun)

    def _spawn(self, index: int) -> AgentProcess:
        return AgentProcess(self.paths[index], index, timeout=self.timeout)

    def _set(self, index: int) -> None:
        mine = index == self.disturbance.agent
        choice = {
            "seed": self.disturbance.seed_of(index, self.seed),
            "clock": self.disturbance.clock if mine else "reference",
        }
        self.agents[index].send(SET, choice)
