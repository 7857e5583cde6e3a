"""Trainings whose steps worker processes collect: exact, and alive after a worker's death."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from contracts.training import differences, watched
from contracts.worker_envs import HOME

pytest.importorskip("tensorboard")

from vm3ac_modules.learning._process_workers import ProcessWorkers
from vm3ac_modules.learning._spread import WorkersError
from vm3ac_modules.runs import Run, Settings, load_checkpoint, read_csv_log, train

RESUMED = "environments of worker processes do not resume: all began new episodes"


@pytest.fixture(params=["multi_sync", pytest.param("ray", marks=pytest.mark.slow)])
def kind(request):
    if request.param == "ray":
        pytest.importorskip("ray")
    return request.param


@pytest.fixture
def two(compose, monkeypatch, tmp_path):
    """A training with two workers in a directory of its own, rounds of two steps."""
    monkeypatch.setenv(HOME, str(os.getpid()))

    def make(collector, place="run", task="user_env:make_env", **options):
        chosen = {"collector": collector, "collector_workers": 2, "weights_every_frames": 8}
        chosen |= {"task": f"python:contracts.{task}", "draw": False, **options}
        return compose(run_dir=str(tmp_path / place), **chosen)

    return make


def trained(config, at=None, do=None):
    """Train, and do something to the workers when a frame is reached."""

    def look(run):
        if run.frames == at:
            do(run.workers.workers)

    return watched(config, look)


def kill(workers, worker=1):
    """End one worker as the kernel does when memory is out."""
    if isinstance(workers, ProcessWorkers):
        pid = workers.collector.procs[worker].pid
    else:
        import ray

        actor = workers.actors[worker]
        pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)


def children():
    """Processes that this one has started and that are alive, multiprocessing's own two aside.

    A worker started by the fork server is that one's child.
    """
    server = forkserver._forkserver._forkserver_pid
    own = {os.getpid(), server}
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[1]) not in own or fields[0] == "Z":
            continue
        if "resource_tracker" not in command and int(status.parent.name) != server:
            found.append(command)
    return found


def test_two_runs_of_a_seed_are_equal_and_leave_no_process(two, tmp_path):
    before = children()
    train(two("multi_sync", "one"))
    train(two("multi_sync", "other"))
    assert differences(tmp_path / "one", tmp_path / "other") == []
    assert children() == before
    # Rows of both workers are in the replay, each with places and latents of its own.
    replay = load_checkpoint(tmp_path / "one").replay
    assert replay["agents", "observation"][:4].unique().numel() == 8
    assert replay["latent"][-4:].unique(dim=0).shape[0] == 4


def test_counters_are_those_of_one_process(two, kind, tmp_path):
    ways = {}
    for way in ("sync", kind):
        chosen = {} if way == kind else {"collector_workers": 1, "weights_every_frames": None}
        summary = train(two(way, way, **chosen))
        ways[way] = (summary["frames"], summary["updates"], summary["notes"])
        assert read_csv_log(tmp_path / way / "eval.csv")["frame"] == [0.0, 32.0, 64.0]
    assert ways["sync"] == ways[kind] == (64, 24, [])


def test_a_killed_worker_is_replaced_and_the_run_goes_on(two, kind, tmp_path, caplog):
    before = children()
    summary = trained(two(kind), at=32, do=kill)
    assert (summary["frames"], summary["updates"]) == (64, 24)
    [note] = summary["notes"]
    assert "worker 1 was" in note
    assert "after frame 32" in note
    assert note in caplog.text
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["notes"] == [note]
    assert children() == before
    again = train(two(kind, resume=True, frames=96))
    assert (again["frames"], again["updates"]) == (96, 40)
    assert again["notes"] == [note, RESUMED]


def test_a_resumed_run_has_all_but_the_environments(two, tmp_path):
    train(two("multi_sync", frames=32, algorithm="maven"))
    before = load_checkpoint(tmp_path / "run")
    with Run(Settings.of(two("multi_sync", resume=True, algorithm="maven"))) as run:
        loss = run.agent.loss.state_dict()
        assert all(torch.equal(loss[k], v) for k, v in before.state["loss"].items())
        for name, state in before.state["optimizers"].items():
            if name in run.agent.optimizers:
                now = run.agent.optimizers[name].state_dict()["state"]
                for index, moments in state["state"].items():
                    assert all(torch.equal(now[index][k], v) for k, v in moments.items())
        source = run.source
        replay = source.rows(source.written - len(source), source.written)
        keys = before.replay.keys(True, True)
        assert all(torch.equal(replay[k], before.replay[k]) for k in keys)
        assert (run.frames, run.updates) == (32, before.state["counters"]["updates"])
        [queue] = [hook["queue"] for hook in before.state["hooks"] if "queue" in hook]
        assert len(run.agent.hooks[0].queues[0]) == len(queue)


@pytest.mark.parametrize("way", [("sync", "multi_sync"), ("multi_sync", "sync")])
def test_a_run_goes_on_with_another_way_of_collecting(two, way):
    sync = {"collector_workers": 1, "weights_every_frames": None}
    for index, collector in enumerate(way):
        chosen = sync if collector == "sync" else {}
        summary = train(two(collector, frames=32 + 32 * index, resume=index == 1, **chosen))
    assert (summary["frames"], summary["notes"]) == (64, [RESUMED])


def test_a_worker_that_fails_by_itself_ends_the_run_after_a_checkpoint(two, kind, tmp_path):
    with pytest.raises(WorkersError, match="worker 0") as failed:
        train(two(kind, task="worker_envs:breaking"))
    assert "go on with resume=true" in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1
    # Its sixth step is in the third round.
    assert load_checkpoint(tmp_path / "run").frame == 16
    assert multiprocessing.active_children() == []


def test_a_worker_that_cannot_import_the_task_is_said(two, kind):
    before = children()
    with pytest.raises(WorkersError, match=r"could not start: .*No module named 'mine'") as failed:
        train(two(kind, task="worker_envs:unimportable"))
    assert len(str(failed.value).splitlines()) == 1
    assert children() == before


@pytest.mark.slow
def test_workers_that_end_again_and_again_end_the_run(two, tmp_path, monkeypatch):
    started = ProcessWorkers.start

    def start(workers, frames, random_frames):
        started(workers, frames, random_frames)
        if frames:
            kill(workers)

    monkeypatch.setattr(ProcessWorkers, "start", start)
    with pytest.raises(WorkersError, match="killed 3 times after frame 16"):
        trained(two("multi_sync"), at=16, do=kill)
    assert load_checkpoint(tmp_path / "run").frame == 16


def test_workers_that_do_not_wait_train_to_the_same_frame(two):
    summary = train(two("multi_async"))
    assert (summary["frames"], summary["updates"]) == (64, 24)


def test_algorithms_that_store_what_follows_need_workers_that_wait(two):
    with pytest.raises(ValueError, match="si_moa stores steps with those that follow"):
        train(two("multi_async", algorithm="si_moa"))
    assert train(two("multi_sync", "other", algorithm="si_moa"))["frames"] == 64


@pytest.mark.filterwarnings("ignore:Support of VecNormV2:UserWarning")
def test_what_the_task_learns_by_itself_needs_one_process(two):
    with pytest.raises(ValueError, match="VecNormV2 of the task learns from what is collected"):
        train(two("multi_sync", task="normalized:make_env"))


def test_a_mapped_replay_gives_the_same_run(two, tmp_path):
    sync = {"collector_workers": 1, "weights_every_frames": None}
    train(two("sync", "one", **sync))
    train(two("sync", "other", replay_storage="memmap", **sync))
    assert differences(tmp_path / "one", tmp_path / "other") == []
    assert not (tmp_path / "other" / "replay_storage").exists()


@pytest.mark.slow
def test_a_cluster_that_is_too_small_is_refused(two):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(WorkersError, match="has 1 CPUs for 2 workers, which need one each"):
            train(two("ray"))
        assert ray.is_initialized(), "a cluster that the program has joined stays"
    finally:
        ray.shutdown()
