"""MADDPG: deterministic policies with a centralized critic per agent.

Source: Lowe et al. 2017, arXiv:1706.02275.
"""

from __future__ import annotations

from dataclasses import dataclass

from vm3ac_modules.algorithms.base import Plan, Preset
from vm3ac_modules.algorithms.transitions import TransitionAlgorithm
from vm3ac_modules.baselines import MADDPGLoss
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.actors import make_deterministic_actor

__all__ = ["MADDPG", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class MADDPG(TransitionAlgorithm):
    """MADDPG with Gaussian exploration."""

    exploration_noise: float = 0.1

    def build(self, plan: Plan) -> Agent:
        """MADDPG."""
        actor = make_deterministic_actor(
            plan.sizes.obs_dim, plan.action_spec, keys=plan.keys, **self.net_options(plan)
        )
        critic = self.action_value(plan, num_critics=1)
        loss = MADDPGLoss(actor, critic, **self.loss_options(plan))
        return self.agent(plan, actor, loss)


PRESETS = {"maddpg": Preset(MADDPG(), "deterministic policies, the others' actions replayed")}
