"""Processes that hold environments: how they start, what signals do to them, how they end."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch
from torchrl.envs import EnvBase, ParallelEnv

ALONE = 10.0
"""Seconds after its parent's end that a worker has to end by itself."""
DEAD = re.compile(r"Cannot proceed, worker \d+ dead|At least one process failed")
"""What TorchRL says of a process that it finds dead."""


class WorkersEnv(ParallelEnv):
    """Environments side by side, each in a process that ends when this one closes it or ends.

    Args:
        makers: make them, one per process.
        options: of TorchRL's ``ParallelEnv``.
    """

    def __init__(self, makers: Sequence[Callable[[], EnvBase]], **options: Any) -> None:
        super().__init__(
            len(makers),
            [partial(in_worker, make) for make in makers],
            # Daemons, so that a program whose environment nobody closes can end.
            daemon=True,
            num_threads=torch.get_num_threads(),
            **options,
        )

    def _start_workers(self) -> None:
        super()._start_workers()
        end_by_killing(self, self._workers)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the processes, also those beside a dead one."""
        try:
            super().close(raise_if_closed=raise_if_closed)
        except RuntimeError as error:
            if not DEAD.search(str(error)):
                raise
            _kill(vars(self).get("_workers", ()))
            self.is_closed = True


def in_worker(make_env: Callable[[], EnvBase]) -> EnvBase:
    """Build a worker's share.

    Ctrl-C and SIGTERM reach all processes of a group (a scheduler's, ``timeout``'s). They are the
    parent's, which finishes its step with the workers and then lets them end.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A handler: a game that the worker starts would ignore what the worker ignores.
        signal.signal(signal.SIGTERM, _leave_to_parent)
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    return make_env()


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    """Do nothing: who is asked to end by a signal is the parent."""


def _end_after(parent: Any) -> None:
    """End this process some time after its parent, if a closed pipe has not ended it before."""
    parent.join()
    time.sleep(ALONE)
    os._exit(1)


def end_by_killing(owner: object, processes: Iterable[Any]) -> None:
    """Kill processes where they would be sent SIGTERM, which :func:`in_worker` leaves to us.

    TorchRL sends it to those that do not close, and multiprocessing to all daemons at the program's
    end, to wait for them.

    Args:
        owner: whose they are; they do not outlive it.
        processes: of multiprocessing.
    """
    processes = list(processes)
    for process in processes:
        process.terminate = process.kill
    Finalize(owner, _kill, (processes,), exitpriority=0)


def _kill(processes: Iterable[Any]) -> None:
    for process in processes:
        # Those that were waited for are closed.
        with suppress(ValueError):
            process.kill()


def check_main_guard() -> None:
    """End a worker that runs its parent's program over again, with one sentence."""
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    if multiprocessing.current_process().name.rsplit("-", 1)[-1] not in ("1", "0"):
        os._exit(1)  # one of them says it
    sys.stderr.write(
        "A program whose environments run in processes of their own (num_workers, collector) "
        "needs a main guard, since every process reads its file: put what it does under "
        'if __name__ == "__main__":\n'
    )
    sys.stderr.flush()
    os._exit(1)


@contextmanager
def same_threads() -> Iterator[None]:
    """Undo what ParallelEnv does to this process's number of threads."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
