"""A latent that all agents share, as algorithms with an entropy term may have it.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4, Eq. (7), Table 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from vm3ac_modules.algorithms.base import Plan, option
from vm3ac_modules.algorithms.temperature import LearnedTemperature
from vm3ac_modules.modules.actors import make_policy
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import LatentPolicy
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
            sampler = LatentSampler(law, num_agents=plan.sizes.num_agents, keys=plan.keys)
        return make_policy(sampler, actor)
