"""The attention critic against explicit loops, and what it may depend on."""

from __future__ import annotations

import math

import pytest
import torch

from vm3ac_modules.functional.pairwise import own_first
from vm3ac_modules.modules.critics import make_action_value
from vm3ac_modules.nn import AttentionCriticNet

OBS, ACT, AGENTS, WIDTH, HEADS = 3, 2, 4, 8, 2


@pytest.fixture
def net():
    torch.manual_seed(0)
    options = {"hidden": (WIDTH, 5), "num_heads": HEADS, "num_critics": 2}
    return AttentionCriticNet(OBS, ACT, AGENTS, **options).double()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    observation = torch.randn(3, AGENTS, OBS, dtype=torch.float64)
    return observation, torch.randn(3, AGENTS, ACT, dtype=torch.float64)


def by_loops(net, observation, action, critic, agent):
    """One critic of one agent on one situation, written out."""

    def apply(layer, x):
        bias = 0.0 if layer.bias is None else layer.bias[critic, agent, 0]
        return x @ layer.weight[critic, agent] + bias

    own = apply(net.own_layer, torch.cat((observation[agent], action[agent]))).relu()
    heads = WIDTH // HEADS
    keys, values = [], []
    for j in (j for j in range(AGENTS) if j != agent):
        one_hot = torch.eye(AGENTS, dtype=own.dtype)[j]
        e = apply(net.partner_layer, torch.cat((observation[j], one_hot, action[j]))).relu()
        keys.append(apply(net.key, e))
        values.append(apply(net.value, e).relu())
    query, context = apply(net.query, own), []
    for h in range(HEADS):
        part = slice(h * heads, (h + 1) * heads)
        scores = torch.stack([key[part] @ query[part] / math.sqrt(heads) for key in keys])
        weights = scores.softmax(0)
        context.append(sum(w * v[part] for w, v in zip(weights, values, strict=True)))
    x = torch.cat((own, *context))
    for index, layer in enumerate(net.trunk.layers):
        x = apply(layer, x.relu() if index else x)
    return x.squeeze()


def test_equals_the_loops(net, inputs):
    observation, action = inputs
    values = net(observation, own_first(action))
    assert values.shape == (3, AGENTS, 2)
    for row in range(3):
        for agent in range(AGENTS):
            for critic in range(2):
                expected = by_loops(net, observation[row], action[row], critic, agent)
                torch.testing.assert_close(values[row, agent, critic], expected)


def test_stacked_copies_are_separate(inputs):
    observation, action = (x.float() for x in inputs)
    options = {"hidden": (WIDTH,), "num_heads": HEADS}
    stacked = AttentionCriticNet(OBS, ACT, AGENTS, stack_shape=(2,), **options)
    two = (torch.stack((observation,) * 2), torch.stack((own_first(action),) * 2))
    together = stacked(*two)
    alone = AttentionCriticNet(OBS, ACT, AGENTS, **options)
    for seed in range(2):
        alone.load_state_dict({k: v[seed] for k, v in stacked.state_dict().items()})
        torch.testing.assert_close(together[seed], alone(observation, own_first(action)))
    assert not torch.allclose(together[0], together[1])


def test_one_agent_and_state_values():
    lone = AttentionCriticNet(OBS, 0, 1, hidden=(WIDTH,), num_heads=HEADS)
    assert lone(torch.randn(3, 1, OBS)).shape == (3, 1, 1)


def test_size_hardly_grows_with_the_number_of_agents():
    def size(num_agents, **options):
        net = AttentionCriticNet(10, 2, num_agents, share_params=True, **options)
        return sum(p.numel() for p in net.parameters())

    # Beyond the one-hot of a partner, nothing depends on how many there are.
    assert size(20) - size(10) == 10 * 128


def test_unusable_options():
    with pytest.raises(ValueError, match="num_heads must divide the width 8, got 3"):
        AttentionCriticNet(OBS, ACT, 2, hidden=(8,), num_heads=3)
    with pytest.raises(ValueError, match="num_critics >= 1 and a hidden layer"):
        AttentionCriticNet(OBS, ACT, 2, hidden=())
    with pytest.raises(ValueError, match="built for latent_dim=0"):
        AttentionCriticNet(OBS, 0, 2)(torch.zeros(3, 2, OBS), latent=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="critic_input='observations'"):
        make_action_value(OBS, ACT, 2, critic_input="state", state_dim=3, form="attention")


def test_the_latent_counts():
    net = AttentionCriticNet(OBS, 0, 2, hidden=(WIDTH,), num_heads=HEADS, latent_dim=4)
    observation = torch.randn(3, 2, OBS)
    with_zero = net(observation, latent=torch.zeros(3, 4))
    assert not torch.allclose(with_zero, net(observation, latent=torch.ones(3, 4)))
