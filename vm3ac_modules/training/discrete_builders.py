"""One builder per algorithm over discrete actions: networks, loss and policy.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix G.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.objectives import LossModule

from vm3ac_modules.factorized_critic import FactorizedCritic
from vm3ac_modules.keys import Keys
from vm3ac_modules.latent import CategoricalPrior, LatentSampler
from vm3ac_modules.nn import FOPMixer, HyperPairNet, RecurrentPolicyNet
from vm3ac_modules.objectives import FOPLoss, VM3FOPLoss
from vm3ac_modules.recurrent_actor import RecurrentActor, make_recurrent_policy

__all__ = ["DISCRETE_BUILDERS", "DiscreteBlueprint", "DiscreteBuilt", "DiscreteSizes"]

# RMSprop of the PyMARL family.
RMSPROP: dict[str, Any] = {"alpha": 0.99, "eps": 1e-5}


@dataclass(frozen=True)
class DiscreteSizes:
    """Sizes of a group of agents with discrete actions, read from an environment's specs."""

    num_agents: int
    obs_dim: int
    num_actions: int
    state_dim: int


@dataclass(frozen=True)
class DiscreteBlueprint:
    """What a builder works from.

    Args:
        knobs: every knob of the algorithm.
        sizes: sizes of the group.
        keys: the tensordict vocabulary.
    """

    knobs: Mapping[str, Any]
    sizes: DiscreteSizes
    keys: Keys

    def options(self, *names: str) -> dict[str, Any]:
        """Options of a loss: these knobs, and what every loss takes."""
        return {**{name: self.knobs[name] for name in ("gamma", *names)}, "keys": self.keys}

    def actor(self, latent_dim: int = 0) -> RecurrentActor:
        """A recurrent actor."""
        sizes, knobs = self.sizes, self.knobs
        net = RecurrentPolicyNet(
            sizes.obs_dim,
            sizes.num_actions,
            sizes.num_agents,
            latent_dim=latent_dim,
            hidden_size=knobs["hidden_size"],
            share_params=knobs["share_params"],
        )
        return RecurrentActor(net, keys=self.keys)

    def factorized_critic(self) -> FactorizedCritic:
        """FOP's critics and mixers."""
        sizes, knobs = self.sizes, self.knobs
        mixer = FOPMixer(
            sizes.state_dim,
            sizes.num_agents,
            sizes.num_actions,
            weights=knobs["mixer_weights"],
            unit_dim=knobs["unit_dim"],
        )
        return FactorizedCritic(
            sizes.obs_dim,
            sizes.num_actions,
            sizes.num_agents,
            mixer,
            hidden=knobs["critic_hidden"],
            share_params=knobs["share_params"],
        )


@dataclass(frozen=True)
class DiscreteBuilt:
    """What a builder returns.

    Args:
        policy: the policy to collect with.
        actor: its part with the exploration floor.
        loss: the loss.
        lr: learning rate of every group that is not in ``rates``.
        rates: learning rates by name of the loss.
        adam: Adam instead of RMSprop.
    """

    policy: TensorDictModuleBase
    actor: Any
    loss: LossModule
    lr: float
    rates: Mapping[str, float] = field(default_factory=dict)
    adam: bool = False

    def make_optimizer(self, name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of one group of parameters."""
        lr = self.rates.get(name, self.lr)
        if self.adam:
            return torch.optim.Adam(parameters, lr=lr)
        return torch.optim.RMSprop(parameters, lr=lr, **RMSPROP)


_FOP_OPTIONS = ("lam", "strict_soft", "mask_soft_values")


def build_fop(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """FOP."""
    actor = plan.actor()
    options = plan.options(*_FOP_OPTIONS)
    loss = FOPLoss(
        actor, plan.factorized_critic(), temperature=plan.knobs["temperature_start"], **options
    )
    return DiscreteBuilt(make_recurrent_policy(actor), actor, loss, plan.knobs["lr"])


def build_vm3ac(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """VM3-AC on FOP."""
    knobs, sizes = plan.knobs, plan.sizes
    prior = CategoricalPrior(knobs["latent_dim"])
    actor = plan.actor(knobs["latent_dim"])
    sampler = LatentSampler(prior, num_agents=sizes.num_agents, keys=plan.keys)
    predictor = HyperPairNet(
        sizes.state_dim,
        sizes.num_agents,
        sizes.num_actions,
        embed_dim=knobs["predictor_embed"],
        smoothing=knobs["predictor_smoothing"],
    )
    loss = VM3FOPLoss(
        actor,
        plan.factorized_critic(),
        predictor,
        prior,
        temperature=knobs["temperature_start"],
        **plan.options(*_FOP_OPTIONS, "num_latents", "entropy_mix", "exact_latent", "pair_weight"),
    )
    policy = make_recurrent_policy(actor, sampler)
    rates = {} if knobs["predictor_lr"] is None else {"loss_predictor": knobs["predictor_lr"]}
    return DiscreteBuilt(policy, actor, loss, knobs["lr"], rates)


DISCRETE_BUILDERS: dict[str, Callable[[DiscreteBlueprint], DiscreteBuilt]] = {
    "vm3ac": build_vm3ac,
    "fop": build_fop,
}
"""Builder of every algorithm."""
