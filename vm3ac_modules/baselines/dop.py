r"""DOP: decomposed policy gradients from a linearly mixed critic, trained on and off policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Wang et al. 2021,
"DOP: Off-Policy Multi-Agent Decomposed Policy Gradients", arXiv:2007.12322, and its code.
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

from vm3ac_modules.functional.categorical import categorical_entropy, expectation
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.functional.tree_backup import tree_backup_target
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.decomposed_critic import DecomposedCriticNet
from vm3ac_modules.objectives.episode_pieces import check_shares, chosen, final_slots, network_slots
from vm3ac_modules.objectives.episodic import (
    EpisodeKeys,
    Episodes,
    lambda_return,
    read_episodes,
    wanted_losses,
)

__all__ = ["DOPLoss"]


class DOPLoss(LossModule):
    r"""Losses of DOP over whole episodes, some of them played by the present policy.

    .. math::
        Q_{tot}(s, a) &= \sum_i k_i(s)\, Q_i(a_i), \qquad
        E(s) = \sum_i k_i(s) \sum_a \pi_i(a)\, Q_i(a) \\
        L_Q &= E\, (Q_{tot}(s_t, a_t) - \mathrm{sg}\, y_t)^2 \\
        L_\pi &= -E_{\text{on policy}}\, \mathrm{sg}\big[ k_i(s) \big( Q_i(a_i) -
            \sum_a \pi_i(a)\, Q_i(a) \big) \big] \log \pi_i(a_i)

    The mixing is linear, so that :math:`E` is the expectation over joint actions, exactly. In
    episodes of the present policy y is the TD(lambda) return that bootstraps from
    :math:`\bar Q_{tot}` of what was done next, and from :math:`\bar E` where an episode was cut
    off (no action was taken there); in all others it is the tree backup of
    :func:`~vm3ac_modules.functional.tree_backup_target`. Means are over transitions, and in
    :math:`L_\pi` over agents too, dead ones included.

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
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, and detached means: with the first
        ``entropy`` (of the policies, nats per agent, in episodes on policy), with the second
        ``state_action_value`` (of the team) and ``qvalue_target``.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
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
    out_keys: tuple[str, ...] = (
        *("loss_actor", "loss_qvalue"),
        *("entropy", "state_action_value", "qvalue_target"),
    )
    phases: tuple[tuple[str, ...], ...] = (("loss_qvalue",), ("loss_actor",))
    on_policy: ClassVar[bool | str] = "mixed"

    actor_network: RecurrentActor
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    qvalue_network: DecomposedCriticNet
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: DecomposedCriticNet,
        *,
        gamma: float = 0.99,
        lam: float = 0.8,
        tree_backup_lam: float = 0.93,
        tree_backup_steps: int = 5,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        check_shares(gamma=gamma, lam=lam, tree_backup_lam=tree_backup_lam)
        if tree_backup_steps < 1:
            raise ValueError(f"tree_backup_steps must be at least 1, got {tree_backup_steps}.")
        self.gamma, self.lam = gamma, lam
        self.tree_backup_lam, self.tree_backup_steps = tree_backup_lam, tree_backup_steps
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
        """Nothing is drawn: an empty tensordict ``[B, T + 1]``."""
        return TensorDict({}, tensordict.batch_size)

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
            noise: not read.
            only: names of the losses that are wanted; all if None.

        Returns:
            The losses wanted, with their diagnostics, see the class.
        """
        del noise
        wanted = wanted_losses(self.out_keys, only)
        episodes = read_episodes(tensordict, self.tensor_keys, type(self).__name__)
        key = self.tensor_keys.on_policy
        require_keys(tensordict, [key], type(self).__name__)
        # One flag per episode; padding may hold anything.
        on_policy = tensordict.get(key)[:, :1].reshape(-1, 1).bool()
        with torch.set_grad_enabled(torch.is_grad_enabled() and "loss_actor" in wanted):
            log_prob = self._policies(episodes)
        out: dict[str, Tensor] = {}
        if "loss_qvalue" in wanted:
            out |= self._critic(episodes, log_prob.detach(), on_policy)
        if "loss_actor" in wanted:
            out |= self._actor(episodes, log_prob, episodes.mask & on_policy)
        return TensorDict(out, [])

    def _policies(self, episodes: Episodes) -> Tensor:
        """Log-probabilities of all actions (nats), ``[B, T + 1, N, A]``."""
        with self.slots["actor_network"].filled(self.actor_network_params):
            memory, _ = self.actor_network.net.unroll(episodes.observation, episodes.last_action)
            return self.actor_network.log_prob(memory, episodes.action_mask)

    def _critic(self, episodes: Episodes, log_prob: Tensor, on_policy: Tensor) -> dict[str, Tensor]:
        with self.slots["qvalue_network"].filled(self.qvalue_network_params):
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
        with self.slots["qvalue_network"].filled(self.target_qvalue_network_params):
            values, shares = self.qvalue_network(episodes.state, episodes.observation)
        taken = (shares * chosen(values, episodes.action)).sum(-1)
        expected = (shares * expectation(log_prob, values)).sum(-1)
        bootstrap = torch.where(final_slots(episodes), expected, taken)
        reward, ends = episodes.reward, (episodes.terminated, episodes.mask)
        on = lambda_return(reward, bootstrap, *ends, gamma=self.gamma, lam=self.lam)
        joint = chosen(log_prob, episodes.action).sum(-1)[:, :-1]
        off = tree_backup_target(
            *(reward, taken[:, :-1], expected, joint, *ends),
            gamma=self.gamma,
            lam=self.tree_backup_lam,
            steps=self.tree_backup_steps,
        )
        return torch.where(on_policy, on, off)

    def _actor(self, episodes: Episodes, log_prob: Tensor, mask: Tensor) -> dict[str, Tensor]:
        log_prob, action = log_prob[:, :-1], episodes.action[:, :-1]
        with torch.no_grad(), self.slots["qvalue_network"].filled(self.qvalue_network_params):
            values, shares = self.qvalue_network(
                episodes.state[:, :-1], episodes.observation[:, :-1]
            )
            credit = shares * (chosen(values, action) - expectation(log_prob, values))
        return {
            "loss_actor": -masked_mean(credit * chosen(log_prob, action), mask),
            "entropy": masked_mean(categorical_entropy(log_prob).detach(), mask),
        }
