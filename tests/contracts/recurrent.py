"""What tests of recurrent actors observe, and torch's own GRU with their weights."""

from __future__ import annotations

import torch
from contracts.episode_contract import ACTIONS, OBS
from tensordict import TensorDict
from torch import nn

from vm3ac_modules.keys import Keys

AGENTS, HIDDEN, ROWS, LATENT = 3, 8, 6, 2


def legal_actions(*batch):
    legal = torch.rand(*batch, AGENTS, ACTIONS) < 0.5
    legal[..., 1] = True
    return legal


def observe(*batch, keys=None, start=True):
    keys = Keys() if keys is None else keys
    td = TensorDict({}, batch)
    td[keys.observation] = torch.randn(*batch, AGENTS, OBS)
    td[keys.action_mask] = legal_actions(*batch)
    if start:
        td[keys.hidden] = torch.zeros(*batch, AGENTS, HIDDEN)
        td[keys.last_action] = -torch.ones(*batch, AGENTS, dtype=torch.long)
    return td


def torch_gru(gru, agent):
    """torch.nn.GRU with one agent's weights."""
    copy = nn.GRU(gru.input_map.weight.shape[-2], gru.hidden_size, batch_first=True).double()
    row = 0 if gru.input_map.weight.shape[0] == 1 else agent
    with torch.no_grad():
        copy.weight_ih_l0.copy_(gru.input_map.weight[row].T)
        copy.weight_hh_l0.copy_(gru.memory_map.weight[row].T)
        copy.bias_ih_l0.copy_(gru.input_map.bias[row, 0])
        copy.bias_hh_l0.copy_(gru.memory_map.bias[row, 0])
    return copy
