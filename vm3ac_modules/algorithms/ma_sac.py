"""MA-SAC: the return plus each policy's entropy.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6; Haarnoja et al. 2018, arXiv:1801.01290.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vm3ac_modules.algorithms.base import Plan, Preset
from vm3ac_modules.algorithms.shared_latent import SharedLatent
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.objectives import MASACLoss

__all__ = ["MASAC", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class MASAC(SharedLatent):
    """MA-SAC: MA-AC with the policies' entropy; with a shared latent if asked for."""

    prior: str | None = None

    def build(self, plan: Plan) -> Agent:
        """MA-SAC."""
        policy = self.latent_policy(plan)
        options = self.loss_options(plan, "policy_q", "beta", "num_latents")
        options |= self.latent_options(plan)
        loss = MASACLoss(policy, *self.critics(plan, self.held_dim), **options)
        agent = self.agent(plan, policy, loss, **self.transforms(policy))
        return self.with_learner(plan, agent)


PRESETS = {
    "ma_sac": Preset(MASAC(), "the return plus the policies' entropy"),
    "ma_sac_latent": Preset(
        replace(MASAC(), prior="gaussian", num_latents=16, latent_gain=3.0),
        "ma_sac with the latent and the marginal entropy of vm3ac_tight, without a predictor",
    ),
}
