"""LICA: implicit credit through a critic of the joint policy.

Source: Zhou et al. 2020, arXiv:2007.02529, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episodes import EpisodeAlgorithm
from vm3ac_modules.algorithms.searched import best
from vm3ac_modules.baselines import LICALoss
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.sources import OnPolicy
from vm3ac_modules.nn import LICACritic

__all__ = ["LICA", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class LICA(EpisodeAlgorithm):
    """LICA."""

    lr: float = 2.5e-3
    epsilon_start: float = 0.0
    epsilon_end: float = 0.0
    lam: float = option(0.8, "weight of the lambda-return", least=0, most=1)
    critic_lr: float = option(5e-4, "learning rate of the critic", above=0)
    entropy_weight: float = option(0.06, "size of the entropy's gradient", unit="reward", least=0)
    critic_embed: int = option(64, "width of the critic", least=1)
    critic_bottleneck: int | None = option(
        None, "width of the critic's first layer's weights in between; null for none", least=1
    )

    def build(self, plan: Plan) -> Agent:
        """LICA."""
        sizes = plan.sizes
        assert sizes.state_dim is not None
        actor = self.actor(plan)
        critic = LICACritic(
            sizes.state_dim,
            sizes.action_dim,
            sizes.num_agents,
            embed_dim=self.critic_embed,
            bottleneck=self.critic_bottleneck,
        )
        loss = LICALoss(actor, critic, **self.loss_options(plan, "lam", "entropy_weight"))
        return self.agent(
            plan,
            actor,
            loss,
            rates={"loss_qvalue": self.critic_lr},
            optimizer=torch.optim.Adam,
            source=OnPolicy,
        )


PRESETS = {
    "lica": Preset(LICA(), "implicit credit through a critic of the joint policy"),
    "lica_cpu": Preset(
        replace(LICA(), **best("lica", loop=False)),
        "the same with the searched setting of the highest return; none of them won",
    ),
}
