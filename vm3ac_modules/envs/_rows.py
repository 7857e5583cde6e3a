"""Simulators of one episode each: what they are, and where the rows of an environment run.

Shapes: ``B`` rows, ``N`` agents, ``O`` observation, ``A`` action, ``S`` state, ``K`` metrics,
``W`` worker processes, ``F`` numbers per row.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.envs._processes import DEAD, WorkersEnv, check_main_guard, same_threads
from vm3ac_modules.keys import Keys

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Sizes and bounds of an environment: N agents, observations O, actions, state S, K metrics."""

    num_agents: int
    observation_size: int
    low: Floats | None = None
    high: Floats | None = None
    """Bounds of continuous actions, ``[N, A]``."""
    num_actions: int = 0
    """Number A of discrete actions, of which some are legal; 0 where actions are continuous."""
    state_size: int = 0
    metrics: tuple[str, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """Numbers per row: observations, rewards, state, metrics, ends, legal actions, living."""
        n, discrete = self.num_agents, self.num_actions > 0
        seen = [n * self.observation_size, n, self.state_size, len(self.metrics), 2]
        return [*seen, n * self.num_actions, n * discrete]


@dataclass(frozen=True)
class Row:
    """Where a simulator writes, as views of one buffer.

    Observations ``[N, O]``, rewards ``[N]`` (a reset has none), state ``[S]``, metrics ``[K]``,
    whether the episode was terminated and whether it was truncated, ``[2]``, and where actions are
    discrete which are legal, ``[N, A]``, and who lives, ``[N]``.
    """

    observation: Floats
    reward: Floats
    state: Floats
    metrics: Floats
    ends: Floats
    action_mask: Floats
    alive: Floats


class Simulator(Protocol):
    """One episode at a time; all its randomness comes from the seed of the reset."""

    def reset(self, seed: int, row: Row) -> None:
        """Start an episode; rewards and ends of the row are zero already."""

    def step(self, action: Any, row: Row) -> None:
        """Go on by the actions: ``[N, A]``, finite, or the numbers of discrete ones, ``[N]``."""


class EpisodeSeeds:
    """A seed for every episode of every row, counted off one seed of the environment.

    Episode ``k`` of row ``b`` has the seed of ``SeedSequence(seed, spawn_key=(b, k))``: no row
    draws from another's stream, and the state is the seed and the counts. Where several teams have
    as many rows each, ``b`` counts the team's own rows and its number is added to the seed.
    """

    teams = 1

    def __init__(self, seed: int, num_envs: int) -> None:
        if not 0 <= seed < 2**63:
            raise ValueError(f"the seed must be in 0..2^63 - 1, got {seed}")
        self.seed, self.episodes = seed, torch.zeros(num_envs, dtype=torch.int64)

    def draw(self, row: int) -> int:
        """The seed of the row's next episode, in 0..2^31 - 1 since simulators keep it in an int."""
        episode = int(self.episodes[row])
        self.episodes[row] += 1
        team, own = divmod(row, self.episodes.numel() // self.teams)
        sequence = np.random.SeedSequence(self.seed + team, spawn_key=(own, episode))
        words = sequence.generate_state(1)
        return int(words[0]) >> 1

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint: the seed, ``[]``, and the episodes each row has begun, ``[B]``."""
        return {"seed": torch.tensor(self.seed), "episodes": self.episodes.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; refused for another number of rows."""
        if state.keys() != {"seed", "episodes"} or state["episodes"].shape != self.episodes.shape:
            found = {name: tuple(value.shape) for name, value in state.items()}
            raise ValueError(
                f"set_rng_state: needs 'seed' [] and 'episodes' {list(self.episodes.shape)}, got "
                f"{found}; use a state saved from this kind of environment and num_envs"
            )
        self.seed = int(state["seed"])
        self.episodes.copy_(state["episodes"])


class LocalRows:
    """Simulators of this process and the buffer that they write into, ``[B, F]``."""

    def __init__(
        self, make_simulator: Callable[[], Simulator], layout: Layout, num_envs: int
    ) -> None:
        self.layout = layout
        self.simulators = [make_simulator() for _ in range(num_envs)]
        self.buffer: Floats = np.zeros((num_envs, sum(layout.sizes)), np.float32)
        parts = np.split(self.buffer, np.cumsum(layout.sizes)[:-1], axis=1)
        agents = layout.num_agents
        for index in (0, 5):
            parts[index] = parts[index].reshape(num_envs, agents, -1 if parts[index].size else 0)
        self.rows = [Row(*part) for part in zip(*parts, strict=True)]

    def reset(self, seeds: dict[int, int], device: torch.device) -> TensorDictBase:
        """Start episodes with these seeds in these rows; all rows' entries, on the device."""
        for i, seed in seeds.items():
            row = self.rows[i]
            row.reward[:] = row.ends[:] = 0.0
            self.simulators[i].reset(seed, row)
        return self._tensordict(device)

    def step(self, action: Tensor, device: torch.device) -> TensorDictBase:
        """Step the rows whose episode goes on, actions ``[B, N, ..]``; all rows' entries."""
        for simulator, row, joint in zip(self.simulators, self.rows, action.numpy(), strict=True):
            if row.ends.any():
                row.reward[:] = 0.0
            else:
                simulator.step(joint, row)
        return self._tensordict(device)

    def _tensordict(self, device: torch.device) -> TensorDictBase:
        layout, rows = self.layout, len(self.simulators)
        # a copy also on the CPU, since the simulators go on writing into the buffer
        flat = torch.from_numpy(self.buffer).to(device, copy=True)
        observation, reward, state, metrics, ends, mask, alive = flat.split(layout.sizes, dim=1)
        agents = {
            "observation": observation.unflatten(1, (layout.num_agents, -1)),
            "reward": reward.unsqueeze(-1),
        }
        if layout.num_actions:
            agents["action_mask"] = mask.unflatten(1, (layout.num_agents, -1)) != 0
            agents["alive"] = alive != 0
        flags = ends != 0
        entries: dict[str, Any] = {
            "agents": TensorDict(agents, [rows, layout.num_agents], device=device),
            "done": flags.any(1, keepdim=True),
            "terminated": flags[:, :1],
            "truncated": flags[:, 1:],
        }
        if layout.state_size:
            entries["state"] = state
        if layout.metrics:
            info = dict(zip(layout.metrics, metrics.split(1, dim=1), strict=True))
            entries["info"] = TensorDict(info, [rows], device=device)
        return TensorDict(entries, [rows], device=device)

    def ask(self, method: str) -> Floats:
        """The answers of all simulators to a method, ``[B, ...]``."""
        return np.stack([getattr(simulator, method)() for simulator in self.simulators])

    def close(self) -> None:
        """Nothing to end here."""


class WorkerRows:
    """The same, with ``W`` processes that hold ``B / W`` rows each."""

    simulators: tuple[()] = ()

    def __init__(self, make_env: Callable[[], EnvBase], num_workers: int, rows: int) -> None:
        check_main_guard()
        self.shape = (num_workers, rows)
        with same_threads():
            self.env = WorkersEnv([make_env] * num_workers)
        self.last = self.env.fake_tensordict().exclude("next", Keys().action)

    def reset(self, seeds: dict[int, int], device: torch.device) -> TensorDictBase:
        """Start episodes with these seeds in these rows; all rows' entries, on the device."""
        if seeds:
            mask = torch.zeros(self.shape, dtype=torch.bool)
            mask.view(-1)[list(seeds)] = True
            all_seeds = [seeds.get(row, 0) for row in range(mask.numel())]
            shares = [{"seeds": share} for share in np.array(all_seeds).reshape(self.shape)]
            # TorchRL answers for a worker without a reset from what it is handed
            asked = self.last.clone().set("_reset", mask.unsqueeze(-1))
            with same_threads(), self._alive():
                self.last = self.env.reset(asked, list_of_kwargs=shares)
        return self.last.flatten(0, 1).to(device)

    def step(self, action: Tensor, device: torch.device) -> TensorDictBase:
        """Step the rows whose episode goes on, actions ``[B, N, ..]``; all rows' entries."""
        asked = TensorDict({Keys().action: action.unflatten(0, self.shape)}, self.shape)
        with self._alive():
            following = self.env.step(asked)["next"]
        self.last = following.exclude(Keys().reward)
        return following.flatten(0, 1).to(device)

    def ask(self, method: str) -> Floats:
        """The answers of all simulators to a method, ``[B, ...]``."""
        with self._alive():
            return np.concatenate(self.env.ask(method))

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Say in one sentence that a worker's process is gone."""
        try:
            yield
        except (EOFError, ConnectionError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not DEAD.search(str(error)):
                raise
            # Not from the pipe's own error, which says nothing.
            raise RuntimeError(
                f"a process of the environment's {self.shape[0]} ended: it was killed, ran out of "
                "memory, or could not start (a program without a main guard); what it printed "
                "stands above. Start the program again; a run goes on with resume=true."
            ) from None

    def close(self) -> None:
        """End the processes."""
        with same_threads():
            self.env.close(raise_if_closed=False)


@contextmanager
def headless() -> Iterator[None]:
    """Import and build simulators without a window, a greeting or notices beyond our control."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        # An error raised from these would crash the interpreter while Box2D is being loaded.
        warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
        # PettingZoo on its own modules' parallel_env, which the pinned versions keep.
        warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
        yield
