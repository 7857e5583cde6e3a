"""MA-AC: the centralized actor-critic that maximizes the return alone.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

from vm3ac_modules.algorithms.base import Plan, Preset
from vm3ac_modules.algorithms.transitions import ActorCritic
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.objectives import MAACLoss

__all__ = ["MAAC", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class MAAC(ActorCritic):
    """MA-AC: beta = 0, no latent."""

    def build(self, plan: Plan) -> Agent:
        """MA-AC."""
        policy = self.actor(plan)
        loss = MAACLoss(policy, *self.critics(plan), **self.loss_options(plan, "policy_q"))
        return self.agent(plan, policy, loss)


PRESETS = {"ma_ac": Preset(MAAC(), "the return alone")}
