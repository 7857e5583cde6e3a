"""Means, ends and shifts of padded episodes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import last_transitions, masked_mean, previous_actions

NAN = float("nan")
lengths = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def prefix(sizes, slots=6):
    return torch.arange(slots) < torch.tensor(sizes).unsqueeze(-1)


@given(lengths, st.integers(0, 2))
def test_mean_is_that_of_the_real_transitions(sizes, extra):
    mask = prefix(sizes)
    values = torch.randn(*mask.shape, *(3,) * extra, dtype=torch.float64).requires_grad_()
    padded = values.masked_fill(~mask.reshape(*mask.shape, *(1,) * extra), NAN)
    mean = masked_mean(padded, mask)
    expected = values.detach()[mask].mean() if mask.any() else torch.zeros(()).double()
    torch.testing.assert_close(mean.detach(), expected)
    [slope] = torch.autograd.grad(mean, [values])
    assert slope.isfinite().all()
    assert not slope[~mask].any()


@given(lengths)
def test_last_transitions(sizes):
    found = last_transitions(prefix(sizes))
    for row, size in zip(found, sizes, strict=True):
        assert row.nonzero().flatten().tolist() == ([size - 1] if size else [])


def test_previous_actions():
    action = torch.randint(4, (2, 5, 3))
    rows = previous_actions(action, 4)
    assert rows.shape == (2, 5, 3, 4)
    assert rows.dtype == torch.get_default_dtype()
    assert not rows[:, 0].any()
    assert (rows[:, 1:].sum(-1) == 1).all()
    assert torch.equal(rows[:, 1:].argmax(-1), action[:, :-1])
