"""Sources of batches: the newest episodes, a replay, or both.

Shapes: ``S`` seeds, ``B`` batch, ``L`` time limit, ``T`` transitions of a batch's longest episode.
Transitions go in as steps of all rows, seed by seed ``[S * rows]``; whole episodes as
``[episodes, L + 1]`` in the form of :mod:`vm3ac_modules.objectives.episodic`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, RandomSampler, TensorDictReplayBuffer
from torchrl.envs import Transform

from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.seeds import SeedSampler, interleave

__all__ = ["Both", "OnPolicy", "Replayed", "Source", "SourceSizes"]


@dataclass(frozen=True)
class SourceSizes:
    """How much a source holds and gives.

    Args:
        capacity: transitions (or episodes) that a replay holds per seed; the oldest go first.
        batch_size: transitions (or episodes) per update and seed.
        updates: updates per item: a step of all rows, or an episode.
        start: items before the first update.
        episodes: whether items are whole episodes.
        seeds: number of seeds S.
        device: where a replay lies.
        folder: where it lies instead, memory-mapped; None for memory.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for sizes out of their range.
    """

    capacity: int
    batch_size: int
    updates: float = 1.0
    start: int = 0
    episodes: bool = False
    seeds: int = 1
    device: torch.device | str = "cpu"
    folder: Path | None = None
    keys: Keys = field(default_factory=Keys)

    def __post_init__(self) -> None:
        if not self.batch_size >= 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if not self.updates > 0:
            raise ValueError(f"updates per item must be positive, got {self.updates}.")


def cut_to_longest(episodes: TensorDictBase, keys: Keys | None = None) -> TensorDictBase:
    """Leave out the slots that are padding in every row: ``[B, L + 1]`` to ``[B, T + 1]``."""
    mask = episodes.get(Keys().mask if keys is None else keys.mask)
    longest = int(mask.reshape(episodes.shape).sum(-1).max())
    return episodes[:, : max(longest, 1) + 1]


class Source(ABC):
    """Base of a source of batches.

    Args:
        sizes: how much it holds and gives.
    """

    keeps_replay: ClassVar[bool] = True
    """Whether what it was given is kept for later updates."""

    def __init__(self, sizes: SourceSizes) -> None:
        self.sizes = sizes
        # Items so far, and updates that they have earned.
        self.added, self.owed = 0, 0.0

    @abstractmethod
    def append_transforms(self, transforms: Sequence[Transform]) -> None:
        """Transform what goes in from now on; what is there has been through it already."""

    @abstractmethod
    def add(self, data: TensorDictBase) -> None:
        """Take in a step of all rows, or the episodes of a round."""

    @abstractmethod
    def batches(self) -> Iterator[TensorDictBase]:
        """The batches of the updates that are due."""

    @abstractmethod
    def __len__(self) -> int:
        """Transitions (of all seeds) or episodes that are held."""

    def state_dict(self) -> dict[str, Any]:
        """Counters for a checkpoint; the replay itself is saved apart."""
        return {"added": self.added, "owed": self.owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        self.added, self.owed = state["added"], state["owed"]


class OnPolicy(Source):
    """Every episode of the last round once.

    Args:
        sizes: how much it gives.

    Example:
        >>> from tensordict import TensorDict
        >>> source = OnPolicy(SourceSizes(4, 2, episodes=True))
        >>> mask = torch.ones(4, 3, 1, dtype=torch.bool)
        >>> source.add(TensorDict({"mask": mask}, [4, 3]))
        >>> [batch.shape for batch in source.batches()]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """

    keeps_replay = False

    def __init__(self, sizes: SourceSizes) -> None:
        super().__init__(sizes)
        self.latest: TensorDictBase | None = None

    def append_transforms(self, transforms: Sequence[Transform]) -> None:
        """Refuse transforms: nothing is kept that they could change."""
        if transforms:
            raise ValueError("a source without a replay takes no transforms of the replay.")

    def __len__(self) -> int:
        """Episodes of the last round that were not used yet."""
        return 0 if self.latest is None else len(self.latest)

    def add(self, data: TensorDictBase) -> None:
        """Take in the episodes of a round."""
        self.latest = data
        self.added += len(data)

    def batches(self) -> Iterator[TensorDictBase]:
        """The round in batches, ``[B, T + 1]`` each."""
        latest, self.latest = self.latest, None
        if latest is not None:
            for chunk in latest.split(self.sizes.batch_size):
                yield cut_to_longest(chunk, self.sizes.keys)


def _storage(sizes: SourceSizes) -> LazyTensorStorage:
    items = sizes.capacity * sizes.seeds
    if sizes.folder is None:
        # Compilable: it does not ask the device where it wrote last.
        return LazyTensorStorage(items, device=sizes.device, compilable=True)
    return LazyMemmapStorage(items, scratch_dir=str(sizes.folder), existsok=True)


class Replayed(Source):
    """Uniform draws from a replay that holds the newest items.

    Args:
        sizes: how much it holds and gives.

    Example:
        >>> from tensordict import TensorDict
        >>> source = Replayed(SourceSizes(8, 2, updates=0.5, episodes=True))
        >>> mask = torch.ones(4, 3, 1, dtype=torch.bool)
        >>> mask[:, -1] = False
        >>> source.add(TensorDict({"mask": mask}, [4, 3]))
        >>> [batch.shape for batch in source.batches()]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """

    drawn = 1
    """Items drawn from the replay per item of a batch."""

    def __init__(self, sizes: SourceSizes) -> None:
        super().__init__(sizes)
        if sizes.episodes and sizes.batch_size > sizes.capacity:
            raise ValueError(
                f"batch_size must be between 1 and the replay's capacity, got {sizes.batch_size} "
                f"episodes of {sizes.capacity}."
            )
        seeds = sizes.seeds
        self.replay = TensorDictReplayBuffer(
            storage=_storage(sizes),
            sampler=RandomSampler() if seeds == 1 else SeedSampler(seeds),
            batch_size=self.drawn * sizes.batch_size * seeds,
        )
        # Episodes: at least a batch of them before the first update.
        least = max(sizes.start, sizes.batch_size) if sizes.episodes else sizes.start
        self.start = min(least, sizes.capacity) if sizes.episodes else least
        # Transitions of a seed, or episodes, that went in so far, those that were dropped included.
        self.written = 0

    def append_transforms(self, transforms: Sequence[Transform]) -> None:
        """Transform what goes in from now on; what is there has been through it already."""
        for transform in transforms:
            self.replay.append_transform(transform)

    def __len__(self) -> int:
        """Transitions of all seeds, or episodes, in the replay."""
        return len(self.replay)

    def add(self, data: TensorDictBase) -> None:
        """Take in a step of all rows, or the episodes of a round."""
        if self.sizes.episodes:
            items, rows = len(data), data
        else:
            items, rows = 1, interleave(data, self.sizes.seeds)
        before = self.replay.write_count
        self.replay.extend(rows)
        self.written += (self.replay.write_count - before) // self.sizes.seeds
        self.added += items
        # A transform of the replay may hold the first step back.
        if self.added >= self.start and len(self.replay) > 0:
            self.owed += self.sizes.updates * items

    def batches(self) -> Iterator[TensorDictBase]:
        """A batch per update that is due: ``[B]``, ``[S, B]``, or ``[B, T + 1]`` of episodes."""
        while self.owed >= 1.0:
            self.owed -= 1.0
            yield self.sample()

    def rows(self, first: int, end: int, seed: int = 0) -> TensorDictBase:
        """Items of one seed that are still held, oldest first.

        Args:
            first: number of the first, counted from the first that ever went in.
            end: number behind the last.
            seed: index of the seed.
        """
        seeds, capacity = self.sizes.seeds, self.sizes.capacity
        index = torch.arange(first, end) % capacity * seeds + seed
        return self.replay.storage.get(index.to(self.sizes.device))

    def fill(self, seeds: Sequence[TensorDictBase], written: int) -> None:
        """Restore every item to its place in an empty replay.

        Args:
            seeds: items of every seed, oldest first.
            written: items of a seed that had gone in.
        """
        held = len(seeds[0])
        rows = seeds[0] if len(seeds) == 1 else torch.stack(list(seeds), 1)
        # Slot k of the ring holds the item whose number is k modulo the capacity.
        turn = (written - held) % self.sizes.capacity
        if turn:
            rows = torch.cat((rows[held - turn :], rows[: held - turn]))
        self.replay.extend(rows.reshape(-1) if len(seeds) > 1 else rows)
        if turn:
            # The next item goes behind the newest one.
            again = rows[:turn]
            self.replay.extend(again.reshape(-1) if len(seeds) > 1 else again)
        self.written = written

    def sample(self) -> TensorDictBase:
        """One batch."""
        batch = self.replay.sample()
        if self.sizes.episodes:
            return cut_to_longest(batch, self.sizes.keys)
        return batch if self.sizes.seeds == 1 else batch.reshape(self.sizes.seeds, -1)


class Both(Replayed):
    """The newest episodes, marked ``"on_policy"``, joined with twice as many from the replay (DOP).

    Example:
        >>> from tensordict import TensorDict
        >>> source = Both(SourceSizes(8, 2, updates=0.5, episodes=True))
        >>> source.add(TensorDict({"mask": torch.ones(2, 3, 1, dtype=torch.bool)}, [2, 3]))
        >>> [batch["on_policy"][:, 0, 0].tolist() for batch in source.batches()]
        [[True, True, False, False, False, False]]
    """

    drawn = 2

    def sample(self) -> TensorDictBase:
        """One batch, ``[3 B, T + 1]``."""
        batch, newest = self.replay.sample(), self.newest()
        both: TensorDictBase = torch.cat((newest, batch.select(*newest.keys(True, True))))
        fresh = torch.arange(len(both)) < len(newest)
        both.set("on_policy", fresh[:, None, None].expand(*both.shape, 1))
        return cut_to_longest(both, self.sizes.keys)

    def newest(self) -> TensorDictBase:
        """The newest episodes, as many as a batch has, the newest first."""
        size = len(self.replay)
        index = self.added - 1 - torch.arange(min(self.sizes.batch_size, size))
        return self.replay.storage.get(index % self.sizes.capacity)
