"""Killed again and again, a run is still the one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from contracts.training import differences

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.runs import has_checkpoint, load_checkpoint, train

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("VM3AC_KILLS", "20"))
CONFIG = {
    "algorithm": {"name": "vm3ac_tight"},
    "task": {"name": "predator_prey_2", "max_steps": 7},
    "frames": 1_000_000,
    "num_envs": 4,
    "batch_size": 8,
    "init_random_frames": 20,
    "eval_episodes": 2,
    "eval_every_frames": 280,
    "checkpoint_every_frames": 40,
    "log_every_updates": 3,
    "draw": False,
    "threads": 1,
    "buffer_size": 300,
    "hidden": [8],
    "information_rows": 4,
    "information_latents": 4,
}


def killed(config, moment, how):
    """Whether the training was killed before its end."""
    command = [sys.executable, str(TESTS / "contracts" / "killed.py"), json.dumps(config)]
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    done = subprocess.run(
        [*command, str(moment), how],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_twenty_kills_at_any_moment(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    config = {**CONFIG, "run_dir": str(other)}
    moments = random.Random(5)
    frames, kills = [0], 0
    for turn in range(KILLS):
        started = has_checkpoint(other)
        # A run that was killed before its first checkpoint starts again.
        again = {"resume": True} if started else {"overwrite": True}
        if turn % 2:
            how, moment = "save", moments.randrange(9, 120)
        else:
            # Importing and building take a second or two of these.
            how, moment = "time", moments.uniform(1.5, 4.5)
        kills += killed({**config, **again}, moment, how)
        if has_checkpoint(other):
            frames.append(load_checkpoint(other).frame)
    assert kills == KILLS
    # Nothing is lost: every life goes on from where the last one came to.
    assert frames == sorted(frames)
    assert len(set(frames)) > KILLS // 4
    end = max(frames[-1] // 40 * 40 + 80, 400)
    resumed = {"resume": True} if has_checkpoint(other) else {"overwrite": True}
    train({**config, "frames": end, **resumed})
    train({**CONFIG, "frames": end, "run_dir": str(one)})
    assert differences(one, other) == []
    assert not list((other / "checkpoint").glob(".tmp_*"))


@pytest.mark.parametrize("call", range(0, 44, 6))
def test_a_kill_inside_every_part_of_a_save(tmp_path, call):
    """The first saves of a run: whatever is being written, the next life reads what was whole."""
    one, other = tmp_path / "one", tmp_path / "other"
    config = {**CONFIG, "frames": 160, "checkpoint_every_frames": 20}
    assert killed({**config, "run_dir": str(other)}, call, "save")
    again = {"resume": True} if has_checkpoint(other) else {"overwrite": True}
    train({**config, "run_dir": str(other), **again})
    train({**config, "run_dir": str(one)})
    assert differences(one, other) == []
