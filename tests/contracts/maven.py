"""MAVEN's networks and its loss at the sizes of the tests."""

from __future__ import annotations

from typing import NamedTuple

import torch
from contracts.loss_contract import (
    ACTION_DIM,
    LATENT_DIM,
    OBS_DIM,
    action_spec,
    make_batch,
    to_double,
    with_updater,
)
from torch.nn.functional import one_hot

from vm3ac_modules.baselines import EpisodeLatentPolicy, MAVENLoss
from vm3ac_modules.modules.actors import make_actor
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.nn import JointNet

GAMMA = 0.9


class MAVENParts(NamedTuple):
    policy: object
    qvalue: object
    value: object
    discriminator: object
    prior: object


def make_maven_parts(
    num_agents=2, *, keys=None, discriminator_hidden=(8, 8), stack_shape=(), **prior
):
    spec, situation = action_spec(num_agents), num_agents * OBS_DIM
    options = {"hidden": (8, 8), "keys": keys, "stack_shape": stack_shape}
    critic = {"latent_dim": LATENT_DIM, **options}
    joint = situation + num_agents * ACTION_DIM
    return MAVENParts(
        make_actor(OBS_DIM, LATENT_DIM, spec, **options),
        make_action_value(OBS_DIM, ACTION_DIM, num_agents, **critic),
        make_state_value(OBS_DIM, num_agents, **critic),
        JointNet(joint, LATENT_DIM, hidden=discriminator_hidden, stack_shape=stack_shape),
        EpisodeLatentPolicy(situation, LATENT_DIM, **{**options, **prior}),
    )


def build(num_agents=3, *, discriminator_hidden=(8, 8), **options):
    """A loss in float64 whose target differs from its value, and episodes' transitions."""
    parts = make_maven_parts(num_agents, discriminator_hidden=discriminator_hidden)
    parts = [part.double() for part in parts]
    loss = with_updater(MAVENLoss(*parts, **{"gamma": GAMMA, **options})).double()
    with torch.no_grad():
        for target in loss.target_value_network_params.values(True, True):
            target.add_(0.1 * torch.randn_like(target))
    td = to_double(make_batch(7, num_agents=num_agents))
    td["latent"] = one_hot(torch.arange(7) % LATENT_DIM, LATENT_DIM).double()
    td["next", "latent"] = td["latent"].clone()
    td["next", "terminated"][::3] = True
    return loss, td, loss.draw_noise(td)
