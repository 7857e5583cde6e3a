r"""LICA: implicit credit through a critic of the joint policy, on policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Zhou et al. 2020,
"Learning Implicit Credit Assignment for Cooperative Multi-Agent Reinforcement Learning",
arXiv:2007.02529, and its code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from vm3ac_modules.functional.categorical import (
    categorical_entropy,
    draw_categorical,
    gumbel_noise,
)
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.lica_critic import LICACritic
from vm3ac_modules.objectives.episodic import Episodes, EpisodicLoss
from vm3ac_modules.objectives.options import check_not_negative

__all__ = ["LICALoss"]

ENTROPY_FLOOR = 1e-3


class LICALoss(EpisodicLoss):
    r"""Losses of LICA over whole episodes of the present policy.

    .. math::
        L_C &= E\, (C(s_t, \mathrm{onehot}\, a_t) - \mathrm{sg}\, G_t)^2 \\
        L_\pi &= -E\, C(s_t, [\pi_1, \dots, \pi_N])
            - \frac{\xi}{\mathrm{sg} \max(\bar H, 10^{-3})}\, \bar H

    with :math:`G` the TD(lambda) return that bootstraps from :math:`\bar C(s, \mathrm{onehot}\, a)`
    and :math:`\bar H` the mean entropy of an agent at a step. The policies' gradient passes through
    all probabilities at once; dividing by the entropy keeps the size of its gradient at
    :math:`\xi`. At a truncation no action was taken, so the loss draws one.

    References:
        Zhou et al. 2020, "Learning Implicit Credit Assignment for Cooperative Multi-Agent
        Reinforcement Learning", https://arxiv.org/abs/2007.02529.

    Args:
        actor_network: the recurrent actor; LICA has no exploration floor (epsilon 0).
        qvalue_network: the critic of the joint policy.
        entropy_weight: :math:`\xi` >= 0 (reward).
        options: ``gamma``, ``lam``, ``reward_scale`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.EpisodicLoss`.

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

    diagnostics = ("entropy", "policy_value", "state_action_value", "qvalue_target")
    order = (("loss_qvalue",), ("loss_actor",))
    on_policy: ClassVar[bool | str] = True

    actor_network: RecurrentActor
    qvalue_network: LICACritic

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: LICACritic,
        *,
        entropy_weight: float = 0.11,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_not_negative(entropy_weight=entropy_weight)
        self.entropy_weight = entropy_weight
        self.add_network("actor", actor_network)
        self.add_network("qvalue", qvalue_network, target=True)

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs (noise is data): Gumbel noise for the actions at the ends.

        Args:
            tensordict: the batch, ``[B, T + 1]``.

        Returns:
            ``action`` ``[B, N, A]``, for one joint action per episode.
        """
        key = self.tensor_keys.action_mask
        require_keys(tensordict, [key], type(self).__name__)
        noise = gumbel_noise(tensordict.get(key)[:, 0].to(torch.get_default_dtype()))
        return TensorDict({"action": noise}, tensordict.batch_size[:1])

    def compute(
        self, batch: Episodes, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """The losses that are wanted, with their diagnostics."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and "loss_actor" in wanted):
            log_prob = self.policies(batch)
        out: dict[str, Tensor] = {}
        if "loss_qvalue" in wanted:
            out |= self._critic(batch, log_prob.detach(), noise.get("action"))
        if "loss_actor" in wanted:
            out |= self._actor(batch, log_prob[:, :-1])
        return out

    def _critic(self, episodes: Episodes, log_prob: Tensor, noise: Tensor) -> dict[str, Tensor]:
        drawn = draw_categorical(log_prob, noise.unsqueeze(1))
        action = torch.where(episodes.final.unsqueeze(-1), drawn, episodes.action)
        vertices = nn.functional.one_hot(action, log_prob.shape[-1]).to(episodes.state.dtype)
        with self.network("qvalue").filled():
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
        with self.network("qvalue", target=True).filled():
            bootstrap = self.qvalue_network(episodes.state, vertices)
        return self.returns(episodes, bootstrap)

    def _actor(self, episodes: Episodes, log_prob: Tensor) -> dict[str, Tensor]:
        with self.network("qvalue").filled(detach=True):
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
