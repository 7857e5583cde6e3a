"""A latent that all agents share, as algorithms with an entropy term may have it.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4, Eq. (7), Table 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vm3ac_modules.algorithms.base import Plan, option
from vm3ac_modules.algorithms.temperature import LearnedTemperature
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.modules.actors import make_policy
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import LatentPolicy
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, UniformPrior

__all__ = ["SharedLatent"]

PRIORS = {"gaussian": GaussianPrior, "uniform": UniformPrior, "categorical": CategoricalPrior}


@dataclass(frozen=True, kw_only=True)
class SharedLatent(LearnedTemperature):
    """Options of algorithms whose policies may share a latent."""

    latent_dim: int = option(8, "size of the latent z, or its outcomes", least=0, source="Table 2")
    prior: str | None = option(
        "gaussian", "law of the latent; null for none", choices=tuple(PRIORS), source="Section 4"
    )
    num_latents: int = option(
        0, "extra latents K of the entropy family H_K; 0 is the conditional entropy", least=0
    )
    latent_gain: float = option(1.0, "factor on the latent's initial weights in the policies")
    latent_held: bool = option(
        False, "one z per episode, which critics read too, instead of one per step"
    )

    @property
    def held_dim(self) -> int:
        """Size of the latent that critics read: that of one which is held, else 0."""
        return self.latent_dim if self.latent_held and self.prior is not None else 0

    def latent_options(self, plan: Plan) -> dict[str, Any]:
        """Which latent a loss means."""
        return {"latent": "stored"} if self.held_dim else {}

    def transforms(self, policy: LatentPolicy) -> dict[str, Any]:
        """What an agent's environments need for a latent that is held.

        Args:
            policy: the policy.
        """
        if not self.held_dim:
            return {}
        prior = Policy.of(policy).prior
        assert prior is not None
        return {"env_transforms": lambda env: [EpisodeLatent(LatentSampler(prior))]}

    def latent_policy(self, plan: Plan) -> LatentPolicy:
        """The policy: a sampler, if there is a latent, and the actor.

        Args:
            plan: what it is built for.
        """
        latent_dim = 0 if self.prior is None else self.latent_dim
        actor = self.actor(plan, latent_dim, latent_gain=self.latent_gain)
        sampler = None
        if self.prior is not None and latent_dim:
            law = PRIORS[self.prior](latent_dim)
            sampler = LatentSampler(
                law, num_agents=plan.sizes.num_agents, keys=plan.keys, held=self.latent_held
            )
        return make_policy(sampler, actor)
