"""What our VMAS scenarios share: a random stream of their own, and a state for checkpoints.

VMAS is imported here, once it is known to be installed; the scenarios take its classes from here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vm3ac_modules.envs.resume import ResumableScenario
from vm3ac_modules.envs.vmas._joining import of_shape
from vm3ac_modules.envs.vmas._load import load_vmas

load_vmas()  # before the next imports: names the missing extra and swallows gym's notice

from vmas.simulator.core import Agent, Sphere, World  # noqa: E402
from vmas.simulator.scenario import BaseScenario  # noqa: E402

from vm3ac_modules.envs.vmas.scenarios._discs import DiscWorld  # noqa: E402

__all__ = [
    "Agent",
    "DiscWorld",
    "JointScenario",
    "SeededScenario",
    "Sphere",
    "World",
    "check_options",
    "distances",
    "others",
]


def check_options(task: str, unread: dict[str, Any], *rules: tuple[bool, str]) -> None:
    """Refuse options that were not read, and those whose rule (right, message) does not hold."""
    if unread:
        raise ValueError(f"{task}: unknown options: {', '.join(sorted(unread))}.")
    for right, what in rules:
        if not right:
            raise ValueError(f"{task}: {what}")


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Distance of every point of ``a`` ``[B, n, 2]`` to every one of ``b`` ``[B, m, 2]``.

    Returns:
        ``[B, n, m]``; ``b`` may also be the same for all rows, ``[m, 2]``.
    """
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).norm(dim=-1)


def others(x: Tensor) -> Tensor:
    """For every agent all but itself, in order: ``[B, N, ...]`` to ``[B, N, N - 1, ...]``."""
    n = x.shape[1]
    place = torch.arange(n - 1, device=x.device)
    own = torch.arange(n, device=x.device).unsqueeze(-1)
    return x[:, place + (place >= own)]


