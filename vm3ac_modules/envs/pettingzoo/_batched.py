"""Simulators of one episode each, stepped in a loop and seen as one environment of ``B`` rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import Bounded, Unbounded

from vm3ac_modules.envs._rows import Floats, Layout, LocalRows, Simulator, WorkerRows
from vm3ac_modules.envs._vector import SeededRowsEnv, set_specs
from vm3ac_modules.keys import Keys


class BatchedSimulatorEnv(SeededRowsEnv):
    """``B`` simulators of the same task in one process, or shared out among several.

    Simulation is on the CPU; each step converts one NumPy buffer and moves it to the device. A row
    whose episode is over waits for its reset: steps leave it as it is and pay 0.
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
        super().__init__(num_envs, device, seed)
        if num_workers < 1 or num_envs % num_workers:
            raise ValueError(
                f"{name}: num_workers must be at least 1 and divide num_envs={num_envs}, "
                f"got {num_workers}"
            )
        assert layout.low is not None
        assert layout.high is not None
        self.layout = layout
        group = (num_envs, layout.num_agents)
        size = (*group, layout.low.shape[-1])
        low, high = (torch.from_numpy(x).expand(size) for x in (layout.low, layout.high))
        observation = Unbounded((*group, layout.observation_size), device=self.device)
        set_specs(
            self,
            layout.num_agents,
            action=Bounded(low, high, size, device=self.device),
            agents={"observation": observation},
            state_size=layout.state_size,
            metrics=layout.metrics,
        )
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

    def _reset(
        self, tensordict: TensorDictBase | None = None, seeds: Sequence[int] | None = None
    ) -> TensorDictBase:
        rows = self._starting(tensordict)
        # A worker is handed the seeds of the environment that it works for.
        drawn = {i: self._seeds.draw(i) if seeds is None else int(seeds[i]) for i in rows}
        return self._rows.reset(drawn, self.device).exclude(Keys().reward)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._check_started()
        action = tensordict.get(Keys().action).detach().to("cpu", torch.float32)
        if not bool(action.isfinite().all()):
            raise ValueError(
                f"{type(self).__name__}: {Keys().action} holds values that are not finite; look "
                "for the first non-finite loss or parameter of the policy"
            )
        return self._rows.step(action, self.device)

    def ask(self, method: str) -> Floats:
        """What a method of every simulator says now, e.g. ``"positions"``, ``[B, ...]``."""
        return self._rows.ask(method)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the workers, if there are any."""
        self._rows.close()
        super().close(raise_if_closed=raise_if_closed)
