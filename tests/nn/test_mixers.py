"""Mixers: monotone, linear by shares, FOP's factorization; each against its formula in a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import elu, one_hot

from vm3ac_modules.nn import FOPMixer, LinearMixer, QMixer
from vm3ac_modules.nn.mixers import hypernetwork

STATE, AGENTS, ACTIONS, CRITICS = 7, 3, 4, 2


def randn(*shape, grad=False):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


# --- hypernetworks ----------------------------------------------------------------------------


def test_hypernetwork_layers():
    assert isinstance(hypernetwork(4, 6), nn.Linear)
    deep = hypernetwork(4, 6, layers=2, hidden_size=5)
    assert [type(layer) for layer in deep] == [nn.Linear, nn.ReLU, nn.Linear]
    assert deep[0].out_features == 5
    with pytest.raises(ValueError, match="1 or 2 layers, got 3"):
        hypernetwork(4, 6, layers=3)


# --- QMIX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_monotone_mixer_equals_a_loop(layers, batch):
    mixer = QMixer(STATE, AGENTS, embed_dim=6, hypernet_layers=layers).double()
    values, state = randn(*batch, AGENTS), randn(*batch, STATE)
    out = mixer(values, state)
    assert out.shape == batch
    w1 = mixer.w1(state).abs()
    hidden = mixer.b1(state)
    for i in range(AGENTS):
        hidden = hidden + values[..., i, None] * w1[..., 6 * i : 6 * (i + 1)]
    slow = sum(elu(hidden)[..., e] * mixer.w2(state).abs()[..., e] for e in range(6))
    torch.testing.assert_close(out, slow + mixer.b2(state)[..., 0])


@pytest.mark.parametrize("layers", [1, 2])
def test_no_agent_s_value_lowers_that_of_the_team(layers):
    mixer, values = QMixer(STATE, AGENTS, hypernet_layers=layers).double(), randn(50, 3, grad=True)
    mixer(values, 10.0 * randn(50, STATE)).sum().backward()
    assert (values.grad >= 0).all()
    assert (values.grad > 0).any(0).all()


# --- shares -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_shares_are_a_distribution_and_mixing_is_linear(batch):
    mixer, state = LinearMixer(STATE, AGENTS, embed_dim=6).double(), randn(*batch, STATE)
    shares = mixer.shares(state)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(batch, dtype=torch.float64))
    w1 = mixer.w1(state).abs().unflatten(-1, (AGENTS, 6))
    raw = torch.stack([(w1[..., i, :] * mixer.w2(state).abs()).sum(-1) for i in range(AGENTS)], -1)
    torch.testing.assert_close(shares, raw / raw.sum(-1, keepdim=True))
    left, right = randn(*batch, AGENTS), randn(*batch, AGENTS)
    both = mixer(2.0 * left + right, state)
    torch.testing.assert_close(both, 2.0 * mixer(left, state) + mixer(right, state))
    same = torch.full((*batch, AGENTS), 3.0, dtype=torch.float64)
    torch.testing.assert_close(mixer(same, state), same[..., 0])


def test_shares_when_all_weights_vanish():
    mixer = LinearMixer(STATE, AGENTS).double()
    for parameter in mixer.w2.parameters():
        nn.init.zeros_(parameter)
    shares = mixer.shares(randn(5, STATE))
    torch.testing.assert_close(shares, torch.full((5, 3), 1 / 3, dtype=torch.float64))
    shares[0, 0].backward()
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


# --- FOP --------------------------------------------------------------------------------------


def fop(weights="none", **options):
    if weights == "qatten":
        options |= {"weights": weights, "unit_dim": 2}
    return FOPMixer(STATE, AGENTS, ACTIONS, embed_dim=6, num_heads=4, **options).double()


def joint(*batch):
    return one_hot(torch.randint(ACTIONS, (*batch, AGENTS)), ACTIONS).double()


def credit_loop(mixer, state, action):
    """Every critic, agent and head by itself."""
    together = torch.cat((state, action.flatten(-2)), dim=-1)
    rows = []
    for k in range(CRITICS):
        key, agents, actions = (
            x @ layer.weight[k] + layer.bias[k, 0]
            for layer, x in ((mixer.key, state), (mixer.agents, state), (mixer.actions, together))
        )
        rows.append(
            torch.stack(
                [
                    sum(
                        (key[..., h].abs() + 1e-10)
                        * agents[..., AGENTS * h + i].sigmoid()
                        * actions[..., AGENTS * h + i].sigmoid()
                        for h in range(4)
                    )
                    for i in range(AGENTS)
                ],
                dim=-1,
            )
        )
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_factorization_equals_a_loop(batch):
    mixer, state, action = fop(), randn(*batch, STATE), joint(*batch)
    chosen, soft = randn(*batch, CRITICS, AGENTS), randn(*batch, CRITICS, AGENTS)
    weight = credit_loop(mixer, state, action)
    torch.testing.assert_close(mixer.credit(state, action), weight)
    layers = mixer.value.layers
    hidden = [state @ layers[0].weight[k] + layers[0].bias[k, 0] for k in range(CRITICS)]
    value = [h.relu() @ layers[1].weight[k] + layers[1].bias[k, 0] for k, h in enumerate(hidden)]
    slow = chosen.sum(-1) + torch.cat(value, -1) + ((weight - 1) * (chosen - soft)).sum(-1)
    torch.testing.assert_close(mixer(chosen, soft, state, action), slow)


def test_values_get_unit_credit_and_weights_learn_by_their_own_factor():
    mixer, state, action = fop(), randn(5, STATE), joint(5)
    chosen, soft = randn(5, CRITICS, AGENTS, grad=True), randn(5, CRITICS, AGENTS, grad=True)
    total = mixer(chosen, soft, state, action).sum()
    credit = [mixer.key.weight, mixer.agents.weight, mixer.actions.weight]
    own, baseline, *learned = torch.autograd.grad(total, [chosen, soft, *credit], allow_unused=True)
    assert torch.equal(own, torch.ones_like(own))
    assert baseline is None
    advantage = (chosen - soft).detach()
    expected = torch.autograd.grad((mixer.credit(state, action) * advantage).sum(), credit)
    for left, right in zip(learned, expected, strict=True):
        assert left.any()
        torch.testing.assert_close(left, right)


def test_weights_are_positive():
    weight = fop().credit(20.0 * randn(50, STATE), joint(50))
    assert (weight > 0).all()


def test_attention_weights_sum_to_the_heads():
    mixer, state = fop("qatten"), randn(5, STATE)
    weights = mixer.attention(state)
    assert weights.shape == (5, CRITICS, AGENTS)
    torch.testing.assert_close(weights.sum(-1), torch.full((5, CRITICS), 4.0, dtype=torch.float64))
    # Units are the state's first blocks, in order: swapping two of them swaps their scores.
    query = mixer.query(state.unsqueeze(-2).expand(5, CRITICS, STATE)).unflatten(-1, (4, 6))
    units = state[:, :6].reshape(5, AGENTS, 2)
    for k in range(CRITICS):
        keys = (units @ mixer.unit.weight[k]).unflatten(-1, (4, 6))
        score = torch.stack(
            [(query[:, k, h, None] * keys[:, :, h]).sum(-1) for h in range(4)], dim=1
        )
        torch.testing.assert_close(weights[:, k], (score / 6**0.5).softmax(-1).sum(1) + 1e-10)


def test_attention_multiplies_values_before_the_factorization():
    mixer, state, action = fop("qatten"), randn(5, STATE), joint(5)
    chosen, soft = randn(5, CRITICS, AGENTS), randn(5, CRITICS, AGENTS)
    weights = mixer.attention(state)
    mixed = mixer(chosen, soft, state, action)
    mixer.query = None
    torch.testing.assert_close(mixed, mixer(weights * chosen, weights * soft, state, action))


@pytest.mark.parametrize("unit_dim", [None, 0, 3])
def test_blocks_that_the_state_cannot_hold(unit_dim):
    with pytest.raises(ValueError, match=rf"needs unit_dim.*\(7 for 3 agents\), got {unit_dim}"):
        FOPMixer(STATE, AGENTS, ACTIONS, weights="qatten", unit_dim=unit_dim)


def test_unknown_weights_and_no_attention():
    with pytest.raises(ValueError, match="weights must be 'none' or 'qatten', got 'some'"):
        FOPMixer(STATE, AGENTS, ACTIONS, weights="some")
    with pytest.raises(ValueError, match="built with weights='none'"):
        fop().attention(randn(5, STATE))
