"""StarCraft II micromanagement, for those who have the game: SMAC and SMACv2 with our keys.

Sources: Samvelyan et al. 2019, arXiv:1902.04043 (``oxwhirl/smac``), and Ellis et al. 2023,
arXiv:2212.07489 (``oxwhirl/smacv2``). Neither is on PyPI, where ``smac`` is another program.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import ActionMask, EnvBase, TransformedEnv

from vm3ac_modules.envs._processes import WorkersEnv
from vm3ac_modules.envs._vector import ENDS
from vm3ac_modules.envs.battles._micromanagement import (
    CONSTANTS,
    METRICS,
    BattleEnv,
    Sizes,
    check_legal,
    paid_by,
)
from vm3ac_modules.envs.battles._smac_game import SMACGame, starcraft
from vm3ac_modules.envs.battles.smacv2_maps import smacv2_options
from vm3ac_modules.keys import Keys

__all__ = ["SMACEnv", "make_smac_env"]

NO_OP = 0


class _GivenUpError(RuntimeError):
    """The game has failed too often in a row."""


class SMACEnv(BattleEnv):
    r"""One game of SMAC, SMACv2 or of anything with their methods.

    Actions: 0 nothing (for the dead only), 1 stop, 2 north, 3 south, 4 east, 5 west, ``6 + j``
    attack enemy ``j``. With ``reward="sparse"`` every agent gets, in a step in which :math:`e`
    enemies and :math:`a` allies died

    .. math:: r = 10\,e - 1\,a - 0.1 + 200\,[\text{this step won the battle}]

    computed from the counts of the dead, so that the game needs no patch; with ``"shaped"`` the
    game's own reward. An episode that reaches the game's time limit with units left on both sides
    is truncated, though the game calls it terminated.

    When the game fails, the episode is truncated with its last observations and reward 0, counted
    in :attr:`lost_episodes`, and the next reset goes on, with a new process if the old one raised.

    Entries are those of :class:`~vm3ac_modules.envs.battles.smax.SMAXEnv`.

    Args:
        make_game: makes a game, called with ``seed=...``; picklable for use in a ``ParallelEnv``.
        batch_size: ``[]``, or ``[1]`` for entries with a row.
        device: device of the entries.
        seed: seed of the game; without one it is drawn from torch's default generator. Setting it
            again builds the game anew, since games take a seed only when they are built.
        reward: ``"sparse"`` or ``"shaped"``.
        max_restarts: how many times in a row the game may fail before the error is raised.
        **constants: of the sparse reward: ``enemy_death`` (10) and ``win`` (200) pay,
            ``ally_death`` (1) and ``step_cost`` (0.1) cost.

    Raises:
        ValueError: an option out of its range; in a step, an illegal action.
        RuntimeError: the game failed more than ``max_restarts`` times without a step between.

    Example:
        >>> from vm3ac_modules.envs import SMACEnv
        >>> from vm3ac_modules.testing import SMACStub
        >>> env = SMACEnv(SMACStub, seed=0)
        >>> td = env.rollout(3)
        >>> td["agents", "action_mask"].shape, td["next", "agents", "reward"].shape
        (torch.Size([3, 3, 9]), torch.Size([3, 3, 1]))
    """

    def __init__(
        self,
        make_game: Callable[..., SMACGame],
        batch_size: tuple[int, ...] | list[int] = (),
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        reward: str = "sparse",
        max_restarts: int = 3,
        **constants: float,
    ) -> None:
        sparse = paid_by(reward, constants, SMACEnv)
        if tuple(batch_size) not in ((), (1,)):
            raise ValueError(
                f"SMACEnv: batch_size must be [] or [1], got {list(batch_size)}; use "
                "make_smac_env(..., num_envs=...) for several games"
            )
        super().__init__(device=torch.device(device), batch_size=torch.Size(batch_size))
        self._sparse = sparse
        self._make_game, self._max_restarts = make_game, max_restarts
        self._lost = self._failures = self._steps = 0
        self._game: SMACGame | None = None
        self._over, self._mask = True, torch.zeros(0)
        self._counts: tuple[float, ...] = (0.0, 0.0, 0.0)
        self._set_seed(seed)
        info = self._running().get_env_info()
        sizes = ("n_agents", "n_actions", "obs_shape", "state_shape")
        self.sizes = Sizes(*(int(info[name]) for name in sizes))
        self.episode_limit = int(info["episode_limit"])
        self._set_battle_specs(self.sizes)

    @property
    def lost_episodes(self) -> int:
        """How many episodes the game's failures cut short or kept from beginning."""
        return self._lost

    def _running(self) -> SMACGame:
        if self._game is None:
            seed = self._seed
            if self._built:
                # Not the same battles again, nor those of another game of a ParallelEnv.
                words = np.random.SeedSequence(seed, spawn_key=(self._built,)).generate_state(1)
                seed = int(words[0]) >> 1
            self._game = self._make_game(seed=seed)
            self._built += 1
        return self._game

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        if asked is not None and not bool(asked.any()):
            return self._seen.clone()
        while True:
            try:
                game = self._running()
                game.reset()
                self._counts, self._steps, self._over = (0.0, 0.0, 0.0), 0, False
                return self._look(game)
            except Exception as error:
                self._fail(error)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._check_started()
        action = tensordict.get(Keys().action).reshape(-1).cpu()
        check_legal(action, self._mask, "SMACEnv")
        if self._over:
            return self._paid(self._seen.clone(), 0.0)
        try:
            game = self._running()
            own_reward, ended, info = game.step(action.tolist())
            if not info:
                # SMAC has lost its connection, and has started the game anew by itself.
                self._count_failure(ConnectionError("the game reported nothing (empty info)"))
                return self._cut_short()
            before = self._counts
            self._counts = tuple(float(info.get(name, 0)) for name in METRICS)
            self._steps += 1
            self._over = bool(ended)
            seen = self._look(game)
        except _GivenUpError:
            raise
        except Exception as error:
            self._fail(error)
            return self._cut_short()
        self._failures = 0
        if self._sparse is None:
            return self._paid(seen, float(own_reward))
        won, allies, enemies = (now - was for now, was in zip(self._counts, before, strict=True))
        return self._paid(seen, self._sparse(enemies, allies, won))

    def _fail(self, error: Exception) -> None:
        """Put an end to a game that raised."""
        self._end_game()
        self._count_failure(error)

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        self._lost += 1
        if self._failures > self._max_restarts:
            raise _GivenUpError(
                f"SMACEnv: the game failed {self._failures} times in a row, the last time with "
                f"{type(error).__name__}: {error}; run python -m vm3ac_modules.doctor"
            ) from error

    def _end_game(self) -> None:
        game, self._game = self._game, None
        if game is not None:
            # The process that failed may be gone already.
            with suppress(Exception):
                game.close()

    def _cut_short(self) -> TensorDictBase:
        """The last observations again, as the end of an episode that was lost."""
        self._over = True
        for name, value in zip(ENDS, (True, False, True), strict=True):
            self._seen.set(name, torch.full((*self.batch_size, 1), value, device=self.device))
        return self._paid(self._seen.clone(), 0.0)

    def _look(self, game: SMACGame) -> TensorDictBase:
        """What the game shows now, in the entries of the specs."""
        legal = torch.from_numpy(np.asarray(game.get_avail_actions())).bool()
        observation = np.stack([np.asarray(seen, np.float32) for seen in game.get_obs()])
        won, dead_allies, _ = self._counts
        late = self._steps >= self.episode_limit and not won
        truncated = self._over and late and dead_allies < self.sizes.num_agents
        flags = (self._over, self._over and not truncated, truncated)
        metrics = {name: torch.tensor([x]) for name, x in zip(METRICS, self._counts, strict=True)}
        agents = {
            "observation": torch.from_numpy(observation),
            "action_mask": legal,
            "alive": ~legal[:, NO_OP],
        }
        root: dict[str, Any] = {
            "agents": TensorDict(agents, [self.sizes.num_agents]),
            "state": torch.from_numpy(np.array(game.get_state(), np.float32)),
            "info": TensorDict(metrics),
            **{name: torch.tensor([flag]) for name, flag in zip(ENDS, flags, strict=True)},
        }
        td = TensorDict(root)
        self._mask = legal
        self._seen = (td.unsqueeze(0) if self.batch_size else td).to(self.device)
        return self._seen.clone()

    def _paid(self, seen: TensorDictBase, reward: float) -> TensorDictBase:
        shape = (*self.batch_size, self.sizes.num_agents, 1)
        return seen.set(Keys().reward, torch.full(shape, reward, device=self.device))

    def _check_started(self) -> None:
        if not self._mask.numel():
            raise RuntimeError("SMACEnv: reset before the first step")

    def _set_seed(self, seed: int | None) -> None:
        self._seed = int(torch.randint(2**31, (1,))) if seed is None else seed
        self._built = 0
        self._end_game()

    def get_rng_state(self) -> dict[str, Tensor]:
        """What the next game is built from, for a checkpoint.

        Returns:
            The seed and how many games were built from it, each ``[]``, int64 on the CPU. StarCraft
            gives no account of its own stream: a resumed run plays a new game of this seed.
        """
        return {"seed": torch.tensor(self._seed), "games": torch.tensor(self._built)}

    def set_rng_state(self, state: dict[str, Tensor]) -> None:
        """Build the next game as one that would have followed :meth:`get_rng_state`.

        Args:
            state: from an environment of this kind.

        Raises:
            ValueError: the state has other entries.
        """
        if state.keys() != {"seed", "games"}:
            raise ValueError(
                f"set_rng_state: needs 'seed' and 'games', got {sorted(state)}; use a state saved "
                "from a SMACEnv"
            )
        self._set_seed(int(state["seed"]))
        self._built = int(state["games"])

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the game's process."""
        self._end_game()
        super().close(raise_if_closed=raise_if_closed)


