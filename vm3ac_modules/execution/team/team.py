"""A team of processes, one per agent, that plays an environment as a policy.

No agent has a channel to another: each process is given its own observation and the time, and
answers with its own action. The host only carries both to and from the environment.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from vm3ac_modules.execution.clock import check_seed
from vm3ac_modules.execution.runtime.agent_file import check_team
from vm3ac_modules.execution.team._frames import SET, STEP
from vm3ac_modules.execution.team.agent_process import AgentLost, AgentProcess
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.keys import Keys, require_keys

__all__ = ["DecentralizedTeam"]


@dataclass
class _Tally:
    """What happened while a team played."""

    steps: int = 0
    killed_at: int | None = None
    restarts: list[str] = field(default_factory=list)
    seconds_to_rejoin: list[float] = field(default_factory=list)


class DecentralizedTeam(TensorDictModuleBase):
    """Play with one process per agent; a policy for collectors and evaluations.

    Use it as a context manager, so that the processes end with it.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 5 and Appendix H.

    Args:
        paths: files of all agents, in the order of the agents.
        seed: the seed that all agents were given before deployment.
        disturbance: the faults; none by default.
        rejoin: start an agent again whose process ended, instead of stopping the team.
        keys: the tensordict vocabulary.
        timeout: seconds to wait for an agent's answer.
        trust: run programs of ``torch.export`` (``.pt2``), which are code.

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
        trust: bool = False,
    ) -> None:
        super().__init__()
        self.records = check_team(paths)
        self._trust = trust
        self.paths, self.timeout, self.rejoin = [Path(path) for path in paths], timeout, rejoin
        self.keys = keys = Keys() if keys is None else keys
        mask = [keys.action_mask] if self.records[0]["recurrent"] else []
        given = [keys.latent] if self.records[0]["latent"]["source"] == "given" else []
        # Agents that normalize by themselves see what the environment gives.
        raw = bool(self.records[0].get("observation_normalization"))
        self._observed = keys.raw_observation if raw else keys.observation
        self._per_agent, self._in_common = [self._observed, *mask], given
        clock = [keys.episode] if self.records[0]["latent"]["source"] == "synchronized" else []
        self.in_keys = [*self._per_agent, keys.step_count, *clock, *given]
        self.out_keys = [keys.action]
        self.agents: list[AgentProcess] = []
        self._closed = False
        try:
            # All are started before the first is waited for.
            self.agents.extend(self._spawn(agent) for agent in range(len(paths)))
            for agent in self.agents:
                agent.wait_ready()
            self.begin(seed, disturbance)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DecentralizedTeam:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def begin(self, seed: int, disturbance: Disturbance | None = None) -> None:
        """Give all agents their seed and clock, and clear their memories.

        Args:
            seed: the team's seed.
            disturbance: the faults from now on; none by default.

        Raises:
            ValueError: for a seed outside its range, or a disturbed agent that is not there.
            AgentLost: if an agent's process is gone.
        """
        disturbance = Disturbance() if disturbance is None else disturbance
        if not 0 <= disturbance.agent < len(self.agents):
            raise ValueError(
                f"there is no agent {disturbance.agent} in a team of {len(self.agents)}."
            )
        self.seed, self.disturbance = check_seed(seed), disturbance
        self._noise = np.random.default_rng(seed)
        self.tally = _Tally()
        self._check_open()
        for agent in range(len(self.agents)):
            self._set(agent)

    def _check_open(self) -> None:
        if self._closed:
            raise AgentLost("the processes of this team were stopped: make another team.")

    def close(self) -> None:
        """End all processes."""
        self._closed = True
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
        observation = tensordict.get(self._observed)
        self._check_open()
        if observation.ndim != 3:
            raise ValueError(
                "DecentralizedTeam needs the observations of rows of agents, [R, N, O], got "
                f"{list(observation.shape)}: unsqueeze or flatten the batch."
            )
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
            own[0] = np.where(received[:, None], own[0], 0.0).astype(own[0].dtype)
            frames.append([episode, step, received, *own, *common])
        actions = self._ask(frames)
        self.tally.steps += 1
        joint = torch.from_numpy(np.stack(actions, axis=1)).to(observation.device)
        return tensordict.set(keys.action, joint)

    def _kill_if_due(self, step: NDArray[Any]) -> None:
        due = self.disturbance.kill_at
        if due is not None and self.tally.killed_at is None and int(step.max()) >= due:
            self.tally.killed_at = int(step.max())
            self.agents[self.disturbance.agent].kill()

    def _ask(self, frames: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
        """Send to all first, so that the processes work at the same time."""
        lost: dict[int, str] = {}
        actions: list[Any] = [None] * len(self.agents)
        for agent, frame in zip(self.agents, frames, strict=True):
            agent.send(STEP, frame)
        refused: list[ValueError] = []
        for index, agent in enumerate(self.agents):
            try:
                actions[index] = agent.action()
            except AgentLost as error:
                lost[index] = str(error)
            except ValueError as error:
                refused.append(error)
        for index, report in lost.items():
            self._replace(index, report)
            self.agents[index].send(STEP, frames[index])
            actions[index] = self.agents[index].action()
        if refused:
            raise refused[0]
        return actions

    def _replace(self, index: int, report: str) -> None:
        """Start an agent again; the new process needs its file, its seed and the time only."""
        begun = time.monotonic()
        self.agents[index].kill()
        if not self.rejoin:
            self.close()
            raise AgentLost(f"{report} The team was stopped after {self.tally.steps} steps.")
        self.agents[index].stop()
        self.agents[index] = self._spawn(index)
        self.agents[index].wait_ready()
        self._tell(index)
        self.tally.restarts.append(f"{report} Started again at step {self.tally.steps}.")
        self.tally.seconds_to_rejoin.append(time.monotonic() - begun)

    def _spawn(self, index: int) -> AgentProcess:
        return AgentProcess(self.paths[index], index, timeout=self.timeout, trust=self._trust)

    def _set(self, index: int) -> None:
        try:
            self._tell(index)
        except AgentLost as error:
            self._replace(index, str(error))

    def _tell(self, index: int) -> None:
        """Give an agent its seed and its clock, and wait until it has applied them."""
        mine = index == self.disturbance.agent
        choice = {
            "seed": self.disturbance.seed_of(index, self.seed),
            "clock": self.disturbance.clock if mine else "reference",
        }
        self.agents[index].send(SET, choice)
        self.agents[index].wait_ready()
