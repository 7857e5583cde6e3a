"""Tree-backup targets, against the definition, one transition at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional.tree_backup import tree_backup_target

GAMMA, LAM = 0.9, 0.8
NAN = float("nan")


def play(lengths, slots=6):
    size = torch.tensor(lengths).unsqueeze(-1)
    shape = (len(lengths), slots)
    mask = torch.arange(slots) < size
    over = (torch.arange(slots) == size - 1) & (torch.arange(len(lengths)) % 2 == 0).unsqueeze(-1)
    double = {"dtype": torch.float64}
    return {
        "reward": torch.randn(*shape, **double),
        "taken": torch.randn(*shape, **double),
        "expected": torch.randn(len(lengths), slots + 1, **double),
        "joint_log_prob": -torch.rand(*shape, **double),
        "terminated": over,
        "mask": mask,
    }


def loop(row, *, gamma, lam, steps):
    """One episode: ``r_t + gamma E_{t+1}`` mixed backwards, n transitions deep."""
    length = int(row["mask"].sum())

    def error(t):
        follows = 0.0 if row["terminated"][t] else row["expected"][t + 1]
        return row["reward"][t] + gamma * follows - row["taken"][t]

    def ahead(t, depth):
        if t == length or depth == 0:
            return 0.0
        trace = 1.0
        if t + 1 < length:
            trace = gamma * lam * row["joint_log_prob"][t + 1].exp()
        return error(t) + trace * ahead(t + 1, depth - 1)

    return [float(row["taken"][t] + ahead(t, steps)) for t in range(length)]


def targets(batch, **options):
    return tree_backup_target(**batch, **{"gamma": GAMMA, "lam": LAM, **options})


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_target_equals_a_loop(steps):
    lengths = (6, 5, 1, 1, 3, 0)
    batch = play(lengths)
    out = targets(batch, steps=steps)
    for b, length in enumerate(lengths):
        row = {key: value[b] for key, value in batch.items()}
        expected = loop(row, gamma=GAMMA, lam=LAM, steps=steps)
        torch.testing.assert_close(out[b, :length], torch.tensor(expected, dtype=torch.float64))
        assert (out[b, length:] == 0).all()


def test_padding_may_hold_anything():
    batch = play((5, 2, 1))
    expected = targets(batch)
    dirty = {key: value.clone() for key, value in batch.items()}
    for key in ("reward", "taken", "joint_log_prob"):
        dirty[key][~batch["mask"]] = NAN
    for row, length in enumerate((5, 2, 1)):
        # Where the game is over (all rows but 1) not even what was seen last counts.
        dirty["expected"][row, length + int(row == 1) :] = NAN
        dirty["terminated"][row, length:] = True
    assert torch.equal(targets(dirty), expected)


def test_an_episode_that_was_cut_off_bootstraps_from_what_was_seen_last():
    batch = play((3, 3))
    moved = {**batch, "expected": batch["expected"].clone()}
    moved["expected"][:, 3] += 1.0
    change = targets(moved) - targets(batch)
    assert (change[0] == 0).all()
    torch.testing.assert_close(change[1, 2], torch.tensor(GAMMA, dtype=torch.float64))
    assert (change[1, :3] > 0).all()


@given(st.integers(1, 6), st.integers(0, 2**16))
def test_what_the_critic_fits_already_is_its_own_target(steps, seed):
    # Q = r + gamma E everywhere: no error, whatever the traces.
    torch.manual_seed(seed)
    batch = play((6, 4, 2))
    follows = batch["expected"][:, 1:].masked_fill(batch["terminated"], 0.0)
    batch["taken"] = batch["reward"] + GAMMA * follows
    expected = batch["taken"].masked_fill(~batch["mask"], 0.0)
    torch.testing.assert_close(targets(batch, steps=steps), expected)


def test_joint_probabilities_that_underflow():
    batch = play((6,))
    batch["joint_log_prob"] = torch.full((1, 6), -1e9, dtype=torch.float64)
    assert torch.equal(targets(batch, steps=5), targets(batch, steps=1))


def test_sure_actions_make_it_the_n_step_return():
    # With traces of 1, lambda 1 and expectations equal to the values, errors telescope.
    batch = play((4, 6))
    batch["joint_log_prob"] = torch.zeros(2, 6, dtype=torch.float64)
    batch["taken"] = batch["expected"][:, :-1].clone()
    out = targets(batch, lam=1.0, steps=6)
    reward, powers = batch["reward"], GAMMA ** torch.arange(7, dtype=torch.float64)
    torch.testing.assert_close(out[0, 0], (powers[:4] * reward[0, :4]).sum())
    end = powers[6] * batch["expected"][1, 6]
    torch.testing.assert_close(out[1, 0], (powers[:6] * reward[1]).sum() + end)


def test_no_steps():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        targets(play((2,)), steps=0)
