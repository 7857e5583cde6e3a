"""A team of processes, one per agent, that plays an environment as a policy.

No agent has a channel to another: each process is given its own observation and the time, and
answers with its own action. The host only carries both to and from the environment.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from vm3ac_modules.execution.clock import check_seed
from vm3ac_modules.execution.runtime.agent_file import check_team
from vm3ac_modules.execution.team._frames import SET, STEP
from vm3ac_modules.execution.team.agent_process import AgentLate, AgentLost, AgentProcess
from vm3ac_modules.execution.team.disturbance import Disturbance
from vm3ac_modules.keys import Keys, require_keys

__all__ = ["DecentralizedTeam"]


@dataclass
class _Tally:
    """Counts of what happened while a team played."""

    steps: int = 0
    killed_at: int | None = None
    missed: list[int] = field(default_factory=list)
    """Deadlines that every agent missed."""
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
        deadline: seconds that a step waits for its actions. An agent that misses it acts by its
            last action or the neutral one, is counted in ``tally.missed``, and is in step again
            with its next answer. One that is silent for ``timeout`` counts as lost. None waits
            for ``timeout``. At the first step of an episode there is no last action yet.
        neutral: what an agent does that missed its deadline: its ``"last"`` action, or the
            ``"center"`` of its range (0 of discrete actions, if it is legal).

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
        deadline: float | None = None,
        neutral: Literal["last", "center"] = "last",
    ) -> None:
        super().__init__()
        self.records = check_team(paths)
        if deadline is not None and not 0.0 < deadline < math.inf:
            raise ValueError(f"deadline must be seconds above 0, got {deadline}.")
        if neutral not in ("last", "center"):
            raise ValueError(f"neutral must be last or center, got {neutral!r}.")
        self._trust, self.deadline, self.neutral = trust, deadline, neutral
        self._last: list[Any] = []
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
        self.tally = _Tally(missed=[0] * len(self.agents))
        self._last = [None] * len(self.agents)
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
        """Send each agent its own observation and collect the actions.

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
            believed = self.disturbance.episode_of(agent, episode)
            frames.append([believed, step, received, *own, *common])
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
        until = None if self.deadline is None else time.monotonic() + self.deadline
        actions: list[Any] = [None] * len(self.agents)
        refused: list[ValueError] = []
        late = [self._owes(index, lost) for index in range(len(self.agents))]
        for index, agent in enumerate(self.agents):
            # Who still computes an old answer is not asked for more: it would never catch up.
            if not late[index]:
                agent.send(STEP, frames[index])
        for index, agent in enumerate(self.agents):
            try:
                if late[index] and index not in lost:
                    raise AgentLate
                if index not in lost:
                    actions[index] = agent.action(until)
            except AgentLate:
                actions[index] = self._without(index, frames[index])
                self.tally.missed[index] += 1
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
        self._last = actions
        return actions

    def _owes(self, index: int, lost: dict[int, str]) -> bool:
        """Whether an agent is late with an earlier step; notes it if it is gone."""
        if self.deadline is None:
            return False
        try:
            return self.agents[index].owes()
        except AgentLost as error:
            lost[index] = str(error)
            return True

    def _without(self, index: int, frame: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The action of an agent whose answer is not there."""
        rows, begins = len(frame[1]), frame[1] == 0
        center = self._center(index, rows)
        last = self._last[index]
        if self.neutral == "center" or last is None or len(last) != rows:
            chosen = center
        else:
            # An episode's first action is not that of another one.
            chosen = np.where(begins.reshape(-1, *(1,) * (last.ndim - 1)), center, last)
        mask = frame[4] if self.records[index]["recurrent"] else None
        if mask is not None:
            # Illegal by now: the first legal one.
            legal = np.take_along_axis(mask, chosen[:, None], 1)[:, 0]
            chosen = np.where(legal, chosen, mask.argmax(1))
        return np.asarray(chosen, center.dtype)

    def _center(self, index: int, rows: int) -> NDArray[Any]:
        said = self.records[index]["action"]
        if said["kind"] == "discrete":
            return np.zeros(rows, np.int64)
        middle = (np.array(said["low"]) + np.array(said["high"])) / 2
        return np.broadcast_to(middle.astype(np.float32), (rows, len(middle)))

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
            "delay": self.disturbance.delay if mine else 0.0,
            "delayed": self.disturbance.delayed,
        }
        self.agents[index].send(SET, choice)
        self.agents[index].wait_ready()
