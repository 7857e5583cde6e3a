"""Small teams whose agents are exported."""

from __future__ import annotations

import torch
from torchrl.data import Bounded

import vm3ac_modules as vm
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, make_recurrent_policy
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor, make_utility_policy
from vm3ac_modules.nn import LatentUtilityNet, RecurrentPolicyNet

ABOUT = {
    "algorithm": "vm3ac",
    "task": "none",
    "checkpoint": {"sha256": "a" * 64, "frame": 7, "config_sha256": "b" * 64},
}
PRIORS = {
    "gaussian": vm.GaussianPrior(5),
    "uniform": vm.UniformPrior(3, low=0.2, high=0.7),
    "categorical": vm.CategoricalPrior(3, probs=[0.2, 0.5, 0.3]),
}


def gaussian_team(num_agents=2, prior="gaussian", *, share=False, held=False):
    """A policy over continuous actions of unequal ranges."""
    torch.manual_seed(0)
    law = PRIORS[prior]
    low = -1.0 - torch.arange(num_agents * 2).reshape(num_agents, 2)
    actor = vm.make_actor(4, law.dim, Bounded(low, 2.0), hidden=(8,), share_params=share)
    return vm.make_policy(vm.LatentSampler(law, held=held), actor)


def recurrent_team(num_agents=2, latent=True, **options):
    """A policy over discrete actions."""
    torch.manual_seed(0)
    dim = 3 if latent else 0
    net = RecurrentPolicyNet(4, 5, num_agents, latent_dim=dim, hidden_size=8, **options)
    actor = RecurrentActor(net, greedy=True)
    sampler = vm.LatentSampler(PRIORS["categorical"]) if latent else None
    return make_recurrent_policy(actor, sampler)


def utility_team(num_agents=2):
    """Greedy play from utilities under a latent that the agents cannot draw alone."""
    torch.manual_seed(0)
    net = LatentUtilityNet(4, 5, num_agents, latent_dim=3, hidden_size=8)
    return make_utility_policy(EpsilonGreedyActor(net, greedy=True))


def plain_team():
    """MADDPG's deterministic policy."""
    torch.manual_seed(0)
    return vm.make_deterministic_actor(4, Bounded(-1.0, 3.0, (2, 2)), hidden=(8,))
