"""The directory of a run belongs to one process, and to one kind of run."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm3ac_modules.runs import (
    CheckpointError,
    Run,
    RunDirectoryError,
    Settings,
    directory,
    load_agent,
    load_checkpoint,
    save_checkpoint,
    train,
)
from vm3ac_modules.runs.directory import (
    LOCK,
    SUM,
    RunLock,
    check_run_directory,
    open_run_directory,
)

ROOT = Path(__file__).parents[2]


def other_process(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


HOLD = """
import sys
from vm3ac_modules.runs.directory import RunLock
lock = RunLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_handle_is_refused_and_the_owner_named(tmp_path):
    lock = RunLock(tmp_path / "run")
    said = rf"run is in use by another process \(process {os.getpid()}\); wait for it, or give"
    with pytest.raises(RunDirectoryError, match=said):
        RunLock(tmp_path / "run")
    # Being refused takes nothing from the owner.
    with pytest.raises(RunDirectoryError, match=said):
        RunLock(tmp_path / "run")
    RunLock(tmp_path / "another").release()
    lock.release()
    RunLock(tmp_path / "run").release()


def test_another_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    with other_process(HOLD, tmp_path) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=rf"another process \(process {child.pid}\)"):
            RunLock(tmp_path)
        child.kill()
        child.wait()
    # The file is still there; the lock went with the process.
    assert (tmp_path / LOCK).exists()
    RunLock(tmp_path).release()


def test_a_lock_is_no_run(tmp_path):
    RunLock(tmp_path).release()
    check_run_directory(tmp_path, resume=False, overwrite=False)
    with pytest.raises(RunDirectoryError, match="nothing to resume"):
        check_run_directory(tmp_path, resume=True, overwrite=False)


def test_checking_writes_nothing(tmp_path):
    check_run_directory(tmp_path / "a" / "b", resume=False, overwrite=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "config.yaml").write_text(f"a: 1\n{SUM}")
    for resume, overwrite in ((True, False), (False, True)):
        check_run_directory(tmp_path, resume=resume, overwrite=overwrite)
    assert (tmp_path / "config.yaml").read_text() == f"a: 1\n{SUM}"
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        check_run_directory(tmp_path, resume=False, overwrite=False)


def test_overwriting_keeps_the_lock_of_its_own_process(tmp_path):
    """Nobody else comes in between clearing the directory and writing to it."""
    (tmp_path / "config.yaml").write_text(f"a: 1\n{SUM}")
    lock = RunLock(tmp_path)
    open_run_directory(tmp_path, resume=False, overwrite=True)
    assert not (tmp_path / "config.yaml").exists()
    with pytest.raises(RunDirectoryError, match="in use"):
        RunLock(tmp_path)
    lock.release()


def test_a_directory_in_use_is_refused_by_a_training(compose, tmp_path):
    pytest.importorskip("vmas")
    lock = RunLock(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="in use"):
        train(compose())
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    lock.release()
    assert train(compose(frames=16, draw=False))["frames"] == 16
    # A run that ended, well or not, has let go.
    with pytest.raises(CheckpointError):
        train(compose(frames=32, resume=True, gamma=0.5))
    assert train(compose(frames=32, resume=True, draw=False))["frames"] == 32


def test_a_seed_in_use_is_refused_by_a_training_of_all(compose, tmp_path):
    """A seed of a run may be trained further alone."""
    pytest.importorskip("vmas")
    assert train(compose(frames=16, seeds=2, draw=False))["frames"] == 16
    before = set((tmp_path / "run").rglob("*"))
    lock = RunLock(tmp_path / "run" / "seed_1")
    for asked in ({"overwrite": True}, {"resume": True, "frames": 32}):
        with pytest.raises(RunDirectoryError, match="seed_1 is in use by another process"):
            train(compose(seeds=2, draw=False, **asked))
    lock.release()
    assert set((tmp_path / "run").rglob("*")) == before
    # And the other way round: all seeds are locked while they are trained.
    settings = Settings.of(compose(frames=32, seeds=2, resume=True, draw=False))
    with Run(settings), pytest.raises(RunDirectoryError, match="seed_1 is in use"):
        RunLock(tmp_path / "run" / "seed_1")
    RunLock(tmp_path / "run" / "seed_1").release()


def test_what_is_wrong_with_a_lock_is_not_called_another_process(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(directory.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        RunLock(tmp_path)


def test_a_run_of_the_first_format_is_refused_in_a_sentence(tmp_path):
    import torch

    step, _ = save_checkpoint(tmp_path, 1, {"w": torch.ones(1)}, config={})
    meta = json.loads((step / "meta.json").read_text())
    # As version 1 wrote it: no word of the replay.
    del meta["replay"]
    (step / "meta.json").write_text(json.dumps({**meta, "version": 1}))
    for read in (load_checkpoint, load_agent):
        with pytest.raises(CheckpointError) as raised:
            read(tmp_path)
        message = str(raised.value)
        assert (
            "has format version 1, this package reads 2 to 3: it is read by the commits before"
            in message
        )
        assert "overwrite=true" in message
        assert message.count(". ") == 0
        assert "Error" not in message


def test_another_algorithm_s_checkpoint_is_refused(compose):
    pytest.importorskip("vmas")
    train(compose("algorithm=ma_sac", frames=16, draw=False))
    with pytest.raises(CheckpointError) as raised:
        train(compose("algorithm=ma_ac", frames=32, resume=True))
    message = str(raised.value)
    assert 'algorithm.name: checkpoint has "ma_sac", this run has "ma_ac"' in message
    assert "Resume with the checkpoint's settings" in message


def test_another_task_s_checkpoint_is_refused(compose):
    pytest.importorskip("vmas")
    train(compose("algorithm=ma_ac", frames=16, draw=False))
    with pytest.raises(CheckpointError, match=r"task\.name: checkpoint has"):
        train(compose("algorithm=ma_ac", "task=vmas/balance", frames=32, resume=True))
