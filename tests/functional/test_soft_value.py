"""Value targets and policy objectives: the double loop, hand values, and gradient routes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import (
    action_value_target,
    pair_weight,
    policy_objective,
    soft_value_target,
    squared_error,
)
from vm3ac_modules.testing import soft_value_target_loop, tensor_batches

value_inputs = tensor_batches("*NK", "*N", "*NN", "*NN")
betas = st.sampled_from([0.0, 0.1, 0.7])


@given(value_inputs, betas, st.sampled_from(["paper", "mean"]))
def test_value_target_is_the_double_loop(drawn, beta, kind):
    q_values, log_prob, log_q, log_q_rev = drawn
    weight = pair_weight(log_prob.shape[-1], kind)
    # One temperature per agent, all different.
    temperature = beta * torch.arange(1, log_prob.shape[-1] + 1, dtype=torch.float64)
    for each in (beta, temperature):
        target = soft_value_target(
            q_values.amin(-1), log_prob, log_q, log_q_rev, beta=each, weight=weight
        )
        twin = soft_value_target_loop(q_values, log_prob, log_q, log_q_rev, each, weight)
        torch.testing.assert_close(target.total, twin)
        parts = target.q_term + target.entropy_term + target.correlation_term
        torch.testing.assert_close(target.total, parts)


def test_value_target_by_hand():
    # Agent 0: 1 - 0.5 (-1) + 0.25 (-2 - 3) = 0.25; agent 1: 2 - 0.5 (-4) + 0.25 (-5 - 6) = 1.25.
    target = soft_value_target(
        torch.tensor([1.0, 2.0]),
        torch.tensor([-1.0, -4.0]),
        torch.tensor([[7.0, -2.0], [-5.0, 7.0]]),
        torch.tensor([[7.0, -3.0], [-6.0, 7.0]]),
        beta=0.5,
        weight=0.5,
    )
    assert target.total.tolist() == [0.25, 1.25]


@given(value_inputs, st.integers(0, 2**16))
def test_permuting_agents_permutes_targets(drawn, seed):
    q_values, log_prob, log_q, log_q_rev = drawn
    num_agents = log_prob.shape[-1]
    order = torch.randperm(num_agents, generator=torch.Generator().manual_seed(seed))
    beta = torch.arange(1, num_agents + 1, dtype=torch.float64)

    def target(order):
        pairs = (x[..., order, :][..., order] for x in (log_q, log_q_rev))
        own = (x[..., order] for x in (q_values[..., 0], log_prob))
        return soft_value_target(*own, *pairs, beta=beta[order], weight=0.5).total

    torch.testing.assert_close(target(order), target(torch.arange(num_agents))[..., order])


@given(tensor_batches("*N", "*N", "*NN", "*NN", max_agents=1), betas)
def test_a_single_agent_earns_no_bonus(drawn, beta):
    q_value, log_prob, log_q, log_q_rev = drawn
    for kind in ("paper", "mean"):
        target = soft_value_target(
            q_value, log_prob, log_q, log_q_rev, beta=beta, weight=pair_weight(1, kind)
        )
        assert (target.correlation_term == 0).all()
        torch.testing.assert_close(target.total, q_value - beta * log_prob)


@given(value_inputs)
def test_zero_temperature_leaves_the_action_value(drawn):
    q_values, log_prob, log_q, log_q_rev = drawn
    target = soft_value_target(q_values[..., 0], log_prob, log_q, log_q_rev, beta=0.0, weight=0.5)
    torch.testing.assert_close(target.total, q_values[..., 0])


@given(value_inputs)
def test_nan_on_the_diagonal_changes_neither_values_nor_gradients(drawn):
    q_values, log_prob, *pairs = drawn
    results = []
    for diagonal in (0.0, math.nan):
        leaves = [x.clone() for x in pairs]
        for leaf in leaves:
            leaf.diagonal(dim1=-2, dim2=-1).fill_(diagonal)
            leaf.requires_grad_()
        common = {"beta": 0.3, "weight": 0.5}
        target = soft_value_target(q_values[..., 0], log_prob, *leaves, **common).total
        loss = policy_objective(q_values[..., 0], log_prob, *leaves, **common).total
        grads = torch.autograd.grad((target + loss.square()).sum(), leaves)
        results.append((target, loss, *grads))
    for clean, dirty in zip(*results, strict=True):
        torch.testing.assert_close(clean, dirty)


@given(value_inputs, st.booleans())
def test_policy_loss_stops_the_reverse_term_unless_told(drawn, stop_reverse):
    q_values, log_prob, log_q, log_q_rev = (x.requires_grad_() for x in drawn)
    q_value = q_values[..., 0]
    loss = policy_objective(
        q_value, log_prob, log_q, log_q_rev, beta=0.3, weight=0.5, stop_reverse=stop_reverse
    )
    target = soft_value_target(q_value, log_prob, log_q, log_q_rev, beta=0.3, weight=0.5)
    torch.testing.assert_close(loss.total, -target.total)
    leaves = (q_values, log_prob, log_q, log_q_rev)
    grads = torch.autograd.grad(loss.total.sum(), leaves, allow_unused=True)
    off_diagonal = 1.0 - torch.eye(log_prob.shape[-1], dtype=torch.float64)
    torch.testing.assert_close(grads[0][..., 0], -torch.ones_like(q_value))
    torch.testing.assert_close(grads[1], torch.full_like(log_prob, 0.3))
    torch.testing.assert_close(grads[2], (-0.15 * off_diagonal).expand_as(log_q))
    if stop_reverse:
        assert grads[3] is None
    else:
        torch.testing.assert_close(grads[3], grads[2])


def test_policy_loss_without_the_reverse_term():
    one, pairs = torch.ones(2), torch.full((2, 2), -1.0)
    loss = policy_objective(one, one, pairs, beta=0.5, weight=0.5)
    # -(1 - 0.5 - 0.25) for both agents.
    assert loss.total.tolist() == [-0.25, -0.25]
    assert loss.correlation_term.tolist() == [-0.25, -0.25]


def test_terminal_states_cut_the_bootstrap():
    terminated = torch.tensor([[False], [True]])
    target = action_value_target(
        torch.tensor([[1.0, 2.0], [1.0, 2.0]]), terminated, torch.full((2, 2), 10.0), gamma=0.5
    )
    assert target.tolist() == [[6.0, 7.0], [1.0, 2.0]]


@given(tensor_batches("*N", "*N"))
def test_squared_error_moves_the_prediction_only(drawn):
    prediction, target = (x.requires_grad_() for x in drawn)
    loss = squared_error(prediction, target)
    torch.testing.assert_close(loss, 0.5 * (prediction - target) ** 2)
    grads = torch.autograd.grad(loss.sum(), (prediction, target), allow_unused=True)
    torch.testing.assert_close(grads[0], prediction - target)
    assert grads[1] is None


@pytest.mark.parametrize(
    ("num_agents", "kind", "weight"),
    [(1, "paper", 1.0), (4, "paper", 0.25), (1, "mean", 0.0), (4, "mean", 1 / 3)],
)
def test_pair_weight(num_agents, kind, weight):
    assert pair_weight(num_agents, kind) == weight


def test_pair_weight_refuses():
    with pytest.raises(ValueError, match="num_agents must be at least 1, got 0"):
        pair_weight(0)
    with pytest.raises(ValueError, match="pair_weight must be 'paper'"):
        pair_weight(2, "none")
