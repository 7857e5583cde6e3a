r"""MAVEN for discrete actions: QMIX under an episode's latent that the agents' behavior must show.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``K`` outcomes of the
latent, ``E`` finished episodes, ``X`` situation. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent
Variational Exploration", arXiv:1910.07483, and its code.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from vm3ac_modules.baselines.maven import EpisodeLatentPolicy
from vm3ac_modules.functional.categorical import masked_log_softmax
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor
from vm3ac_modules.nn.episode_discriminator import EpisodeDiscriminatorNet
from vm3ac_modules.nn.mixers import QMixer
from vm3ac_modules.objectives.episode_pieces import check_shares, chosen, network_slots
from vm3ac_modules.objectives.episodic import EpisodeKeys, Episodes, read_episodes, wanted_losses

__all__ = ["MAVENDiscreteLoss"]


class MAVENDiscreteLoss(LossModule):
    r"""The loss of value-based MAVEN over whole episodes, off policy.

    .. math::
        y_t &= r_t + \gamma (1 - d_t)\, \bar Q_{tot}(s_{t+1}, \arg\max_a Q(a), z) \\
        p_i &= \mathrm{softmax}_{\mathrm{legal}}\, Q_i(\cdot|\tau_i, z) \\
        L &= E\, (Q_{tot}(s_t, a_t, z) - \mathrm{sg}\, y_t)^2 - \lambda\, E \log D(z | s, p)

    The discriminator's gradient passes through the soft actions p into the utilities: behavior
    that shows the latent is trained for, not rewarded. One optimizer trains utilities, mixer and
    discriminator. The latent is the one that an episode's first slot holds. Its prior learns from
    finished episodes, :meth:`latent_policy_loss`.

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
    out_keys: tuple[str, ...] = (
        *("loss_maven", "td_part", "latent_log_prob"),
        *("state_action_value", "qvalue_target"),
    )
    phases: tuple[tuple[str, ...], ...] = (("loss_maven",),)
    on_policy: ClassVar[bool | str] = False

    actor_network: EpsilonGreedyActor
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    mixer_network: QMixer
    mixer_network_params: TensorDictParams
    target_mixer_network_params: TensorDictParams
    discriminator_network: EpisodeDiscriminatorNet
    discriminator_network_params: TensorDictParams
    target_discriminator_network_params: TensorDictParams
    latent_policy_network: EpisodeLatentPolicy
    latent_policy_network_params: TensorDictParams
    target_latent_policy_network_params: TensorDictParams

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
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        check_shares(gamma=gamma)
        for name, weight in {"mi_weight": mi_weight, "entropy_weight": entropy_weight}.items():
            if not weight >= 0.0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        outcomes = {
            "utilities": actor_network.net.latent_dim,
            "discriminator": discriminator_network.num_outcomes,
            "prior": latent_policy.num_outcomes,
        }
        if len(set(outcomes.values())) > 1:
            raise ValueError(f"the networks disagree about the latent's outcomes: {outcomes}.")
        self.mi_weight, self.entropy_weight, self.gamma = mi_weight, entropy_weight, gamma
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.convert_to_functional(mixer_network, "mixer_network", create_target_params=True)
        self.convert_to_functional(discriminator_network, "discriminator_network")
        self.convert_to_functional(latent_policy, "latent_policy_network")
        names = ("actor", "mixer", "discriminator", "latent_policy")
        self.slots = network_slots(self, *(f"{name}_network" for name in names))
        if keys is not None:
            self.set_keys(**self._AcceptedKeys.named_by(keys))

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        return None

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        return self.tensor_keys.all()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that the loss trains; those of the prior are not among them."""
        names = ("actor", "mixer", "discriminator")
        networks = (getattr(self, f"{name}_network_params") for name in names)
        return {"loss_maven": [p for params in networks for p in params.parameters()]}

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Nothing is drawn: an empty tensordict ``[B, T + 1]``."""
        return TensorDict({}, tensordict.batch_size)

    def forward(
        self,
        tensordict: TensorDictBase,
        noise: TensorDictBase | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> TensorDict:
        """Compute the loss; the input is not changed.

        Args:
            tensordict: episodes ``[B, T + 1]`` with the entries of :attr:`in_keys`.
            noise: not read.
            only: names of the losses that are wanted: there is one.

        Returns:
            The loss and diagnostics, see the class.
        """
        del noise
        wanted_losses(self.out_keys, only)
        episodes = read_episodes(tensordict, self.tensor_keys, type(self).__name__)
        require_keys(tensordict, [self.tensor_keys.latent], type(self).__name__)
        latent = tensordict.get(self.tensor_keys.latent)[:, :1]
        # An episode without a transition may hold anything.
        played = episodes.mask[:, :1].unsqueeze(-1)
        latent = torch.where(played, latent, torch.zeros_like(latent))
        with self.slots["actor_network"].filled(self.actor_network_params):
            utilities = self._utilities(episodes, latent)
        return TensorDict(self._losses(episodes, latent, utilities), [])

    def _losses(self, episodes: Episodes, latent: Tensor, utilities: Tensor) -> dict[str, Tensor]:
        mask = episodes.mask
        with self.slots["mixer_network"].filled(self.mixer_network_params):
            taken = self._team_value(episodes, latent, utilities, episodes.action)[:, :-1]
        target = self._target(episodes, latent, utilities.detach())
        error = masked_mean((taken - target).square(), mask)
        found = self._latent_log_prob(episodes, latent, utilities)
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
        with self.slots["actor_network"].filled(self.target_actor_network_params):
            values = self._utilities(episodes, latent)
        with self.slots["mixer_network"].filled(self.target_mixer_network_params):
            following = self._team_value(episodes, latent, values, greedy)[:, 1:]
        goes_on = episodes.mask & ~episodes.terminated
        return episodes.reward + self.gamma * torch.where(goes_on, following, 0.0)

    def _latent_log_prob(self, episodes: Episodes, latent: Tensor, utilities: Tensor) -> Tensor:
        """Mean log-probability (nats) of the latents that the discriminator finds, a scalar."""
        soft = masked_log_softmax(utilities, episodes.action_mask).exp()
        x = torch.cat((episodes.state, soft.flatten(-2)), dim=-1)[:, :-1]
        with self.slots["discriminator_network"].filled(self.discriminator_network_params):
            logits = self.discriminator_network(x, episodes.mask)
        found = (logits.log_softmax(-1) * latent).sum(-1)
        once = self.discriminator_network.recurrent
        return masked_mean(found, episodes.mask[:, :1] if once else episodes.mask)

    def latent_policy_loss(
        self, situation: Tensor, latent: Tensor, advantage: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""REINFORCE with the prior's exact entropy.

        .. math:: -\frac1E \sum_e \hat A_e \log \pi_\zeta(z_e|s_{0,e}) - \eta\, H(\pi_\zeta)

        MAVEN's code takes the mean of :math:`\log \pi_\zeta` of the latents drawn for the entropy,
        whose gradient is zero in expectation.

        Args:
            situation: states in which episodes began, ``[E, X]``.
            latent: what they drew, ``[E, K]``.
            advantage: standardized returns above the baseline, ``[E]``.

        Returns:
            The loss and the mean entropy (nats), scalars.
        """
        with self.slots["latent_policy_network"].filled(self.latent_policy_network_params):
            prior = self.latent_policy_network.distribution(situation)
        entropy = prior.entropy().mean(-1)
        score = (advantage.detach() * prior.log_prob(latent)).mean(-1)
        return -score - self.entropy_weight * entropy, entropy
