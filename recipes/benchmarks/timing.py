"""What the benchmarks share: contestants take turns, so that other programs slow all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def take_turns(
    jobs: Mapping[Any, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Any, list[float]]:
    """Seconds of every job in every round; those of the warm-up do not count."""
    seconds: dict[Any, list[float]] = {name: [] for name in jobs}
    for turn in range(warmup + rounds):
        for name, job in jobs.items():
            start = clock()
            job()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return seconds