def make_smac_env(
    map_name: str,
    backend: str | Callable[..., SMACGame] = "smac",
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    *,
    reward: str = "sparse",
    max_restarts: int = 3,
    **options: Any,
) -> EnvBase:
    """StarCraft II micromanagement with ``num_envs`` games at once, a process each.

    Args:
        map_name: e.g. ``"3s_vs_3z"``; of SMACv2 a race and sizes of random teams, e.g.
            ``"terran_5_vs_5"`` (:data:`~vm3ac_modules.envs.battles.smacv2_maps.SMACV2_MAPS`).
        backend: ``"smac"``, ``"smacv2"``, or a function that is called with ``map_name``, ``seed``
            and the options and gives a game.
        num_envs: number of games, ``B``.
        device: device of the entries.
        seed: seed of the first game; the following ones have the following seeds. Without one it is
            drawn from torch's default generator.
        reward: ``"sparse"`` or ``"shaped"``; see :class:`SMACEnv`.
        max_restarts: how many times in a row a game may fail before the error is raised.
        **options: constants of the sparse reward, as in :class:`SMACEnv`, and arguments of the
            game, e.g. ``difficulty``.

    Returns:
        An environment of batch size ``[B]`` whose random actions are legal.

    Raises:
        ValueError: an unknown backend or reward, no games, or random teams without a
            configuration.
        ImportError: the backend is not installed; says what to install.

    Example:
        >>> from vm3ac_modules.envs import make_smac_env
        >>> from vm3ac_modules.testing import SMACStub
        >>> env = make_smac_env("3m", backend=SMACStub, seed=0)
        >>> env.rollout(2)["agents", "observation"].shape[:3]
        torch.Size([1, 2, 3])
    """
    constants = {name: options.pop(name) for name in CONSTANTS & options.keys()}
    paid_by(reward, constants, make_smac_env)
    if num_envs < 1:
        raise ValueError(f"make_smac_env: num_envs must be at least 1, got {num_envs}")
    seed = int(torch.randint(2**31, (1,))) if seed is None else seed
    make = backend if callable(backend) else partial(starcraft, backend)
    if backend == "smacv2":
        make_game = partial(make, **smacv2_options(map_name, options))
    else:
        make_game = partial(make, map_name=map_name, **options)
    common: dict[str, Any] = {"reward": reward, "max_restarts": max_restarts, **constants}
    if num_envs == 1:
        return SMACEnv(make_game, [1], device, seed, **common)
    makers = [partial(SMACEnv, make_game, seed=seed + i, **common) for i in range(num_envs)]
    games = WorkersEnv(makers, device=torch.device(device), mp_start_method="spawn")
    return TransformedEnv(games, ActionMask(Keys().action, Keys().action_mask))
