"""The network over the joint situation, against a plain multilayer perceptron."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from vm3ac_modules.nn import JointNet

IN, OUT = 6, 3


def joint_loop(net, x):
    for index, layer in enumerate(net.net.layers):
        x = linear(x.relu() if index else x, layer.weight[0].T, layer.bias[0, 0])
    return x


def joint_net(**options):
    return JointNet(IN, OUT, **{"hidden": (8, 5), **options}).double()


@pytest.mark.parametrize("batch", [(), (7,), (2, 7), (2, 7, 3)])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_joint_network_is_a_multilayer_perceptron(batch, hidden):
    net, x = joint_net(hidden=hidden), torch.randn(*batch, IN, dtype=torch.float64)
    out = net(x)
    assert out.shape == (*batch, OUT)
    torch.testing.assert_close(out, joint_loop(net, x), rtol=1e-12, atol=1e-12)
    leaves = [*net.parameters(), x.requires_grad_()]
    fast = torch.autograd.grad(net(x).square().sum(), leaves)
    slow = torch.autograd.grad(joint_loop(net, x).square().sum(), leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [(), (5,)])
def test_stacked_networks_equal_separate_ones(rows):
    stacked, single = joint_net(stack_shape=(4,)), joint_net()
    x = torch.randn(4, 7, *rows, IN, dtype=torch.float64)
    out = stacked(x)
    assert out.shape == (4, 7, *rows, OUT)
    for seed in range(4):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        torch.testing.assert_close(out[seed], single(x[seed]), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(out[0], stacked(x[[1, 0, 2, 3]])[1])


def test_every_copy_starts_as_a_linear_layer_does():
    net = JointNet(100, OUT, hidden=(50,), stack_shape=(2,))
    for layer, bound in zip(net.net.layers, (0.1, 50**-0.5), strict=True):
        assert layer.weight.shape[0] == 2
        for weight in layer.weight:
            assert 0.9 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("stack_shape", "x"),
    [((), torch.zeros(7, IN + 1)), ((4,), torch.zeros(7, IN)), ((4,), torch.zeros(3, 7, IN))],
)
def test_input_that_does_not_fit(stack_shape, x):
    with pytest.raises(ValueError, match="does not fit weights"):
        joint_net(stack_shape=stack_shape)(x.double())
