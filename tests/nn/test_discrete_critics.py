"""The critics of DOP, LICA and VDAC, each against its formula in loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from vm3ac_modules.nn import DecomposedCriticNet, LICACritic, QMixer, ValueHead

OBS, STATE, ACTIONS, AGENTS = 4, 7, 5, 3
BATCHES = [(), (6,), (2, 6)]


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# --- DOP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_decomposed_critic_equals_a_loop(batch, hidden):
    net = DecomposedCriticNet(OBS, STATE, ACTIONS, AGENTS, hidden=hidden, embed_dim=4).double()
    state, observation = randn(*batch, STATE), randn(*batch, AGENTS, OBS)
    values, shares = net(state, observation)
    assert torch.equal(shares, net.mixer.shares(state))
    first = torch.cat((net.from_state.weight[0], net.from_agent.weight[0]))
    for i in range(AGENTS):
        index = one_hot(torch.tensor(i), AGENTS).double().expand(*batch, AGENTS)
        x = torch.cat((state, observation[..., i, :], index), dim=-1)
        x = x @ first + net.from_agent.bias[0, 0]
        for layer in net.heads.layers:
            x = x.relu() @ layer.weight[0] + layer.bias[0, 0]
        torch.testing.assert_close(values[..., i, :], x[..., :ACTIONS] + x[..., ACTIONS:])


def test_first_layer_starts_as_one():
    net = DecomposedCriticNet(40, 50, ACTIONS, 10, hidden=(64,))
    for layer in (net.from_state, net.from_agent):
        assert 0.09 < layer.weight.abs().max() <= 0.1
    with pytest.raises(ValueError, match="at least one hidden layer"):
        DecomposedCriticNet(OBS, STATE, ACTIONS, AGENTS, hidden=())


# --- LICA -------------------------------------------------------------------------------------


def lica(**options):
    return LICACritic(STATE, ACTIONS, AGENTS, **{"embed_dim": 6, **options}).double()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("bottleneck", [None, 3])
def test_critic_of_the_joint_policy_equals_a_loop(batch, bottleneck):
    net, state = lica(bottleneck=bottleneck), randn(*batch, STATE)
    policy = randn(*batch, AGENTS, ACTIONS).softmax(-1)
    hidden, w1 = net.b1(state), net.w1(state)
    for i in range(AGENTS):
        for a in range(ACTIONS):
            start = (i * ACTIONS + a) * 6
            hidden = hidden + policy[..., i, a, None] * w1[..., start : start + 6]
    expected = (hidden.relu() * net.w2(state)).sum(-1) + net.b2(state)[..., 0]
    out = net(state, policy)
    assert out.shape == batch
    torch.testing.assert_close(out, expected)


def test_bottleneck_shrinks_the_large_hypernetwork():
    assert lica().w1[0].out_features == 6 * AGENTS * ACTIONS
    assert lica(bottleneck=3).w1[0].out_features == 3
    with pytest.raises(ValueError, match="bottleneck must be at least 1, got 0"):
        lica(bottleneck=0)


def test_critic_is_not_monotone():
    net = lica()
    policy = torch.full((200, AGENTS, ACTIONS), 0.2, dtype=torch.float64).requires_grad_()
    net(randn(200, STATE), policy).sum().backward()
    assert (policy.grad > 0).any()
    assert (policy.grad < 0).any()


# --- VDAC -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_value_head(batch, share_params):
    mixer = QMixer(STATE, AGENTS, embed_dim=4)
    mixed = ValueHead(8, AGENTS, mixer, share_params=share_params).double()
    memory, state = randn(*batch, AGENTS, 8), randn(*batch, STATE)
    own = [
        (memory[..., i, :] * mixed.head.weight[0 if share_params else i, :, 0]).sum(-1)
        + mixed.head.bias[0 if share_params else i, 0, 0]
        for i in range(AGENTS)
    ]
    torch.testing.assert_close(mixed.individual(memory), torch.stack(own, -1))
    torch.testing.assert_close(mixed(memory, state), mixer(torch.stack(own, -1), state))
    mixed.mixer = None
    torch.testing.assert_close(mixed(memory, state), sum(own))


def test_value_of_the_team_rises_with_every_agent_s():
    head = ValueHead(8, AGENTS, QMixer(STATE, AGENTS)).double()
    values = []

    def keep(module, inputs, output):
        output.retain_grad()
        values.append(output)

    head.head.register_forward_hook(keep)
    head(randn(50, AGENTS, 8), randn(50, STATE)).sum().backward()
    assert (values[0].grad >= 0).all()
    assert (values[0].grad > 0).any(0).all()
