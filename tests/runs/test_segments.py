"""The replay in a checkpoint: only what is new is written, and all of it comes back."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from vm3ac_modules.learning import Replayed, SourceSizes
from vm3ac_modules.runs import (
    CheckpointError,
    ReplayItems,
    Run,
    Settings,
    load_checkpoint,
    save_checkpoint,
    train,
)
from vm3ac_modules.runs._segments import ReplayFiles

CAPACITY = 8


def item(number):
    number = torch.tensor([number])
    return TensorDict({"id": number, "agents": {"observation": number.float().sqrt()}}, [1])


class Kept:
    """A replay that is filled one by one and saved now and then."""

    def __init__(self, run_dir, before=None):
        self.source = Replayed(SourceSizes(CAPACITY, 2))
        self.run_dir, self.before = run_dir, before

    def add(self, *numbers):
        for number in numbers:
            self.source.add(item(number))

    def save(self, frame, **options):
        source = self.source
        replay = ReplayItems(source.rows, source.written, len(source))
        step, self.before = save_checkpoint(
            self.run_dir, frame, {}, config={}, replay=replay, before=self.before, **options
        )
        return step


def files(run_dir):
    return sorted(path.name for path in (run_dir / "checkpoint" / "replay").iterdir())


def ids(run_dir, **options):
    replay = load_checkpoint(run_dir, **options).replay
    assert torch.equal(replay["agents", "observation"], replay["id"].float().sqrt())
    return replay["id"].tolist()


def test_a_second_checkpoint_writes_only_new_items(tmp_path):
    kept = Kept(tmp_path)
    kept.add(0, 1, 2)
    kept.save(10)
    [first] = files(tmp_path)
    assert first == "items_0_3_frame_10.pt"
    before = (tmp_path / "checkpoint" / "replay" / first).stat()
    kept.add(3, 4)
    kept.save(20)
    assert files(tmp_path) == [first, "items_3_5_frame_20.pt"]
    after = (tmp_path / "checkpoint" / "replay" / first).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    content = torch.load(
        tmp_path / "checkpoint" / "replay" / "items_3_5_frame_20.pt", weights_only=True
    )
    assert content["id"].tolist() == [3, 4]
    assert ids(tmp_path) == [0, 1, 2, 3, 4]
    assert ids(tmp_path, frame=10) == [0, 1, 2]


def test_nothing_new_writes_no_file(tmp_path):
    kept = Kept(tmp_path)
    kept.add(0, 1)
    kept.save(10)
    kept.save(20)
    assert files(tmp_path) == ["items_0_2_frame_10.pt"]
    assert ids(tmp_path) == [0, 1]


def test_a_wrapped_ring_comes_back_oldest_first(tmp_path):
    kept = Kept(tmp_path)
    frame = 0
    for first in range(0, 30, 3):
        kept.add(*range(first, first + 3))
        frame += 10
        kept.save(frame)
        newest = first + 3
        assert ids(tmp_path) == list(range(max(0, newest - CAPACITY), newest))
    # The last two steps need these; all that came before is gone.
    needed = [f"items_{n}_{n + 3}_frame_{10 * (n // 3 + 1)}.pt" for n in (18, 21, 24, 27)]
    assert files(tmp_path) == needed


def test_more_than_the_ring_holds_between_two_checkpoints(tmp_path):
    kept = Kept(tmp_path)
    kept.add(0, 1)
    kept.save(10)
    kept.add(*range(2, 21))
    kept.save(20, keep=1)
    assert files(tmp_path) == ["items_13_21_frame_20.pt"]
    assert ids(tmp_path) == list(range(13, 21))


@pytest.mark.parametrize("added", [5, 8, 11, 16])
def test_a_ring_that_was_filled_again_goes_on_as_the_old_one(tmp_path, added):
    kept = Kept(tmp_path)
    kept.add(*range(added))
    kept.save(10)
    saved = load_checkpoint(tmp_path)
    again = Kept(tmp_path, saved.files)
    again.source.fill([saved.replay], saved.files.written)
    for source in (kept.source, again.source):
        assert source.written == added
    for number in range(added, added + 6):
        for each in (kept, again):
            each.add(number)
        # Slot by slot, since draws are by slot.
        one, other = (each.source.replay.storage.get(slice(None)) for each in (kept, again))
        assert torch.equal(one["id"], other["id"])
    again.save(20)
    assert ids(tmp_path) == list(range(max(0, added + 6 - CAPACITY), added + 6))


def test_segments_that_no_step_lists_are_removed(tmp_path):
    kept = Kept(tmp_path)
    kept.add(0, 1)
    kept.save(10)
    folder = tmp_path / "checkpoint" / "replay"
    (folder / "items_2_9_frame_15.pt").write_bytes(b"of a save that was killed")
    (folder / ".tmp_items_2_9_frame_15.pt").write_bytes(b"half")
    assert ids(tmp_path) == [0, 1]
    kept.add(2)
    kept.save(20)
    assert files(tmp_path) == ["items_0_2_frame_10.pt", "items_2_3_frame_20.pt"]


def test_a_future_that_was_abandoned_shares_no_segment(tmp_path):
    """Items of the same numbers but of another course have a file of their own."""
    kept = Kept(tmp_path)
    kept.add(0, 1)
    kept.save(10)
    kept.add(2, 3)
    kept.save(20)
    (tmp_path / "checkpoint" / "latest").write_text("step_10")
    saved = load_checkpoint(tmp_path)
    again = Kept(tmp_path, saved.files)
    again.source.fill([saved.replay], saved.files.written)
    again.add(102, 103)
    again.save(15)
    assert ids(tmp_path) == [0, 1, 102, 103]
    assert files(tmp_path) == ["items_0_2_frame_10.pt", "items_2_4_frame_15.pt"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_segment_is_named(tmp_path, damage):
    kept = Kept(tmp_path)
    kept.add(0, 1)
    kept.save(10)
    kept.add(2, 3)
    kept.save(20)
    path = tmp_path / "checkpoint" / "replay" / "items_2_4_frame_20.pt"
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match="items_2_4_frame_20") as raised:
        load_checkpoint(tmp_path)
    assert "write its name into" in str(raised.value)
    assert "(step_10)" in str(raised.value)
    # The networks do not need it, and neither does an older step.
    assert load_checkpoint(tmp_path, replay=False).frame == 20
    (tmp_path / "checkpoint" / "latest").write_text("step_10")
    assert ids(tmp_path) == [0, 1]


def test_episodes_keep_both_batch_dimensions(tmp_path):
    source = Replayed(SourceSizes(4, 2, episodes=True))
    mask = torch.ones(3, 5, 1, dtype=torch.bool)
    source.add(TensorDict({"mask": mask, "id": torch.arange(15).reshape(3, 5)}, [3, 5]))
    items = ReplayItems(source.rows, source.written, len(source))
    save_checkpoint(tmp_path, 1, {}, config={}, replay=items)
    replay = load_checkpoint(tmp_path).replay
    assert replay.batch_size == (3, 5)
    assert replay["id"].tolist() == torch.arange(15).reshape(3, 5).tolist()
    other = Replayed(SourceSizes(4, 2, episodes=True))
    other.fill([replay], 3)
    assert other.rows(0, 3)["id"].tolist() == replay["id"].tolist()


def test_a_run_resumes_from_an_older_step(compose, tmp_path):
    pytest.importorskip("vmas")
    train(compose(frames=64, draw=False))
    checkpoint = tmp_path / "run" / "checkpoint"
    older = load_checkpoint(tmp_path / "run", frame=32)
    (checkpoint / "latest").write_text("step_32")
    with Run(Settings.of(compose(frames=64, draw=False, resume=True))) as run:
        assert run.frames == 32
        rows = run.source.rows(0, run.source.written)
        assert torch.equal(rows["latent"], older.replay["latent"])
    train(compose(frames=64, draw=False, resume=True))
    assert load_checkpoint(tmp_path / "run").frame == 64
    listed = load_checkpoint(tmp_path / "run").files.segments
    place = checkpoint / "replay"
    assert {segment.name for segment in listed} <= {path.name for path in place.iterdir()}


def test_every_seed_has_segments_of_its_own(compose, tmp_path):
    pytest.importorskip("vmas")
    train(compose(seeds=2, frames=64, draw=False))
    found = []
    for seed in (0, 1):
        folder = tmp_path / "run" / f"seed_{seed}"
        assert len(files(folder)) == 2
        found.append(load_checkpoint(folder).replay["next", "agents", "reward"])
    assert found[0].shape == found[1].shape == (48, 2, 1)
    assert not torch.equal(*found)


def said(*spans, written=6, held=4):
    parts = [
        {"name": f"items_{a}_{b}_frame_1.pt", "first": a, "end": b, "size": 1, "sha256": "0"}
        for a, b in spans
    ]
    return {"written": written, "held": held, "batch_dims": 1, "segments": parts}


def test_what_is_listed_is_checked_before_it_is_read():
    assert len(ReplayFiles.of(said((0, 3), (3, 6))).segments) == 2
    for spans, message in [
        (((0, 3), (0, 3), (3, 6)), "does not follow"),
        (((0, 3), (4, 6)), "does not follow"),
        (((3, 6),), "do not hold the newest 4 of 6"),
        ((), "do not hold the newest"),
        (((0, 3), (3, 7)), "end with item 7, not 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            ReplayFiles.of(said(*spans))
