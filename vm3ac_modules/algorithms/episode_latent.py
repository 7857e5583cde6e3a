"""The learned prior of an episode's latent, which both forms of MAVEN have.

Source: Mahajan et al. 2019, arXiv:1910.07483.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vm3ac_modules.algorithms.base import Algorithm, option
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import LatentPolicyLearner

__all__ = ["LearnedEpisodeLatent"]


@dataclass(frozen=True, kw_only=True)
class LearnedEpisodeLatent(Algorithm):
    """Options of the prior of an episode's latent, and what trains it."""

    latent_policy: str = option(
        "learned",
        "prior of the latent: learned from the episodes' returns, or uniform",
        choices=("learned", "uniform"),
    )
    latent_entropy_weight: float = option(0.01, "weight of the prior's entropy", least=0)
    latent_episodes: int = option(8, "finished episodes per gradient step of the prior", least=2)
    latent_lr: float = option(3e-4, "learning rate of the prior", above=0)

    def with_learner(self, agent: Agent) -> Agent:
        """The agent with the hook that trains the prior, unless it is uniform."""
        if self.latent_policy == "uniform":
            return agent
        loss: Any = agent.loss
        learner = LatentPolicyLearner(
            loss,
            lr=self.latent_lr,
            episodes=self.latent_episodes,
            seeds=agent.seeds,
            keys=agent.keys,
        )
        return replace(agent, hooks=[*agent.hooks, learner])
