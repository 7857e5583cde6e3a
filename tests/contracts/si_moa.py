"""SI-MOA's networks and its loss at the sizes of the tests."""

from __future__ import annotations

from typing import NamedTuple

import torch
from contracts.loss_contract import (
    ACTION_DIM,
    OBS_DIM,
    make_batch,
    make_parts,
    to_double,
    with_updater,
)

from vm3ac_modules.baselines import SIMOALoss
from vm3ac_modules.nn import NextActionNet

GAMMA = 0.9


class SIMOAParts(NamedTuple):
    policy: object
    qvalue: object
    value: object
    moa: object


def make_simoa_parts(num_agents=2, *, keys=None, **options):
    parts = make_parts(num_agents, keys=keys, **options)
    return SIMOAParts(*parts[:3], NextActionNet(OBS_DIM, ACTION_DIM, num_agents, hidden=(8, 8)))


def build(num_agents=3, **options):
    """A loss in float64 whose target differs from its value, a batch with ends of episodes."""
    parts = [part.double() for part in make_simoa_parts(num_agents, latent_dim=0)]
    options = {"gamma": GAMMA, "influence_weight": 0.75, "num_counterfactuals": 5, **options}
    loss = with_updater(SIMOALoss(*parts, **options)).double()
    with torch.no_grad():
        for target in loss.target_value_network_params.values(True, True):
            target.add_(0.1 * torch.randn_like(target))
    td = to_double(make_batch(7, num_agents=num_agents))
    td["next", "terminated"][::3] = True
    # Rows 0, 3 and 6 terminate, row 1 is cut by the time limit.
    valid = torch.tensor([False, False, True, False, True, True, False])
    td["agents", "next_action_valid"] = valid.reshape(7, 1, 1).expand(7, num_agents, 1).clone()
    return loss, td, loss.draw_noise(td)
