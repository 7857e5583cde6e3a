"""A temperature beta that is given, or learned, as algorithms with an entropy term have it.

Sources: Kim et al. 2023, arXiv:2303.00451, Table 2; Haarnoja et al. 2018, arXiv:1812.05905.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vm3ac_modules.algorithms.base import Plan, option
from vm3ac_modules.algorithms.transitions import ActorCritic
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import TemperatureLearner

__all__ = ["LearnedTemperature"]


@dataclass(frozen=True, kw_only=True)
class LearnedTemperature(ActorCritic):
    """Options of algorithms with a temperature."""

    beta: float | tuple[float, ...] = option(
        0.1,
        "temperature of entropy and mutual information, one for all agents or one each",
        unit="reward per nat",
        least=0,
        source="Table 2",
    )
    auto_beta: str | None = option(
        None,
        "learn beta so that the entropy, or the bonus of Eq. (46) per beta, stays at its target",
        choices=("entropy", "bonus"),
    )
    beta_target: float | None = option(
        None,
        "the target; for the entropy null is minus the number of action dimensions",
        unit="nats",
    )
    beta_lr: float = option(3e-4, "learning rate of log(beta)", above=0)

    def with_learner(self, plan: Plan, agent: Agent) -> Agent:
        """The agent with the hook that learns beta if one is asked for."""
        if self.auto_beta is None:
            return agent
        loss: Any = agent.loss
        target = self.beta_target
        if target is None and self.auto_beta == "entropy":
            # SAC's minus the number of dimensions, for actions of half range 1.
            size = loss.half_range.log().sum(-1).mean()
            target = float(size) - plan.sizes.action_dim
        learner = TemperatureLearner(
            loss, self.auto_beta, target=target, lr=self.beta_lr, seeds=plan.seeds
        )
        return replace(agent, hooks=[*agent.hooks, learner])
