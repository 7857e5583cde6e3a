"""One PettingZoo environment: how it is made, and what it answers, checked by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vm3ac_modules.envs._rows import Floats, Layout, Row, headless
from vm3ac_modules.extras import require_extra


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
    if "continuous_actions" in options:
        return parallel_env(**options)
    try:
        return parallel_env(**{"continuous_actions": True, **options})
    except TypeError:
        # It has no such option, or refuses another one, and then says so again.
        return parallel_env(**options)


class SimulatorError(ValueError):
    """A simulator answered with something that no training can use."""


class Simulated:
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
        self.t, self.seed = 0, 0
        self._call("reset", seed=0)
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
        """The state of all, flat; None where there is none, or ``state`` is something else."""
        state = getattr(self.env, "state", None)
        if not callable(state):
            return None
        try:
            inspect.signature(state).bind()
        except ValueError:
            pass  # what is built in has no signature to read
        except TypeError:
            return None  # it asks for an agent, say
        try:
            found = np.asarray(state(), np.float32)
        except (AttributeError, NotImplementedError):
            return None
        return found if found.ndim == 1 else None

    def reset(self, seed: int, row: Row) -> None:
        self.t, self.seed = 0, seed
        answer = self._call("reset", seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self._wrong("reset", f"gave {_form(answer)}, not (observations, infos)")
        listed = list(self.env.agents)
        self.live = [agent for agent in self.agents if agent in listed]
        self.gone: set[Any] = set()
        if not self.live:
            raise self._wrong("agents", "is empty after a reset, so that no episode can begin")
        self._observe(answer[0], row)

    def step(self, action: Floats, row: Row) -> None:
        self.t += 1
        # Agents that are listed on after their end are asked for an action like the others.
        asked = {*self.live, *(agent for agent in self.env.agents if agent in self.gone)}
        # Cast and clipped in the space's own precision, whose bounds float32 may round out of it.
        actions = {
            agent: np.clip(own.astype(space.dtype), space.low, space.high)
            for agent, own, space in zip(self.agents, action, self.action_spaces, strict=True)
            if agent in asked
        }
        answer = self._call("step", actions)
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise self._wrong(
                "step",
                f"gave {_form(answer)}, not (observations, rewards, terminations, truncations, "
                "infos)",
            )
        observations, rewards, terminations, truncations, _ = answer
        for name, told in zip(("rewards", "terminations", "truncations"), answer[1:4], strict=True):
            if not isinstance(told, Mapping):
                raise self._wrong(name, f"are {_form(told)}, not a dictionary by agent")
        listed = list(self.env.agents)
        for i, agent in enumerate(self.agents):
            row.reward[i] = self._reward(agent, rewards, listed) if agent in self.live else 0.0
        left = {agent for agent in self.live if agent not in listed and agent not in terminations}
        flags = {agent: self._ends(agent, terminations, truncations) for agent in self.live}
        ended = {agent for agent, ends in flags.items() if any(ends)} | left
        cut = any(flags[agent] == (False, True) for agent in ended)
        self._refuse_newcomers(listed, terminations, truncations)
        self.gone |= ended
        self.live = [agent for agent in self.live if agent in listed and agent not in ended]
        if not self.live:
            row.ends[:] = not cut, cut
        self._observe(observations, row, ended)

    def _reward(self, agent: Any, rewards: Mapping[Any, Any], listed: Sequence[Any]) -> float:
        if agent not in rewards:
            if agent in listed:
                raise self._wrong("rewards", "has no entry, though the agent is listed", agent)
            return 0.0
        value = np.asarray(rewards[agent])
        if value.size != 1 or (not np.issubdtype(value.dtype, np.number) and value.dtype != bool):
            raise self._wrong("rewards", f"is {_form(rewards[agent])}, not a number", agent)
        if not np.isfinite(value).all():
            raise self._wrong("rewards", f"is {value.item()}", agent)
        return float(value.item())

    def _ends(
        self, agent: Any, terminations: Mapping[Any, Any], truncations: Mapping[Any, Any]
    ) -> tuple[bool, bool]:
        """Whether an agent was terminated, and truncated; one that is not told of was neither."""
        return bool(terminations.get(agent, False)), bool(truncations.get(agent, False))

    def _refuse_newcomers(
        self, listed: Sequence[Any], terminations: Mapping[Any, Any], truncations: Mapping[Any, Any]
    ) -> None:
        if joined := set(listed) - set(self.live) - self.gone:
            raise self._wrong(
                "agents",
                f"has {sorted(map(str, joined))} that joined in mid-episode, which is not "
                "supported; give them observations and rewards from the reset on",
            )
        for agent in self.gone & set(listed) & set(terminations):
            if not any(self._ends(agent, terminations, truncations)):
                raise self._wrong(
                    "terminations",
                    "is False again after its end: agents that come back are not supported; leave "
                    "the agent out of agents, or let its end stand",
                    agent,
                )

    def _observe(self, observations: Any, row: Row, ended: Collection[Any] = ()) -> None:
        """Write what agents see: those that ended just now for the last time, others zeros then."""
        if not isinstance(observations, Mapping):
            raise self._wrong("observations", f"are {_form(observations)}, not a dictionary")
        for i, agent in enumerate(self.agents):
            if agent not in observations and agent in self.live:
                raise self._wrong("observations", "has no entry, though the agent is listed", agent)
            seen = observations.get(agent, 0.0) if agent in self.live or agent in ended else 0.0
            self._put(row.observation[i], seen, "observations", agent)
        if row.state.size:
            self._put(row.state, self.env.state(), "state", None)

    def _put(self, place: Floats, value: Any, entry: str, agent: Any) -> None:
        """Write an entry after checking its shape and that it is finite."""
        found = np.asarray(value)
        shape = found.shape
        if shape not in ((), place.shape) or (shape == () and agent in self.live):
            wanted = list(place.shape)
            raise self._wrong(entry, f"has shape {list(shape)}, its space says {wanted}", agent)
        place[:] = found
        if not np.isfinite(place).all():
            bad = np.flatnonzero(~np.isfinite(place))
            raise self._wrong(
                entry, f"is {place[bad[0]]} in component {bad[0]} of {place.size}", agent
            )

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self.env, method)(*arguments, **options)
        except Exception as error:
            error.add_note(f"{self.module}: raised by {method} {self._when()}.")
            raise

    def _when(self) -> str:
        return f"in step {self.t} of the episode of seed {self.seed}"

    def _wrong(self, entry: str, what: str, agent: Any = None) -> SimulatorError:
        whose = "" if agent is None else f" of agent {agent!r}"
        return SimulatorError(f"{self.module}: {entry}{whose} {what} ({self._when()}).")


def _form(value: Any) -> str:
    """What an answer is, in a few words."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    shape = getattr(value, "shape", None)
    name = type(value).__name__
    return name if shape is None else f"{name} of shape {list(shape)}"
