"""The predictor of discrete actions: normalized, legal, and the same from one action or all."""

from __future__ import annotations

import pytest
import torch

from vm3ac_modules.functional.categorical import ILLEGAL
from vm3ac_modules.nn import HyperPairNet

STATE, AGENTS, ACTIONS = 6, 3, 5


def make(smoothing=0.01):
    torch.manual_seed(0)
    net = HyperPairNet(STATE, AGENTS, ACTIONS, embed_dim=8, hypernet_hidden=8, smoothing=smoothing)
    return net.double()


def inputs(*batch):
    state = 3 * torch.randn(*batch, STATE, dtype=torch.float64)
    mask = torch.rand(*batch, AGENTS, ACTIONS) < 0.5
    mask[..., 1] = True
    return state, mask


@pytest.mark.parametrize("batch", [(), (4,), (4, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.01])
def test_every_row_is_a_distribution_over_the_partners_legal_actions(batch, smoothing):
    net, (state, mask) = make(smoothing), inputs(*batch)
    table = net.table(state, mask)
    assert table.shape == (*batch, AGENTS, ACTIONS, AGENTS, ACTIONS)
    torch.testing.assert_close(table.exp().sum(-1), torch.ones_like(table[..., 0]))
    legal = mask[..., None, None, :, :].expand(table.shape)
    assert (table[~legal] < 0.5 * ILLEGAL).all()
    assert (table[~legal].exp() == 0).all()
    floor = 0.0 if smoothing == 0.0 else smoothing / ACTIONS
    assert (table[legal].exp() >= floor).all()


def test_one_action_is_a_row_of_the_table():
    net, (state, mask) = make(), inputs(4, 2)
    action = torch.randint(ACTIONS, (4, 2, AGENTS))
    rows, table = net(action, state, mask), net.table(state, mask)
    index = action[..., None, None, None].expand(4, 2, AGENTS, 1, AGENTS, ACTIONS)
    torch.testing.assert_close(rows, table.gather(3, index).squeeze(3))


def test_against_the_formula():
    net, (state, mask) = make(smoothing=0.0), inputs()
    i, a, j = 2, 3, 0
    one_hot = torch.eye(ACTIONS)[a], torch.eye(AGENTS)[i], torch.eye(AGENTS)[j]
    v = torch.cat(one_hot).double()
    first = net.w1(state).reshape(ACTIONS + 2 * AGENTS, 8)
    hidden = torch.nn.functional.elu(v @ first + net.b1(state))
    logits = hidden @ net.w2(state).reshape(8, ACTIONS) + net.b2(state)
    expected = torch.log_softmax(logits.masked_fill(~mask[j], -torch.inf), -1)
    found = net.table(state, mask)[i, a, j]
    torch.testing.assert_close(found[mask[j]], expected[mask[j]])


def test_a_dead_partner_is_predicted_for_certain():
    net, (state, mask) = make(), inputs(4)
    mask[:, 0] = torch.arange(ACTIONS) == 2
    assert net.table(state, mask)[:, :, :, 0, 2].abs().max() < 1e-12


def test_no_legal_action_is_padding_and_finite():
    net, (state, mask) = make(), inputs(4)
    table = net.table(state, torch.zeros_like(mask))
    torch.testing.assert_close(table.exp().sum(-1), torch.ones_like(table[..., 0]))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range(smoothing):
    with pytest.raises(ValueError, match="smoothing must be in"):
        make(smoothing)
