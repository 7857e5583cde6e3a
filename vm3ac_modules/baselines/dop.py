r"""DOP: decomposed policy gradients from a linearly mixed critic, trained on and off policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Wang et al. 2021,
"DOP: Off-Policy Multi-Agent Decomposed Policy Gradients", arXiv:2007.12322, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.categorical import categorical_entropy, expectation
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.functional.tree_backup import tree_backup_target
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.decomposed_critic import DecomposedCriticNet
from vm3ac_modules.objectives.episodic import EpisodeKeys, Episodes, EpisodicLoss, chosen
from vm3ac_modules.objectives.options import check_shares

__all__ = ["DOPLoss"]


class DOPLoss(EpisodicLoss):
    r"""Losses of DOP over whole episodes, some of them played by the present policy.

    .. math::
        Q_{tot}(s, a) &= \sum_i k_i(s)\, Q_i(a_i), \qquad
        E(s) = \sum_i k_i(s) \sum_a \pi_i(a)\, Q_i(a) \\
        L_Q &= E\, (Q_{tot}(s_t, a_t) - \mathrm{sg}\, y_t)^2 \\
        L_\pi &= -E_{\text{on policy}}\, \mathrm{sg}\big[ k_i(s) \big( Q_i(a_i) -
            \sum_a \pi_i(a)\, Q_i(a) \big) \big] \log \pi_i(a_i)

    The mixing is linear, so :math:`E` is exactly the expectation over joint actions. In episodes of
    the present policy the target y is the TD(lambda) return. It bootstraps from
    :math:`\bar Q_{tot}` of the next action, and at a truncation, where no action was taken, from
    :math:`\bar E`. In other episodes y is the tree backup of
    :func:`~vm3ac_modules.functional.tree_backup.tree_backup_target`. Means are over transitions,
    and in :math:`L_\pi` also over agents, dead ones included.

    DOP's code steps its critic once for each time step of a batch, on that step's rows. Here one
    step takes the whole batch; give the critic's optimizer several steps per batch to come closer.

    References:
        Wang et al. 2021, "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients",
        https://arxiv.org/abs/2007.12322.

    Args:
        actor_network: the recurrent actor; its exploration floor is part of the policy.
        qvalue_network: agents' values and their shares.
        gamma: discount per step.
        lam: weight of the lambda-return on policy.
        tree_backup_lam: weight of the tree backup's trace.
        tree_backup_steps: transitions n that a tree backup looks at.
        options: ``gamma``, ``lam``, ``reward_scale`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.EpisodicLoss`.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, and detached means: with the first
        ``entropy`` (of the policies, nats per agent, in episodes on policy), with the second
        ``state_action_value`` (of the team) and ``qvalue_target``.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.objectives import SoftUpdate
        >>> from vm3ac_modules.nn import DecomposedCriticNet, RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=3))
        >>> loss = DOPLoss(actor, DecomposedCriticNet(4, 7, num_actions=5, num_agents=3))
        >>> target = SoftUpdate(loss, tau=0.005)
        >>> agents = {"observation": torch.zeros(2, 6, 3, 4),
        ...           "action": torch.zeros(2, 6, 3, dtype=torch.long),
        ...           "action_mask": torch.ones(2, 6, 3, 5, dtype=torch.bool),
        ...           "reward": torch.zeros(2, 6, 3, 1)}
        >>> real = torch.ones(2, 6, 1, dtype=torch.bool)
        >>> td = TensorDict({"agents": agents, "state": torch.zeros(2, 6, 7), "terminated": ~real,
        ...                  "mask": real, "on_policy": real}, [2, 6])
        >>> sorted(loss(td, only=["loss_qvalue"]).keys())
        ['loss_qvalue', 'qvalue_target', 'state_action_value']

    See Also:
        :mod:`vm3ac_modules.objectives.episodic` for the form of a batch. Its first slot also holds
        ``on_policy``: whether the episode was played by the present policy.
    """

    @dataclass
    class _AcceptedKeys(EpisodeKeys):
        on_policy: NestedKey = "on_policy"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    diagnostics = ("entropy", "state_action_value", "qvalue_target")
    order = (("loss_qvalue",), ("loss_actor",))
    on_policy: ClassVar[bool | str] = "mixed"

    actor_network: RecurrentActor
    qvalue_network: DecomposedCriticNet

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: DecomposedCriticNet,
        *,
        tree_backup_lam: float = 0.93,
        tree_backup_steps: int = 5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_shares(tree_backup_lam=tree_backup_lam)
        if tree_backup_steps < 1:
            raise ValueError(f"tree_backup_steps must be at least 1, got {tree_backup_steps}.")
        self.tree_backup_lam, self.tree_backup_steps = tree_backup_lam, tree_backup_steps
        self.add_network("actor", actor_network)
        self.add_network("qvalue", qvalue_network, target=True)

    def compute(
        self, batch: Episodes, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """The losses that are wanted, with their diagnostics."""
        # One flag per episode; padding may hold anything.
        on_policy = batch.first[0].reshape(-1, 1).bool()
        with torch.set_grad_enabled(torch.is_grad_enabled() and "loss_actor" in wanted):
            log_prob = self.policies(batch)
        out: dict[str, Tensor] = {}
        if "loss_qvalue" in wanted:
            out |= self._critic(batch, log_prob.detach(), on_policy)
        if "loss_actor" in wanted:
            out |= self._actor(batch, log_prob, batch.mask & on_policy)
        return out

    def _critic(self, episodes: Episodes, log_prob: Tensor, on_policy: Tensor) -> dict[str, Tensor]:
        with self.network("qvalue").filled():
            values, shares = self.qvalue_network(
                episodes.state[:, :-1], episodes.observation[:, :-1]
            )
        taken = (shares * chosen(values, episodes.action[:, :-1])).sum(-1)
        target = self._target(episodes, log_prob, on_policy)
        return {
            "loss_qvalue": masked_mean((taken - target).square(), episodes.mask),
            "state_action_value": masked_mean(taken.detach(), episodes.mask),
            "qvalue_target": masked_mean(target, episodes.mask),
        }

    @torch.no_grad()
    def _target(self, episodes: Episodes, log_prob: Tensor, on_policy: Tensor) -> Tensor:
        """The target y, ``[B, T]``."""
        with self.network("qvalue", target=True).filled():
            values, shares = self.qvalue_network(episodes.state, episodes.observation)
        taken = (shares * chosen(values, episodes.action)).sum(-1)
        expected = (shares * expectation(log_prob, values)).sum(-1)
        on = self.returns(episodes, torch.where(episodes.final, expected, taken))
        joint = chosen(log_prob, episodes.action).sum(-1)[:, :-1]
        off = tree_backup_target(
            *(episodes.reward, taken[:, :-1], expected, joint),
            *(episodes.terminated, episodes.mask),
            gamma=self.gamma,
            lam=self.tree_backup_lam,
            steps=self.tree_backup_steps,
        )
        return torch.where(on_policy, on, off)

    def _actor(self, episodes: Episodes, log_prob: Tensor, mask: Tensor) -> dict[str, Tensor]:
        log_prob, action = log_prob[:, :-1], episodes.action[:, :-1]
        with torch.no_grad(), self.network("qvalue").filled():
            values, shares = self.qvalue_network(
                episodes.state[:, :-1], episodes.observation[:, :-1]
            )
            credit = shares * (chosen(values, action) - expectation(log_prob, values))
        return {
            "loss_actor": -masked_mean(credit * chosen(log_prob, action), mask),
            "entropy": masked_mean(categorical_entropy(log_prob).detach(), mask),
        }
