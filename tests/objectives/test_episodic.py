"""Episode batches: what is cleaned, and lambda-returns against their definition."""

from __future__ import annotations

import pytest
import torch
from contracts.episode_contract import (
    ACTIONS,
    LENGTHS,
    NAN,
    discounted,
    make_episodes,
    with_garbage,
)
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.objectives.episodic import lambda_return, read_episodes

GAMMA = 0.9


# --- reading ----------------------------------------------------------------------------------


def test_what_is_read():
    td = make_episodes(slots=7)
    episodes = read_episodes(td, Keys(), "test")
    mask = td["mask"].squeeze(-1)
    assert torch.equal(episodes.mask, mask[:, :-1])
    for row, length in enumerate(LENGTHS):
        assert episodes.seen[row].nonzero().flatten().tolist() == list(range(length + 1))
        # What was seen last is kept for the bootstrap.
        for name, key in (("observation", ("agents", "observation")), ("state", "state")):
            kept = getattr(episodes, name)[row]
            assert torch.equal(kept[: length + 1], td[key][row, : length + 1])
            assert kept[length].any()
            assert not kept[length + 1 :].any()
        mean = td["agents", "reward"][row, :length].mean((-2, -1))
        torch.testing.assert_close(episodes.reward[row, :length], mean)
        assert not episodes.reward[row, length:].any()
        assert episodes.terminated[row].sum() == td["terminated"][row].sum()
        assert episodes.action_mask[row, length + 1 :].all()
        legal = td["agents", "action_mask"][row, : length + 1]
        assert torch.equal(episodes.action_mask[row, : length + 1], legal)
    one_hot = torch.nn.functional.one_hot(episodes.action, ACTIONS)
    assert not episodes.last_action[:, 0].any()
    assert torch.equal(episodes.last_action[:, 1:], one_hot[:, :-1].float())


def test_garbage_in_the_padding_is_removed():
    td = make_episodes(slots=7)
    clean, dirty = (read_episodes(x, Keys(), "test") for x in (td, with_garbage(td)))
    assert clean.first == dirty.first == ()
    for name, value in clean._replace(first=None)._asdict().items():
        assert value is None or torch.equal(getattr(dirty, name), value), name


def test_a_reward_at_the_root():
    td = make_episodes()
    expected = read_episodes(td, Keys(), "test").reward
    td["team"] = td["agents", "reward"].mean(-2)

    class Names:
        reward = "team"

        def __getattr__(self, name):
            return getattr(Keys(), name)

    torch.testing.assert_close(read_episodes(td, Names(), "test").reward, expected)


def test_batches_that_are_refused():
    td = make_episodes()
    with pytest.raises(MissingKeysError, match=r"MyLoss: .*'state'"):
        read_episodes(td.exclude("state"), Keys(), "MyLoss")
    for wrong in (td[:, 0], td[:, :1]):
        with pytest.raises(ValueError, match=r"MyLoss: expected episodes \[B, T \+ 1\]"):
            read_episodes(wrong, Keys(), "MyLoss")


# --- lambda-returns ---------------------------------------------------------------------------


@st.composite
def batches(draw):
    """Padded episodes that are over or cut off, at the last slot or before."""
    slots = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(0, slots), min_size=1, max_size=4))
    ends = draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    seed = draw(st.integers(0, 2**16))
    return slots, sizes, ends, seed


@given(batches(), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_return_equals_its_definition(batch, lam):
    slots, sizes, ends, seed = batch
    torch.manual_seed(seed)
    reward = torch.randn(len(sizes), slots, dtype=torch.float64)
    value = torch.randn(len(sizes), slots + 1, dtype=torch.float64)
    size = torch.tensor(sizes).unsqueeze(-1)
    mask = torch.arange(slots) < size
    over = torch.tensor(ends).unsqueeze(-1) & (torch.arange(slots) == size - 1)
    dirty = value.clone()
    dirty[:, 1:][~mask] = NAN
    returns = lambda_return(
        reward.masked_fill(~mask, NAN), dirty, over | ~mask, mask, gamma=GAMMA, lam=lam
    )
    for row, length in enumerate(sizes):
        assert not returns[row, length:].any()
        if length:
            given = reward[row, :length], value[row, : length + 1], ends[row]
            expected = discounted(*given, gamma=GAMMA, lam=lam)
            torch.testing.assert_close(returns[row, :length], expected)


def test_discount_may_be_a_tensor():
    reward, value = torch.randn(2, 4), torch.randn(2, 5)
    mask = torch.ones(2, 4, dtype=torch.bool)
    ends = reward, value, ~mask, mask
    as_number = lambda_return(*ends, gamma=GAMMA, lam=0.5)
    as_tensor = lambda_return(*ends, gamma=torch.tensor(GAMMA), lam=0.5)
    torch.testing.assert_close(as_tensor, as_number)
