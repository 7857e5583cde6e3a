"""MAVEN on QMIX, over discrete actions: utilities under an episode's latent.

Source: Mahajan et al. 2019, arXiv:1910.07483, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase, Transform

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episode_latent import LearnedEpisodeLatent
from vm3ac_modules.algorithms.episodes import EpisodeAlgorithm
from vm3ac_modules.algorithms.searched import best
from vm3ac_modules.baselines import EpisodeLatentPolicy, MAVENDiscreteLoss
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor, make_utility_policy
from vm3ac_modules.nn import EpisodeDiscriminatorNet, LatentUtilityNet, QMixer

__all__ = ["PRESETS", "MAVENOnQMIX"]


def latent_transforms(actor: Any, prior: EpisodeLatentPolicy, env: EnvBase) -> Sequence[Transform]:
    """An empty memory, and the latent that is drawn at every reset."""
    return [actor.make_primer(), EpisodeLatent(prior)]


@dataclass(frozen=True, kw_only=True)
class MAVENOnQMIX(LearnedEpisodeLatent, EpisodeAlgorithm):
    """MAVEN on QMIX."""

    latent_dim: int = option(16, "outcomes of the one-hot latent", least=2)
    latent_entropy_weight: float = 1e-3
    latent_lr: float = 5e-4
    mi_weight: float = option(0.01, "weight of the discriminator's log-probability", least=0)
    recurrent_discriminator: bool = option(True, "tell the latent from the whole episode")

    def sequence(self, actor: Any, sampler: LatentSampler | None) -> TensorDictModuleBase:
        """The policy around an actor; the latent comes from the environment."""
        return make_utility_policy(actor)

    def build(self, plan: Plan) -> Agent:
        """MAVEN on QMIX; the environment draws the latent."""
        sizes, keys = plan.sizes, plan.keys
        assert sizes.state_dim is not None
        net = LatentUtilityNet(
            sizes.obs_dim,
            sizes.action_dim,
            sizes.num_agents,
            latent_dim=self.latent_dim,
            hidden_size=self.hidden_size,
            share_params=self.share_params,
        )
        actor = EpsilonGreedyActor(net, keys=keys)
        prior = EpisodeLatentPolicy(
            sizes.state_dim,
            self.latent_dim,
            uniform=self.latent_policy == "uniform",
            situation=keys.state,
            keys=keys,
            hidden=(128,),
        )
        soft_actions = sizes.num_agents * sizes.action_dim
        discriminator = EpisodeDiscriminatorNet(
            sizes.state_dim + soft_actions, self.latent_dim, recurrent=self.recurrent_discriminator
        )
        mixer = QMixer(sizes.state_dim + self.latent_dim, sizes.num_agents, hypernet_layers=1)
        loss = MAVENDiscreteLoss(
            actor,
            mixer,
            discriminator,
            prior,
            entropy_weight=self.latent_entropy_weight,
            **self.loss_options(plan, "mi_weight"),
        )
        transforms = partial(latent_transforms, actor, prior)
        return self.with_learner(self.agent(plan, actor, loss, env_transforms=transforms))


PRESETS = {
    "maven": Preset(MAVENOnQMIX(), "QMIX under a latent per episode that must show"),
    "maven_cpu": Preset(
        replace(MAVENOnQMIX(), **best("maven", loop=False)),
        "the same with the best of the searched settings for a CPU",
    ),
}
