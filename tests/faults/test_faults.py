"""Faults while a run goes on: it ends with one sentence, and goes on later as if nothing had been.

"As if nothing had been": logs, checkpoint and replay of the resumed run are those of a run that was
left alone, to the bit. ``-m slow`` tries every call of every writer; docs/faults.md has the table.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from contracts.training import differences

from vm3ac_modules.learning.guards import NonFiniteError
from vm3ac_modules.runs import (
    Run,
    RunDirectoryError,
    Settings,
    has_checkpoint,
    load_checkpoint,
    train,
)
from vm3ac_modules.runs._evaluating import Evaluator
from vm3ac_modules.runs.record import CsvLog

FULL = OSError(errno.ENOSPC, "No space left on device")
TRIED = (1, 4, 7)
"""Calls of a writer at which the short form lets it fail, of those after the run has begun."""


@pytest.fixture(autouse=True)
def usual_interrupts():
    """Ctrl-C as in a terminal; what is started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def go_on(config, undisturbed):
    """Resume, or start again without a checkpoint; what differs from the undisturbed run."""
    way = {"resume": True} if has_checkpoint(config["run_dir"]) else {"overwrite": True}
    train({**config, **way})
    place = Path(config["run_dir"])
    assert not list((place / "checkpoint").rglob(".tmp_*")), "halves of files were left"
    return differences(undisturbed, place)


def failing(function, call, error, run_dir):
    """A writer that fails at one of its calls, once the run has begun."""
    count = 0

    def wrapped(*arguments, **options):
        nonlocal count
        if (Path(run_dir) / "eval.csv").exists():
            count += 1
            if count == call:
                target = arguments[1] if len(arguments) > 1 else None
                if hasattr(target, "write"):
                    target.write(b"half of a file")
                raise error
        return function(*arguments, **options)

    return wrapped


WRITERS = {
    "torch.save": (torch, "save"),
    "os.fsync": (os, "fsync"),
    "os.replace": (os, "replace"),
    "csv": (CsvLog, "write"),
}


def full_disk(monkeypatch, config, undisturbed, writer, call):
    owner, name = WRITERS[writer]
    with monkeypatch.context() as patched:
        broken = failing(getattr(owner, name), call, FULL, config["run_dir"])
        patched.setattr(owner, name, broken)
        try:
            train(config)
        except RunDirectoryError as error:
            said = str(error)
            assert "could not be written ([Errno 28] No space left on device)" in said
            assert config["run_dir"] in said
            ended = True
        else:
            ended = False
    if ended and has_checkpoint(config["run_dir"]):
        load_checkpoint(config["run_dir"])
    if ended:
        assert go_on(config, undisturbed) == []
    return ended


@pytest.mark.parametrize("call", TRIED)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(monkeypatch, config, undisturbed, writer, call):
    assert full_disk(monkeypatch, config, undisturbed, writer, call)


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_at_every_call_of_a_writer(monkeypatch, config, undisturbed, writer):
    calls = 1
    while full_disk(monkeypatch, config, undisturbed, writer, calls):
        shutil.rmtree(config["run_dir"])
        calls += 1
    assert calls > 8


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EMFILE, "Too many open files"),
        (errno.EROFS, "Read-only"),
        (errno.EIO, "Input/output"),
    ],
)
def test_other_errors_of_the_file_system(monkeypatch, config, undisturbed, code, says):
    error = OSError(code, os.strerror(code))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(os.fsync, 5, error, config["run_dir"]))
        with pytest.raises(RunDirectoryError, match=says):
            train(config)
    assert go_on(config, undisturbed) == []


def stop_at(monkeypatch, frame, act):
    """Do something behind the step in which a frame is reached."""
    after, done = Run.after, []

    def wrapped(self, collected):
        after(self, collected)
        if self.frames >= frame and not done:
            done.append(True)
            act(self)

    monkeypatch.setattr(Run, "after", wrapped)


