"""VM3-AC on FOP, over discrete actions.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix G.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.fop import CPU, SoftFactorized
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.nn import HyperPairNet
from vm3ac_modules.objectives import VM3FOPLoss
from vm3ac_modules.priors import CategoricalPrior

__all__ = ["PRESETS", "VM3ACOnFOP"]


@dataclass(frozen=True, kw_only=True)
class VM3ACOnFOP(SoftFactorized):
    """FOP with a latent, and mutual information beside its entropy."""

    latent_dim: int = option(
        3, "outcomes of the categorical latent, one draw per step", least=1, source="Appendix G"
    )
    latent_gain: float = option(
        1.0,
        "factor on the initial weights of the latent; near independence nothing pulls policies of "
        "different outcomes apart",
        above=0,
    )
    num_latents: int | str = option(
        0,
        "latents in the entropy: 0 (conditional), or all of them, enumerated",
        least=0,
        most=0,
        choices=("all",),
    )
    entropy_mix: float = option(
        1.0, "share of the marginal policy's entropy with num_latents=all", least=0, most=1
    )
    exact_latent: bool = option(False, "train the policies on all outcomes of the latent")
    pair_weight: str = option(
        "paper",
        "weight of the sum over partners: 1/N, or 1/(N - 1)",
        choices=("paper", "mean"),
    )
    predictor_embed: int = option(32, "width of the predictor's hidden layer", least=1)
    predictor_smoothing: float = option(
        1e-3, "share of the uniform law in the predictor", least=0, most=1
    )
    predictor_lr: float | None = option(
        None, "learning rate of the predictor; null: that of the rest", above=0
    )

    def build(self, plan: Plan) -> Agent:
        """VM3-AC on FOP."""
        sizes = plan.sizes
        assert sizes.state_dim is not None
        prior = CategoricalPrior(self.latent_dim)
        actor = self.actor(plan, self.latent_dim, self.latent_gain)
        sampler = LatentSampler(prior, num_agents=sizes.num_agents, keys=plan.keys)
        predictor = HyperPairNet(
            sizes.state_dim,
            sizes.num_agents,
            sizes.action_dim,
            embed_dim=self.predictor_embed,
            smoothing=self.predictor_smoothing,
        )
        names = ("num_latents", "entropy_mix", "exact_latent", "pair_weight")
        loss = VM3FOPLoss(
            actor,
            self.factorized_critic(plan),
            predictor,
            prior,
            **self.soft_options(plan, *names),
        )
        rates = {"loss_predictor": self.predictor_lr}
        return self.agent(plan, actor, loss, sampler, rates=rates, hooks=[self.cooling(loss)])


# The bonus of three agents is a price, not a wage: what keeps them trying is the entropy in the
# policies' loss alone, and at FOP's 0.005 they settle before they have won.
SETTINGS = CPU | {"temperature_start": 0.02, "temperature_end": 0.02}
PRESETS = {
    "vm3ac": Preset(VM3ACOnFOP(), "FOP with a latent of 3 outcomes and action MI"),
    "vm3ac_cpu": Preset(
        replace(VM3ACOnFOP(), **SETTINGS),
        "the same with the settings of fop_cpu and a temperature of 0.02",
    ),
}
