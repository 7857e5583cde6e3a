"""The pair grid: twins, permutations, and a diagonal that nothing may read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import (
    fill_diagonal_zero,
    gather_others,
    gather_pairs,
    others_index,
    own_first,
    own_gradient_joint_action,
    pair_sum,
    scatter_others,
)
from vm3ac_modules.testing import pair_sum_loop, tensor_batches


def permutation_of(num_agents, seed):
    return torch.randperm(num_agents, generator=torch.Generator().manual_seed(seed))


def permuted(x, order, dims):
    for dim in dims:
        x = x.index_select(dim, order)
    return x


@pytest.mark.parametrize("num_agents", [1, 2, 5])
def test_others_index_lists_everyone_else_in_order(num_agents):
    expected = [[j for j in range(num_agents) if j != i] for i in range(num_agents)]
    assert others_index(num_agents).tolist() == expected


def test_no_agent_is_refused():
    with pytest.raises(ValueError, match="num_agents must be at least 1, got 0"):
        others_index(0)


@given(tensor_batches("*NN"))
def test_pair_sum_is_the_double_loop(drawn):
    torch.testing.assert_close(pair_sum(drawn[0]), pair_sum_loop(drawn[0]))


@given(tensor_batches("*NN"))
def test_gather_and_scatter_are_inverse(drawn):
    (pairs,) = drawn
    num_agents = pairs.shape[-1]
    partners = pairs.gather(-1, others_index(num_agents).expand(*pairs.shape[:-1], -1))
    square = scatter_others(partners)
    torch.testing.assert_close(square, fill_diagonal_zero(pairs))
    assert (square.diagonal(dim1=-2, dim2=-1) == 0).all()


@given(tensor_batches("*NA"))
def test_gather_others_and_own_first_place_every_row(drawn):
    (x,) = drawn
    others, joint = gather_others(x), own_first(x)
    num_agents = x.shape[-2]
    for i in range(num_agents):
        rest = [j for j in range(num_agents) if j != i]
        torch.testing.assert_close(others[..., i, :, :], x[..., rest, :])
        torch.testing.assert_close(joint[..., i, :, :], x[..., [i, *rest], :])


@given(tensor_batches("*NN"), st.integers(0, 2**16))
def test_permuting_agents_permutes_pair_sums(drawn, seed):
    (pairs,) = drawn
    order = permutation_of(pairs.shape[-1], seed)
    torch.testing.assert_close(
        pair_sum(permuted(pairs, order, (-2, -1))), permuted(pair_sum(pairs), order, (-1,))
    )


@given(tensor_batches("*NA"), st.integers(0, 2**16))
def test_permuting_agents_permutes_what_others_do(drawn, seed):
    # Partners keep ascending order, so only their set is permuted: compare a symmetric function.
    (x,) = drawn
    order = permutation_of(x.shape[-2], seed)
    for function in (gather_others, own_first):
        one = function(permuted(x, order, (-2,))).sum(-2)
        torch.testing.assert_close(one, permuted(function(x).sum(-2), order, (-2,)))


@given(tensor_batches("*NN"))
def test_nan_on_the_diagonal_reaches_neither_values_nor_gradients(drawn):
    (pairs,) = drawn
    clean = pairs.clone().requires_grad_()
    dirty = pairs.clone()
    dirty.diagonal(dim1=-2, dim2=-1).fill_(math.nan)
    dirty.requires_grad_()
    torch.testing.assert_close(pair_sum(dirty), pair_sum(clean))
    grads = [torch.autograd.grad(pair_sum(leaf).square().sum(), leaf)[0] for leaf in (dirty, clean)]
    torch.testing.assert_close(*grads)
    assert (grads[0].diagonal(dim1=-2, dim2=-1) == 0).all()


@pytest.mark.parametrize("shape", [(2, 3), (3,)])
def test_what_is_no_pair_matrix_is_refused(shape):
    with pytest.raises(ValueError, match=r"a pair matrix is \[\*B, N, N\], got shape"):
        fill_diagonal_zero(torch.zeros(shape))


@given(tensor_batches("*NA"))
def test_joint_action_carries_the_own_gradient_only(drawn):
    action = drawn[0].requires_grad_()
    joint = own_gradient_joint_action(action)
    torch.testing.assert_close(joint, own_first(action))
    num_agents = action.shape[-2]
    for i in range(num_agents):
        grad = torch.autograd.grad(joint[..., i, :, :].sum(), action, retain_graph=True)[0]
        own = torch.arange(num_agents).unsqueeze(-1) == i
        torch.testing.assert_close(grad, own.expand_as(grad).to(grad.dtype))


@given(tensor_batches("*NA"))
def test_summed_rows_give_the_gradients_of_separate_losses(drawn):
    action = drawn[0].requires_grad_()
    value = own_gradient_joint_action(action).square().sum((-2, -1)).exp()
    together = torch.autograd.grad(value.sum(), action)[0]
    for i in range(action.shape[-2]):
        rows = [row if j == i else row.detach() for j, row in enumerate(action.unbind(-2))]
        alone = torch.stack(rows, -2).square().sum((-2, -1)).exp().sum()
        expected = torch.autograd.grad(alone, action)[0]
        torch.testing.assert_close(together[..., i, :], expected[..., i, :])


@given(tensor_batches("*NA", "*NN", dtype=torch.float32))
def test_dtype_is_kept_and_batches_flatten(drawn):
    action, pairs = drawn
    batch = pairs.shape[:-2]
    flat = pairs.reshape(-1, *pairs.shape[-2:])
    torch.testing.assert_close(pair_sum(flat).reshape(*batch, -1), pair_sum(pairs))
    for out in (pair_sum(pairs), gather_others(action), own_first(action)):
        assert out.dtype == torch.float32


@given(tensor_batches("*NN"))
def test_a_grid_and_a_matrix_hold_the_same_pairs(drawn):
    (matrix,) = drawn
    grid = gather_pairs(matrix)
    torch.testing.assert_close(scatter_others(grid), fill_diagonal_zero(matrix))
    torch.testing.assert_close(gather_pairs(scatter_others(grid)), grid)
    torch.testing.assert_close(pair_sum(grid), pair_sum(matrix))