@pytest.mark.parametrize("frame", [4, 28, 44])
def test_sigterm_writes_a_checkpoint_and_ends_with_143(monkeypatch, config, undisturbed, frame):
    with monkeypatch.context() as patched:
        stop_at(patched, frame, lambda run: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as ended:
            train(config)
    assert ended.value.code == 143
    # Nothing is lost: the checkpoint is of the step that was under way.
    assert load_checkpoint(config["run_dir"]).frame == frame
    assert go_on(config, undisturbed) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_and_twice_writes_a_checkpoint(monkeypatch, config, undisturbed, times, capsys):
    def interrupt(run):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        stop_at(patched, 28, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert load_checkpoint(config["run_dir"]).frame == 28
    assert capsys.readouterr().err.count("stopping behind this step, with a checkpoint") == 1
    assert go_on(config, undisturbed) == []


def at_first(monkeypatch, name, act):
    """Do something at the first call of a method of the evaluator."""
    method, done = getattr(Evaluator, name), []

    def wrapped(self, *arguments, **options):
        if not done:
            done.append(True)
            act()
        return method(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, name, wrapped)


def test_sigterm_during_the_first_evaluation(monkeypatch, config, undisturbed):
    with monkeypatch.context() as patched:
        at_first(patched, "play", lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            train(config)
    assert load_checkpoint(config["run_dir"]).frame == 0
    assert go_on(config, undisturbed) == []


def test_ctrl_c_during_the_last_evaluation_stops_at_once(monkeypatch, config, undisturbed):
    with monkeypatch.context() as patched:
        at_first(patched, "finish", lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert go_on(config, undisturbed) == []


def test_a_simulator_that_fails_in_an_evaluation_is_not_the_disk(monkeypatch, config):
    def fail():
        raise ConnectionResetError(errno.ECONNRESET, "the simulator closed the connection")

    at_first(monkeypatch, "play", fail)
    with pytest.raises(ConnectionResetError, match="the simulator closed"):
        train(config)


def test_a_third_ctrl_c_stops_at_once(monkeypatch, config, undisturbed):
    def interrupt(run):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        stop_at(patched, 28, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert load_checkpoint(config["run_dir"]).frame == 16
    assert go_on(config, undisturbed) == []


def test_signals_during_a_save_wait_for_it(monkeypatch, config, undisturbed):
    save = torch.save

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return save(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", interrupted)
        with pytest.raises(SystemExit):
            train(config)
    assert load_checkpoint(config["run_dir"]).frame == 16
    assert go_on(config, undisturbed) == []


def test_a_program_with_handlers_of_its_own_keeps_them(config):
    noted = []
    before = signal.signal(signal.SIGTERM, lambda *what: noted.append(what))
    try:
        with Run(Settings.of(config)):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(noted) == 1


def test_a_thread_may_train_without_handlers(config, undisturbed):
    thread = threading.Thread(target=train, args=(config,))
    thread.start()
    thread.join()
    assert differences(undisturbed, Path(config["run_dir"])) == []


def test_a_directory_that_vanished(monkeypatch, config, undisturbed):
    with monkeypatch.context() as patched:
        # TensorBoard's thread may write into it meanwhile, so that its last folder stays.
        gone = partial(shutil.rmtree, config["run_dir"], ignore_errors=True)
        stop_at(patched, 20, lambda run: gone())
        with pytest.raises(RunDirectoryError, match="removed"):
            train(config)
    assert go_on(config, undisturbed) == []


def test_a_clock_that_goes_back(monkeypatch, config, undisturbed):
    start = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: start - 1e6 * time.process_time())
        train(config)
    assert differences(undisturbed, Path(config["run_dir"])) == []


def test_two_programs_on_one_directory(config, undisturbed):
    with Run(Settings.of(config)):
        for way in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(RunDirectoryError, match="in use by another process"):
                train({**config, **way})
    assert go_on(config, undisturbed) == []


def test_no_memory_for_a_checkpoint(monkeypatch, config, undisturbed):
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", failing(torch.save, 3, MemoryError(), config["run_dir"]))
        with pytest.raises(MemoryError):
            train(config)
    assert go_on(config, undisturbed) == []


def poison_gradient(run):
    parameter = next(run.agent.loss.parameters())
    parameter.register_hook(lambda gradient: gradient * float("nan"))


def poison_replay(run):
    run.source.replay.storage.get(slice(0, None))["next", "agents", "reward"].fill_(float("nan"))
    storage = run.source.replay.storage._storage
    storage["next", "agents", "reward"].fill_(float("nan"))


def poison_parameters(run):
    with torch.no_grad():
        next(run.agent.loss.parameters()).fill_(float("inf"))


@pytest.mark.parametrize("poison", [poison_gradient, poison_replay, poison_parameters])
def test_numbers_that_are_not_finite_never_reach_a_checkpoint(
    monkeypatch, config, undisturbed, poison
):
    with monkeypatch.context() as patched:
        stop_at(patched, 36, poison)
        with pytest.raises(NonFiniteError, match=r"losses|parameters"):
            train(config)
    assert load_checkpoint(config["run_dir"]).frame == 32
    assert go_on(config, undisturbed) == []
