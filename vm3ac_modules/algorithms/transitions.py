"""What algorithms over continuous actions share: options, actor, centralized critics.

They learn off policy from a replay of transitions.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential

from vm3ac_modules.algorithms.base import Algorithm, Kind, Plan, option
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.target import FusedSoftUpdate
from vm3ac_modules.modules.actors import action_bounds, make_actor
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.modules.exploration import GaussianNoise
from vm3ac_modules.objectives import MultiAgentLoss

__all__ = ["ActorCritic", "TransitionAlgorithm"]


@dataclass(frozen=True, kw_only=True)
class TransitionAlgorithm(Algorithm):
    """Options of every algorithm over continuous actions."""

    kind: ClassVar[Kind] = "continuous"

    lr: float = option(3e-4, "learning rate of Adam", above=0, source="Table 1")
    gamma: float = option(0.99, "discount per step", least=0, most=1, source="Table 1")
    tau: float = option(
        0.005, "share of the online network in the target after an update", above=0, most=1
    )
    reward_scale: float = option(
        1.0, "factor on rewards and beta inside the loss; logged returns stay unscaled", above=0
    )
    critic: str = option(
        "emphasized",
        "critics: own and others' branch; everything concatenated; others weighed by attention",
        choices=("emphasized", "plain", "attention"),
        source="Section 6",
    )
    critic_input: str = option(
        "observations",
        "what critics see beside the own observation: all observations, or the state",
        choices=("observations", "state"),
    )
    hidden: tuple[int, ...] = option(
        (128, 128), "widths of the hidden layers of all networks", least=1, source="Table 1"
    )
    share_params: bool = option(False, "one policy and one critic for all agents")
    exploration_noise: float = option(
        0.0,
        "standard deviation of Gaussian noise on the actions that are collected",
        unit="half ranges",
        least=0,
    )
    critic_hidden: tuple[int, ...] | None = option(
        None, "widths of the critics' hidden layers; null: those of `hidden`", least=1
    )
    critic_share_params: bool | None = option(
        None, "one critic for all agents; null: as `share_params`"
    )

    def net_options(self, plan: Plan, *, shared: bool = True) -> dict[str, Any]:
        """Options of a network; ``shared`` if its agents may share parameters."""
        found = {"hidden": self.hidden, "stack_shape": plan.stack_shape}
        return {**found, "share_params": self.share_params} if shared else found

    def loss_options(self, plan: Plan, *names: str) -> dict[str, Any]:
        """Options of a loss: those of every loss, and these."""
        chosen = self.pick("gamma", "reward_scale", *names)
        return {**chosen, "keys": plan.keys, "seed_dims": len(plan.stack_shape)}

    def action_value(self, plan: Plan, **options: Any) -> TensorDictModuleBase:
        """Centralized action values."""
        sizes = plan.sizes
        return make_action_value(
            sizes.obs_dim, sizes.action_dim, sizes.num_agents, **self._critic(plan), **options
        )

    def state_value(self, plan: Plan, **options: Any) -> TensorDictModuleBase:
        """Centralized state values."""
        sizes = plan.sizes
        return make_state_value(sizes.obs_dim, sizes.num_agents, **self._critic(plan), **options)

    def _critic(self, plan: Plan) -> dict[str, Any]:
        own = {"hidden": self.critic_hidden, "share_params": self.critic_share_params}
        return {
            "critic_input": self.critic_input,
            "state_dim": plan.sizes.state_dim,
            "form": self.critic,
            "keys": plan.keys,
            **self.net_options(plan),
            **{name: value for name, value in own.items() if value is not None},
        }

    def agent(
        self, plan: Plan, policy: TensorDictModuleBase, loss: MultiAgentLoss, **data: Any
    ) -> Agent:
        """What :meth:`build` returns, with Adam, a soft update of the targets, and what explores.

        Args:
            plan: what it is built for.
            policy: the policy's sequence, without exploration.
            loss: the loss.
            data: ``rates``, learning rates by name of the loss, and further fields of
                :class:`~vm3ac_modules.learning.Agent`.
        """
        if self.exploration_noise > 0:
            low, high = action_bounds(plan.action_spec)
            noise = GaussianNoise(low, high, self.exploration_noise, plan.keys.action)
            policy = TensorDictSequential(policy, noise)
        adam = partial(torch.optim.Adam, fused=True)
        made = self._agent(plan, policy, loss, adam, self.lr, **data)
        return replace(made, target=FusedSoftUpdate(loss, tau=self.tau))


@dataclass(frozen=True, kw_only=True)
class ActorCritic(TransitionAlgorithm):
    """Options of algorithms with stochastic policies, V and twin Q."""

    policy_q: str = option(
        "first", "critic that trains the policies", choices=("first", "min"), source="Eq. (49)"
    )
    log_std: str = option(
        "clamp",
        "log standard deviation of the policies: clamp into [-5, 2], or tanh into [-20, 2]",
        choices=("clamp", "paper"),
    )

    def actor(self, plan: Plan, latent_dim: int = 0, **options: Any) -> Any:
        """A tanh-Gaussian actor over observation and latent."""
        return make_actor(
            plan.sizes.obs_dim,
            latent_dim,
            plan.action_spec,
            keys=plan.keys,
            log_std=self.log_std,
            **self.net_options(plan),
            **options,
        )

    def critics(self, plan: Plan, latent_dim: int = 0) -> tuple[Any, Any]:
        """Action values and state values, in the order in which they are initialized."""
        options = {"latent_dim": latent_dim} if latent_dim else {}
        return self.action_value(plan, **options), self.state_value(plan, **options)
