"""What tests of recurrent actors observe."""

from __future__ import annotations

import torch
from contracts.episode_contract import ACTIONS, OBS
from tensordict import TensorDict

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
