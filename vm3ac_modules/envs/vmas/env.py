"""VMAS environments with a random stream of their own, and a state that checkpoints can hold."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Unbounded
from torchrl.envs import MarlGroupMapType
from torchrl.envs.libs.vmas import VmasEnv

from vm3ac_modules.envs.resume import ResumableScenario
from vm3ac_modules.envs.vmas._joining import (
    check_row_state,
    in_range,
    join_alike,
    join_unlike,
    told,
)
from vm3ac_modules.envs.vmas._load import (
    check_names,
    is_joint,
    is_seeded,
    load_vmas,
    unused_options_are_errors,
)
from vm3ac_modules.envs.vmas._streams import RandomStreams
from vm3ac_modules.keys import Keys

__all__ = ["VMASEnv"]

ENTITY_STATE = ("pos", "vel", "rot", "ang_vel")


class VMASEnv(VmasEnv):
    """TorchRL's ``VmasEnv`` made independent of every other environment of the process.

    VMAS keeps one random state for all its environments: building, seeding or resetting a second
    one changes what the first draws. Here each environment has its own streams and touches neither
    VMAS's nor the caller's: a ``SeededScenario`` (ours) owns its generators, and every other
    scenario draws from the global ones, which are set to this environment's streams around each
    call.

    A ``JointScenario`` (all of ours) tells of all agents at once and moves them together, in one
    group and with continuous actions; that gives VMAS's numbers and asks a device nothing.

    Two more differences. There is no ``max_steps``, since VMAS reports its time limit as a
    termination: use ``StepCounter``, as ``make_env`` does. All agents form one group, ``"agents"``.
    A ``SeededScenario`` with a method ``state`` adds ``"state"`` ``[B, S]`` at the root. What other
    scenarios call ``state``, ``set_seed`` or ``generator`` is their own affair.

    Args:
        scenario: the name of a scenario of VMAS, or an instance made for this environment alone.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the simulation.
        seed: seed of the streams; without one it is drawn from torch's default generator. A reset
            after construction is the same as one after ``set_seed(seed)``.
        group_map: how agents are grouped; one group ``"agents"`` by default.
        **kwargs: further options of ``VmasEnv`` and of the scenario.

    Example:
        >>> from vm3ac_modules.envs import VMASEnv
        >>> env = VMASEnv("balance", num_envs=2, seed=0)
        >>> first, other = env.reset(), VMASEnv("balance", num_envs=2, seed=1)
        >>> env.set_seed(0, static_seed=True)
        0
        >>> bool((env.reset() == first).all())
        True
    """

    def __init__(
        self,
        scenario: Any,
        num_envs: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        group_map: MarlGroupMapType | dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        load_vmas()
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if kwargs.get("max_steps") is not None:
            raise ValueError(
                "VMASEnv takes no max_steps, which VMAS would report as a termination; append "
                "torchrl.envs.StepCounter(max_steps) or use make_env(..., max_steps=...)"
            )
        super().__init__(
            scenario,
            num_envs=num_envs,
            device=torch.device(device),
            seed=_fresh_seed() if seed is None else seed,
            group_map=MarlGroupMapType.ALL_IN_ONE_GROUP if group_map is None else group_map,
            **kwargs,
        )
        # Construction has drawn from the streams; start them anew.
        self._set_seed(self._first_seed)

    def _build_env(self, *, seed: int, scenario: Any, **kwargs: Any) -> Any:
        self._first_seed = seed
        self._stream = RandomStreams.seeded(seed, self.device)
        self._draws_itself = is_seeded(scenario)
        if self._draws_itself:
            scenario.set_seed(seed)
        with self._lent_streams(), unused_options_are_errors():
            # Without a seed: VMAS would reseed the caller's CUDA generators with it.
            return super()._build_env(seed=None, scenario=scenario, **kwargs)

    def _make_specs(self, env: Any) -> None:
        super()._make_specs(env)
        scenario = self.scenario
        # Of one group in the scenario's order, and with actions that are forces.
        names = [agent.name for agent in env.agents]
        self._joint = is_joint(scenario) and [*self.group_map.values()] == [names]
        self._joint = self._joint and bool(env.continuous_actions)
        self._has_state = is_seeded(scenario) and callable(getattr(scenario, "state", None))
        if is_seeded(scenario):
            check_row_state(scenario)
        if self._has_state:
            spec = self.full_observation_spec_unbatched  # type: ignore[has-type]
            size = self.scenario.state().shape[-1]
            spec[Keys().state] = Unbounded(shape=(size,), device=self.device)
            self.full_observation_spec_unbatched = spec

    @contextlib.contextmanager
    def _lent_streams(self) -> Iterator[None]:
        """Let VMAS build from this environment's streams, in place of its one random state."""
        shared = load_vmas().simulator.environment.Environment.vmas_random_state
        theirs, caller, own = list(shared), RandomStreams.current(self.device), self._stream
        # In place: VMAS's functions hold the list itself.
        shared[:] = [own.torch_state, own.numpy_state, own.python_state]
        if own.cuda_state is not None:  # VMAS swaps the generators of the CPU only
            torch.cuda.set_rng_state(own.cuda_state, self.device)
        try:
            yield
        finally:
            shared[:] = theirs
            caller.install(self.device)  # VMAS does not restore them after an error

    @contextlib.contextmanager
    def _own_streams(self) -> Iterator[None]:
        """Let the scenario draw from this environment's streams; the caller's stay as they are.

        A scenario of ours draws from generators of its own, so nothing is swapped for it.
        """
        if self._draws_itself:
            yield
            return
        caller = RandomStreams.current(self.device)
        self._stream.install(self.device)
        try:
            yield
            self._stream = RandomStreams.current(self.device)
        finally:
            caller.install(self.device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        wanted = {"get_observations": True, "get_infos": True, "get_dones": True}
        with self._own_streams():
            if asked is None or bool(asked.all()):
                self._vmas("reset", return_observations=False)
            else:
                for row in asked.flatten().nonzero().flatten().tolist():
                    self._vmas("reset_at", row, return_observations=False)
            if self._joint:
                return self._joint_entries()
            seen, done, infos = self._vmas("get_from_scenario", get_rewards=False, **wanted)
        return self._entries(done, {"observation": seen}, infos)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        if self._joint:
            [(group, names)] = self.group_map.items()
            return self.joint_step(in_range(tensordict.get((group, "action")), names))
        actions: list[Any] = [None] * self.n_agents
        for group, names in self.group_map.items():
            own = self.read_action(tensordict.get((group, "action")), group=group)
            for name, action in zip(names, own, strict=True):
                actions[self.agent_names_to_indices_map[name]] = action
        with self._own_streams():
            seen, rewards, done, infos = self._vmas("step", actions)
        return self._entries(done, {"observation": seen, "reward": rewards}, infos)

    @property
    def moves_jointly(self) -> bool:
        """Whether a step is :meth:`joint_step`."""
        return bool(self._joint)

    def joint_step(self, action: Tensor) -> TensorDictBase:
        """A step of a ``JointScenario``, by actions ``[B, N, 2]``; a training on a GPU replaces it.

        Returns:
            All entries of the step, ``[B]``.
        """
        self.scenario.advance(action)
        self._env.steps += 1
        return self._joint_entries(rewards=True)

    def _vmas(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call VMAS's environment without the swap of random states that it does around a call."""
        return inspect.unwrap(getattr(type(self._env), method))(self._env, *args, **kwargs)

    def _joint_entries(self, *, rewards: bool = False) -> TensorDictBase:
        """All entries of a reset or a step, from a scenario that tells of all agents at once."""
        scenario, [group] = self.scenario, self.group_map
        done = scenario.done().unsqueeze(-1)
        entries = {"done": done.clone(), "terminated": done.clone(), group: told(scenario, rewards)}
        if self._has_state:
            entries[Keys().state] = scenario.state().clone()
        return TensorDict(entries, self.batch_size, device=self.device)

    def _entries(
        self, done: Tensor, told: Mapping[str, list[Any]], infos: list[Any]
    ) -> TensorDictBase:
        """All entries of a reset or a step, from VMAS's lists with one item per agent."""
        done = done.unsqueeze(-1)
        entries: dict[str, Any] = {"done": done, "terminated": done.clone()}
        for group, names in self.group_map.items():
            places = [self.agent_names_to_indices_map[name] for name in names]
            own = {key: [values[place] for place in places] for key, values in told.items()}
            reported = [infos[place] for place in places]
            shared = [key for key in reported[0] if all(key in info for info in reported)]
            if shared:
                own["info"] = [{key: info[key].float() for key in shared} for info in reported]
            join = join_unlike if self.het_specs_map[group] else join_alike
            entries[group] = join(own, self.batch_size)
        if self._has_state:
            entries[Keys().state] = self.scenario.state()
        return TensorDict(entries, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        seed = _fresh_seed() if seed is None else seed
        self._stream = RandomStreams.seeded(seed, self.device)
        if is_seeded(self.scenario):
            self.scenario.set_seed(seed)

    def set_teams(self, teams: int) -> None:
        """Give each of several teams, as many rows each, a random stream of its own.

        Team k then starts every episode where the first team of an environment with the seed plus
        k would, whatever the others do. A scenario of VMAS's own draws for all rows at once, so
        there it changes nothing.

        Args:
            teams: number of teams, which divides the rows.

        Raises:
            ValueError: if it does not.
        """
        if teams < 1 or self.num_envs % teams:
            raise ValueError(f"{self.num_envs} rows do not divide among {teams} teams.")
        if is_seeded(self.scenario):
            self.scenario.set_teams(teams)

    def to(self, device: torch.device | str) -> VMASEnv:
        """Move the simulation; streams of the CPU go on, one of a new CUDA device starts afresh."""
        device = torch.device(device)
        if device != self.device:
            self._stream = self._stream.moved(device)
        return super().to(device)

    def get_rng_state(self) -> dict[str, Tensor]:
        """The state of this environment's random streams, for a checkpoint.

        Returns:
            Tensors on the CPU; :meth:`set_rng_state` takes them back.
        """
        state = self._stream.to_tensors()
        if is_seeded(self.scenario) and (generators := self.scenario.generators):
            states = torch.stack([generator.get_state() for generator in generators])
            state["generator"] = states if len(generators) > 1 else states[0]
        return state

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`get_rng_state` gave.

        Args:
            state: from an environment of the same scenario on the same kind of device.

        Raises:
            ValueError: the state has other entries than this environment's.
        """
        check_names("set_rng_state", state, self.get_rng_state())
        self._stream = RandomStreams.from_tensors(state)
        if "generator" in state:
            own = self.scenario.generators
            for generator, saved in zip(own, state["generator"].reshape(len(own), -1), strict=True):
                # A copy: torch misreads a state that begins within a larger tensor.
                generator.set_state(saved.cpu().clone())

    @property
    def resumable(self) -> bool:
        """Whether :meth:`simulator_state` is all that the next step depends on."""
        return isinstance(self.scenario, ResumableScenario)

    def simulator_state(self) -> dict[str, Tensor]:
        """What the simulator needs to go on from this step, for a checkpoint.

        For our scenarios this is all there is. For VMAS's own it is the position, velocity,
        rotation and angular velocity of every entity; what such a scenario caches besides (the last
        shaping term, goals taken, communication) is not in it, so that the first reward after
        :meth:`load_simulator_state` can differ.

        Returns:
            Copies, with the rows first: ``[B, ...]``.
        """
        if isinstance(self.scenario, ResumableScenario):
            state = self.scenario.simulator_state()
        else:
            entities = self.world.entities
            state = {
                name: torch.stack([getattr(entity.state, name) for entity in entities], dim=1)
                for name in ENTITY_STATE
            }
        return {**state, "env_steps": self._env.steps.clone()}

    def load_simulator_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`simulator_state` gave.

        Args:
            state: from an environment of the same scenario, options and number of rows.

        Raises:
            ValueError: the state does not fit this environment.
        """
        expected = self.simulator_state()
        check_names("load_simulator_state", state, expected)
        for name, value in expected.items():
            if state[name].shape != value.shape:
                raise ValueError(
                    f"load_simulator_state: {name!r} has shape {tuple(state[name].shape)}, this "
                    f"environment needs {tuple(value.shape)}; build it with the options and "
                    "num_envs that the state was saved with"
                )
        self._env.steps = state["env_steps"].to(expected["env_steps"], copy=True)
        if isinstance(self.scenario, ResumableScenario):
            self.scenario.load_simulator_state(state)
            return
        for i, entity in enumerate(self.world.entities):
            for name in ENTITY_STATE:
                setattr(entity.state, name, state[name][:, i].to(expected[name], copy=True))


def _fresh_seed() -> int:
    return int(torch.randint(2**31, (1,)))
