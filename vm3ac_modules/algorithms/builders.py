"""One builder per algorithm: networks, loss and policy from knobs and sizes.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.data import Composite, TensorSpec
from torchrl.modules import AdditiveGaussianModule
from torchrl.objectives import LossModule

from vm3ac_modules.baselines import EpisodeLatentPolicy, MADDPGLoss, MAVENLoss, SIMOALoss
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.actors import (
    action_bounds,
    make_actor,
    make_deterministic_actor,
    make_policy,
)
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.modules.latent import (
    CategoricalPrior,
    GaussianPrior,
    LatentSampler,
    UniformPrior,
)
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.nn import JointNet, NextActionNet
from vm3ac_modules.objectives import MAACLoss, MASACLoss, VM3ACLoss

__all__ = ["BUILDERS", "Blueprint", "Sizes"]

PRIORS: dict[str | None, Any] = {
    "gaussian": GaussianPrior,
    "uniform": UniformPrior,
    "categorical": CategoricalPrior,
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a group of agents, read from an environment's specs."""

    num_agents: int
    obs_dim: int
    action_dim: int
    state_dim: int | None


@dataclass(frozen=True)
class Blueprint:
    """What a builder works from.

    Args:
        knobs: every knob of the algorithm.
        sizes: sizes of the group.
        action_spec: leaf spec of the group's action.
        keys: the tensordict vocabulary.
        stack_shape: leading dimensions of stacked copies, ``(seeds,)`` or none.
    """

    knobs: Mapping[str, Any]
    sizes: Sizes
    action_spec: TensorSpec
    keys: Keys
    stack_shape: tuple[int, ...]

    def options(self, *names: str) -> dict[str, Any]:
        """Options of a loss: these knobs, and what every loss takes."""
        chosen = {name: self.knobs[name] for name in ("gamma", "reward_scale", *names)}
        return {**chosen, "keys": self.keys, "seed_dims": len(self.stack_shape)}

    def net_options(self, *, shared: bool = True) -> dict[str, Any]:
        """Options of a network; ``shared`` if its agents may share parameters."""
        out = {"hidden": self.knobs["hidden"], "stack_shape": self.stack_shape}
        return {**out, "share_params": self.knobs["share_params"]} if shared else out

    def actor(self, latent_dim: int = 0, **options: Any) -> Any:
        """A tanh-Gaussian actor over observation and latent."""
        return make_actor(
            self.sizes.obs_dim,
            latent_dim,
            self.action_spec,
            keys=self.keys,
            log_std=self.knobs["log_std"],
            **self.net_options(),
            **options,
        )

    def action_value(self, **options: Any) -> TensorDictModuleBase:
        """Centralized action values."""
        sizes = self.sizes
        return make_action_value(
            sizes.obs_dim, sizes.action_dim, sizes.num_agents, **self._critic(), **options
        )

    def state_value(self, **options: Any) -> TensorDictModuleBase:
        """Centralized state values."""
        sizes = self.sizes
        return make_state_value(sizes.obs_dim, sizes.num_agents, **self._critic(), **options)

    def _critic(self) -> dict[str, Any]:
        return {
            "critic_input": self.knobs["critic_input"],
            "state_dim": self.sizes.state_dim,
            "form": self.knobs["critic"],
            "keys": self.keys,
            **self.net_options(),
        }


Built = tuple[TensorDictModuleBase, LossModule]


def build_vm3ac(plan: Blueprint) -> Built:
    """VM3-AC, with or without a latent."""
    knobs, sizes = plan.knobs, plan.sizes
    prior = knobs["prior"]
    if prior is not None and prior not in PRIORS:
        raise ValueError(f"unknown prior {prior!r}; valid: {', '.join(map(str, PRIORS))}.")
    latent_dim = knobs["latent_dim"] if prior is not None else 0
    actor = plan.actor(latent_dim, latent_gain=knobs["latent_gain"])
    policy: TensorDictModuleBase = actor
    if latent_dim > 0:
        law = PRIORS[prior](latent_dim)
        sampler = LatentSampler(law, num_agents=sizes.num_agents, keys=plan.keys)
        policy = make_policy(sampler, actor)
    predictor = VariationalPredictor(
        sizes.obs_dim,
        plan.action_spec,
        scale=knobs["predictor_scale"],
        num_components=knobs["predictor_components"],
        normalized=knobs["predictor_normalized"],
        share_params=knobs["predictor_share_params"],
        keys=plan.keys,
        **plan.net_options(shared=False),
    )
    names = ("policy_q", "beta", "num_latents", "pair_weight", "reverse_model")
    critics = plan.action_value(), plan.state_value()
    return policy, VM3ACLoss(policy, *critics, predictor, **plan.options(*names))


