"""How a training uses the machine's processors and memory; what it computes stays the same."""

from __future__ import annotations

import ctypes
import logging
import os
import statistics
import sys
import time

import torch

__all__ = ["Threads", "cores_here", "keep_freed_memory"]

LOG = logging.getLogger("vm3ac_modules.threads")

# The two settings of glibc's mallopt, by their numbers in malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_HEAP_BLOCK = 32 * 2**20  # glibc takes no larger one
NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory, so that updates do not fetch it again.

    Linux hands out fresh pages one by one and zeroed, which takes a tenth to a quarter of an update
    (docs/performance.md). The process then stays as large as it ever was.

    Returns:
        Whether it is done; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(TRIM_THRESHOLD, NEVER_TRIM) and mallopt(MMAP_THRESHOLD, LARGEST_HEAP_BLOCK)
    return bool(kept)


def cores_here() -> int:
    """Cores of this machine that this process may use."""
    asked = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if asked is None else len(asked(0))


class Threads:
    """Number of threads that torch's operations use: a given one, or the faster of one and two.

    Small networks gain little from a second thread, and lose much where another program wants that
    core. So ``"auto"`` times updates of the training itself, a few with one thread and a few with
    two in turn, takes the faster number, and tries again every :attr:`PERIOD` updates.

    Args:
        wanted: a number; ``"auto"`` or None for ``OMP_NUM_THREADS`` if that is set, else the
            faster.
        device: where networks are; elsewhere than on the CPU one thread suffices.

    Example:
        >>> threads = Threads(1)
        >>> threads.begin(), threads.end(), threads.milliseconds
        (None, None, {})
    """

    PERIOD = 5_000
    """Updates from one trial to the next."""
    BLOCK = 6
    """Updates with the same number in a trial; the first of a block is not timed."""
    TURNS = 4
    """Blocks of each number."""
    GAIN = 0.9
    """The second thread is taken where an update costs at most this share of its time with one."""

    def __init__(self, wanted: int | str | None, device: torch.device | str = "cpu") -> None:
        fixed = wanted if isinstance(wanted, int) else None
        free = fixed is None and "OMP_NUM_THREADS" not in os.environ
        on_cpu = torch.device(device).type == "cpu"
        self.numbers: tuple[int, ...] = (1, 2) if free and on_cpu and cores_here() > 1 else ()
        if fixed is not None or free:
            torch.set_num_threads(fixed or 1)
        self.milliseconds: dict[int, float] = {}
        """Median of an update by number of threads, of the last trial."""
        self.chosen = torch.get_num_threads()
        self._seconds: dict[int, list[float]] = {number: [] for number in self.numbers}
        self._updates, self._started = 0, 0.0
        self._trial = 2 * self.TURNS * self.BLOCK

    def begin(self) -> None:
        """An update begins."""
        place = self._updates % self.PERIOD
        if self.numbers and place < self._trial:
            if place % self.BLOCK == 0:
                torch.set_num_threads(self.numbers[place // self.BLOCK % 2])
            self._started = time.perf_counter()

    def end(self) -> None:
        """It is over; the last one of a trial decides."""
        place = self._updates % self.PERIOD
        self._updates += 1
        if not self.numbers or place >= self._trial:
            return
        if place % self.BLOCK:
            self._seconds[torch.get_num_threads()].append(time.perf_counter() - self._started)
        if place == self._trial - 1:
            self._decide()

    def _decide(self) -> None:
        one, two = self.numbers
        found = {n: 1e3 * statistics.median(times) for n, times in self._seconds.items()}
        chosen = two if found[two] <= self.GAIN * found[one] else one
        torch.set_num_threads(chosen)
        if not self.milliseconds or chosen != self.chosen:
            LOG.info(
                "threads=auto: %d (an update takes %.1f ms with one thread, %.1f ms with two)",
                *(chosen, found[one], found[two]),
            )
        self.milliseconds, self.chosen = found, chosen
        for times in self._seconds.values():
            times.clear()
