"""Categorical policies with illegal actions: what stays a distribution, what stays finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import (
    ILLEGAL,
    categorical_entropy,
    draw_categorical,
    epsilon_floor,
    expectation,
    gumbel_noise,
    masked_log_softmax,
)
from vm3ac_modules.testing import tensors

ACTIONS = 4
shares = st.sampled_from([0.0, 0.125, 0.5, 1.0])


@st.composite
def masks(draw):
    rows = draw(st.lists(st.booleans(), min_size=ACTIONS, max_size=ACTIONS).filter(any))
    return torch.tensor(rows)


def softmax(logits, mask):
    """Over the legal actions, by its definition."""
    weights = [math.exp(x) if ok else 0.0 for x, ok in zip(logits.tolist(), mask, strict=True)]
    return torch.tensor([w / sum(weights) for w in weights], dtype=torch.float64)


@given(tensors(ACTIONS, limit=20.0), masks())
def test_masked_softmax_is_a_distribution_over_legal_actions(logits, mask):
    log_prob = masked_log_softmax(logits, mask)
    torch.testing.assert_close(log_prob.exp(), softmax(logits, mask), rtol=1e-12, atol=1e-15)
    assert (log_prob[~mask] == ILLEGAL).all()
    torch.testing.assert_close(masked_log_softmax(logits + 3.0, mask), log_prob)
    changed = torch.where(mask, logits, torch.full_like(logits, float("nan")))
    assert torch.equal(masked_log_softmax(changed, mask), log_prob)


@given(tensors(ACTIONS, limit=20.0), masks(), shares)
def test_floor_mixes_in_the_uniform_policy(logits, mask, epsilon):
    log_prob = masked_log_softmax(logits, mask)
    mixed = epsilon_floor(log_prob, epsilon)
    uniform = mask / mask.sum().double()
    expected = (1.0 - epsilon) * log_prob.exp() + epsilon * uniform
    torch.testing.assert_close(mixed.exp(), expected, rtol=1e-12, atol=1e-15)
    assert mixed.dtype == torch.float64
    assert (mixed[~mask] == ILLEGAL).all()
    as_tensor = epsilon_floor(log_prob, torch.tensor(epsilon, dtype=torch.float64))
    torch.testing.assert_close(as_tensor, mixed)


@given(tensors(ACTIONS, limit=20.0), masks(), tensors(ACTIONS), shares)
def test_expectation_and_entropy(logits, mask, values, epsilon):
    log_prob = epsilon_floor(masked_log_softmax(logits, mask), epsilon)
    p = log_prob.exp()
    torch.testing.assert_close(expectation(log_prob, values), sum(p * values))
    entropy = categorical_entropy(log_prob)
    torch.testing.assert_close(entropy, -torch.special.xlogy(p, p).sum(), rtol=1e-9, atol=1e-12)
    assert -1e-12 <= entropy <= math.log(mask.sum()) + 1e-12


@given(tensors(ACTIONS, limit=50.0), masks(), shares)
def test_every_gradient_is_finite_and_none_reaches_illegal_actions(logits, mask, epsilon):
    logits = logits.clone().requires_grad_()
    log_prob = epsilon_floor(masked_log_softmax(logits, mask), epsilon)
    total = categorical_entropy(log_prob) + log_prob[mask].sum()
    [slope] = torch.autograd.grad(total, [logits])
    assert slope.isfinite().all()
    assert (slope[~mask] == 0).all()


def test_rows_without_a_legal_action_count_all():
    logits = torch.randn(3, ACTIONS, requires_grad=True)
    log_prob = epsilon_floor(masked_log_softmax(logits, torch.zeros(3, ACTIONS) > 0), 0.3)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(3))
    log_prob.sum().backward()
    assert logits.grad.isfinite().all()


def test_a_single_legal_action_is_certain():
    mask = torch.tensor([False, True, False, False])
    logits = torch.randn(ACTIONS, requires_grad=True)
    log_prob = epsilon_floor(masked_log_softmax(logits, mask), 0.3)
    torch.testing.assert_close(log_prob[1], torch.tensor(0.0), rtol=0.0, atol=1e-6)
    assert categorical_entropy(log_prob).abs() < 1e-6
    [slope] = torch.autograd.grad(log_prob[1], [logits])
    assert not slope.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_policy(dtype):
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=dtype)
    log_prob = masked_log_softmax(logits, torch.tensor([True, True, True, False]))
    many = log_prob.expand(40_000, ACTIONS)
    noise = gumbel_noise(many)
    assert (noise.dtype, noise.shape) == (dtype, many.shape)
    counts = torch.bincount(draw_categorical(many, noise), minlength=ACTIONS) / 40_000
    torch.testing.assert_close(counts.to(dtype), log_prob.exp(), rtol=0.0, atol=0.01)
    assert counts[3] == 0


def test_without_noise_the_most_probable_action():
    log_prob = masked_log_softmax(torch.randn(7, ACTIONS), torch.ones(7, ACTIONS) > 0)
    assert torch.equal(draw_categorical(log_prob, torch.zeros(7, ACTIONS)), log_prob.argmax(-1))