def build_ma_ac(plan: Blueprint) -> Built:
    """MA-AC: the centralized actor-critic alone."""
    policy = plan.actor()
    critics = plan.action_value(), plan.state_value()
    return policy, MAACLoss(policy, *critics, **plan.options("policy_q"))


def build_ma_sac(plan: Blueprint) -> Built:
    """MA-SAC: MA-AC with the policies' entropy."""
    policy = plan.actor()
    critics = plan.action_value(), plan.state_value()
    return policy, MASACLoss(policy, *critics, **plan.options("policy_q", "beta"))


def build_maddpg(plan: Blueprint) -> Built:
    """MADDPG with Gaussian exploration, in units of the actions' half range."""
    if not plan.knobs["exploration_noise"] >= 0:
        raise ValueError("exploration_noise must not be negative.")
    actor = make_deterministic_actor(
        plan.sizes.obs_dim, plan.action_spec, keys=plan.keys, **plan.net_options()
    )
    low, high = action_bounds(plan.action_spec)
    sigma = float(plan.knobs["exploration_noise"])
    # One row of the spec: noise and clipping broadcast over rows and seeds.
    spec = plan.action_spec.clone()
    while spec.ndim > 2:
        spec = spec[0]
    noise = AdditiveGaussianModule(
        spec=Composite({plan.keys.action: spec}),
        sigma_init=sigma,
        sigma_end=sigma,
        action_key=plan.keys.action,
        safe=False,
    )
    noise.register_buffer("std", 0.5 * (high - low))
    critic = plan.action_value(num_critics=1)
    loss = MADDPGLoss(actor, critic, **plan.options())
    return TensorDictSequential(actor, noise), loss


def build_maven(plan: Blueprint) -> Built:
    """MAVEN on MA-AC; the environment draws the latent, see ``Agent.wrap``."""
    knobs, sizes = plan.knobs, plan.sizes
    if knobs["latent_policy"] not in ("learned", "uniform"):
        raise ValueError(
            f"latent_policy must be 'learned' or 'uniform', got {knobs['latent_policy']!r}."
        )
    outcomes = knobs["latent_dim"]
    on_state = knobs["critic_input"] == "state" and sizes.state_dim is not None
    situation = plan.keys.state if on_state else plan.keys.observation
    size = sizes.state_dim if on_state else sizes.num_agents * sizes.obs_dim
    assert size is not None
    options = plan.net_options(shared=False)
    prior = EpisodeLatentPolicy(
        size,
        outcomes,
        uniform=knobs["latent_policy"] == "uniform",
        situation=situation,
        keys=plan.keys,
        **options,
    )
    policy = plan.actor(outcomes)
    discriminator = JointNet(size + sizes.num_agents * sizes.action_dim, outcomes, **options)
    critics = plan.action_value(latent_dim=outcomes), plan.state_value(latent_dim=outcomes)
    loss = MAVENLoss(
        policy,
        *critics,
        discriminator,
        prior,
        entropy_weight=knobs["latent_entropy_weight"],
        **plan.options("policy_q", "mi_weight", "mi_mode"),
    )
    return policy, loss


def build_si_moa(plan: Blueprint) -> Built:
    """Social influence on MA-AC; ``Agent.replay_transform`` adds the next action."""
    sizes = plan.sizes
    policy = plan.actor()
    models = NextActionNet(
        sizes.obs_dim, sizes.action_dim, sizes.num_agents, **plan.net_options(shared=False)
    )
    names = ("policy_q", "influence_weight", "num_counterfactuals", "moa_sigma", "influence_form")
    critics = plan.action_value(), plan.state_value()
    return policy, SIMOALoss(policy, *critics, models, **plan.options(*names))


BUILDERS: dict[str, Callable[[Blueprint], Built]] = {
    "vm3ac": build_vm3ac,
    "ma_ac": build_ma_ac,
    "ma_sac": build_ma_sac,
    "maddpg": build_maddpg,
    "maven": build_maven,
    "si_moa": build_si_moa,
}
"""Builder of every algorithm; the variants of VM3-AC differ in their knobs alone."""
