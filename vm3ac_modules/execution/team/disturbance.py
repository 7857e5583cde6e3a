"""Faults of decentralized execution, to measure what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.execution.team.server import ClockReading, PerceivedClock

__all__ = ["Disturbance"]


@dataclass(frozen=True)
class Disturbance:
    """Faults during an episode.

    Args:
        agent: the agent that ``clock``, ``seed_offset``, ``episodes_late`` and ``kill_at`` disturb.
        clock: how that agent reads the clock.
        seed_offset: added to that agent's seed.
        episodes_late: how far that agent's count of episodes is behind; the first one is known.
        own_seeds: every agent has a seed of its own, so that latents are independent.
        kill_at: step at which the agent's process is killed; None for never.
        delay: seconds by which every answer of that agent is late.
        delayed: share of its answers that are late, drawn at random.
        dropped: probability that an observation of any agent is lost and it acts on the last one;
            the first of an episode always arrives, and so do masks of legal actions.

    Raises:
        ValueError: for an unknown clock, a negative step or count, or a probability outside [0, 1].
    """

    agent: int = 0
    clock: ClockReading = "reference"
    seed_offset: int = 0
    episodes_late: int = 0
    own_seeds: bool = False
    kill_at: int | None = None
    delay: float = 0.0
    delayed: float = 1.0
    dropped: float = 0.0

    def __post_init__(self) -> None:
        PerceivedClock(self.clock)
        if self.kill_at is not None and self.kill_at < 0:
            raise ValueError(f"kill_at must be a step, at least 0, got {self.kill_at}.")
        if self.episodes_late < 0:
            raise ValueError(f"episodes_late must not be negative, got {self.episodes_late}.")
        for name in ("dropped", "delayed"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be a probability, got {getattr(self, name)}.")
        if not 0.0 <= self.delay < math.inf:
            raise ValueError(f"delay must be seconds, at least 0, got {self.delay}.")

    def seed_of(self, agent: int, seed: int) -> int:
        """The seed that an agent is given.

        Args:
            agent: which.
            seed: the team's.
        """
        if self.own_seeds:
            return (seed + 1 + agent) % 2**64
        return (seed + (self.seed_offset if agent == self.agent else 0)) % 2**64

    def episode_of(self, agent: int, episode: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the episode that an agent believes in.

        Args:
            agent: which.
            episode: the reference, ``[R]``.
        """
        late = self.episodes_late if agent == self.agent else 0
        return np.maximum(episode - late, 0)
