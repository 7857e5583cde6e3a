r"""MAVEN for discrete actions: QMIX under an episode's latent that the agents' behavior must show.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``K`` outcomes of the
latent, ``E`` finished episodes, ``X`` situation. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent
Variational Exploration", arXiv:1910.07483, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.baselines.maven import EpisodeLatentLoss, EpisodeLatentPolicy
from vm3ac_modules.functional.categorical import masked_log_softmax
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor
from vm3ac_modules.nn.episode_discriminator import EpisodeDiscriminatorNet
from vm3ac_modules.nn.mixers import QMixer
from vm3ac_modules.objectives.episodic import EpisodeKeys, Episodes, EpisodicLoss, chosen
from vm3ac_modules.objectives.options import check_not_negative

__all__ = ["MAVENDiscreteLoss"]


class MAVENDiscreteLoss(EpisodeLatentLoss, EpisodicLoss):
    r"""The loss of value-based MAVEN over whole episodes, off policy.

    .. math::
        y_t &= r_t + \gamma (1 - d_t)\, \bar Q_{tot}(s_{t+1}, \arg\max_a Q(a), z) \\
        p_i &= \mathrm{softmax}_{\mathrm{legal}}\, Q_i(\cdot|\tau_i, z) \\
        L &= E\, (Q_{tot}(s_t, a_t, z) - \mathrm{sg}\, y_t)^2 - \lambda\, E \log D(z | s, p)

    The discriminator's gradient passes through the soft actions p into the utilities. So it trains
    behavior that reveals the latent directly, not through a reward. One optimizer trains utilities,
    mixer and discriminator. The batch holds the latent in each episode's first slot. The prior of
    the latent learns from finished episodes (:meth:`latent_policy_loss`).

    References:
        Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration",
        https://arxiv.org/abs/1910.07483.

    Args:
        actor_network: the epsilon-greedy actor of the utilities.
        mixer_network: a mixer of the state and the latent, ``S + K`` features.
        discriminator_network: from the state and all soft actions, ``S + N * A`` features, to K
            logits.
        latent_policy: the prior that the environment's transform draws from; its situation is the
            state.
        mi_weight: :math:`\lambda` >= 0.
        entropy_weight: >= 0, weight of the prior's exact entropy.
        gamma: discount per step.
        reward_scale: multiplies rewards inside the loss, > 0.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_maven`` and detached means: its terms ``td_part`` and
        ``latent_log_prob`` (log D of the episode's latent, nats), ``state_action_value`` (of the
        team) and ``qvalue_target``.

    Raises:
        ValueError: for options out of their range or sizes that do not agree; when called, for a
            batch that is not made of episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.objectives import SoftUpdate
        >>> from vm3ac_modules.nn import EpisodeDiscriminatorNet, LatentUtilityNet
        >>> actor = EpsilonGreedyActor(LatentUtilityNet(4, 5, num_agents=3, latent_dim=2))
        >>> loss = MAVENDiscreteLoss(
        ...     actor, QMixer(7 + 2, num_agents=3, hypernet_layers=1),
        ...     EpisodeDiscriminatorNet(7 + 3 * 5, 2), EpisodeLatentPolicy(7, 2, situation="state"))
        >>> target = SoftUpdate(loss, tau=0.005)
        >>> agents = {"observation": torch.zeros(2, 6, 3, 4),
        ...           "action": torch.zeros(2, 6, 3, dtype=torch.long),
        ...           "action_mask": torch.ones(2, 6, 3, 5, dtype=torch.bool),
        ...           "reward": torch.zeros(2, 6, 3, 1)}
        >>> real = torch.ones(2, 6, 1, dtype=torch.bool)
        >>> td = TensorDict({"agents": agents, "state": torch.zeros(2, 6, 7), "terminated": ~real,
        ...                  "mask": real, "latent": torch.eye(2)[0].expand(2, 6, 2)}, [2, 6])
        >>> loss(td)["latent_log_prob"].ndim
        0

    See Also:
        :mod:`vm3ac_modules.objectives.episodic` for the form of a batch, whose first slot also
        holds ``latent``, ``[K]``; :class:`~vm3ac_modules.baselines.MAVENLoss` for continuous
        actions.
    """

    @dataclass
    class _AcceptedKeys(EpisodeKeys):
        latent: NestedKey = Keys().latent

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    diagnostics = ("td_part", "latent_log_prob", "state_action_value", "qvalue_target")

    actor_network: EpsilonGreedyActor
    mixer_network: QMixer
    discriminator_network: EpisodeDiscriminatorNet

    def __init__(
        self,
        actor_network: EpsilonGreedyActor,
        mixer_network: QMixer,
        discriminator_network: EpisodeDiscriminatorNet,
        latent_policy: EpisodeLatentPolicy,
        *,
        mi_weight: float = 0.01,
        entropy_weight: float = 1e-3,
        gamma: float = 0.99,
        reward_scale: float = 1.0,
        keys: Keys | None = None,
    ) -> None:
        # A one-step target.
        super().__init__(gamma=gamma, lam=0.0, reward_scale=reward_scale, keys=keys)
        check_not_negative(mi_weight=mi_weight)
        outcomes = {
            "utilities": actor_network.net.latent_dim,
            "discriminator": discriminator_network.num_outcomes,
            "prior": latent_policy.num_outcomes,
        }
        if len(set(outcomes.values())) > 1:
            raise ValueError(f"the networks disagree about the latent's outcomes: {outcomes}.")
        self.mi_weight = mi_weight
        self.add_network("actor", actor_network, loss="loss_maven", target=True)
        self.add_network("mixer", mixer_network, loss="loss_maven", target=True)
        self.add_network("discriminator", discriminator_network, loss="loss_maven")
        self.add_latent_policy(latent_policy, entropy_weight)

    def compute(
        self, batch: Episodes, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """The loss and its parts."""
        mask, latent = batch.mask, batch.first[0].unsqueeze(1)
        # An episode without a transition may hold anything.
        latent = torch.where(mask[:, :1].unsqueeze(-1), latent, torch.zeros_like(latent))
        with self.network("actor").filled():
            utilities = self._utilities(batch, latent)
        with self.network("mixer").filled():
            taken = self._team_value(batch, latent, utilities, batch.action)[:, :-1]
        target = self._target(batch, latent, utilities.detach())
        error = masked_mean((taken - target).square(), mask)
        found = self._latent_log_prob(batch, latent, utilities)
        return {
            "loss_maven": error - self.mi_weight * found,
            "td_part": error.detach(),
            "latent_log_prob": found.detach(),
            "state_action_value": masked_mean(taken.detach(), mask),
            "qvalue_target": masked_mean(target, mask),
        }

    def _utilities(self, episodes: Episodes, latent: Tensor) -> Tensor:
        """Utilities of all actions, ``[B, T + 1, N, A]``."""
        net = self.actor_network.net
        memory, _ = net.unroll(episodes.observation, episodes.last_action)
        return net.score(memory, latent)

    def _team_value(
        self, episodes: Episodes, latent: Tensor, utilities: Tensor, action: Tensor
    ) -> Tensor:
        """Value of the team for joint actions at all slots, ``[B, T + 1]``."""
        state = episodes.state
        at = torch.cat((state, latent.expand(*state.shape[:-1], -1)), dim=-1)
        mixed: Tensor = self.mixer_network(chosen(utilities, action), at)
        return mixed

    @torch.no_grad()
    def _target(self, episodes: Episodes, latent: Tensor, utilities: Tensor) -> Tensor:
        """The target y, ``[B, T]``: chosen by these utilities, valued by those of the target."""
        greedy = utilities.masked_fill(~episodes.action_mask, -torch.inf).argmax(-1)
        with self.network("actor", target=True).filled():
            values = self._utilities(episodes, latent)
        with self.network("mixer", target=True).filled():
            following = self._team_value(episodes, latent, values, greedy)[:, 1:]
        goes_on = episodes.mask & ~episodes.terminated
        return episodes.reward + self.gamma * torch.where(goes_on, following, 0.0)

    def _latent_log_prob(self, episodes: Episodes, latent: Tensor, utilities: Tensor) -> Tensor:
        """Mean log-probability (nats) of the latents that the discriminator finds, a scalar."""
        soft = masked_log_softmax(utilities, episodes.action_mask).exp()
        x = torch.cat((episodes.state, soft.flatten(-2)), dim=-1)[:, :-1]
        with self.network("discriminator").filled():
            logits = self.discriminator_network(x, episodes.mask)
        found = (logits.log_softmax(-1) * latent).sum(-1)
        once = self.discriminator_network.recurrent
        return masked_mean(found, episodes.mask[:, :1] if once else episodes.mask)
