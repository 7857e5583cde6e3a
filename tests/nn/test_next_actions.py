"""The model of other agents: which inputs, which owner, which partner."""

from __future__ import annotations

import pytest
import torch
from contracts.next_actions import next_action_loop

from vm3ac_modules.nn import NextActionNet

OBS, ACTION = 4, 2


def next_action_net(num_agents=3, **options):
    return NextActionNet(OBS, ACTION, num_agents, **{"hidden": (8, 6), **options}).double()


def model_inputs(*batch, num_agents=3, draws=5):
    return (
        torch.randn(*batch, num_agents, OBS, dtype=torch.float64),
        torch.rand(*batch, num_agents, ACTION, dtype=torch.float64),
        torch.rand(*batch, draws, num_agents, ACTION, dtype=torch.float64),
    )


@pytest.mark.parametrize("batch", [(), (7,), (2, 7)])
@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
@pytest.mark.parametrize("num_agents", [2, 3, 4])
def test_model_equals_one_network_per_owner(batch, hidden, num_agents):
    net, x = next_action_net(num_agents, hidden=hidden), model_inputs(*batch, num_agents=num_agents)
    out = net(*x)
    assert out.shape == (*batch, 5, num_agents, num_agents - 1, ACTION)
    torch.testing.assert_close(out, next_action_loop(net, *x), rtol=1e-12, atol=1e-12)


def test_gradient_equals_that_of_the_loop():
    net, x = next_action_net(), [part.requires_grad_() for part in model_inputs(7)]
    leaves = [*net.parameters(), *x]
    fast = torch.autograd.grad(net(*x).square().sum(), leaves)
    slow = torch.autograd.grad(next_action_loop(net, *x).square().sum(), leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_one_agent_has_nobody_to_predict():
    x = model_inputs(7, num_agents=1)
    assert next_action_net(1)(*x).shape == (7, 5, 1, 0, ACTION)


def test_owners_do_not_influence_each_other():
    net = next_action_net()
    for owner in range(3):
        out = net(*model_inputs(7))[..., owner, :, :]
        for gradient in torch.autograd.grad(out.sum(), list(net.parameters())):
            assert (gradient[owner] != 0).any()
            assert (gradient[[other for other in range(3) if other != owner]] == 0).all()


def test_an_owner_sees_its_own_observation_and_its_partners_actions():
    net, x = next_action_net(), [part.requires_grad_() for part in model_inputs(7)]
    for owner in range(3):
        others = [other for other in range(3) if other != owner]
        observation, action, own = torch.autograd.grad(net(*x)[..., 2, owner, :, :].sum(), x)
        # Its own action is what it is asked about, so that of the joint action is not read.
        for seen, unseen in ((observation, others), (action, [owner]), (own[:, 2], others)):
            read = [agent for agent in range(3) if agent not in unseen]
            assert (seen[:, read] != 0).any(-1).any(0).all()
            assert (seen[:, unseen] == 0).all()
        assert (own[:, [0, 1, 3, 4]] == 0).all()


def test_partners_are_told_apart_and_stand_in_ascending_order():
    net, x = next_action_net(), model_inputs(7)
    before = net(*x)
    assert not torch.allclose(before[..., 0, :], before[..., 1, :])
    with torch.no_grad():
        net.partner_layer.weight[1, 2] += 1.0  # what owner 1 knows of partner 2
    changed = (net(*x) != before).any(-1).any(0).any(0)
    assert changed.tolist() == [[False, False], [False, True], [False, False]]


def test_outputs_are_within_the_action_range():
    net, x = next_action_net(), model_inputs(7)
    with torch.no_grad():
        net.trunk.layers[-1].weight.mul_(1e4)
    assert net(*x).abs().max() == 1.0


def test_first_layer_starts_as_one_layer_over_all_inputs():
    net = NextActionNet(12, 4, 3, hidden=(500,))
    bound = (12 + 2 * 4 + 4 + 3) ** -0.5
    for parameter in (*net.rest_layer.parameters(), net.own_layer.weight, net.partner_layer.weight):
        assert 0.95 * bound < parameter.abs().max() <= bound
    assert net.own_layer.bias is None
    assert net.partner_layer.bias is None


@pytest.mark.parametrize("num_agents", [1, 3])
def test_stacked_models_equal_separate_ones(num_agents):
    stacked = next_action_net(num_agents, stack_shape=(4,))
    single = next_action_net(num_agents)
    x = model_inputs(4, 7, num_agents=num_agents)
    out = stacked(*x)
    for seed in range(4):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        expected = single(*(part[seed] for part in x))
        torch.testing.assert_close(out[seed], expected, rtol=1e-12, atol=1e-12)


def test_vmap_over_stacked_models_equals_the_stacked_form():
    stacked, single, x = next_action_net(stack_shape=(4,)), next_action_net(), model_inputs(4, 7)
    out = torch.func.vmap(lambda params, *x: torch.func.functional_call(single, params, x))(
        dict(stacked.named_parameters()), *x
    )
    torch.testing.assert_close(out, stacked(*x))


def test_number_of_agents_is_checked():
    with pytest.raises(ValueError, match=r"built for 3 agents, got \(7, 2, 2\)"):
        next_action_net()(*model_inputs(7, num_agents=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": ()}, "at least one hidden layer"), ({"num_agents": 0}, "at least 1, got 0")],
)
def test_unusable_model_options(options, message):
    with pytest.raises(ValueError, match=message):
        next_action_net(**options)
