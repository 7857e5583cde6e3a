"""How many threads a training takes: what was timed decides, and nothing is timed here."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import _machine
from vm3ac_modules.runs._machine import Threads, keep_freed_memory
from vm3ac_modules.runs.settings import BattleTraining, StepTraining


@pytest.fixture(autouse=True)
def _threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def free(monkeypatch):
    """Two cores, and nothing said of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(_machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def updates(threads, costs, monkeypatch, number):
    """So many updates, which cost the clock what the number of threads says; threads of each."""
    now, used = [0.0], []
    monkeypatch.setattr(_machine.time, "perf_counter", lambda: now[0])
    for _ in range(number):
        threads.begin()
        used.append(torch.get_num_threads())
        now[0] += costs[torch.get_num_threads()]
        threads.end()
    return used


@pytest.mark.parametrize(
    ("costs", "chosen"),
    [({1: 10.0, 2: 6.0}, 2), ({1: 10.0, 2: 9.5}, 1), ({1: 10.0, 2: 50.0}, 1)],
)
def test_the_faster_number_is_taken(free, monkeypatch, caplog, costs, chosen):
    threads = Threads("auto")
    with caplog.at_level(logging.INFO, "vm3ac_modules.threads"):
        used = updates(threads, costs, monkeypatch, 200)
    assert used[-1] == torch.get_num_threads() == chosen
    assert threads.milliseconds == {n: 1e3 * cost for n, cost in costs.items()}
    # Both were tried, in turn and equally often, and that is said once.
    trial = used[: 2 * Threads.TURNS * Threads.BLOCK]
    assert trial.count(1) == trial.count(2) == Threads.TURNS * Threads.BLOCK
    assert [record.args[0] for record in caplog.records] == [chosen]


def test_a_core_that_became_busy_is_noticed(free, monkeypatch, caplog):
    monkeypatch.setattr(Threads, "PERIOD", 100)
    threads = Threads("auto")
    assert updates(threads, {1: 10.0, 2: 5.0}, monkeypatch, 100)[-1] == 2
    caplog.clear()
    with caplog.at_level(logging.INFO, "vm3ac_modules.threads"):
        assert updates(threads, {1: 10.0, 2: 30.0}, monkeypatch, 100)[-1] == 1
    assert len(caplog.records) == 1


def test_one_slow_update_decides_nothing(free, monkeypatch):
    threads = Threads("auto")
    costs = {1: 10.0, 2: 6.0}
    now = [0.0]
    monkeypatch.setattr(_machine.time, "perf_counter", lambda: now[0])
    for update in range(100):
        threads.begin()
        now[0] += 1e4 if update == 7 else costs[torch.get_num_threads()]
        threads.end()
    assert torch.get_num_threads() == 2


def test_what_is_given_is_not_timed(free, monkeypatch):
    threads = Threads(2)
    assert set(updates(threads, {1: 1.0, 2: 9.0}, monkeypatch, 100)) == {2}
    assert threads.milliseconds == {}


@pytest.mark.parametrize("wanted", ["auto", None])
def test_the_environments_word_is_kept(free, monkeypatch, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    assert set(updates(Threads(wanted), {1: 9.0, 2: 1.0}, monkeypatch, 100)) == {1}


def test_one_core_has_one_thread(free, monkeypatch):
    monkeypatch.setattr(_machine.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert set(updates(Threads("auto"), {1: 9.0}, monkeypatch, 100)) == {1}


@pytest.mark.parametrize("training", [StepTraining, BattleTraining])
def test_a_number_of_threads_or_auto(training):
    assert training().threads == "auto"
    assert training(threads=2).threads == 2
    for wrong in (0, "two", 1.5):
        with pytest.raises(OptionsError, match="threads must be an integer >= 1, auto, null"):
            training(threads=wrong)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_was_given_back_is_not_fetched_anew():
    program = """
import resource, torch
from vm3ac_modules.runs._machine import keep_freed_memory
def faults():
    for _ in range(20):
        torch.ones(2**18)  # a megabyte
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        held = [torch.ones(2**18) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
kept = keep_freed_memory()
faults()
print(kept, faults())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    kept, faults = found.stdout.split()
    assert (kept == b"True") == keep_freed_memory()
    if kept == b"True":
        # 80 tensors of 256 pages each would be some 20,000.
        assert int(faults) < 500


def test_waiting_threads_sleep():
    program = "import vm3ac_modules.cli, os; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert found.stdout.strip() == b"PASSIVE"
    found = subprocess.run(
        command, capture_output=True, check=True, env=environment | {"OMP_WAIT_POLICY": "ACTIVE"}
    )
    assert found.stdout.strip() == b"ACTIVE"
