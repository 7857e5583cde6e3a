"""MADDPG: deterministic policies with a centralized critic per agent.

Source: Lowe et al. 2017, arXiv:1706.02275.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensordict.nn import TensorDictSequential
from torchrl.data import Composite
from torchrl.modules import AdditiveGaussianModule

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.transitions import TransitionAlgorithm
from vm3ac_modules.baselines import MADDPGLoss
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.actors import action_bounds, make_deterministic_actor

__all__ = ["MADDPG", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class MADDPG(TransitionAlgorithm):
    """MADDPG with Gaussian exploration."""

    exploration_noise: float = option(
        0.1, "standard deviation of the exploration noise", unit="half ranges", least=0
    )

    def build(self, plan: Plan) -> Agent:
        """MADDPG."""
        actor = make_deterministic_actor(
            plan.sizes.obs_dim, plan.action_spec, keys=plan.keys, **self.net_options(plan)
        )
        critic = self.action_value(plan, num_critics=1)
        loss = MADDPGLoss(actor, critic, **self.loss_options(plan))
        policy = TensorDictSequential(actor, self._noise(plan))
        return self.agent(plan, policy, loss)

    def _noise(self, plan: Plan) -> AdditiveGaussianModule:
        low, high = action_bounds(plan.action_spec)
        # One row of the spec: noise and clipping broadcast over rows and seeds.
        spec = plan.action_spec.clone()
        while spec.ndim > 2:
            spec = spec[0]
        noise = AdditiveGaussianModule(
            spec=Composite({plan.keys.action: spec}),
            sigma_init=float(self.exploration_noise),
            sigma_end=float(self.exploration_noise),
            action_key=plan.keys.action,
            safe=False,
        )
        noise.register_buffer("std", 0.5 * (high - low))
        return noise


PRESETS = {"maddpg": Preset(MADDPG(), "deterministic policies, the others' actions replayed")}
