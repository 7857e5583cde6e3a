"""The column of the next action: a step is held back until the next one is there."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from vm3ac_modules.baselines import NextAction
from vm3ac_modules.keys import Keys, MissingKeysError


def step(action, done, keys=None):
    """One step of all rows: the action of row r is ``action[r]`` for every agent and dimension."""
    keys, rows = Keys() if keys is None else keys, len(action)
    done = torch.tensor(done).reshape(rows, 1)
    return TensorDict(
        {
            keys.action: torch.tensor(action).reshape(rows, 1, 1).expand(rows, 2, 3).clone(),
            "next": TensorDict({keys.done: done}, [rows]),
        },
        [rows],
    )


def test_a_step_comes_out_with_the_next_one():
    transform = NextAction()
    assert transform.inv(step([1.0, 10.0], [False, True])) is None
    second = step([2.0, 20.0], [False, False])
    out = transform.inv(second)
    assert out["agents", "action"][:, 0, 0].tolist() == [1.0, 10.0]
    assert out["agents", "next_action"].shape == (2, 2, 3)
    # Row 1 ended: what follows belongs to another episode.
    assert out["agents", "next_action"][:, 0, 0].tolist() == [2.0, 0.0]
    assert out["agents", "next_action_valid"].tolist() == [[[True], [True]], [[False], [False]]]
    out = transform.inv(step([3.0, 30.0], [False, False]))
    # What was handed in is left as it is.
    assert ("agents", "next_action") not in second.keys(True)
    assert out["agents", "action"][:, 0, 0].tolist() == [2.0, 20.0]
    assert out["agents", "next_action"][:, 0, 0].tolist() == [3.0, 30.0]
    assert out["agents", "next_action_valid"].all()


def test_next_actions_under_other_keys():
    keys, transform = Keys("walkers", done=("flags", "end")), NextAction(Keys("walkers"))
    transform = NextAction(keys)
    transform.inv(step([1.0], [False], keys))
    assert transform.inv(step([2.0], [False], keys))["walkers", "next_action"].eq(2.0).all()


def test_a_step_of_other_rows_or_without_entries():
    transform = NextAction()
    transform.inv(step([1.0, 10.0], [False, False]))
    with pytest.raises(ValueError, match=r"steps of \(2,\) rows were followed by \(3,\)"):
        transform.inv(step([1.0, 10.0, 100.0], [False] * 3))
    for missing in (("agents", "action"), ("next", "done")):
        with pytest.raises(MissingKeysError, match=r"NextAction: .*lacks"):
            NextAction().inv(step([1.0], [False]).exclude(missing))


def test_episodes_in_a_replay_buffer():
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100), batch_size=64, transform=NextAction()
    )
    ends = {0: (2, 6), 1: (4,)}  # steps at which an episode of the row ends
    for t in range(9):
        replay.extend(step([float(t), 100.0 + t], [t in ends[row] for row in (0, 1)]))
        assert len(replay) == 2 * t  # held back until the next step is there
    everything = replay[:]
    assert everything["agents", "action"][:, 0, 0].tolist() == [
        100.0 * row + t for t in range(8) for row in (0, 1)
    ]
    for stored in (everything, replay.sample()):
        action, following = (stored["agents", name] for name in ("action", "next_action"))
        valid = stored["agents", "next_action_valid"]
        t, row = action[:, 0, 0] % 100, (action[:, 0, 0] >= 100).int().tolist()
        ended = torch.tensor([int(s) in ends[r] for s, r in zip(t.tolist(), row, strict=True)])
        assert torch.equal(valid, ~ended.reshape(-1, 1, 1).expand(-1, 2, 1))
        expected = torch.where(ended.reshape(-1, 1, 1), 0.0, action + 1)
        assert torch.equal(following, expected)
        assert torch.equal(stored["next", "done"].squeeze(-1), ended)
