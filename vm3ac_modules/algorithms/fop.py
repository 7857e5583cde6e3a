"""FOP: factorized maximum-entropy actor-critic.

Source: Zhang et al. 2021, "FOP: Factorizing Optimal Joint Policy of Maximum-Entropy Multi-Agent
Reinforcement Learning", ICML, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from torch import Tensor

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episodes import EpisodeAlgorithm
from vm3ac_modules.functional.schedules import constant_rate_schedule, linear_schedule
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import Schedule
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.nn import FOPMixer
from vm3ac_modules.objectives import FOPLoss

__all__ = ["CPU", "FOP", "PRESETS", "SoftFactorized"]


@dataclass(frozen=True, kw_only=True)
class SoftFactorized(EpisodeAlgorithm):
    """Options of FOP's critics and temperature."""

    lam: float = option(0.8, "weight of the lambda-return", least=0, most=1)
    critic_hidden: tuple[int, ...] = option(
        (64, 64), "widths of the hidden layers of the individual critics", least=1
    )
    mixer_weights: str = option(
        "none", "weights of the agents' values: 1 each, or attention", choices=("none", "qatten")
    )
    unit_dim: int | None = option(
        None, "size of an agent's block of the state, which qatten needs (10 in SMAX)", least=1
    )
    temperature_start: float = option(
        0.5, "temperature at the start", unit="reward per nat", above=0, source="Appendix G"
    )
    temperature_end: float = option(
        0.05, "temperature at the end", unit="reward per nat", above=0, source="Appendix G"
    )
    temperature_frames: int = option(
        200_000, "how long it falls", unit="environment steps", above=0, source="Appendix G"
    )
    temperature_schedule: str = option(
        "paper",
        "a straight line, or FOP's code, which falls by 1 per so many frames",
        choices=("paper", "code"),
    )
    strict_soft: bool = option(
        False, "soft bonus in the bootstrap value instead of behind the lambda-return"
    )
    mask_soft_values: bool = option(False, "sum only over legal actions in the soft values")
    policy_critic: str = option(
        "own",
        "what the policies follow: own values, or the joint critic beside the others' draws",
        choices=("own", "joint"),
    )

    def soft_options(self, plan: Plan, *names: str) -> dict[str, Any]:
        """Options of FOP's loss, and these."""
        own = self.loss_options(
            plan, "lam", "strict_soft", "mask_soft_values", "policy_critic", *names
        )
        return {**own, "temperature": self.temperature_start}

    def factorized_critic(self, plan: Plan) -> FactorizedCritic:
        """FOP's critics and mixers."""
        sizes = plan.sizes
        assert sizes.state_dim is not None
        mixer = FOPMixer(
            sizes.state_dim,
            sizes.num_agents,
            sizes.action_dim,
            weights=cast("Any", self.mixer_weights),
            unit_dim=self.unit_dim,
        )
        return FactorizedCritic(
            sizes.obs_dim,
            sizes.action_dim,
            sizes.num_agents,
            mixer,
            hidden=self.critic_hidden,
            share_params=self.share_params,
        )

    def cooling(self, loss: Any) -> Schedule:
        """The hook that sets the temperature."""
        ends = {"start": self.temperature_start, "end": self.temperature_end}
        span = self.temperature_frames
        laws = {
            "paper": partial(linear_schedule, duration=span, **ends),
            "code": partial(constant_rate_schedule, steps_per_unit=span, **ends),
        }

        def temperature() -> list[Tensor]:
            return [loss.temperature]

        return Schedule("temperature", laws[self.temperature_schedule], temperature)


@dataclass(frozen=True, kw_only=True)
class FOP(SoftFactorized):
    """FOP."""

    def build(self, plan: Plan) -> Agent:
        """FOP."""
        actor = self.actor(plan)
        loss = FOPLoss(actor, self.factorized_critic(plan), **self.soft_options(plan))
        return self.agent(plan, actor, loss, hooks=[self.cooling(loss)])


CPU: dict[str, Any] = {
    # Reward and temperature belong together: what a nat earns in a step against a battle's 230.
    "reward_scale": 0.1,
    "temperature_start": 0.005,
    "temperature_end": 0.005,
    "mask_soft_values": True,
    "target_tau": 0.01,
    "lr": 1e-3,
    "epsilon_frames": 25_000,
}
"""With what FOP learns a battle within 150,000 frames on a CPU; its loop is in ``tuning.py``."""
PRESETS = {
    "fop": Preset(FOP(), "factorized maximum-entropy actor-critic, off policy"),
    "fop_cpu": Preset(replace(FOP(), **CPU), "FOP with settings that learn within 150,000 frames"),
}
