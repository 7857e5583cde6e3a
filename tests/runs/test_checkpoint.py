"""Checkpoints: what comes back, and what a kill or a damaged file leads to."""

from __future__ import annotations

import os
import random
import shutil

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from vm3ac_modules.runs import (
    CheckpointError,
    ReplayItems,
    _step_directory,
    checkpoint,
    checkpoint_identity,
    common_frame,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from vm3ac_modules.runs._configs import config_hash

CONFIG = {"algorithm": "vm3ac", "task": {"beta": 0.1, "hidden": (128, 128)}}


def save(run_dir, frame, value=None, **options):
    state = {"weight": torch.full((3,), float(frame if value is None else value))}
    return save_checkpoint(run_dir, frame, state, config=CONFIG, **options)[0]


def replay_of(values):
    """A replay that holds these."""
    items = TensorDict({"storage": values}, values.shape[:1])
    return ReplayItems(lambda first, end: items[first:end], len(values), len(values))


def step_names(run_dir):
    names = (path.name for path in (run_dir / "checkpoint").iterdir())
    return sorted(name for name in names if name != "replay")


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_round_trip_of_every_allowed_value(tmp_path):
    state = {
        "tensors": [torch.arange(3), torch.tensor(True), torch.nn.Parameter(torch.ones(2))],
        "plain": (1, 2.5, "a", None, True, {3: "b"}),
        "python": random.getstate(),
        "shape": torch.Size([2]),
        "device": torch.device("cpu"),
    }
    storage = torch.randn(5, 2)
    save_checkpoint(tmp_path, 40, state, config=CONFIG, replay=replay_of(storage))
    loaded = load_checkpoint(tmp_path, config=CONFIG)
    assert loaded.frame == 40
    for ours, theirs in zip(loaded.state.pop("tensors"), state.pop("tensors"), strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.state == state
    assert torch.equal(loaded.replay["storage"], storage)
    assert (loaded.files.written, loaded.files.held) == (5, 5)
    assert loaded.config == {"algorithm": "vm3ac", "task": {"beta": 0.1, "hidden": [128, 128]}}


def test_optimizer_state_resumes_the_same_steps(tmp_path):
    def step(weight, optimizer):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()

    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    step(weight, optimizer)
    state = {"weight": weight, "optimizer": optimizer.state_dict()}
    save_checkpoint(tmp_path, 1, state, config={})
    step(weight, optimizer)
    loaded = load_checkpoint(tmp_path).state
    again = torch.nn.Parameter(loaded["weight"].detach().clone())
    other = torch.optim.Adam([again], lr=0.5)
    other.load_state_dict(loaded["optimizer"])
    step(again, other)
    assert torch.equal(again, weight)


def test_without_replay(tmp_path):
    save(tmp_path, 1)
    assert not (tmp_path / "checkpoint" / "replay").exists()
    loaded = load_checkpoint(tmp_path)
    assert (loaded.replay, loaded.files) == (None, None)


@pytest.mark.parametrize(
    "bad", [np.float64(1.0), np.zeros(2), {1, 2}, object(), lambda: None], ids=type
)
def test_a_value_that_would_not_load_is_refused_when_saving(tmp_path, bad):
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a"):
        save_checkpoint(tmp_path, 1, {"a": [0, bad]}, config={})
    assert not has_checkpoint(tmp_path)


def test_the_last_steps_are_kept(tmp_path):
    for frame in (5, 10, 100):
        save(tmp_path, frame)
    assert step_names(tmp_path) == ["latest", "step_10", "step_100"]
    assert (tmp_path / "checkpoint" / "latest").read_text().strip() == "step_100"
    save(tmp_path, 200, keep=1)
    assert step_names(tmp_path) == ["latest", "step_200"]


def test_steps_of_an_abandoned_future_go_first(tmp_path):
    save(tmp_path, 100)
    save(tmp_path, 200)
    (tmp_path / "checkpoint" / "latest").write_text("step_100")
    assert load_checkpoint(tmp_path).frame == 100
    save(tmp_path, 150)
    assert step_names(tmp_path) == ["latest", "step_100", "step_150"]
    assert load_checkpoint(tmp_path).frame == 150


def test_the_same_frame_again_replaces(tmp_path):
    save(tmp_path, 7, value=1.0)
    save(tmp_path, 7, value=2.0)
    assert step_names(tmp_path) == ["latest", "step_7"]
    assert load_checkpoint(tmp_path).state["weight"][0] == 2.0


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "fingerprint", lambda _: os.fstat(-1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        save(tmp_path, 2)
    assert [path.name for path in (tmp_path / "checkpoint").glob("*step*")] == ["step_1"]


def test_leftovers_of_a_killed_save(tmp_path):
    save(tmp_path, 1)
    leftover = tmp_path / "checkpoint" / ".tmp_step_2"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    (tmp_path / "checkpoint" / ".tmp_latest").write_text("st")
    assert load_checkpoint(tmp_path).frame == 1
    save(tmp_path, 2)
    assert step_names(tmp_path) == ["latest", "step_1", "step_2"]
    assert load_checkpoint(tmp_path).frame == 2


@pytest.mark.parametrize("again", [7, 8])
@pytest.mark.parametrize("call", range(6))
def test_a_kill_at_any_change_of_the_directory(tmp_path, monkeypatch, call, again):
    """Whatever call is the last one, a complete state can be loaded and the next save works."""
    save(tmp_path, 7, value=1.0)
    count = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            if count == call:
                raise KeyboardInterrupt
            count += 1
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        try:
            save(tmp_path, again, value=2.0)
            finished = True
        except KeyboardInterrupt:
            finished = False
    value = load_checkpoint(tmp_path, config=CONFIG).state["weight"][0].item()
    assert value == 2.0 if finished else value in (1.0, 2.0)
    save(tmp_path, again, value=3.0)
    assert load_checkpoint(tmp_path).state["weight"][0] == 3.0
    assert not [name for name in step_names(tmp_path) if name.startswith(_step_directory.TEMPORARY)]


def test_two_kills_in_a_row_keep_the_only_complete_step(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    save(tmp_path, 7, value=1.0, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)  # after the pointer moved to the new content
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 7, value=2.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 7, value=3.0)
    assert load_checkpoint(tmp_path).state["weight"][0] == 2.0


def test_everything_is_synced_before_the_pointer_moves(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda handle: events.append("sync"))
    replace = os.replace

    def recording(source, target):
        events.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", recording)
    save(tmp_path, 3, replay=replay_of(torch.ones(1)))
    step, latest = events.index("step_3"), events.index("latest")
    # replay and its directory, state, meta and their directory; then the parent directory and the
    # pointer.
    segment = events.index("items_0_1_frame_3.pt")
    assert events[segment - 1 : segment + 2] == ["sync", "items_0_1_frame_3.pt", "sync"]
    assert events[:step].count("sync") == 5
    assert events[step:latest].count("sync") == 2
    assert events[-1] == "sync"


@pytest.mark.parametrize("name", ["step_2/state.pt", "replay/items_0_99", "step_2/meta.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_files_are_named(tmp_path, name, damage):
    save(tmp_path, 1)
    folder = save(tmp_path, 2, replay=replay_of(torch.zeros(99))).parent
    [path] = folder.glob(f"{name}*")
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "remove":
        path.unlink()
    elif name.endswith("meta.json"):
        path.write_text("[1]")
    else:
        flip_byte(path)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(tmp_path)
    message = str(raised.value)
    assert name in message
    assert "(step_1)" in message
    assert "write its name into" in message
    (tmp_path / "checkpoint" / "latest").write_text("step_1")
    assert load_checkpoint(tmp_path).frame == 1


def test_the_only_step_damaged(tmp_path):
    flip_byte(save(tmp_path, 1) / "state.pt")
    with pytest.raises(CheckpointError, match="overwrite=true"):
        load_checkpoint(tmp_path)


def test_pointer_to_a_missing_step(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoint" / "latest").write_text("step_9")
    with pytest.raises(CheckpointError, match=r"step_9 is missing; .*\(step_1\)"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoint" / "latest").unlink()
    assert not has_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"latest is missing; .*\(step_1\)"):
        load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path):
    assert not has_checkpoint(tmp_path)
    for read in (load_checkpoint, checkpoint_identity):
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            read(tmp_path)
        with pytest.raises(CheckpointError, match="there is no directory"):
            read(tmp_path / "nowhere")
    save(tmp_path, 1)
    assert has_checkpoint(tmp_path)


def test_a_directory_of_several_seeds_is_told_from_a_run(tmp_path):
    for seed in (0, 1):
        save(tmp_path / f"seed_{seed}", 1)
    for read in (load_checkpoint, checkpoint_identity):
        with pytest.raises(CheckpointError, match=r"several seeds: give .* \(seed_0, seed_1\)"):
            read(tmp_path)


def test_the_identity_tells_checkpoints_apart(tmp_path):
    found = []
    for frame, value in ((1, 0.0), (2, 1.0)):
        save_checkpoint(tmp_path, frame, {"w": torch.tensor(value)}, config={"a": 1})
        found.append(checkpoint_identity(tmp_path))
    assert [identity["frame"] for identity in found] == [1, 2]
    assert found[0]["sha256"] != found[1]["sha256"]
    assert found[0]["config_sha256"] == found[1]["config_sha256"]


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    save(tmp_path, 1)
    other = {"algorithm": "vm3ac", "task": {"beta": 0.2, "hidden": [128, 128]}, "seed": 3}
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(tmp_path, config=other)
    message = str(raised.value)
    assert "task.beta: checkpoint has 0.1, this run has 0.2" in message
    assert "seed: checkpoint has nothing, this run has 3" in message
    assert "algorithm" not in message
    assert "hidden" not in message


def test_another_format_version_is_refused(tmp_path):
    path = save(tmp_path, 1) / "meta.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 99'))
    with pytest.raises(CheckpointError, match="format version 99"):
        load_checkpoint(tmp_path)


def test_config_hash():
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    assert len(config_hash({})) == 64
    with pytest.raises(TypeError):
        config_hash({"a": object()})


def test_a_large_replay_is_read_on_demand(tmp_path):
    save(tmp_path, 1, replay=replay_of(torch.ones(2)))
    # Where it lies is known all the same.
    assert load_checkpoint(tmp_path, replay=False).replay is None
    assert load_checkpoint(tmp_path, replay=False).files.held == 2
    assert torch.equal(load_checkpoint(tmp_path).replay["storage"], torch.ones(2))


def test_a_directory_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(CheckpointError, match="there is no directory"):
        load_checkpoint(tmp_path / "typo")


def test_seeds_that_went_on_alone_are_told_which_frames_they_have(tmp_path):
    for name, frames in (("a", (10, 20)), ("b", (30, 40))):
        for frame in frames:
            save_checkpoint(tmp_path / name, frame, {"x": torch.ones(1)}, config={})
    with pytest.raises(CheckpointError, match=r"resume those that lag .*a: 10, 20; .*b: 30, 40"):
        common_frame([tmp_path / "a", tmp_path / "b"])
    save_checkpoint(tmp_path / "b", 20, {"x": torch.ones(1)}, config={})
    assert common_frame([tmp_path / "a", tmp_path / "b"]) == 20
    assert common_frame([tmp_path / "a"]) is None
    with pytest.raises(CheckpointError, match=r"nothing has none; resume .*a: 10, 20"):
        common_frame([tmp_path / "a", tmp_path / "nothing"])
    with pytest.raises(CheckpointError, match=r"before its first one.*overwrite=true"):
        common_frame([tmp_path / "nothing", tmp_path / "c"])
