"""SMAClite: SMAC's battles in pure Python, on the CPU, without the game.

Source of the simulator: Michalski, Christianos & Albrecht 2023, "SMAClite: A Lightweight
Environment for Multi-Agent Reinforcement Learning", arXiv:2305.05566. Its rules follow StarCraft's
but are not StarCraft's: numbers found here must not be reported as SMAC's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.envs._rows import LocalRows, WorkerRows, headless
from vm3ac_modules.envs._vector import SeededRowsEnv
from vm3ac_modules.envs.battles._micromanagement import (
    BattleEnv,
    Sizes,
    check_legal,
    paid_by,
)
from vm3ac_modules.envs.battles._smaclite_game import MakeBattle, SmacliteGame, smaclite_battle
from vm3ac_modules.envs.battles.smaclite_maps import smaclite_limit
from vm3ac_modules.envs.battles.units import BattleUnits
from vm3ac_modules.keys import Keys

__all__ = ["SMACliteEnv"]


class SMACliteEnv(SeededRowsEnv, BattleEnv):
    r"""``N`` units, an agent each, fight ``M`` units of a scripted enemy; rules after StarCraft's.

    Actions: 0 nothing (for the dead only), 1 stop, 2 north, 3 south, 4 east, 5 west, ``6 + j``
    attack enemy ``j`` (of healers: heal ally ``j``), whose center must be within 6 units of length
    of the agent's (a move is 2). Every agent gets the team's reward, in a step in which :math:`e`
    enemies and :math:`a` allies died

    .. math:: r = 10\,e - 1\,a - 0.1 + 200\,[\text{this step won the battle}]

    with ``reward="sparse"``; ``"shaped"`` is SMAClite's own, damage and deaths of enemies and the
    victory, scaled so that a victory over enemies that do not recover returns 20. Shields,
    and the health of Zerg, recover and are paid for again: a return may exceed 20. A battle is
    terminated when a side has no unit left and truncated at SMAC's time limit for the map, which
    SMAClite itself does not know. The step that ends it returns its last observations; a row waits
    for its reset, pays 0 and stays as it is.

    Entries are those of :class:`~vm3ac_modules.envs.battles.smax.SMAXEnv`. A row makes some dozens
    of steps per second, with few units more: give rows to worker processes where there are cores.

    Args:
        map_name: see :data:`~vm3ac_modules.envs.battles.smaclite_maps.SMACLITE_MAPS`.
        num_envs: number of rows ``B``.
        device: device of the entries; the simulation is on the CPU.
        seed: seed of the rows' streams; without one it is drawn from torch's default generator.
        reward: ``"sparse"`` or ``"shaped"``.
        max_steps: time limit; SMAC's for the map by default.
        num_workers: number of processes that share the rows; 1 simulates in this process.
        use_cpp_rvo2: SMAClite avoids collisions by compiled code, a package of its own.
        make_battle: makes SMAClite's environment, called with ``map_name`` and ``use_cpp_rvo2``;
            picklable where there are workers. A stub takes its place in tests.
        **constants: of the sparse reward: ``enemy_death`` (10) and ``win`` (200) pay,
            ``ally_death`` (1) and ``step_cost`` (0.1) cost.

    Raises:
        ValueError: an unknown map, an option out of its range; in a step, an illegal action.
        ImportError: SMAClite, or the compiled code, is not installed; says how to install it.

    Example:
        >>> from vm3ac_modules.testing import SMACliteStub
        >>> env = SMACliteEnv("2s3z", 2, seed=0, make_battle=SMACliteStub)
        >>> td = env.rollout(3)
        >>> td["agents", "action_mask"].shape, td["next", "agents", "reward"].shape
        (torch.Size([2, 3, 3, 9]), torch.Size([2, 3, 3, 1]))
    """

    def __init__(
        self,
        map_name: str,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        reward: str = "sparse",
        max_steps: int | None = None,
        num_workers: int = 1,
        use_cpp_rvo2: bool = False,
        make_battle: MakeBattle = smaclite_battle,
        **constants: float,
    ) -> None:
        limit = smaclite_limit(map_name)
        sparse = paid_by(reward, constants, SMACliteEnv)
        super().__init__(num_envs, device, seed)
        self.map_name, self.max_steps = map_name, limit if max_steps is None else max_steps
        if self.max_steps < 1:
            raise ValueError(f"SMACliteEnv: max_steps must be at least 1, got {max_steps}")
        if num_workers < 1 or num_envs % num_workers:
            raise ValueError(
                f"SMACliteEnv: num_workers must be at least 1 and divide num_envs={num_envs}, got "
                f"{num_workers}"
            )
        if not isinstance(use_cpp_rvo2, bool):
            raise ValueError(
                f"SMACliteEnv: use_cpp_rvo2 must be true or false, got {use_cpp_rvo2!r}"
            )
        make = partial(make_battle, use_cpp_rvo2=use_cpp_rvo2)
        with headless():
            game = SmacliteGame(make, map_name, self.max_steps, sparse)
            layout = game.layout()
            self._rows: LocalRows | WorkerRows
            if num_workers == 1:
                simulator = partial(SmacliteGame, make, map_name, self.max_steps, sparse)
                self._rows = LocalRows(simulator, layout, num_envs)
            else:
                rows = num_envs // num_workers
                given: dict[str, Any] = {
                    "reward": reward,
                    "max_steps": self.max_steps,
                    "use_cpp_rvo2": use_cpp_rvo2,
                    **constants,
                }
                worker = partial(
                    SMACliteEnv, map_name, rows, seed=0, make_battle=make_battle, **given
                )
                self._rows = WorkerRows(worker, num_workers, rows)
        self.num_agents = layout.num_agents
        sizes = (layout.num_agents, layout.num_actions, layout.observation_size, layout.state_size)
        self._set_battle_specs(Sizes(*sizes))
        self._mask = torch.zeros(num_envs, layout.num_agents, 0)

    @property
    def units(self) -> BattleUnits:
        """Where the units are, how they fare and whom they attack."""
        self._check_started()
        bodies = torch.from_numpy(self._rows.ask("describe"))
        kinds, aims, reach = bodies[..., 4].long(), bodies[..., 5].long(), bodies[..., 6]
        teams = (torch.arange(bodies.shape[1]) >= self.num_agents).long().expand(bodies.shape[:2])
        alive = bodies[..., 3] > 0
        return BattleUnits(bodies[..., :2], bodies[..., 2], alive, teams, kinds, aims, reach)

    @property
    def action_mask(self) -> Tensor:
        """Which actions are legal now, bool on the CPU, ``[B, N, A]``."""
        self._check_started()
        return self._mask.clone()

    def _reset(
        self, tensordict: TensorDictBase | None = None, seeds: Sequence[int] | None = None
    ) -> TensorDictBase:
        rows = self._starting(tensordict)
        # A worker is handed the seeds of the environment that it works for.
        drawn = {i: self._seeds.draw(i) if seeds is None else int(seeds[i]) for i in rows}
        return self._seen(self._rows.reset(drawn, self.device)).exclude(Keys().reward)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._check_started()
        action = tensordict.get(Keys().action).cpu()
        check_legal(action, self._mask, "SMACliteEnv")
        return self._seen(self._rows.step(action, self.device))

    def _seen(self, td: TensorDictBase) -> TensorDictBase:
        self._mask = td.get(Keys().action_mask).cpu().clone()
        return td

    def ask(self, method: str) -> np.ndarray:
        """What a method of every battle says now, e.g. ``"describe"``, ``[B, ...]``."""
        return self._rows.ask(method)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the workers, if there are any."""
        self._rows.close()
        super().close(raise_if_closed=raise_if_closed)
