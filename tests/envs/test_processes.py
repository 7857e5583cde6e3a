"""Processes that hold environments end with their parent, and with nobody else's signal."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from vm3ac_modules.envs import _processes
from vm3ac_modules.envs._processes import end_by_killing, in_worker

# What other tests of this process may have loaded; nothing of it runs in the children.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")
CONTEXT = multiprocessing.get_context("fork")
LONG = 60.0
PATIENCE = 20.0


def wait(alive):
    """Stay, as a worker does; a pipe tells whether it lives."""
    alive.send(os.getpid())
    time.sleep(LONG)


def start(alive):
    """A worker of this process."""
    worker = CONTEXT.Process(target=in_worker, args=(lambda: wait(alive),), daemon=True)
    worker.start()
    return worker


@pytest.fixture
def parent():
    """Runs a function of a pipe in a process that may have workers; ends all."""
    read, write = CONTEXT.Pipe(duplex=False)
    started = []

    def run(target):
        started.append(CONTEXT.Process(target=target, args=(write,)))
        started[0].start()
        write.close()
        assert read.poll(PATIENCE)
        return started[0], read, read.recv()

    yield run
    if started[0].is_alive():
        started[0].kill()
    started[0].join()


def ended(read):
    """Whether nobody holds the other end any more."""
    try:
        return read.poll(PATIENCE) and not read.recv()
    except EOFError:
        return True


def leave_without_closing(alive):
    worker = start(alive)
    end_by_killing(CONTEXT, [worker])
    assert in_group(worker)


def in_group(worker):
    """Whether the worker lives on when all processes are asked to end."""
    while not handled(worker.pid):
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(0.1)
    return worker.is_alive()


def handled(pid):
    """Whether a process has its handler of SIGTERM, by the kernel's account."""
    with open(f"/proc/{pid}/status") as status:
        caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_program_that_closes_nothing_ends(parent):
    process, read, _ = parent(leave_without_closing)
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert ended(read)


def stay(alive):
    start(alive)
    time.sleep(LONG)


def test_a_worker_ends_after_a_parent_that_was_killed(parent, monkeypatch):
    monkeypatch.setattr(_processes, "ALONE", 0.0)
    process, read, worker = parent(stay)
    os.kill(worker, signal.SIGTERM)
    assert not read.poll(0.1), "it lives as long as its parent"
    process.kill()
    assert ended(read)
