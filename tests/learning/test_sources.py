"""Where batches come from: what was just played, a replay, or both."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import Transform

from vm3ac_modules.learning import Both, OnPolicy, Replayed, SourceSizes, interleave


def episodes(number, first=0):
    """Episodes of one step that tell their number."""
    mask = torch.tensor([True, False, False]).reshape(1, 3, 1).expand(number, 3, 1)
    ids = torch.arange(first, first + number).reshape(-1, 1, 1).expand(number, 3, 1)
    return TensorDict({"mask": mask, "id": ids}, [number, 3])


def source(kind, **options):
    return kind(SourceSizes(**{"capacity": 8, "batch_size": 2, "episodes": True, **options}))


def ids(batch):
    return batch["id"][:, 0, 0].tolist()


# --- whole episodes ---------------------------------------------------------------------------


def test_replay_owes_updates_for_what_was_added():
    replay = source(Replayed, updates=0.75, start=4)
    replay.add(episodes(3))
    assert list(replay.batches()) == []
    replay.add(episodes(3, 3))
    # Three episodes since there were enough: 2.25 updates, of which a quarter is kept.
    batches = list(replay.batches())
    assert [batch.shape for batch in batches] == [(2, 2), (2, 2)]
    assert replay.owed == pytest.approx(0.25)
    replay.add(episodes(6, 6))
    assert len(replay) == 8
    found = {i for batch in replay.batches() for i in ids(batch)}
    assert found <= set(range(4, 12))


def test_on_policy_uses_every_episode_once():
    fresh = source(OnPolicy)
    fresh.add(episodes(5))
    assert len(fresh) == 5
    assert [ids(batch) for batch in fresh.batches()] == [[0, 1], [2, 3], [4]]
    assert list(fresh.batches()) == []
    assert len(fresh) == 0


def test_on_policy_takes_no_transforms():
    fresh = source(OnPolicy)
    fresh.append_transforms([])
    with pytest.raises(ValueError, match="without a replay takes no transforms"):
        fresh.append_transforms([Transform()])
    assert not OnPolicy.keeps_replay


def test_both_joins_the_newest_with_replayed_ones():
    both = source(Both)
    for first in (0, 3, 6):
        both.add(episodes(3, first))
        batches = list(both.batches())
    # The ring holds 1 to 8, its cursor is in the middle.
    for batch in batches:
        fresh = batch["on_policy"][:, 0, 0]
        assert fresh.tolist() == [True, True, False, False, False, False]
        assert sorted(ids(batch)[:2]) == [7, 8]
        assert set(ids(batch)) <= set(range(1, 9))


def test_no_update_before_a_batch_of_episodes():
    replay = source(Replayed, batch_size=4)
    replay.add(episodes(3))
    assert list(replay.batches()) == []
    replay.add(episodes(1, 3))
    assert len(list(replay.batches())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 9}, "between 1 and the replay's capacity, got 9 episodes of 8"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"updates": 0.0}, "updates per item must be positive, got 0.0"),
    ],
)
def test_unusable_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        source(Replayed, **options)


# --- transitions ------------------------------------------------------------------------------


def steps(*values):
    return TensorDict({"a": {"x": torch.tensor(values, dtype=torch.float32)}}, [len(values)])


def test_updates_per_step_of_all_rows():
    replay = Replayed(SourceSizes(20, 3, updates=2, start=2))
    replay.add(steps(0, 1, 2, 3))
    assert list(replay.batches()) == []
    replay.add(steps(4, 5, 6, 7))
    batches = list(replay.batches())
    assert [batch.shape for batch in batches] == [(3,), (3,)]
    assert (replay.added, replay.written, len(replay)) == (2, 8, 8)


def test_a_batch_larger_than_what_is_held_is_drawn_with_replacement():
    replay = Replayed(SourceSizes(20, 16))
    replay.add(steps(0, 1))
    [batch] = replay.batches()
    assert set(batch["a", "x"].tolist()) <= {0.0, 1.0}
    assert batch.shape == (16,)


def test_the_replay_is_restored_oldest_first():
    replay = Replayed(SourceSizes(4, 2))
    replay.add(steps(0, 1, 2, 3))
    replay.add(steps(4, 5))
    assert replay.written == 6
    saved = replay.rows(2, 6).clone()
    assert saved["a", "x"].tolist() == [2.0, 3.0, 4.0, 5.0]
    other = Replayed(SourceSizes(4, 2))
    other.fill([saved], replay.written)
    assert torch.equal(other.replay.storage.get(range(4))["a", "x"], torch.tensor([4.0, 5, 2, 3]))
    other.add(steps(6))
    assert sorted(other.replay.storage.get(range(4))["a", "x"].tolist()) == [3.0, 4.0, 5.0, 6.0]
    assert other.rows(3, 7)["a", "x"].tolist() == [3.0, 4.0, 5.0, 6.0]


def test_every_seeds_replay_is_restored_oldest_first():
    # Four steps of one row per seed, room for three: seed 0 sees 0, 1, .., seed 1 sees 10, 11, ..
    replay, other = (Replayed(SourceSizes(3, 2, seeds=2)) for _ in range(2))
    for step in range(4):
        replay.add(TensorDict({"x": torch.tensor([step, 10 + step])}, [2]))
    saved = [replay.rows(1, 4, seed).clone() for seed in range(2)]
    assert [part["x"].tolist() for part in saved] == [[1, 2, 3], [11, 12, 13]]
    other.fill(saved, replay.written)
    # Slot by slot, since draws are by slot: the newest step lies where the first one lay.
    expected = replay.replay.storage.get(range(6))["x"].tolist()
    assert other.replay.storage.get(range(6))["x"].tolist() == expected == [3, 13, 1, 11, 2, 12]
    for each in (replay, other):
        each.add(TensorDict({"x": torch.tensor([4, 14])}, [2]))
    assert torch.equal(
        replay.replay.storage.get(range(6))["x"], other.replay.storage.get(range(6))["x"]
    )


def test_every_seed_samples_its_own_transitions_only():
    seeds, rows, batch = 3, 4, 8
    # Room for five transitions of each seed and more steps than that: the oldest go, evenly.
    source = Replayed(SourceSizes(5, batch, seeds=seeds))
    for t in range(4):
        owner = torch.arange(seeds).repeat_interleave(rows)
        source.add(TensorDict({"owner": owner, "step": torch.full_like(owner, t)}, owner.shape))
    drawn = source.sample()
    assert drawn.shape == (seeds, batch)
    assert (drawn["owner"] == torch.arange(seeds).unsqueeze(-1)).all()
    assert set(drawn["step"].flatten().tolist()) <= {2, 3}
    # Seeds draw different indices.
    assert not torch.equal(drawn["index"][0] // seeds, drawn["index"][1] // seeds)


def test_seeds_lie_side_by_side():
    rows = TensorDict({"x": torch.tensor([0, 1, 10, 11])}, [4])
    assert interleave(rows, 2)["x"].tolist() == [0, 10, 1, 11]
    assert interleave(rows, 1)["x"].tolist() == [0, 1, 10, 11]


@pytest.mark.parametrize("kind", [OnPolicy, Replayed, Both])
def test_counters_come_back(kind):
    one, other = source(kind, updates=0.3, start=1), source(kind, updates=0.3, start=1)
    one.add(episodes(5))
    list(one.batches())
    other.load_state_dict(one.state_dict())
    assert (other.added, other.owed) == (one.added, one.owed)
    assert one.added == 5


def test_transforms_see_what_goes_in_and_not_what_lies_there():
    class Doubled(Transform):
        def _inv_call(self, tensordict):
            return tensordict.set(("a", "x"), 2 * tensordict["a", "x"])

    replay = Replayed(SourceSizes(4, 2))
    replay.fill([steps(1, 2)], 2)
    replay.append_transforms([Doubled()])
    replay.add(steps(3))
    assert replay.rows(0, 3)["a", "x"].tolist() == [1.0, 2.0, 6.0]
