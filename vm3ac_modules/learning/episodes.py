"""Whole episodes from vectorized environments, and a replay that holds one per row.

Shapes: ``B`` rows, ``T`` transitions of the longest episode. The form of an episode batch is
that of :mod:`vm3ac_modules.objectives.episodic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from vm3ac_modules.keys import Keys

__all__ = ["EpisodeCollector", "EpisodeSource", "Round", "cut_to_longest"]


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
    on-policy for who needs that. Rows that are over wait for the others; what an environment
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


def cut_to_longest(episodes: TensorDictBase, keys: Keys | None = None) -> TensorDictBase:
    """Leave out the slots that are padding in every row.

    Args:
        episodes: ``[B, L + 1]``.
        keys: the tensordict vocabulary.

    Returns:
        ``[B, T + 1]``, T the length of the longest episode.

    Example:
        >>> mask = torch.tensor([[True, True, False, False, False]]).unsqueeze(-1)
        >>> cut_to_longest(TensorDict({"mask": mask}, [1, 5])).shape
        torch.Size([1, 3])
    """
    mask = episodes.get(Keys().mask if keys is None else keys.mask)
    longest = int(mask.reshape(episodes.shape).sum(-1).max())
    return episodes[:, : max(longest, 1) + 1]


class EpisodeSource:
    """What an algorithm is updated with: a replay of episodes, those just played, or both.

    Args:
        on_policy: False samples from the replay; True gives every episode of the last round once;
            ``"mixed"`` joins the newest ``batch_size`` episodes, marked ``"on_policy"``, with
            twice as many from the replay (DOP).
        capacity: episodes that the replay holds; the oldest go first.
        batch_size: episodes of an update.
        updates_per_episode: updates per new episode; not read with ``on_policy=True``, where a
            batch is used once.
        start_episodes: episodes to collect before the first update.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for sizes out of their range.

    Example:
        >>> source = EpisodeSource(False, capacity=8, batch_size=2, updates_per_episode=0.5)
        >>> mask = torch.ones(4, 3, 1, dtype=torch.bool)
        >>> mask[:, -1] = False
        >>> source.add(TensorDict({"mask": mask}, [4, 3]))
        >>> [batch.shape for batch in source.batches()]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """

    def __init__(
        self,
        on_policy: bool | str,
        *,
        capacity: int,
        batch_size: int,
        updates_per_episode: float = 1.0,
        start_episodes: int = 0,
        keys: Keys | None = None,
    ) -> None:
        if on_policy not in (True, False, "mixed"):
            raise ValueError(f"on_policy must be True, False or 'mixed', got {on_policy!r}.")
        if not 1 <= batch_size <= capacity:
            raise ValueError(
                f"batch_size must be between 1 and the replay's capacity, got {batch_size} "
                f"episodes of {capacity}."
            )
        if updates_per_episode <= 0:
            raise ValueError(f"updates_per_episode must be positive, got {updates_per_episode}.")
        self.on_policy, self.batch_size, self.capacity = on_policy, batch_size, capacity
        self.updates_per_episode = updates_per_episode
        self.start_episodes = max(start_episodes, batch_size)
        self.keys = Keys() if keys is None else keys
        self.owed, self.added = 0.0, 0
        self.latest: TensorDictBase | None = None
        size = 2 * batch_size if on_policy == "mixed" else batch_size
        self.replay = TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=size)

    def __len__(self) -> int:
        """Episodes in the replay."""
        return len(self.replay)

    def add(self, episodes: TensorDictBase) -> None:
        """Take in the episodes of a round, ``[B, L + 1]``."""
        self.latest = episodes
        self.added += len(episodes)
        if self.on_policy is not True:
            self.replay.extend(episodes)
            if len(self.replay) >= min(self.start_episodes, self.capacity):
                self.owed += self.updates_per_episode * len(episodes)

    def batches(self) -> Iterator[TensorDictBase]:
        """The batches of the updates that are due, each ``[B, T + 1]``."""
        if self.on_policy is True:
            if self.latest is not None:
                for chunk in self.latest.split(self.batch_size):
                    yield cut_to_longest(chunk, self.keys)
            self.latest = None
            return
        while self.owed >= 1.0:
            self.owed -= 1.0
            batch = self.replay.sample()
            yield cut_to_longest(self._with_newest(batch), self.keys)

    def _with_newest(self, batch: TensorDictBase) -> TensorDictBase:
        if self.on_policy != "mixed":
            return batch
        cursor, size = self.replay.writer._cursor, len(self.replay)
        index = (cursor - 1 - torch.arange(min(self.batch_size, size))) % size
        newest = self.replay.storage.get(index)
        both: TensorDictBase = torch.cat((newest, batch.select(*newest.keys(True, True))))
        fresh = torch.arange(len(both)) < len(newest)
        return both.set("on_policy", fresh[:, None, None].expand(*both.shape, 1))
