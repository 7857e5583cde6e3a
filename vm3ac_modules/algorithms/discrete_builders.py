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

from vm3ac_modules.baselines import (
    DOPLoss,
    EpisodeLatentPolicy,
    LICALoss,
    MAVENDiscreteLoss,
    VDACLoss,
)
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.modules.latent import CategoricalPrior, LatentSampler
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, make_recurrent_policy
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor, make_utility_policy
from vm3ac_modules.nn import (
    DecomposedCriticNet,
    EpisodeDiscriminatorNet,
    FOPMixer,
    HyperPairNet,
    LatentUtilityNet,
    LICACritic,
    QMixer,
    RecurrentPolicyNet,
    ValueHead,
)
from vm3ac_modules.objectives import FOPLoss, VM3FOPLoss

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

    def built(
        self,
        actor: RecurrentActor,
        loss: LossModule,
        sampler: LatentSampler | None = None,
        **optimization: Any,
    ) -> DiscreteBuilt:
        """The loss with the policies that play with its actor."""
        policy = make_recurrent_policy(actor, sampler)
        greedy = make_recurrent_policy(actor.without_floor(), sampler)
        return DiscreteBuilt(policy, greedy, actor, loss, self.knobs["lr"], **optimization)

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
        greedy: the same without the exploration floor, for evaluations.
        actor: the part with the exploration floor.
        loss: the loss.
        lr: learning rate of every group that is not in ``rates``.
        rates: learning rates by name of the loss.
        adam: Adam instead of RMSprop.
    """

    policy: TensorDictModuleBase
    greedy: TensorDictModuleBase
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
    return plan.built(actor, loss)


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
    rates = {} if knobs["predictor_lr"] is None else {"loss_predictor": knobs["predictor_lr"]}
    return plan.built(actor, loss, sampler, rates=rates)


def build_dop(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """DOP."""
    knobs, sizes = plan.knobs, plan.sizes
    actor = plan.actor()
    critic = DecomposedCriticNet(
        sizes.obs_dim,
        sizes.state_dim,
        sizes.num_actions,
        sizes.num_agents,
        hidden=knobs["critic_hidden"],
    )
    options = plan.options("lam", "tree_backup_lam", "tree_backup_steps")
    loss = DOPLoss(actor, critic, **options)
    return plan.built(actor, loss, rates={"loss_qvalue": knobs["critic_lr"]})


def build_lica(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """LICA."""
    knobs, sizes = plan.knobs, plan.sizes
    actor = plan.actor()
    critic = LICACritic(
        sizes.state_dim,
        sizes.num_actions,
        sizes.num_agents,
        embed_dim=knobs["critic_embed"],
        bottleneck=knobs["critic_bottleneck"],
    )
    loss = LICALoss(actor, critic, **plan.options("lam", "entropy_weight"))
    return plan.built(actor, loss, rates={"loss_qvalue": knobs["critic_lr"]}, adam=True)


def build_vdac(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """VDAC, mixing by QMIX's network or by a sum."""
    knobs, sizes = plan.knobs, plan.sizes
    if knobs["mixer"] not in ("qmix", "sum"):
        raise ValueError(f"mixer must be 'qmix' or 'sum', got {knobs['mixer']!r}.")
    actor = plan.actor()
    mixer = QMixer(sizes.state_dim, sizes.num_agents) if knobs["mixer"] == "qmix" else None
    share = {"share_params": knobs["share_params"]}
    values = ValueHead(knobs["hidden_size"], sizes.num_agents, mixer, **share)
    loss = VDACLoss(actor, values, **plan.options("lam", "value_weight", "entropy_weight"))
    return plan.built(actor, loss)


def build_maven(plan: DiscreteBlueprint) -> DiscreteBuilt:
    """MAVEN on QMIX; the environment draws the latent, see ``DiscreteAgent.wrap``."""
    knobs, sizes, keys = plan.knobs, plan.sizes, plan.keys
    if knobs["latent_policy"] not in ("learned", "uniform"):
        raise ValueError(
            f"latent_policy must be 'learned' or 'uniform', got {knobs['latent_policy']!r}."
        )
    outcomes = knobs["latent_dim"]
    net = LatentUtilityNet(
        sizes.obs_dim,
        sizes.num_actions,
        sizes.num_agents,
        latent_dim=outcomes,
        hidden_size=knobs["hidden_size"],
        share_params=knobs["share_params"],
    )
    actor = EpsilonGreedyActor(net, keys=keys)
    prior = EpisodeLatentPolicy(
        sizes.state_dim,
        outcomes,
        uniform=knobs["latent_policy"] == "uniform",
        situation=keys.state,
        keys=keys,
        hidden=(128,),
    )
    discriminator = EpisodeDiscriminatorNet(
        sizes.state_dim + sizes.num_agents * sizes.num_actions,
        outcomes,
        recurrent=knobs["recurrent_discriminator"],
    )
    loss = MAVENDiscreteLoss(
        actor,
        QMixer(sizes.state_dim + outcomes, sizes.num_agents, hypernet_layers=1),
        discriminator,
        prior,
        entropy_weight=knobs["latent_entropy_weight"],
        **plan.options("mi_weight"),
    )
    policies = make_utility_policy(actor), make_utility_policy(actor.without_floor())
    return DiscreteBuilt(*policies, actor, loss, knobs["lr"])


DISCRETE_BUILDERS: dict[str, Callable[[DiscreteBlueprint], DiscreteBuilt]] = {
    "vm3ac": build_vm3ac,
    "fop": build_fop,
    "dop": build_dop,
    "lica": build_lica,
    "vdac": build_vdac,
    "maven": build_maven,
}
"""Builder of every algorithm."""
