"""A temperature beta that is given, or learned, as algorithms with an entropy term have it.

Sources: Kim et al. 2023, arXiv:2303.00451, Table 2; Haarnoja et al. 2018, arXiv:1812.05905.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vm3ac_modules.algorithms.base import Plan, option
from vm3ac_modules.algorithms.transitions import ActorCritic
from vm3ac_modules.functional.schedules import linear_schedule
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import Schedule, TemperatureLearner
from vm3ac_modules.objectives import EntropyTerm

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
    beta_end: float | None = option(
        None, "the temperature after beta_frames, a straight line from beta; null: beta", least=0
    )
    beta_frames: int | None = option(
        None, "how long it goes to beta_end", unit="environment steps", least=1
    )

    def with_learner(self, plan: Plan, agent: Agent) -> Agent:
        """The agent with the hook that learns beta, or leads it to its end, if one is asked for.

        Args:
            plan: what it is built for.
            agent: the agent.

        Raises:
            ValueError: if beta is learned and led at once, or what either needs is missing.
        """
        if (self.beta_end is None) != (self.beta_frames is None):
            raise ValueError("beta_end needs beta_frames, and beta_frames needs beta_end.")
        if self.beta_end is None and self.auto_beta is None:
            return agent
        if self.beta_end is None:
            return replace(agent, hooks=[*agent.hooks, self._learner(plan, agent.loss)])
        if self.auto_beta is not None:
            raise ValueError(
                "beta is either learned or led to beta_end: auto_beta, or beta_end and "
                "beta_frames, must be null."
            )
        return replace(agent, hooks=[*agent.hooks, self._schedule(plan, agent.loss)])

    def _learner(self, plan: Plan, loss: Any) -> TemperatureLearner:
        assert self.auto_beta is not None
        target = self.beta_target
        if target is None and self.auto_beta == "entropy":
            # SAC's minus the number of dimensions, for actions of half range 1.
            size = loss.half_range.log().sum(-1).mean()
            target = float(size) - plan.sizes.action_dim
        measure, lr = self.auto_beta, self.beta_lr
        return TemperatureLearner(loss, measure, target=target, lr=lr, seeds=plan.seeds)

    def _schedule(self, plan: Plan, loss: Any) -> Schedule:
        term = loss.term(EntropyTerm)
        if term.beta.ndim:
            raise ValueError("beta_end is that of one beta for all agents: give beta as a number.")
        assert self.beta_end is not None
        assert self.beta_frames is not None
        ends = {"start": float(term.beta), "end": self.beta_end}
        law = partial(linear_schedule, duration=self.beta_frames, **ends)
        return Schedule("beta", law, lambda: [term.beta], seeds=plan.seeds)