def _unit(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


class SeededScenario(ResumableScenario, BaseScenario):
    """A scenario that draws from generators of its own, one per team; see ``VMASEnv`` for why.

    A subclass calls :meth:`start_stream` in ``make_world``, draws with :meth:`draw`, and names in
    ``row_state`` the attributes that the next step depends on, ``[B, ...]`` each.
    """

    row_state: ClassVar[tuple[str, ...]] = ("positions", "velocities")

    # BaseScenario asks that __init__ be left alone; the world, and with it the generator, is made
    # after the environment has given the seed.
    _seed = 0
    _generators: tuple[torch.Generator, ...] = ()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The scenario's own streams of random numbers, one per team.

        Raises:
            ValueError: before :meth:`start_stream` was called.
        """
        if not self._generators:
            raise ValueError(
                f"{type(self).__name__}.make_world must call self.start_stream(device) before "
                "anything is drawn."
            )
        return self._generators

    def set_seed(self, seed: int) -> None:
        """Restart the scenario's own streams of random numbers.

        Args:
            seed: the seed, of the first team if there are several; before the world is made it is
                kept until then.
        """
        self._seed = seed
        if self._world is not None:
            for team, generator in enumerate(self.generators):
                generator.manual_seed(seed + team)

    def set_teams(self, teams: int) -> None:
        """Give each of so many teams of rows its own stream: that of the seed plus its number."""
        self.start_stream(self.generators[0].device, teams)

    def start_stream(self, device: torch.device, teams: int = 1) -> None:
        """Make the generators, with the seed that was given."""
        self._generators = tuple(
            torch.Generator(device=device).manual_seed(self._seed + team) for team in range(teams)
        )

    def to(self, device: torch.device) -> None:
        """Move the scenario; generators on a new device are seeded from the old ones."""
        target = torch.device(device)
        if target != self.generators[0].device:
            seeds = [
                int(torch.randint(2**62, (1,), generator=old, device=old.device))
                for old in self.generators
            ]
            self._generators = tuple(torch.Generator(target).manual_seed(s) for s in seeds)
        super().to(target)

    def draw(
        self,
        sample: Callable[[tuple[int, ...], torch.Generator], Tensor],
        shape: tuple[int, ...],
        env_index: int | None = None,
    ) -> Tensor:
        """Random numbers of the given shape, rows first, each team's rows from its own stream.

        Args:
            sample: draws a shape from a generator.
            shape: ``(B, ...)``, or ``(1, ...)`` with ``env_index``.
            env_index: the row that the numbers are for; None for all.
        """
        teams = len(self.generators)
        if env_index is not None:
            return sample(shape, self.generators[env_index * teams // self.world.batch_dim])
        share = (shape[0] // teams, *shape[1:])
        return torch.cat([sample(share, generator) for generator in self.generators])

    def uniform(
        self, shape: tuple[int, ...], half_width: float, env_index: int | None = None
    ) -> Tensor:
        """Numbers from ``[-half_width, half_width)``; see :meth:`draw` for the arguments."""
        unit = self.draw(_unit, shape, env_index)
        return (2.0 * unit - 1.0) * half_width

    def done(self) -> Tensor:
        """Rows whose episode is over, bool ``[B]``: none, but where a scenario says so."""
        return torch.zeros(self.world.batch_dim, dtype=torch.bool, device=self.world.device)

    @property
    def positions(self) -> Tensor:
        """Positions of the agents, ``[B, N, 2]``."""
        return torch.stack([agent.state.pos for agent in self.world.agents], dim=1)

    @positions.setter
    def positions(self, value: Tensor) -> None:
        self.place(value)

    @property
    def velocities(self) -> Tensor:
        """Velocities of the agents, ``[B, N, 2]``."""
        return torch.stack([agent.state.vel for agent in self.world.agents], dim=1)

    @velocities.setter
    def velocities(self, value: Tensor) -> None:
        for i, agent in enumerate(self.world.agents):
            agent.set_vel(value[:, i].clone(), batch_index=None)

    def index(self, agent: Agent) -> int:
        """Where an agent stands in tensors of all agents."""
        return int(self.world.agents.index(agent))

    def place(self, positions: Tensor, env_index: int | None = None) -> None:
        """Put the agents of all rows, or of one, at ``positions`` ``[rows, N, 2]``."""
        for i, agent in enumerate(self.world.agents):
            # VMAS takes [B, 2] for all rows and [2] for one; a copy, since agents that start at
            # the same point do not share its memory.
            point = positions[:, i] if env_index is None else positions[0, i]
            agent.set_pos(point.clone(), batch_index=env_index)

    def rows_at(self, env_index: int | None) -> tuple[slice, int]:
        """The rows that a reset at ``env_index`` starts anew, and how many they are."""
        if env_index is None:
            return slice(None), self.world.batch_dim
        return slice(env_index, env_index + 1), 1

    def simulator_state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as copies; see ``VMASEnv.simulator_state``."""
        return {name: getattr(self, name).clone() for name in self.row_state}

    def load_simulator_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`simulator_state` gave."""
        for name in self.row_state:
            current: Tensor = getattr(self, name)
            setattr(self, name, state[name].to(current, copy=True))


class JointScenario(SeededScenario):
    """A scenario that tells of all agents at once, in a :class:`DiscWorld`.

    A subclass gives :meth:`observations`, :meth:`rewards` and :meth:`metrics`. ``VMASEnv`` reads
    them, and moves all agents together; what VMAS asks of one agent is taken from them. VMAS's
    ``process_action`` would be called agent by agent: a subclass that has one is refused, and
    changes actions in :meth:`advance`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse what would not be called."""
        super().__init_subclass__(**options)
        if cls.process_action is not BaseScenario.process_action:
            raise TypeError(
                f"{cls.__name__}.process_action would not be called: a JointScenario moves all "
                "agents at once. Change the actions in advance(action), or derive from "
                "SeededScenario."
            )

    @abstractmethod
    def observations(self) -> Tensor:
        """What every agent sees, ``[B, N, O]``."""

    @abstractmethod
    def rewards(self) -> Tensor:
        """The rewards of the last step, ``[B, N]``."""

    def metrics(self) -> dict[str, Tensor]:
        """Metrics of the episode, ``[B]`` each."""
        return {}

    def advance(self, action: Tensor) -> None:
        """One step of all rows, by actions ``[B, N, 2]`` in [-1, 1]."""
        self.pre_step()
        self.world.push(action)
        self.post_step()

    def observation(self, agent: Agent) -> Tensor:
        """What one agent sees, ``[B, O]``."""
        seen = of_shape(self, "observations()", self.observations(), "BNO")
        return seen[:, self.index(agent)]

    def reward(self, agent: Agent) -> Tensor:
        """The reward of one agent for the last step, ``[B]``."""
        return of_shape(self, "rewards()", self.rewards(), "BN")[:, self.index(agent)]

    def info(self, agent: Agent) -> dict[str, Tensor]:
        """The team's metrics, ``[B]`` each."""
        return self.metrics()
