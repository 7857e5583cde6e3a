"""Whole episodes from vectorized environments.

Shapes: ``B`` rows, ``T`` transitions of the longest episode. The form of an episode batch is
that of :mod:`vm3ac_modules.objectives.episodic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from vm3ac_modules.keys import Keys

__all__ = ["EpisodeCollector", "Round"]


class Round(NamedTuple):
    """One episode of every row."""

    episodes: TensorDict
    """``[B, L + 1]``, L the environment's time limit; padding is zeros."""
    lengths: Tensor
    """Transitions of each episode, int64 ``[B]``."""
    returns: Tensor
    """Mean over agents of the summed rewards, ``[B]``."""
    info: dict[str, Tensor]
    """What the environment reported at each episode's end, each ``[B]``."""
    trace: Tensor | None = None
    """What the observer saw at the start and after every step, ``[B, T + 1, ...]``."""


class EpisodeCollector:
    """Play one episode in every row, all rows from one reset.

    Every episode of a round is played by the same policy from start to end, so the data is exactly
    on-policy. Rows that are over wait for the others; what an environment
    does with them meanwhile is not recorded and not counted.

    Args:
        env: an environment ``[B]`` whose rows wait for their reset when their episode is over.
        policy: the policy; what it remembers is not stored.
        max_steps: the environment's time limit L, in steps.
        record: entries to store besides what happens: those that a loss reads and the latent.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for ``max_steps < 1``; in :meth:`play`, for an episode longer than that.

    Example:
        >>> import pytest
        >>> from importlib.util import find_spec
        >>> _ = find_spec("jaxmarl") or pytest.skip("needs the extra smax")
        >>> from vm3ac_modules.envs.battles.factory import make_battle_env
        >>> env = make_battle_env("3m", 2, seed=0, max_steps=5)
        >>> collector = EpisodeCollector(env, None, 5, [("agents", "observation")])
        >>> collector.play().episodes.shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        env: EnvBase,
        policy: TensorDictModuleBase | None,
        max_steps: int,
        record: Sequence[NestedKey],
        *,
        keys: Keys | None = None,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
        self.env, self.policy, self.max_steps = env, policy, max_steps
        self.keys = keys = Keys() if keys is None else keys
        outcome = {unravel_key(k) for k in (keys.reward, keys.terminated, keys.mask)}
        seen = dict.fromkeys(unravel_key(key) for key in record)
        self.seen = [key for key in seen if key not in outcome]

    @torch.no_grad()
    def play(self, observer: Callable[[EnvBase], Tensor] | None = None) -> Round:
        """Play a round.

        Args:
            observer: reads something ``[B, ...]`` off the environment after the reset and after
                every step (where the units are, say).

        Returns:
            Its episodes.
        """
        seen: list[Tensor] = []
        env, keys = self.env, self.keys
        td = env.reset()
        (rows,) = td.batch_size
        over = torch.zeros(rows, dtype=torch.bool, device=td.device)
        lengths = torch.zeros(rows, dtype=torch.int64, device=td.device)
        store: dict[NestedKey, Tensor] = {}
        info: dict[str, Tensor] = {}
        if observer is not None:
            seen.append(observer(env))
        for step in range(self.max_steps + 1):
            if bool(over.all()):
                break
            if step == self.max_steps:
                raise ValueError(
                    f"an episode is longer than the {self.max_steps} steps of a row: give the "
                    "environment that time limit, or the collector a larger max_steps."
                )
            td = env.rand_action(td) if self.policy is None else self.policy(td)
            td = env.step(td)
            if observer is not None:
                seen.append(observer(env))
            after = td.get("next")
            happened = {keys.reward: after.get(keys.reward)}
            happened[keys.terminated] = after.get(keys.terminated)
            happened[keys.mask] = ~over.unsqueeze(-1)
            self._put(store, step, {**self._seen(td), **happened}, ~over)
            lengths += ~over
            ending = after.get(keys.done).reshape(rows) & ~over
            following = step_mdp(td)
            if bool(ending.any()):
                # What was seen last belongs to the slot behind the last transition.
                self._put(store, step + 1, self._seen(following), ending)
                self._note(info, after, ending)
            over = over | ending
            td = following
        episodes = TensorDict(store, [rows, self.max_steps + 1])
        rewards = episodes.get(keys.reward).flatten(2).mean(-1)
        trace = torch.stack(seen, 1) if seen else None
        return Round(episodes, lengths, rewards.sum(-1), info, trace)

    def _seen(self, td: TensorDictBase) -> dict[NestedKey, Tensor]:
        found = {key: td.get(key, None) for key in self.seen}
        return {key: value for key, value in found.items() if value is not None}

    def _put(
        self,
        store: dict[NestedKey, Tensor],
        step: int,
        values: dict[NestedKey, Tensor],
        rows: Tensor,
    ) -> None:
        for key, value in values.items():
            if key not in store:
                shape = (len(value), self.max_steps + 1, *value.shape[1:])
                store[key] = value.new_zeros(shape)
            chosen = rows.reshape(-1, *(1,) * (value.ndim - 1))
            slot = store[key][:, step]
            slot.copy_(torch.where(chosen, value, slot))

    @staticmethod
    def _note(info: dict[str, Tensor], after: TensorDictBase, ending: Tensor) -> None:
        reported = after.get("info", None)
        if not isinstance(reported, TensorDictBase):
            return
        for key, value in reported.flatten_keys(".").items():
            if value.numel() == ending.numel():
                name, last = str(key), value.reshape(-1).float()
                info[name] = torch.where(ending, last, info.get(name, torch.zeros_like(last)))
