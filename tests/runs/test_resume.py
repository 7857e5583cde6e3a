"""What a run takes over from its checkpoint, and what it says where it cannot."""

from __future__ import annotations

import copy
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from contracts.programs import RECIPES, run_recipe
from contracts.training import equal, leaves, run_until

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.runs import (
    CheckpointError,
    Run,
    RunDirectoryError,
    Settings,
    _logs,
    has_checkpoint,
    load_agent,
    load_checkpoint,
    read_csv_log,
    train,
)
from vm3ac_modules.runs.record import read_config


def weights_of(state):
    """Names of weights that hold anything: a latent of size 0 has none."""
    names = [name for name in state if "_network_params" in name and name.endswith("weight")]
    return [name for name in names if state[name].numel()]


@pytest.mark.usefixtures("used")
def test_a_resumed_run_goes_on_from_its_checkpoint(compose, tmp_path):
    before = load_checkpoint(tmp_path / "run")
    with Run(Settings.of(compose(resume=True, draw=False))) as run:
        loss = {k: v.clone() for k, v in run.agent.loss.state_dict().items()}
        optimizers = {k: copy.deepcopy(v.state_dict()) for k, v in run.agent.optimizers.items()}
        source = run.source
        replay = source.rows(source.written - len(source), source.written)
        counters = (run.frames, run.updates)
        turns = run.collect()
        next(turns)
        turns.close()
    assert loss.keys() == before.state["loss"].keys()
    assert all(torch.equal(loss[k], v) for k, v in before.state["loss"].items())
    for name, state in before.state["optimizers"].items():
        for index, moments in state["state"].items():
            restored = optimizers[name]["state"][index]
            assert all(torch.equal(restored[k], moments[k]) for k in moments)
    assert before.replay is not None
    assert all(torch.equal(replay[k], before.replay[k]) for k in before.replay.keys(True, True))
    assert counters == (32, before.state["counters"]["updates"])
    summary = train(compose(resume=True, draw=False))
    assert (summary["frames"], summary["updates"]) == (64, counters[1] + 16)
    assert read_csv_log(tmp_path / "run" / "eval.csv")["frame"] == [0.0, 32.0, 64.0]


def test_the_streams_are_put_back_before_the_first_step(compose, used):
    saved = load_checkpoint(used).state["rng"]
    seen = {}
    with Run(Settings.of(compose(resume=True, draw=False))) as run:
        torch.manual_seed(99)

        def watch(*_):
            # The last call is the one that acts: building asks the policy too.
            seen["torch"] = torch.get_rng_state()

        handle = run.agent.policy.player.register_forward_pre_hook(watch)
        turns = run.collect()
        next(turns)
        turns.close()
        handle.remove()
    assert torch.equal(seen["torch"], saved["torch"])


def test_rows_after_the_checkpoint_are_cut_on_resume(compose, used):
    metrics = used / "metrics.csv"
    kept = read_csv_log(metrics)["frame"]
    with metrics.open("a") as file:
        file.write(metrics.read_text().splitlines()[-1].replace("32,", "60,", 1) + "\n")
    train(compose(resume=True, draw=False))
    frames = read_csv_log(metrics)["frame"]
    assert frames[: len(kept)] == kept
    assert frames == sorted(frames)
    assert frames.count(60.0) <= 1


def test_two_rows_of_one_frame_are_told_apart(compose, tmp_path):
    """A row of the checkpoint's own frame that was written behind it is no part of it."""
    config = compose(log_every_updates=1, draw=False)
    train({**config, "frames": 32})
    metrics = tmp_path / "run" / "metrics.csv"
    kept = metrics.read_text()
    rows = load_checkpoint(tmp_path / "run").state["log_rows"][0]
    assert rows == len(kept.splitlines()) - 1
    with metrics.open("a") as file:
        file.write(kept.splitlines()[-1] + "\n")
    run_until({**config, "resume": True}, 36)
    assert metrics.read_text().startswith(kept)
    frames = read_csv_log(metrics)["frame"]
    assert frames[rows:] == [36.0, 36.0]


def test_a_replay_too_large_for_the_checkpoint_is_collected_anew(compose, caplog):
    small = {"draw": False, "replay_checkpoint_bytes": 10}
    train(compose(frames=32, **small))
    with caplog.at_level(logging.WARNING, logger="vm3ac_modules"):
        summary = train(compose(frames=64, resume=True, **small))
    said = "the checkpoint held no replay: it was filled anew before updates went on"
    assert said in caplog.text
    assert summary["notes"] == [said]
    # The first run updates from frame 8 on (a quarter of 32). Then 32 frames are left, of which 16
    # (a quarter of 64) refill the replay: 4 steps with two updates each.
    assert summary["updates"] == 12 + 8


