r"""LICA: implicit credit through a critic of the joint policy, on policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Zhou et al. 2020,
"Learning Implicit Credit Assignment for Cooperative Multi-Agent Reinforcement Learning",
arXiv:2007.02529, and its code.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from vm3ac_modules.functional.categorical import categorical_entropy, draw_categorical
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.lica_critic import LICACritic
from vm3ac_modules.objectives.episode_pieces import (
    check_shares,
    final_slots,
    first_slot_noise,
    network_slots,
)
from vm3ac_modules.objectives.episodic import (
    EpisodeKeys,
    Episodes,
    lambda_return,
    read_episodes,
    wanted_losses,
)

__all__ = ["LICALoss"]

ENTROPY_FLOOR = 1e-3


class LICALoss(LossModule):
    r"""Losses of LICA over whole episodes of the present policy.

    .. math::
        L_C &= E\, (C(s_t, \mathrm{onehot}\, a_t) - \mathrm{sg}\, G_t)^2 \\
        L_\pi &= -E\, C(s_t, [\pi_1, \dots, \pi_N])
            - \frac{\xi}{\mathrm{sg} \max(\bar H, 10^{-3})}\, \bar H

    with :math:`G` the TD(lambda) return that bootstraps from :math:`\bar C(s, \mathrm{onehot}\, a)`
    and :math:`\bar H` the mean entropy of an agent at a step. The policies' gradient passes through
    all probabilities at once; dividing by the entropy keeps the size of its gradient at
    :math:`\xi`. Where an episode was cut off no action was taken: one is drawn there.

    References:
        Zhou et al. 2020, "Learning Implicit Credit Assignment for Cooperative Multi-Agent
        Reinforcement Learning", https://arxiv.org/abs/2007.02529.

    Args:
        actor_network: the recurrent actor; LICA has no exploration floor (epsilon 0).
        qvalue_network: the critic of the joint policy.
        entropy_weight: :math:`\xi` >= 0 (reward).
        gamma: discount per step.
        lam: weight of the lambda-return.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, and detached means: with the first
        ``entropy`` (nats per agent) and ``policy_value`` (of the joint policy), with the second
        ``state_action_value`` (of what was done) and ``qvalue_target``.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from torchrl.objectives import SoftUpdate
        >>> from vm3ac_modules.nn import LICACritic, RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=3))
        >>> loss = LICALoss(actor, LICACritic(7, num_actions=5, num_agents=3, bottleneck=64))
        >>> target = SoftUpdate(loss, tau=0.005)
        >>> agents = {"observation": torch.zeros(2, 6, 3, 4),
        ...           "action": torch.zeros(2, 6, 3, dtype=torch.long),
        ...           "action_mask": torch.ones(2, 6, 3, 5, dtype=torch.bool),
        ...           "reward": torch.zeros(2, 6, 3, 1)}
        >>> real = torch.ones(2, 6, 1, dtype=torch.bool)
        >>> td = TensorDict({"agents": agents, "state": torch.zeros(2, 6, 7), "terminated": ~real,
        ...                  "mask": real}, [2, 6])
        >>> sorted(loss(td, only=["loss_actor"]).keys())
        ['entropy', 'loss_actor', 'policy_value']

    See Also:
        :mod:`vm3ac_modules.objectives.episodic` for the form of a batch.
    """

    _AcceptedKeys = EpisodeKeys
    default_keys = EpisodeKeys
    tensor_keys: EpisodeKeys
    out_keys: tuple[str, ...] = (
        *("loss_actor", "loss_qvalue"),
        *("entropy", "policy_value", "state_action_value", "qvalue_target"),
    )
    phases: tuple[tuple[str, ...], ...] = (("loss_qvalue",), ("loss_actor",))
    on_policy: ClassVar[bool | str] = True

    actor_network: RecurrentActor
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    qvalue_network: LICACritic
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: LICACritic,
        *,
        entropy_weight: float = 0.11,
        gamma: float = 0.99,
        lam: float = 0.8,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        check_shares(gamma=gamma, lam=lam)
        if not entropy_weight >= 0.0:
            raise ValueError(f"entropy_weight must not be negative, got {entropy_weight}.")
        self.entropy_weight, self.gamma, self.lam = entropy_weight, gamma, lam
        self.convert_to_functional(actor_network, "actor_network")
        self.convert_to_functional(qvalue_network, "qvalue_network", create_target_params=True)
        self.slots = network_slots(self, "actor_network", "qvalue_network")
        if keys is not None:
            self.set_keys(**self._AcceptedKeys.named_by(keys))

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        return None

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        return self.tensor_keys.all()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains, disjoint."""
        return {
            "loss_actor": list(self.actor_network_params.parameters()),
            "loss_qvalue": list(self.qvalue_network_params.parameters()),
        }

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs (noise is data): Gumbel noise for the actions at the ends.

        Args:
            tensordict: the batch, ``[B, T + 1]``.

        Returns:
            ``action`` ``[B, N, A]``.
        """
        return first_slot_noise(tensordict, self.tensor_keys.action_mask, type(self).__name__)

    def forward(
        self,
        tensordict: TensorDictBase,
        noise: TensorDictBase | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> TensorDict:
        """Compute the losses; the input is not changed.

        Args:
            tensordict: episodes ``[B, T + 1]`` with the entries of :attr:`in_keys`.
            noise: what :meth:`draw_noise` returns; drawn if None.
            only: names of the losses that are wanted; all if None.

        Returns:
            The losses wanted, with their diagnostics, see the class.
        """
        wanted = wanted_losses(self.out_keys, only)
        episodes = read_episodes(tensordict, self.tensor_keys, type(self).__name__)
        noise = self.draw_noise(tensordict) if noise is None else noise
        with torch.set_grad_enabled(torch.is_grad_enabled() and "loss_actor" in wanted):
            log_prob = self._policies(episodes)
        out: dict[str, Tensor] = {}
        if "loss_qvalue" in wanted:
            out |= self._critic(episodes, log_prob.detach(), noise.get("action"))
        if "loss_actor" in wanted:
            out |= self._actor(episodes, log_prob[:, :-1])
        return TensorDict(out, [])

    def _policies(self, episodes: Episodes) -> Tensor:
        """Log-probabilities of all actions (nats), ``[B, T + 1, N, A]``."""
        with self.slots["actor_network"].filled(self.actor_network_params):
            memory, _ = self.actor_network.net.unroll(episodes.observation, episodes.last_action)
            return self.actor_network.log_prob(memory, episodes.action_mask)

    def _critic(self, episodes: Episodes, log_prob: Tensor, noise: Tensor) -> dict[str, Tensor]:
        drawn = draw_categorical(log_prob, noise.unsqueeze(1))
        ends = final_slots(episodes).unsqueeze(-1)
        action = torch.where(ends, drawn, episodes.action)
        vertices = nn.functional.one_hot(action, log_prob.shape[-1]).to(episodes.state.dtype)
        with self.slots["qvalue_network"].filled(self.qvalue_network_params):
            taken = self.qvalue_network(episodes.state[:, :-1], vertices[:, :-1])
        target = self._target(episodes, vertices)
        return {
            "loss_qvalue": masked_mean((taken - target).square(), episodes.mask),
            "state_action_value": masked_mean(taken.detach(), episodes.mask),
            "qvalue_target": masked_mean(target, episodes.mask),
        }

    @torch.no_grad()
    def _target(self, episodes: Episodes, vertices: Tensor) -> Tensor:
        """The lambda-return, ``[B, T]``."""
        with self.slots["qvalue_network"].filled(self.target_qvalue_network_params):
            bootstrap = self.qvalue_network(episodes.state, vertices)
        ends = episodes.reward, bootstrap, episodes.terminated, episodes.mask
        return lambda_return(*ends, gamma=self.gamma, lam=self.lam)

    def _actor(self, episodes: Episodes, log_prob: Tensor) -> dict[str, Tensor]:
        with self.slots["qvalue_network"].filled(self.qvalue_network_params, detach=True):
            value = self.qvalue_network(episodes.state[:, :-1], log_prob.exp())
        value = masked_mean(value, episodes.mask)
        entropy = masked_mean(categorical_entropy(log_prob), episodes.mask)
        # Nothing is left to spread when everyone has died or become certain.
        weight = self.entropy_weight / entropy.detach().clamp_min(ENTROPY_FLOOR)
        return {
            "loss_actor": -value - weight * entropy,
            "entropy": entropy.detach(),
            "policy_value": value.detach(),
        }
