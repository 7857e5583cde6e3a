"""Small categorical policies, their predictor and their mutual-information loss."""

from __future__ import annotations

import torch
from contracts.loss_contract import LATENT_DIM, OBS_DIM
from tensordict import TensorDict
from torch import nn
from torch.distributions import Categorical
from torchrl.modules import MaskedCategorical, ProbabilisticActor

import vm3ac_modules as vm
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.objectives import MutualInformationLoss

ACTIONS, STATE = 4, 5


class AgentLogits(nn.Module):
    """A network of its own for every agent, with its weights along the first dimension."""

    def __init__(self, num_agents, latent_dim, gain=1.0, obs_dim=OBS_DIM, actions=ACTIONS):
        super().__init__()
        self.first = nn.Parameter(torch.randn(num_agents, obs_dim + latent_dim, 8) * 0.4)
        self.last = nn.Parameter(torch.randn(num_agents, 8, actions) * 0.4 * gain)
        with torch.no_grad():
            self.first[:, obs_dim:] *= gain

    def forward(self, observation, latent=None):
        x = observation
        if latent is not None:
            latent = latent.unsqueeze(-2).expand(*x.shape[:-1], latent.shape[-1])
            x = torch.cat((x, latent), -1)
        hidden = torch.einsum("...ni,nih->...nh", x, self.first).tanh()
        return torch.einsum("...nh,nha->...na", hidden, self.last)


def make_policy(num_agents=2, *, prior="default", distribution=Categorical, keys=None, **net):
    keys, prior = keys or Keys(), vm.GaussianPrior(LATENT_DIM) if prior == "default" else prior
    read = {"observation": keys.observation}
    if prior is not None:
        read["latent"] = keys.latent
    network = AgentLogits(num_agents, prior.dim if prior else 0, **net)
    given = {"logits": keys.logits}
    if issubclass(distribution, MaskedCategorical):
        given["mask"] = keys.action_mask
    actor = ProbabilisticActor(
        NetworkModule(network, read, [keys.logits]),
        in_keys=given,
        out_keys=[keys.action],
        distribution_class=distribution,
    )
    sampler = None if prior is None else vm.LatentSampler(prior, keys=keys)
    return vm.make_policy(sampler, actor)


def make_predictor(num_agents=2, situation="observations", **options):
    size = OBS_DIM if situation == "observations" else STATE
    options = {"embed_dim": 6, "hypernet_hidden": 6, "situation": situation, **options}
    return vm.CategoricalPredictor(size, num_agents, ACTIONS, **options)


def batch_of(*batch, num_agents=2, keys=None):
    """Observations, state, and a mask with at least one legal action for every agent."""
    keys = keys or Keys()
    mask = torch.rand(*batch, num_agents, ACTIONS) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    return TensorDict(
        {
            keys.observation: torch.randn(*batch, num_agents, OBS_DIM, dtype=torch.float64),
            keys.state: torch.randn(*batch, STATE, dtype=torch.float64),
            keys.action_mask: mask,
        },
        batch,
    )


def masked_loss(num_agents=2, predictor=None, **options):
    policy = {
        name: options.pop(name) for name in ("prior", "distribution", "gain") if name in options
    }
    policy = make_policy(num_agents, **{"distribution": MaskedCategorical, **policy})
    given = {"num_agents": num_agents, "situation": "state", "masked": True, **(predictor or {})}
    return MutualInformationLoss(policy, make_predictor(**given), **options).double()


def actor_net(loss):
    return loss.reader.body[0].net