def test_a_resume_on_a_full_disk_says_what_it_could_not_write(compose, tmp_path, monkeypatch):
    train(compose(frames=16, draw=False))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_logs, "write_config", full)
    said = r"run: its configuration and logs could not be written .*the last checkpoint is whole"
    with pytest.raises(RunDirectoryError, match=said):
        train(compose(frames=32, resume=True, draw=False))


def test_seeds_that_a_run_does_not_have_are_named(compose, tmp_path):
    train(compose(frames=16, seeds=2, draw=False))
    with pytest.raises(CheckpointError, match=r"seed_2 has none; resume those .*seed_1: 16\), ea"):
        train(compose(frames=32, seeds=3, resume=True, draw=False))


def test_random_actions_do_not_come_back(compose):
    # A quarter of 32 frames are random: two steps. All later ones are followed by two updates.
    begun = train(compose(frames=32, init_random_frames=1000, draw=False))["updates"]
    more = train(compose(frames=96, init_random_frames=1000, resume=True, draw=False))
    assert (begun, more["updates"]) == (12, 12 + 2 * 64 // 4)
    assert more["notes"] == []


@pytest.mark.parametrize("options", [{}, {"eval_every_frames": 24, "log_every_updates": 5}])
def test_a_finished_run_keeps_the_rows_behind_its_checkpoint(compose, tmp_path, options):
    train(compose(frames=40, checkpoint_every_frames=16, draw=False, **options))
    logs = [tmp_path / "run" / name for name in ("metrics.csv", "eval.csv")]
    before = [log.read_text() for log in logs]
    train(compose(frames=40, checkpoint_every_frames=16, draw=False, resume=True, **options))
    assert [log.read_text() for log in logs] == before


@pytest.mark.parametrize("frames", [16, 32])
def test_a_resume_with_nothing_left_to_do_says_so(compose, tmp_path, caplog, frames):
    first = train(compose(frames=32, draw=False))
    place = tmp_path / "run"
    names = ("config.yaml", "metrics.csv", "eval.csv", "summary.json")
    before = {name: (place / name).read_bytes() for name in names}
    events = sorted(place.glob("events*"))
    assert train(compose(frames=frames, resume=True, draw=False)) == first
    said = f"32 steps are done, frames={frames} asks for no more: nothing is left to train"
    assert said in caplog.text
    assert "the summary stays as it is; give more frames to go on." in caplog.text
    assert {name: (place / name).read_bytes() for name in names} == before
    assert sorted(place.glob("events*")) == events != []


def test_a_stopped_run_with_too_few_frames_is_evaluated_as_it_is(compose, tmp_path, caplog):
    run_until(compose(frames=64, draw=False), 32)
    summary = train(compose(frames=16, resume=True, draw=False))
    assert summary["frames"] == 32
    assert "frames=16 asks for no more: nothing is left to train, it is evaluated" in caplog.text
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["frames"] == 32
    assert read_config(tmp_path / "run" / "config.yaml")["frames"] == 32


def test_notes_survive_a_resume(compose):
    small = {"draw": False, "replay_checkpoint_bytes": 10}
    train(compose(frames=32, **small))
    train(compose(frames=64, resume=True, **small))
    summary = train(compose(frames=96, resume=True, **small))
    assert len(summary["notes"]) == 2


def test_a_run_killed_among_its_random_frames_goes_on_with_them(compose):
    # 16 of 64 frames are random; none of the four steps of four rows is followed by an update.
    plan = {"frames": 64, "init_random_frames": 16, "checkpoint_every_frames": 8, "draw": False}
    run_until(compose(**plan), 8)
    summary = train(compose(**plan, resume=True))
    assert summary["updates"] == 12 * 2


def test_a_killed_run_goes_on(compose, tmp_path):
    run = tmp_path / "run"
    pytest.importorskip("hydra")
    # The tiny configuration, with more frames than could be done before the kill.
    said = ["num_envs=4", "batch_size=8", "init_random_frames=16", "threads=1"]
    said += ["task.max_steps=6", "eval_episodes=2", "eval_every_frames=50000", "hidden=[8,8]"]
    said += ["checkpoint_every_frames=40", "information_rows=4", "information_latents=8"]
    said += [f"run_dir={run}"]
    command = [sys.executable, str(RECIPES / "train_continuous.py"), *said, "frames=100000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        for _ in range(600):
            if len(list((run / "checkpoint").glob("step_*"))) == 2:
                break
            time.sleep(0.1)
        os.kill(child.pid, signal.SIGKILL)
    assert has_checkpoint(run)
    frame = load_checkpoint(run).frame
    assert 40 <= frame < 100000
    said += [f"frames={frame + 40}", "resume=true", "draw=false"]
    done = run_recipe("train_continuous.py", *said, place=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run).frame == frame + 40
    assert (run / "summary.json").stat().st_size > 0
    frames = read_csv_log(run / "metrics.csv")["frame"]
    assert frames == sorted(set(frames))


@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        *((name, "predator_prey_2") for name in ("vm3ac", "maven", "si_moa", "vm3ac_auto_entropy")),
        ("vm3ac", "multiwalker_2"),
    ],
)
def test_seeds_have_complete_directories_and_resume(compose, tmp_path, algorithm, task):
    if task.startswith("multiwalker"):
        pytest.importorskip("pettingzoo")
    chosen, options = (f"algorithm={algorithm}", f"task={task}"), {"seeds": 2, "seed": 3}
    train(compose(*chosen, frames=32, draw=False, **options))
    summary = train(compose(*chosen, frames=64, resume=True, draw=False, **options))
    run = tmp_path / "run"
    returns = [one["eval_return_mean"] for one in summary["seeds"]]
    assert [one["seed"] for one in summary["seeds"]] == [3, 4]
    assert summary["eval_return_mean"] == pytest.approx(sum(returns) / 2)
    assert json.loads((run / "summary.json").read_text())["seeds"] == summary["seeds"]
    for seed in (3, 4):
        folder = run / f"seed_{seed}"
        assert read_csv_log(folder / "eval.csv")["frame"] == [0.0, 32.0, 64.0]
        saved = load_checkpoint(folder)
        assert (saved.frame, saved.state["counters"]["updates"]) == (64, 28)
        assert saved.replay is not None
        assert saved.replay["next", "agents", "reward"].isfinite().all()
        assert saved.config["seed"] == seed
        load_agent(folder)
    first, second = (load_checkpoint(run / f"seed_{s}").state["loss"] for s in (3, 4))
    assert all(not torch.equal(first[key], second[key]) for key in weights_of(first))
    # One of them goes on alone.
    alone = compose(
        *chosen, seed=4, frames=96, resume=True, draw=False, run_dir=str(run / "seed_4")
    )
    assert train(alone)["frames"] == 96


