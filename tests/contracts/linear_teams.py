"""Teams whose actions are linear in z and the observation, so that correlations are known."""

from __future__ import annotations

import math

import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from vm3ac_modules.evaluation import gaussian_coordination
from vm3ac_modules.modules.actors import make_actor, make_policy
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.objectives import PolicyReader

NOISE, STATES, DRAWS = 0.03, 200, 100


def linear_policy(weights, *, slope=0.0):
    """Actions close to ``w_i z + slope o_i + NOISE n_i``: so small that tanh changes little."""
    num_agents = len(weights)
    actor = make_actor(1, 1, Bounded(-1.0, 1.0, (num_agents, 1)), hidden=(4,))
    net, pairs = actor[0].net, torch.tensor([1.0, -1.0])
    head = net.trunk.layers[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        # x = relu(x) - relu(-x): two units carry the latent, two the observation.
        net.latent_layer.weight[..., :2] = pairs
        net.observation_layer.weight[..., 2:] = pairs
        head.weight[:, :2, 0] = torch.tensor(weights).unsqueeze(-1) * pairs
        head.weight[:, 2:, 0] = slope * pairs
        head.bias[..., 1] = math.log(NOISE)
    return make_policy(LatentSampler(GaussianPrior(1)), actor)


def seen(num_agents=2, spread=0.0):
    """States in which all agents see the same number."""
    values = torch.linspace(-1.0, 1.0, STATES).reshape(-1, 1, 1).expand(-1, num_agents, -1)
    return TensorDict({("agents", "observation"): spread * values}, [STATES])


def measure(policy, states, **options):
    torch.manual_seed(0)
    options = {"num_latents": 32, "draws": DRAWS, **options}
    return gaussian_coordination(PolicyReader(policy), states, **options)
