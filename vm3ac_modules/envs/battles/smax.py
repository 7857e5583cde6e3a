"""SMAX: battles like those of StarCraft II, simulated without the game.

Source of the simulator: SMAX of JaxMARL (Rutherford et al. 2023, arXiv:2311.10090), whose rules
differ from StarCraft's: numbers found here must not be reported as SMAC's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from vm3ac_modules.envs._vector import ENDS, SeededRowsEnv
from vm3ac_modules.envs.battles._micromanagement import (
    METRICS,
    BattleEnv,
    check_legal,
    paid_by,
)
from vm3ac_modules.envs.battles._smax_game import smax_game
from vm3ac_modules.envs.battles.smax_maps import smax_map
from vm3ac_modules.envs.battles.units import BattleUnits
from vm3ac_modules.keys import Keys

__all__ = ["SMAXEnv"]


class SMAXEnv(SeededRowsEnv, BattleEnv):
    r"""``N`` units, an agent each, fight ``M`` units of a scripted enemy.

    Actions: 0 north, 1 east, 2 south, 3 west, 4 stop, ``5 + j`` attack enemy ``j``, which must be
    in reach; a dead unit can only stop. Every agent gets the team's reward, in a step in which
    :math:`e` enemies and :math:`a` allies died

    .. math:: r = 10\,e - 1\,a - 0.1 + 200\,[\text{this step won the battle}]

    with ``reward="sparse"``; ``"shaped"`` is SMAX's own, the mean fraction of health that the
    enemies lost, and 1 for a victory. A battle is terminated when a side has no unit left (both
    may fall in the same step, which is no victory) and truncated at the time limit. The step that
    ends it returns its last observations; a row waits for its reset, pays 0 and stays as it is.

    Entries: ``("agents", "observation")`` ``[B, N, O]``, ``("agents", "action")`` int64 ``[B, N]``,
    ``("agents", "action_mask")`` bool ``[B, N, A]``, ``("agents", "alive")`` bool ``[B, N]``,
    ``("agents", "reward")`` ``[B, N, 1]``; ``("info", "battle_won")``, ``("info", "dead_allies")``
    and ``("info", "dead_enemies")`` ``[B, 1]``; ``"done"``, ``"terminated"``, ``"truncated"``
    ``[B, 1]``; and ``"state"`` ``[B, 12 (N + M)]``. The state holds for each living unit its
    health as a fraction, its position divided by 32, the time to its next shot as a fraction and a
    one-hot of its type (zeros for a dead unit), then the teams and the types (divided by 5) of all
    units. It has no last actions, which SMAC's state has.

    Random actions are legal ones (``rand_action``, hence also ``rollout`` without a policy).
    JAX keeps compiled programs in ``~/.cache/vm3ac_modules/jax``, or where
    ``JAX_COMPILATION_CACHE_DIR`` says. Do not fork a process in which such an environment lives.

    Args:
        map_name: ``"3s_vs_3z"``, ``"3m"``, ``"8m_vs_9m"`` and others: see
            :data:`~vm3ac_modules.envs.battles.smax_maps.SMAX_MAPS`.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the entries; the simulation is on the CPU.
        seed: seed of the rows' streams; without one it is drawn from torch's default generator. A
            reset after construction is the same as one after ``set_seed(seed)``.
        reward: ``"sparse"`` or ``"shaped"``.
        max_steps: time limit, in steps; SMAC's limit of the map by default.
        walls_cause_death: units that touch the border of the map die, as in JaxMARL's benchmarks.
        **constants: of the sparse reward: ``enemy_death`` (10) and ``win`` (200) pay,
            ``ally_death`` (1) and ``step_cost`` (0.1) cost.

    Raises:
        ValueError: an unknown map or an option out of its range; in a step, an illegal action.
        ImportError: JaxMARL is not installed; names the extra to install.

    Example:
        >>> import pytest
        >>> from importlib.util import find_spec
        >>> _ = find_spec("jaxmarl") or pytest.skip("needs the extra smax")
        >>> from vm3ac_modules.envs import SMAXEnv
        >>> env = SMAXEnv("3s_vs_3z", num_envs=2, seed=0)
        >>> td = env.rollout(3)
        >>> td["agents", "observation"].shape, td["agents", "action"].shape, td["state"].shape
        (torch.Size([2, 3, 3, 75]), torch.Size([2, 3, 3]), torch.Size([2, 3, 72]))
    """

    def __init__(
        self,
        map_name: str = "3s_vs_3z",
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        reward: str = "sparse",
        max_steps: int | None = None,
        walls_cause_death: bool = True,
        **constants: float,
    ) -> None:
        units = smax_map(map_name)
        sparse = paid_by(reward, constants, SMAXEnv)
        super().__init__(num_envs, device, seed)
        self.map_name, self.num_agents = map_name, len(units.allies)
        self.max_steps = units.max_steps if max_steps is None else max_steps
        if self.max_steps < 1:
            raise ValueError(f"SMAXEnv: max_steps must be at least 1, got {max_steps}")
        self._game = smax_game(units, sparse, walls_cause_death)
        self._set_battle_specs(self._game.sizes)
        self._state = self._game.blank(num_envs)
        self._mask = torch.zeros(num_envs, self._game.sizes.num_agents, 0)

    @property
    def units(self) -> BattleUnits:
        """Where the units are, how they fare and whom they attack."""
        self._check_started()
        seen = {name: torch.from_numpy(x) for name, x in self._game.describe(self._state).items()}
        teams = torch.arange(self._game.num_units) >= self.num_agents
        return BattleUnits(**seen, teams=teams.long().expand_as(seen["alive"]))

    @property
    def action_mask(self) -> Tensor:
        """Which actions are legal now, bool on the CPU, ``[B, N, A]``."""
        self._check_started()
        return self._mask.clone()

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        rows = self._starting(tensordict)
        mask, seeds = np.zeros(self.numel(), bool), np.zeros(self.numel(), np.uint32)
        mask[rows], seeds[rows] = True, [self._seeds.draw(row) for row in rows]
        self._state, seen = self._game.reset(self._state, seeds, mask, self.max_steps)
        return self._tensordict(seen)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._check_started()
        action = tensordict.get(Keys().action).cpu()
        check_legal(action, self._mask, "SMAXEnv")
        # a copy, since JAX may read it later than this
        numbers = action.numpy().astype(np.int32)
        self._state, seen = self._game.step(self._state, numbers, self.max_steps)
        return self._tensordict(seen)

    def _tensordict(self, seen: dict[str, Any]) -> TensorDictBase:
        # JAX computes in the background, and what it has not computed cannot be shared.
        seen["state"].block_until_ready()
        # Shared without a copy: these arrays belong to nobody else.
        entry = {name: torch.from_dlpack(array) for name, array in seen.items()}
        self._mask = entry["action_mask"].clone()
        ends, info = entry.pop("ends"), entry.pop("info")
        batch, device = self.batch_size, self.device
        numbers = dict(zip(METRICS, info.split(1, dim=1), strict=True))
        root: dict[str, Any] = {
            "state": entry.pop("state"),
            "info": TensorDict(numbers, batch, device=device),
            "agents": TensorDict(entry, (*batch, self.num_agents), device=device),
            **dict(zip(ENDS, ends.split(1, dim=1), strict=True)),
        }
        return TensorDict(root, batch, device=device)
