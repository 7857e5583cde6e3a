"""Recurrent networks: torch's own GRU, episodes inside a sequence, where a latent enters."""

from __future__ import annotations

import pytest
import torch
from contracts.recurrent import torch_gru
from torch.nn.functional import one_hot

from vm3ac_modules.nn import AgentGRU, RecurrentPolicyNet
from vm3ac_modules.nn.recurrent import one_hot_or_zeros

AGENTS, IN, HIDDEN, OBS, ACTIONS, LATENT = 3, 4, 6, 4, 5, 3


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("start", [True, False])
def test_equals_the_gru_of_torch(share_params, start):
    gru = AgentGRU(IN, HIDDEN, AGENTS, share_params=share_params).double()
    x, memory = randn(5, 7, AGENTS, IN), randn(5, AGENTS, HIDDEN) if start else None
    memories, last = gru(x, memory)
    for agent in range(AGENTS):
        begin = memory[:, agent].unsqueeze(0).contiguous() if start else None
        expected, end = torch_gru(gru, agent)(x[:, :, agent], begin)
        torch.testing.assert_close(memories[:, :, agent], expected)
        torch.testing.assert_close(last[:, agent], end[0])


def test_weights_start_as_those_of_torch():
    gru = AgentGRU(IN, 100, AGENTS)
    for parameter in gru.parameters():
        assert 0.09 < parameter.abs().max() <= 0.1


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_leading_dimensions(batch):
    gru, x = AgentGRU(IN, HIDDEN, AGENTS).double(), randn(*batch, 7, AGENTS, IN)
    memories, last = gru(x)
    assert memories.shape == (*batch, 7, AGENTS, HIDDEN)
    assert torch.equal(memories[..., -1, :, :], last)
    flat, _ = gru(x.reshape(-1, 7, AGENTS, IN))
    torch.testing.assert_close(flat.reshape(memories.shape), memories)


def test_chunks_equal_the_whole():
    gru, x = AgentGRU(IN, HIDDEN, AGENTS).double(), randn(5, 7, AGENTS, IN)
    whole, _ = gru(x)
    first, memory = gru(x[:, :3])
    second, _ = gru(x[:, 3:], memory)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)


@pytest.mark.parametrize("trailing", [(), (1,)])
def test_episodes_inside_a_sequence_equal_separate_ones(trailing):
    gru, x = AgentGRU(IN, HIDDEN, AGENTS).double(), randn(2, 7, AGENTS, IN)
    is_init = torch.zeros(2, 7, dtype=torch.bool)
    is_init[0, 3] = is_init[1, 0] = True
    # What lies before an episode does not matter, not even in its first row.
    memory = randn(2, AGENTS, HIDDEN)
    together, _ = gru(x, memory, is_init.reshape(2, 7, *trailing))
    before, _ = gru(x[:1, :3], memory[:1])
    torch.testing.assert_close(together[:1, :3], before)
    torch.testing.assert_close(together[:1, 3:], gru(x[:1, 3:])[0])
    torch.testing.assert_close(together[1:], gru(x[1:])[0])


def test_memory_of_another_shape():
    with pytest.raises(ValueError, match=r"expected a memory \[5, 3, 6\], got \[5, 6\]"):
        AgentGRU(IN, HIDDEN, AGENTS)(torch.zeros(5, 7, AGENTS, IN), torch.zeros(5, HIDDEN))


# --- policies ---------------------------------------------------------------------------------


def policy(**options):
    options = {"hidden_size": HIDDEN, **options}
    return RecurrentPolicyNet(OBS, ACTIONS, AGENTS, **options).double()


def affine(layer, agent, x):
    row = 0 if layer.weight.shape[0] == 1 else agent
    out = x @ layer.weight[row]
    return out if layer.bias is None else out + layer.bias[row, 0]


def steps(*batch):
    last = one_hot(torch.randint(ACTIONS, (*batch, AGENTS)), ACTIONS).double()
    return randn(*batch, AGENTS, OBS), last


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize(
    ("latent_dim", "where"), [(0, "head"), (LATENT, "head"), (LATENT, "input")]
)
def test_policy_equals_a_loop_over_agents(share_params, latent_dim, where):
    net = policy(share_params=share_params, latent_dim=latent_dim, latent_input=where)
    observation, last = steps(5, 7)
    latent = randn(5, 7, LATENT) if latent_dim else None
    memory, end = net.unroll(observation, last, latent)
    scores = net.score(memory, latent)
    assert torch.equal(end, memory[:, -1])
    for i in range(AGENTS):
        index = one_hot(torch.tensor(i), AGENTS).double().expand(5, 7, AGENTS)
        parts = [observation[:, :, i], last[:, :, i], index]
        parts += [latent] if where == "input" else []
        embedded = affine(net.embed, i, torch.cat(parts, -1)).relu()
        own, _ = torch_gru(net.gru, i)(embedded)
        torch.testing.assert_close(memory[:, :, i], own)
        if latent_dim and where == "head":
            own = (affine(net.from_memory, i, own) + affine(net.from_latent, i, latent)).relu()
        torch.testing.assert_close(scores[:, :, i], affine(net.head, i, own))


def test_all_outcomes_of_a_latent_at_once():
    net = policy(latent_dim=LATENT)
    memory, _ = net.unroll(*steps(5, 7))
    outcomes = torch.eye(LATENT, dtype=torch.float64)
    together = net.score(memory, outcomes[:, None, None])
    for outcome, scores in zip(outcomes, together, strict=True):
        torch.testing.assert_close(net.score(memory, outcome.expand(5, 7, -1)), scores)


@pytest.mark.parametrize("where", ["head", "input"])
def test_a_latent_per_agent(where):
    net = policy(latent_dim=LATENT, latent_input=where)
    observation, last = steps(5, 7)
    shared, own = randn(5, 7, LATENT), randn(5, 7, AGENTS, LATENT)

    def play(latent, **options):
        memory, _ = net.unroll(observation, last, latent, **options)
        return net.score(memory, latent, **options)

    same = shared.unsqueeze(-2).expand(5, 7, AGENTS, LATENT)
    torch.testing.assert_close(play(same, per_agent=True), play(shared))
    for i in range(AGENTS):
        alone = play(own[:, :, i])[:, :, i]
        torch.testing.assert_close(play(own, per_agent=True)[:, :, i], alone)


def test_a_latent_in_the_head_leaves_memories_alone():
    net, inputs = policy(latent_dim=LATENT), steps(5, 7)
    assert torch.equal(net.unroll(*inputs)[0], net.unroll(*inputs, randn(5, 7, LATENT))[0])


def test_agents_with_shared_weights_are_told_apart():
    net, (observation, last) = policy(), steps(5, 7)
    memory, _ = net.unroll(observation[:, :, :1].expand(5, 7, AGENTS, OBS), last * 0.0)
    assert not torch.allclose(memory[:, :, 0], memory[:, :, 1])


def test_missing_latent_and_unknown_place():
    with pytest.raises(ValueError, match="latent_input='input' needs the latent"):
        policy(latent_dim=2, latent_input="input").unroll(*steps(5, 7))
    with pytest.raises(ValueError, match="the policy reads a latent"):
        policy(latent_dim=2).score(randn(5, AGENTS, HIDDEN))
    with pytest.raises(ValueError, match=r"latent_input must be one of .*, got 'tail'"):
        policy(latent_dim=2, latent_input="tail")


def test_one_hot_or_zeros():
    rows = one_hot_or_zeros(torch.tensor([[2, -1], [0, 1]]), 3, torch.float64)
    assert rows.dtype == torch.float64
    assert rows.tolist() == [[[0, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]]]
