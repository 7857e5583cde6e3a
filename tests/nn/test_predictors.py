"""The predictor's network: which owner, which direction, which inputs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, one_hot

from vm3ac_modules.nn import PairNet

OBS, ACTION, OUT = 4, 2, 3


def pair_net(num_agents=3, **options):
    return PairNet(OBS, ACTION, OUT, num_agents, **{"hidden": (8, 6), **options}).double()


def pair_inputs(*batch, num_agents=3):
    action = torch.randn(*batch, num_agents, ACTION, dtype=torch.float64)
    return action, torch.randn(*batch, num_agents, OBS, dtype=torch.float64)


def predicted(net, owner, condition, target, action, observation):
    """Row [i, c, t]: the owner's network on (a_c, o_c, onehot(c), o_t, onehot(t))."""
    ids = one_hot(torch.arange(net.num_agents), net.num_agents).to(action)
    batch = action.shape[:-2]
    x = torch.cat(
        (
            action[..., condition, :],
            observation[..., condition, :],
            ids[condition].expand(*batch, -1),
            observation[..., target, :],
            ids[target].expand(*batch, -1),
        ),
        dim=-1,
    )
    row = owner if net.net.layers[0].weight.shape[0] > 1 else 0
    for index, layer in enumerate(net.net.layers):
        x = linear(x.relu() if index else x, layer.weight[row].T, layer.bias[row, 0])
    return x


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
@pytest.mark.parametrize("share_params", [False, True])
@pytest.mark.parametrize("num_agents", [2, 3, 4])
def test_rows_are_partners_from_oneself_then_oneself_from_partners(batch, share_params, num_agents):
    net = pair_net(num_agents, share_params=share_params)
    action, observation = pair_inputs(*batch, num_agents=num_agents)
    out = net(action, observation)
    assert out.shape == (*batch, num_agents, 2 * (num_agents - 1), OUT)
    for i in range(num_agents):
        partners = [j for j in range(num_agents) if j != i]
        for slot, j in enumerate(partners):
            forward = predicted(net, i, i, j, action, observation)
            reverse = predicted(net, i, j, i, action, observation)
            torch.testing.assert_close(out[..., i, slot, :], forward)
            torch.testing.assert_close(out[..., i, num_agents - 1 + slot, :], reverse)


def test_one_direction_is_the_first_half_of_both():
    net, x = pair_net(), pair_inputs(5)
    torch.testing.assert_close(net(*x, both=False), net(*x)[:, :, :2])


def test_one_agent_has_no_rows():
    net = pair_net(1)
    x = pair_inputs(5, num_agents=1)
    assert net(*x).shape == (5, 1, 0, OUT)
    assert net(*x, both=False).shape == (5, 1, 0, OUT)


def test_owners_do_not_influence_each_other():
    net = pair_net()
    for owner in range(3):
        out = net(*pair_inputs(5))[:, owner]
        for grad in torch.autograd.grad(out.sum(), list(net.parameters())):
            assert (grad[owner] != 0).any()
            assert (grad[[other for other in range(3) if other != owner]] == 0).all()


def test_an_owner_reads_the_conditioning_action_only():
    net = pair_net()
    action, observation = pair_inputs(5)
    action.requires_grad_()
    for owner in range(3):
        partners = [j for j in range(3) if j != owner]
        for slot, partner in enumerate(partners):
            for row, read in ((slot, owner), (2 + slot, partner)):
                (grad,) = torch.autograd.grad(net(action, observation)[:, owner, row].sum(), action)
                assert (grad[:, read] != 0).any()
                assert (grad[:, [j for j in range(3) if j != read]] == 0).all()


def test_one_hots_tell_the_direction_and_the_partner():
    # Everything else is the same for all agents, so only the one-hots can tell rows apart.
    net = pair_net(share_params=True)
    action = torch.randn(ACTION, dtype=torch.float64).expand(3, ACTION)
    observation = torch.randn(OBS, dtype=torch.float64).expand(3, OBS)
    rows = net(action, observation)[0]
    for left in range(4):
        for right in range(left):
            assert not torch.allclose(rows[left], rows[right])


def test_shared_owners_agree_about_a_pair():
    # [i, c, t] is the same row for the owners c and t where they share the network.
    out = pair_net(share_params=True)(*pair_inputs(5))
    torch.testing.assert_close(out[:, 0, 0], out[:, 1, 2])
    torch.testing.assert_close(out[:, 2, 1], out[:, 1, 3])


def test_stacked_predictors_equal_separate_ones():
    stacked, single = pair_net(stack_shape=(4,)), pair_net()
    action, observation = pair_inputs(4, 5)
    out = stacked(action, observation)
    assert out.shape == (4, 5, 3, 4, OUT)
    for seed in range(4):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        expected = single(action[seed], observation[seed])
        torch.testing.assert_close(out[seed], expected, rtol=1e-12, atol=1e-12)


def test_vmap_over_stacked_predictors_equals_the_stacked_form():
    stacked, single = pair_net(stack_shape=(4,)), pair_net()
    x = pair_inputs(4, 5)
    out = torch.func.vmap(lambda params, *x: torch.func.functional_call(single, params, x))(
        dict(stacked.named_parameters()), *x
    )
    torch.testing.assert_close(out, stacked(*x))


@pytest.mark.parametrize("both", [False, True])
def test_predictor_network_compiles_into_one_graph(both):
    net, x = pair_net(), pair_inputs(5)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*x, both=both), net(*x, both=both))


@pytest.mark.parametrize("share_params", [False, True])
def test_number_of_agents_is_checked(share_params):
    net = pair_net(share_params=share_params)
    with pytest.raises(ValueError, match=r"built for 3 agents, got actions of 2 agents"):
        net(*pair_inputs(5, num_agents=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden": ()}, "at least one hidden layer"), ({"num_agents": 0}, "at least 1, got 0")],
)
def test_unusable_predictor_network_options(options, message):
    with pytest.raises(ValueError, match=message):
        pair_net(**options)
