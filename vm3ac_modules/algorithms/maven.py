"""MAVEN on MA-AC: a latent per episode that the agents' behavior must show.

Sources: Mahajan et al. 2019, arXiv:1910.07483; Kim et al. 2023, arXiv:2303.00451, Section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torchrl.envs import EnvBase, RewardSum, Transform

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episode_latent import LearnedEpisodeLatent
from vm3ac_modules.algorithms.transitions import ActorCritic
from vm3ac_modules.baselines import EpisodeLatentPolicy, MAVENLoss
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.per_seed import PerSeed
from vm3ac_modules.nn import JointNet

__all__ = ["MAVEN", "PRESETS"]


def episode_transforms(plan: Plan, prior: EpisodeLatentPolicy, env: EnvBase) -> list[Transform]:
    """An episode's return, and the latent that is drawn at every reset."""
    keys = plan.keys
    returns = RewardSum(
        in_keys=[keys.reward], out_keys=[keys.episode_reward], reset_keys=["_reset"]
    )
    return [returns, EpisodeLatent(prior if plan.seeds == 1 else PerSeed(prior, plan.seeds))]


@dataclass(frozen=True, kw_only=True)
class MAVEN(LearnedEpisodeLatent, ActorCritic):
    """MAVEN for continuous actions."""

    latent_dim: int = option(8, "outcomes of the one-hot latent", least=2, source="Table 2")
    mi_weight: float = option(
        0.1, "weight of the discriminator's log-probability", unit="reward per nat", least=0
    )
    mi_mode: str = option(
        "policy", "where it enters: the policies' loss or the reward", choices=("policy", "reward")
    )

    def build(self, plan: Plan) -> Agent:
        """MAVEN; the environment draws the latent."""
        sizes, keys = plan.sizes, plan.keys
        on_state = self.critic_input == "state" and sizes.state_dim is not None
        situation = keys.state if on_state else keys.observation
        size = sizes.state_dim if on_state else sizes.num_agents * sizes.obs_dim
        assert size is not None
        options = self.net_options(plan, shared=False)
        prior = EpisodeLatentPolicy(
            size,
            self.latent_dim,
            uniform=self.latent_policy == "uniform",
            situation=situation,
            keys=keys,
            **options,
        )
        policy = self.actor(plan, self.latent_dim)
        joint = size + sizes.num_agents * sizes.action_dim
        discriminator = JointNet(joint, self.latent_dim, **options)
        loss = MAVENLoss(
            policy,
            *self.critics(plan, self.latent_dim),
            discriminator,
            prior,
            entropy_weight=self.latent_entropy_weight,
            **self.loss_options(plan, "policy_q", "mi_weight", "mi_mode"),
        )
        transforms = partial(episode_transforms, plan, prior)
        agent = self.agent(plan, policy, loss, env_transforms=transforms)
        return self.with_learner(agent)


PRESETS = {"maven": Preset(MAVEN(), "MA-AC with a latent per episode and a discriminator of it")}
