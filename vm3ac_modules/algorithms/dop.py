"""DOP: decomposed policy gradients, trained on and off policy.

Source: Wang et al. 2021, arXiv:2007.12322, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episodes import EpisodeAlgorithm
from vm3ac_modules.algorithms.searched import best
from vm3ac_modules.baselines import DOPLoss
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.sources import Both
from vm3ac_modules.nn import DecomposedCriticNet

__all__ = ["DOP", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class DOP(EpisodeAlgorithm):
    """DOP."""

    epsilon_start: float = 0.5
    epsilon_frames: int = 500_000
    target_interval: int = 50
    lam: float = option(0.8, "weight of the lambda-return on policy", least=0, most=1)
    tree_backup_lam: float = option(0.93, "weight of the tree backup's trace", least=0, most=1)
    tree_backup_steps: int = option(5, "transitions that a tree backup looks at", least=1)
    critic_hidden: tuple[int, ...] = option(
        (256, 256), "widths of the critics' hidden layers", least=1
    )
    critic_lr: float = option(1e-4, "learning rate of the critic", above=0)

    def build(self, plan: Plan) -> Agent:
        """DOP."""
        sizes = plan.sizes
        assert sizes.state_dim is not None
        actor = self.actor(plan)
        critic = DecomposedCriticNet(
            sizes.obs_dim,
            sizes.state_dim,
            sizes.action_dim,
            sizes.num_agents,
            hidden=self.critic_hidden,
        )
        names = ("lam", "tree_backup_lam", "tree_backup_steps")
        loss = DOPLoss(actor, critic, **self.loss_options(plan, *names))
        return self.agent(plan, actor, loss, rates={"loss_qvalue": self.critic_lr}, source=Both)


PRESETS = {
    "dop": Preset(DOP(), "decomposed policy gradients, on and off policy"),
    "dop_cpu": Preset(
        replace(DOP(), **best("dop", loop=False)),
        "the same with the best of the searched settings for a CPU",
    ),
}
