"""Agent-batched layers against one `torch.nn.functional.linear` per agent."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import linear

from vm3ac_modules.nn import AgentLinear, AgentMLP, agent_linear
from vm3ac_modules.nn.blocks import check_agents

BATCHES = [(), (5,), (2, 5), (2, 1, 5)]


def linear_loop(layer, x):
    """One call of `linear` per agent; a shared layer is the same map for each."""
    rows = []
    for agent in range(x.shape[-2]):
        own = agent if layer.weight.shape[-3] > 1 else 0
        bias = None if layer.bias is None else layer.bias[own, 0]
        rows.append(linear(x[..., agent, :], layer.weight[own].T, bias))
    return torch.stack(rows, dim=-2)


def mlp_loop(mlp, x):
    for index, layer in enumerate(mlp.layers):
        x = linear_loop(layer, x.relu() if index else x)
    return x


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("share_params", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_agents", [1, 3])
def test_linear_equals_a_loop_over_agents(batch, share_params, bias, num_agents):
    layer = AgentLinear(4, 6, num_agents, share_params=share_params, bias=bias).double()
    x = torch.randn(*batch, num_agents, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), linear_loop(layer, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("share_params", [False, True])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_mlp_equals_a_loop_over_agents(batch, share_params, hidden):
    mlp = AgentMLP(4, 2, 3, hidden=hidden, share_params=share_params).double()
    x = torch.randn(*batch, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(mlp(x), mlp_loop(mlp, x), rtol=1e-12, atol=1e-12)


def test_gradients_equal_those_of_the_loop():
    mlp = AgentMLP(4, 2, 3, hidden=(7,)).double()
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    leaves = [x, *mlp.parameters()]
    fast = torch.autograd.grad(mlp(x).square().sum(), leaves)
    slow = torch.autograd.grad(mlp_loop(mlp, x).square().sum(), leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", ["strided", "expanded"])
def test_memory_layout_of_the_input_does_not_matter(layout):
    mlp = AgentMLP(4, 2, 3, hidden=(7,)).double()
    if layout == "strided":
        x = torch.randn(3, 4, 5, dtype=torch.float64).permute(2, 0, 1)
    else:
        x = torch.randn(3, 4, dtype=torch.float64).expand(5, 3, 4)
    torch.testing.assert_close(mlp(x), mlp(x.contiguous()), rtol=1e-12, atol=1e-12)


def test_permuting_agents_permutes_outputs_of_shared_weights():
    mlp = AgentMLP(4, 2, 4, hidden=(7,), share_params=True)
    x, order = torch.randn(5, 4, 4), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(mlp(x[:, order]), mlp(x)[:, order])


def test_unshared_agents_have_different_networks():
    mlp = AgentMLP(4, 2, 3, hidden=(7,))
    y = mlp(torch.randn(4).expand(3, 4))
    assert not torch.isclose(y[0], y[1]).any()


def test_agents_do_not_influence_each_other():
    mlp = AgentMLP(4, 2, 3, hidden=(7,))
    x = torch.randn(5, 3, 4, requires_grad=True)
    for agent in range(3):
        grads = torch.autograd.grad(mlp(x)[:, agent].sum(), [*mlp.parameters(), x])
        others = [other for other in range(3) if other != agent]
        for grad in grads[:-1]:
            assert (grad[others] == 0).all()
            assert (grad[agent] != 0).any()
        assert (grads[-1][:, others] == 0).all()


@pytest.mark.parametrize("share_params", [False, True])
@pytest.mark.parametrize("stack_shape", [(2,), (2, 3)])
def test_stacked_copies_equal_separate_networks(share_params, stack_shape):
    options = {"hidden": (7,), "share_params": share_params}
    stacked = AgentMLP(4, 2, 3, stack_shape=stack_shape, **options).double()
    x = torch.randn(*stack_shape, 5, 3, 4, dtype=torch.float64)
    y = stacked(x)
    assert y.shape == (*stack_shape, 5, 3, 2)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in stack_shape)).reshape(
        -1, len(stack_shape)
    ):
        copy = tuple(index.tolist())
        single = AgentMLP(4, 2, 3, **options).double()
        single.load_state_dict({name: p[copy] for name, p in stacked.state_dict().items()})
        torch.testing.assert_close(y[copy], single(x[copy]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("share_params", [False, True])
def test_vmap_over_stacked_parameters_equals_the_stacked_form(share_params):
    options = {"hidden": (7,), "share_params": share_params}
    stacked = AgentMLP(4, 2, 3, stack_shape=(4,), **options)
    single = AgentMLP(4, 2, 3, **options)
    x = torch.randn(4, 5, 3, 4)
    y = torch.func.vmap(lambda params, x: torch.func.functional_call(single, params, (x,)))(
        dict(stacked.named_parameters()), x
    )
    torch.testing.assert_close(y, stacked(x))


@pytest.mark.parametrize("stack_shape", [(), (2,)])
@pytest.mark.parametrize("share_params", [False, True])
def test_one_graph_without_breaks(stack_shape, share_params):
    mlp = AgentMLP(4, 2, 3, hidden=(7,), share_params=share_params, stack_shape=stack_shape)
    x = torch.randn(*stack_shape, 5, 3, 4)
    torch._dynamo.reset()
    compiled = torch.compile(mlp, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), mlp(x))


def test_initial_range_is_that_of_a_linear_layer_over_all_summands():
    layer = AgentLinear(4, 500, 3, fan_in=16)
    assert layer.weight.abs().max() <= 0.25
    assert layer.weight.abs().max() > 0.24
    assert layer.bias.abs().max() <= 0.25
    plain = AgentLinear(4, 500, 3)
    assert 0.49 < plain.weight.abs().max() <= 1 / math.sqrt(4)


def test_reset_draws_anew():
    layer = AgentLinear(4, 6, 3)
    before = layer.weight.clone()
    layer.reset_parameters()
    assert (before != layer.weight).all()


def test_a_layer_without_inputs_returns_its_bias():
    layer = AgentLinear(0, 6, 3)
    torch.testing.assert_close(layer(torch.zeros(5, 3, 0)), layer.bias.squeeze(-2).expand(5, 3, 6))


def test_representation_shows_the_shape_of_the_weights():
    assert "weight=[3, 4, 6], bias=False" in repr(AgentLinear(4, 6, 3, bias=False))


@pytest.mark.parametrize("shape", [(5, 3, 5), (5, 2, 4), (3, 5)])
def test_input_that_does_not_fit_the_weights(shape):
    with pytest.raises(ValueError, match=r"does not fit weights \(3, 4, 6\)"):
        agent_linear(torch.zeros(shape), torch.zeros(3, 4, 6))


def test_input_without_the_stacked_dimension():
    with pytest.raises(ValueError, match="does not fit weights"):
        AgentMLP(4, 2, 3, stack_shape=(2,))(torch.zeros(5, 3, 4))


def test_input_of_the_wrong_size_for_shared_weights():
    with pytest.raises(ValueError, match=r"\*B, N, 4"):
        AgentLinear(4, 2, 3, share_params=True)(torch.zeros(5, 3, 5))


@pytest.mark.parametrize("num_agents", [0, -1])
def test_no_agents(num_agents):
    with pytest.raises(ValueError, match="num_agents must be at least 1"):
        check_agents(num_agents)
    with pytest.raises(ValueError, match="num_agents must be at least 1"):
        AgentLinear(4, 2, num_agents)