def test_a_run_killed_between_two_seeds_goes_on_from_what_all_have(compose, tmp_path):
    train(compose(seeds=2, frames=64, draw=False))
    folder = tmp_path / "run" / "seed_1" / "checkpoint"
    # As if seed 0's last checkpoint had been written and seed 1's had not.
    shutil.rmtree(folder / "step_64")
    (folder / "latest").write_text("step_32")
    again = compose(seeds=2, frames=64, resume=True, draw=False)
    with Run(Settings.of(again)) as run:
        assert run.frames == 32
    summary = train(again)
    assert summary["frames"] == 64
    for seed in (0, 1):
        place = tmp_path / "run" / f"seed_{seed}"
        assert read_csv_log(place / "eval.csv")["frame"] == [0.0, 32.0, 64.0]
        assert load_checkpoint(place).frame == 64


def test_seeds_below_one(compose):
    with pytest.raises(ValueError, match="seeds must be an integer >= 1, got 0"):
        train(compose(seeds=0))


def test_one_of_several_seeds_goes_on_with_streams_of_its_own(compose, tmp_path, caplog):
    train(compose(seeds=2, frames=32, draw=False))
    draws, streams = [], []
    for seed in (0, 1):
        place = str(tmp_path / "run" / f"seed_{seed}")
        config = compose(seed=seed, frames=64, resume=True, draw=False, run_dir=place)
        with caplog.at_level(logging.WARNING, logger="vm3ac_modules"):
            summary = train(config)
        assert summary["notes"] == [f"seed {seed} went on alone, with random streams of its own"]
        assert f"seed {seed} went on alone" in caplog.text
        saved = load_checkpoint(place)
        draws.append(saved.replay["latent"][-8:])
        streams.append(dict(leaves(saved.state["env"]["streams"])))
    assert not torch.allclose(*draws)
    # Those of the simulator too, behind the first reset.
    assert not all(equal(value, streams[1][name]) for name, value in streams[0].items())


def test_updates_at_the_end_of_episodes_take_one_seed(compose, tmp_path):
    with pytest.raises(ValueError, match="use seeds=1"):
        train(compose("loop=paper", seeds=2))
    assert not (tmp_path / "run").exists()


def test_resume_and_overwrite_contradict(compose, tmp_path):
    with pytest.raises(ValueError, match="contradict each other"):
        train(compose(resume=True, overwrite=True))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_holds_every_part_of_a_run(compose, tmp_path):
    """What is not in it cannot be put back: parts by name, so that a new one is thought of."""
    train(compose("algorithm=si_moa", frames=32, draw=False))
    state = load_checkpoint(tmp_path / "run").state
    assert set(state) == {
        *("loss", "optimizers", "target_calls", "hooks", "seeds_together", "counters"),
        *("source", "held_back", "log", "log_rows", "rng", "env", "agent", "carried", "won"),
    }
    # The last step waits for the next one's actions.
    assert state["held_back"]
    again = dict(leaves(load_checkpoint(tmp_path / "run").state))
    assert all(equal(value, again[place]) for place, value in leaves(state))
