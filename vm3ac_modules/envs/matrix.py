r"""Matrix games: short games of discrete actions whose best return is known.

Shapes: ``B`` rows, ``N`` agents, ``A`` actions, ``S`` stages of a game.

Sources: Claus and Boutilier 1998, "The dynamics of reinforcement learning in cooperative
multiagent systems" (coordination, climbing, penalty); Rashid et al. 2018, arXiv:1803.11485
(two-step); Son et al. 2019, arXiv:1905.05408 (non-monotonic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.data import Categorical, Unbounded
from torchrl.envs import EnvBase

from vm3ac_modules.envs._vector import ENDS, check_numbers, set_specs
from vm3ac_modules.keys import Keys
from vm3ac_modules.options import meant

__all__ = ["MATRIX_GAMES", "MatrixGame", "MatrixGameEnv"]

END = -1


@dataclass(frozen=True)
class MatrixGame:
    """A team of N agents plays a matrix per stage, beginning with the first one.

    Args:
        payoffs: reward of every joint action in every stage, nested ``[S, A, .., A]``.
        following: the stage that follows, as ``payoffs``; -1 where the game is over. None where
            it is always over after one step. A stage leads to later ones only.
        source: where it comes from.

    Raises:
        ValueError: for payoffs that are no such array or not finite, or a stage that leads back.
    """

    payoffs: Sequence[Any]
    following: Sequence[Any] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        shape = self.rewards.shape
        if len(shape) < 2 or len(set(shape[1:])) != 1 or 0 in shape:
            raise ValueError(f"payoffs must be [S, A, .., A], got {list(shape)}.")
        if not bool(self.rewards.isfinite().all()):
            raise ValueError("payoffs must be finite.")
        if self.stages.shape != shape:
            raise ValueError(f"following must be {list(shape)}, got {list(self.stages.shape)}.")
        for stage, after in enumerate(self.stages):
            known = (after == END) | ((after > stage) & (after < len(self.stages)))
            if not bool(known.all()):
                raise ValueError(f"stage {stage} must lead to -1 or to a later stage.")

    @property
    def rewards(self) -> Tensor:
        """Rewards, float32 ``[S, A, .., A]``."""
        return torch.tensor(self.payoffs, dtype=torch.float32)

    @property
    def stages(self) -> Tensor:
        """Stages that follow, int64 ``[S, A, .., A]``."""
        if self.following is None:
            return torch.full(self.rewards.shape, END)
        return torch.tensor(self.following, dtype=torch.int64)

    @property
    def num_agents(self) -> int:
        """Number of agents N."""
        return self.rewards.ndim - 1

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self.rewards.shape[1]

    def optimum(self) -> float:
        r"""The best return, without a discount: :math:`v_s = \max_u [r_s(u) + v_{s'(u)}]`.

        Example:
            >>> MATRIX_GAMES["climbing"].optimum(), MATRIX_GAMES["two_step"].optimum()
            (11.0, 8.0)
        """
        rewards, stages = self.rewards, self.stages
        # The last entry is what an end, -1, is worth.
        values = torch.zeros(len(rewards) + 1)
        for stage in reversed(range(len(rewards))):
            values[stage] = (rewards[stage] + values[stages[stage]]).max()
        return float(values[0])

    def longest(self) -> int:
        """Steps of the longest game."""
        steps = torch.zeros(len(self.stages) + 1, dtype=torch.int64)
        for stage in reversed(range(len(self.stages))):
            steps[stage] = 1 + steps[self.stages[stage]].max()
        return int(steps[0])


_TO_MATRICES = [[[1, 1], [2, 2]], [[END, END], [END, END]], [[END, END], [END, END]]]

MATRIX_GAMES = {
    "coordination": MatrixGame([[[10, 0], [0, 10]]], source="Claus and Boutilier 1998"),
    "climbing": MatrixGame(
        [[[11, -30, 0], [-30, 7, 6], [0, 0, 5]]], source="Claus and Boutilier 1998"
    ),
    "penalty": MatrixGame(
        [[[10, 0, -100], [0, 2, 0], [-100, 0, 10]]],
        source="Claus and Boutilier 1998, with k = -100",
    ),
    "non_monotonic": MatrixGame(
        [[[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]], source="Son et al. 2019, arXiv:1905.05408"
    ),
    # Agent 0 chooses the matrix of the second step, in which the reward is paid.
    "two_step": MatrixGame(
        [[[0, 0], [0, 0]], [[7, 7], [7, 7]], [[0, 1], [1, 8]]],
        _TO_MATRICES,
        source="Rashid et al. 2018, arXiv:1803.11485",
    ),
}
"""The games by name."""


class MatrixGameEnv(EnvBase):
    """All agents choose an action at once and get the same reward; rows wait when they are over.

    =============  =========  ======================================================  =======
    name           joint      what is hard                                            optimum
    =============  =========  ======================================================  =======
    coordination   2 x 2      two optima: agents must agree on one                    10
    climbing       3 x 3      the optimum costs 30 where one agent alone is there     11
    penalty        3 x 3      two optima, and -100 where they are mixed               10
    non_monotonic  3 x 3      no monotonic mixing of utilities represents it          8
    two_step       2 x 2      a safe 7, or 8 if both know what follows                8
    =============  =========  ======================================================  =======

    Entries: ``("agents", "observation")`` ``[B, N, S]``, the stage as one-hot;
    ``("agents", "action")`` int64 ``[B, N]``; ``("agents", "action_mask")`` ``[B, N, A]``, all
    legal; ``("agents", "reward")`` ``[B, N, 1]``; ``"state"`` ``[B, S]``, the stage;
    ``("info", "battle_won")`` ``[B, 1]``, 1 where the return of the episode is the optimum.

    Args:
        game: its name, or a game of one's own.
        num_envs: rows B.
        device: device of the entries.
        seed: accepted as everywhere; nothing here is random.

    Raises:
        ValueError: an unknown name, or fewer rows than one.

    Example:
        >>> env = MatrixGameEnv("climbing", 4)
        >>> td = env.reset()
        >>> td["agents", "action"] = torch.zeros(4, 2, dtype=torch.int64)
        >>> env.step(td)["next", "agents", "reward"][0].flatten().tolist()
        [11.0, 11.0]
    """

    def __init__(
        self,
        game: str | MatrixGame = "climbing",
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> None:
        if isinstance(game, str):
            if game not in MATRIX_GAMES:
                hint, valid = meant(game, MATRIX_GAMES), ", ".join(MATRIX_GAMES)
                raise ValueError(f"MatrixGameEnv: unknown game {game!r}{hint}; valid: {valid}.")
            game = MATRIX_GAMES[game]
        if num_envs < 1:
            raise ValueError(f"MatrixGameEnv: num_envs must be at least 1, got {num_envs}.")
        super().__init__(device=torch.device(device), batch_size=[num_envs])
        self.game, self.max_steps, self.optimum = game, game.longest(), game.optimum()
        self._set_seed(seed)
        self._rewards = game.rewards.to(self.device)
        self._stages = game.stages.to(self.device)
        self._stage = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._return = torch.zeros(num_envs, device=self.device)
        self._make_specs()

    def _make_specs(self) -> None:
        game, device = self.game, self.device
        group = (*self.batch_size, game.num_agents)
        legal = Categorical(2, shape=(*group, game.num_actions), dtype=torch.bool, device=device)
        stages = len(self._stages)
        agents = {"observation": Unbounded((*group, stages), device=device), "action_mask": legal}
        set_specs(
            self,
            game.num_agents,
            action=Categorical(game.num_actions, shape=group, device=device),
            agents=agents,
            state_size=stages,
            metrics=("battle_won",),
        )

    def _reset(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        started = None if tensordict is None else tensordict.get("_reset", None)
        rows = torch.ones_like(self._stage, dtype=torch.bool)
        rows = rows if started is None else started.reshape(rows.shape)
        self._stage = self._stage.masked_fill(rows, 0)
        self._return = self._return.masked_fill(rows, 0.0)
        return self._entries()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(Keys().action)
        check_numbers(action, self.game.num_actions, "MatrixGameEnv")
        over = self._stage == END
        place = (self._stage.clamp_min(0), *action.unbind(-1))
        reward = self._rewards[place].masked_fill(over, 0.0)
        self._stage = self._stages[place].masked_fill(over, END)
        self._return = self._return + reward
        shared = reward.reshape(-1, 1, 1).repeat(1, self.game.num_agents, 1)
        return self._entries().set(Keys().reward, shared)

    def _entries(self) -> TensorDict:
        batch, agents = self.batch_size, self.game.num_agents
        over = (self._stage == END).unsqueeze(-1)
        # A game that is over shows nothing.
        shown = one_hot(self._stage.clamp_min(0), len(self._stages)).float() * ~over
        won = over & (self._return >= self.optimum - 1e-4).unsqueeze(-1)
        group = (*batch, agents)
        seen = {
            "observation": shown.unsqueeze(1).repeat(1, agents, 1),
            "action_mask": over.new_ones((*group, self.game.num_actions)),
        }
        entries: dict[str, Any] = {
            "agents": TensorDict(seen, group, device=self.device),
            "state": shown,
            "info": TensorDict({"battle_won": won.float()}, batch, device=self.device),
            **{name: over.clone() for name in ENDS[:2]},
            ENDS[2]: torch.zeros_like(over),
        }
        return TensorDict(entries, batch, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        del seed
