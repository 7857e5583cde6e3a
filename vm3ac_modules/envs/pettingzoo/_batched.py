"""Simulators of one episode each, stepped in a loop and seen as one environment of ``B`` rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._rows import EpisodeSeeds, Floats, Layout, LocalRows, Simulator, WorkerRows
from vm3ac_modules.keys import Keys


class BatchedSimulatorEnv(EnvBase):
    """``B`` simulators of the same task in one process, or shared out among several.

    Simulation is on the CPU; each step converts one NumPy buffer and moves it to the device. A row
    whose episode is over waits for its reset: steps leave it as it is and pay 0.

    Args:
        make_simulator: makes one simulator; picklable if there are several workers.
        layout: sizes and bounds.
        num_envs: number of rows, ``B``.
        device: device of the entries that go in and out.
        seed: seed of the rows' streams; without one it is drawn from torch's default generator.
        num_workers: number of processes ``W`` that share the rows; 1 simulates in this one.
    """

    def __init__(
        self,
        make_simulator: Callable[[], Simulator],
        layout: Layout,
        num_envs: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        num_workers: int = 1,
    ) -> None:
        name = type(self).__name__
        if num_envs < 1:
            raise ValueError(f"{name}: num_envs must be at least 1, got {num_envs}")
        if num_workers < 1 or num_envs % num_workers:
            raise ValueError(
                f"{name}: num_workers must be at least 1 and divide num_envs={num_envs}, "
                f"got {num_workers}"
            )
        super().__init__(device=torch.device(device), batch_size=[num_envs])
        self.layout = layout
        self._set_seed(seed)
        self._started = np.zeros(num_envs, dtype=bool)
        self._make_specs()
        self._rows: LocalRows | WorkerRows
        if num_workers == 1:
            self._rows = LocalRows(make_simulator, layout, num_envs)
        else:
            rows = num_envs // num_workers
            make_env = partial(BatchedSimulatorEnv, make_simulator, layout, rows, seed=0)
            self._rows = WorkerRows(make_env, num_workers, rows)

    @property
    def simulators(self) -> Sequence[Any]:
        """The simulators of this process, one per row; none if workers hold them."""
        return self._rows.simulators

    def _make_specs(self) -> None:
        batch, layout = self.batch_size, self.layout
        group = (*batch, layout.num_agents)
        size = (*group, layout.low.shape[-1])
        low, high = (torch.from_numpy(x).expand(size) for x in (layout.low, layout.high))
        names = {"shape": batch, "device": self.device}

        def agents(**specs: Any) -> Composite:
            return Composite(agents=Composite(**specs, shape=group, device=self.device), **names)

        self.action_spec = agents(action=Bounded(low, high, size, device=self.device))
        self.reward_spec = agents(reward=Unbounded((*group, 1), device=self.device))
        seen = agents(observation=Unbounded((*group, layout.observation_size), device=self.device))
        if layout.state_size:
            seen["state"] = Unbounded((*batch, layout.state_size), device=self.device)
        if layout.metrics:
            metric = Unbounded((*batch, 1), device=self.device)
            seen["info"] = Composite({m: metric.clone() for m in layout.metrics}, **names)
        self.observation_spec = seen
        end = Categorical(2, shape=(*batch, 1), dtype=torch.bool, device=self.device)
        ends = {key: end.clone() for key in ("done", "terminated", "truncated")}
        self.done_spec = Composite(ends, **names)

    def _reset(
        self, tensordict: TensorDictBase | None = None, seeds: Sequence[int] | None = None
    ) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        rows = range(self.numel())
        if mask is not None:
            rows = mask.flatten().nonzero().flatten().tolist()
        # A worker is handed the seeds of the environment that it works for.
        drawn = {i: self._seeds.draw(i) if seeds is None else int(seeds[i]) for i in rows}
        self._started[list(drawn)] = True
        return self._rows.reset(drawn, self.device).exclude(Keys().reward)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        if not self._started.all():
            raise RuntimeError(f"{type(self).__name__}: reset every row before the first step")
        action = tensordict.get(Keys().action).detach().to("cpu", torch.float32)
        if not bool(action.isfinite().all()):
            raise ValueError(
                f"{type(self).__name__}: {Keys().action} holds values that are not finite; look "
                "for the first non-finite loss or parameter of the policy"
            )
        return self._rows.step(action, self.device)

    def _set_seed(self, seed: int | None) -> None:
        seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        self._seeds = EpisodeSeeds(seed, self.numel())

    def get_rng_state(self) -> dict[str, Tensor]:
        """The state of the rows' streams, for a checkpoint.

        Returns:
            The seed, ``[]``, and how many episodes each row has begun, ``[B]``; int64 on the CPU.
        """
        return self._seeds.state()

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`get_rng_state` gave.

        The episodes that begin from now on are those that would have begun: the same starts and,
        for the same actions, the same courses. The episodes that were under way are not in the
        state; reset the environment, and each row goes on with its next one.

        Args:
            state: from an environment of the same number of rows.

        Raises:
            ValueError: the state has other entries or rows than this environment's.
        """
        self._seeds.load(state)

    def ask(self, method: str) -> Floats:
        """What a method of every simulator says now, e.g. ``"positions"``.

        Args:
            method: its name; it takes nothing and gives an array.

        Returns:
            The answers of all rows, ``[B, ...]``.
        """
        return self._rows.ask(method)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the workers, if there are any."""
        self._rows.close()
        super().close(raise_if_closed=raise_if_closed)
