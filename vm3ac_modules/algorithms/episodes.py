"""What algorithms over discrete actions share: options, recurrent actor, schedules.

They learn from whole episodes.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix G; the optimizer is that of the PyMARL family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase, StepCounter, Transform
from torchrl.objectives import HardUpdate
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.algorithms.base import Algorithm, Kind, Plan, option
from vm3ac_modules.envs.transforms import EpisodeCounter
from vm3ac_modules.functional.schedules import linear_schedule
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import Schedule
from vm3ac_modules.learning.target import FusedSoftUpdate
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, make_recurrent_policy
from vm3ac_modules.nn import RecurrentPolicyNet
from vm3ac_modules.objectives import MultiAgentLoss

__all__ = ["EpisodeAlgorithm"]


@dataclass(frozen=True, kw_only=True)
class EpisodeAlgorithm(Algorithm):
    """Options of every algorithm over discrete actions."""

    kind: ClassVar[Kind] = "discrete"

    lr: float = option(5e-4, "learning rate", above=0)
    gamma: float = option(0.99, "discount per step", least=0, most=1)
    reward_scale: float = option(
        1.0, "factor on rewards inside the loss; logged returns stay unscaled", above=0
    )
    hidden_size: int = option(64, "width of the policy's layers and memory", least=1)
    share_params: bool = option(
        True, "one policy for all agents, who are told apart by their index, instead of one each"
    )
    epsilon_start: float = option(
        1.0, "share of uniformly random actions in the policy at the start", least=0, most=1
    )
    epsilon_end: float = option(0.05, "the same at the end", least=0, most=1)
    epsilon_frames: int = option(50_000, "how long it falls", unit="environment steps", least=0)
    target_interval: int = option(
        200,
        "updates between copies into the targets, unless target_tau moves them",
        least=1,
    )
    target_tau: float | None = option(
        None,
        "share of the networks that enters the targets at every update; null: whole copies",
        above=0,
        most=1,
    )

    def actor(self, plan: Plan, latent_dim: int = 0, latent_gain: float = 1.0) -> RecurrentActor:
        """A recurrent actor."""
        net = RecurrentPolicyNet(
            plan.sizes.obs_dim,
            plan.sizes.action_dim,
            plan.sizes.num_agents,
            latent_dim=latent_dim,
            hidden_size=self.hidden_size,
            share_params=self.share_params,
            latent_gain=latent_gain,
        )
        return RecurrentActor(net, keys=plan.keys)

    def sequence(self, actor: Any, sampler: LatentSampler | None) -> TensorDictModuleBase:
        """The policy around an actor."""
        return make_recurrent_policy(actor, sampler)

    def loss_options(self, plan: Plan, *names: str) -> dict[str, Any]:
        """Options of a loss: those of every loss, and these."""
        return {**self.pick("gamma", "reward_scale", *names), "keys": plan.keys}

    def agent(
        self,
        plan: Plan,
        actor: Any,
        loss: MultiAgentLoss,
        sampler: LatentSampler | None = None,
        **data: Any,
    ) -> Agent:
        """What :meth:`build` returns, with RMSprop and copies into the targets.

        Args:
            plan: what it is built for.
            actor: the actor with the exploration floor.
            loss: the loss.
            sampler: draws the latent at every step; None without one.
            data: ``rates``, learning rates by name of the loss, ``optimizer``, and further fields
                of :class:`~vm3ac_modules.learning.Agent`.
        """
        data = {
            "optimizer": partial(torch.optim.RMSprop, alpha=0.99, eps=1e-5),
            "env_transforms": partial(memory_transforms, actor, sampler is not None),
            **data,
        }
        made = self._agent(plan, self.sequence(actor, sampler), loss, lr=self.lr, **data)
        made.hooks = [self._exploration(actor, loss), *made.hooks]
        made.clips_per_agent = False
        if any("target" in name for name, _ in loss.named_buffers()):
            made.target = self.target(loss)
        return made

    def target(self, loss: MultiAgentLoss) -> TargetNetUpdater:
        """What moves the targets after every update."""
        if self.target_tau is not None:
            return FusedSoftUpdate(loss, tau=self.target_tau)
        # It copies at every (interval + 1)-th call.
        return HardUpdate(loss, value_network_update_interval=self.target_interval - 1)

    def _exploration(self, actor: Any, loss: Any) -> Schedule:
        """The floor of uniformly random actions, in the policy and in the loss."""
        law = partial(
            linear_schedule,
            start=self.epsilon_start,
            end=self.epsilon_end,
            duration=self.epsilon_frames,
        )

        def floors() -> list[Tensor]:
            # After a move to a device the loss has a buffer of its own.
            return [actor.epsilon, loss.actor_network_params.get("epsilon")]

        return Schedule("epsilon", law, floors)


def memory_transforms(actor: Any, draws_latent: bool, env: EnvBase) -> Sequence[Transform]:
    """An empty memory at every reset, and the counters that synchronized latents come from."""
    clock = [StepCounter(), EpisodeCounter(env.batch_size)] if draws_latent else []
    return [actor.make_primer(), *clock]
