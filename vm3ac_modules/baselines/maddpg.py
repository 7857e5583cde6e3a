r"""MADDPG: deterministic policies, each trained against what the others did in the replay.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``A`` action.

Source: Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments",
arXiv:1706.02275, Eqs. (5), (6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.pairwise import gather_others, own_first
from vm3ac_modules.functional.soft_value import action_value_target, squared_error
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.objectives.base import MultiAgentLoss, Transitions
from vm3ac_modules.objectives.common import (
    call_network,
    next_outcome,
    ordered_keys,
    reduce_loss,
)

__all__ = ["MADDPGLoss"]


class MADDPGLoss(MultiAgentLoss):
    r"""Deterministic policy gradient with a centralized critic per agent.

    .. math::
        L_{\mu_i} &= -Q_i(x, a_1, .., \mu_i(o_i), .., a_N) \quad (5) \\
        L_{Q_i} &= \tfrac12 \big(Q_i(x, a) - r_i - \gamma (1 - \mathrm{terminated})
            \bar Q_i(x', \bar\mu(o'))\big)^2 \quad (6)

    The other agents' actions come from the replay, as in Lowe et al.; several public versions put
    fresh actions of all agents there. One critic per agent, target networks of critics and
    policies; no entropy, no latent. (6) is halved as the other losses' squared errors are.

    References:
        Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
        Environments", https://arxiv.org/abs/1706.02275.

    Args:
        actor_network: writes actions, as its last entry
            (:func:`~vm3ac_modules.modules.make_deterministic_actor`), without exploration noise.
        qvalue_network: writes ``state_action_value`` ``[*B, N, 1]`` from ``joint_action``
            (:func:`~vm3ac_modules.modules.make_action_value` with ``num_critics=1``).
        gamma: discount per step; :meth:`make_value_estimator` changes it.
        options: ``reward_scale``, ``reduction``, ``seed_dims`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.MultiAgentLoss`.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, each ``[*S]``, and the detached
        means of ``state_action_value`` and ``state_action_value_target``.

    Raises:
        ValueError: for unknown options, or action values of several critics (when called).
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl.objectives import SoftUpdate
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> loss = MADDPGLoss(vm.make_deterministic_actor(4, spec),
        ...                   vm.make_action_value(4, 1, 2, num_critics=1))
        >>> target = SoftUpdate(loss, tau=0.005)
        >>> agents = {"observation": torch.zeros(8, 2, 4), "reward": torch.zeros(8, 2, 1)}
        >>> td = TensorDict({"agents": {"action": torch.zeros(8, 2, 1), **agents}, "next": {
        ...     "agents": agents, "terminated": torch.zeros(8, 1, dtype=torch.bool)}}, [8])
        >>> sorted(key for key in loss(td).keys() if key.startswith("loss_"))
        ['loss_actor', 'loss_qvalue']
    """

    @dataclass
    class _AcceptedKeys:
        action: NestedKey = Keys().action
        reward: NestedKey = Keys().reward
        terminated: NestedKey = Keys().terminated
        joint_action: NestedKey = Keys().joint_action
        state_action_value: NestedKey = Keys().state_action_value

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    diagnostics = ("state_action_value", "state_action_value_target")

    actor_network: NetworkModule
    qvalue_network: TensorDictModuleBase
    gamma: Tensor

    def __init__(
        self,
        actor_network: NetworkModule,
        qvalue_network: TensorDictModuleBase,
        *,
        gamma: float = 0.99,
        **options: Any,
    ) -> None:
        super().__init__(gamma=gamma, **options)
        self.add_network("actor", actor_network, target=True)
        self.add_network("qvalue", qvalue_network, target=True)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        keys = self.tensor_keys
        critic = [key for key in self.qvalue_network.in_keys if key != keys.joint_action]
        read = ordered_keys([*self.actor_network.in_keys, *critic])
        nexts = ordered_keys([keys.reward, keys.terminated, *read])
        return ordered_keys([*read, keys.action, *(("next", key) for key in nexts)])

    def compute(
        self, batch: Transitions, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """Both losses; nothing is drawn, policies are deterministic."""
        td, mask = batch
        stored = td.get(self.tensor_keys.action)
        own = self._actions(td)
        joint = torch.cat((own.unsqueeze(-2), gather_others(stored)), dim=-2)
        q_policy = self._action_value(td, joint, detach=True)
        target = self._target(td.get("next"))
        q_stored = self._action_value(td, own_first(stored))
        losses = {
            "loss_actor": -q_policy.sum(-1),
            "loss_qvalue": squared_error(q_stored, target).sum(-1),
        }
        out = self.reduce(losses, mask)
        scalars = {"state_action_value": q_policy, "state_action_value_target": target}
        for name, values in scalars.items():
            out[name] = reduce_loss(values.detach().mean(-1), mask, self.seed_dims, "mean")
        return out

    def _target(self, following: TensorDictBase) -> Tensor:
        """Right side of (6), ``[*S, *B, N]``."""
        keys = self.tensor_keys
        with torch.no_grad():
            actions = self._actions(following, target=True)
            reward, terminated = next_outcome(
                following, keys.reward, keys.terminated, actions.shape[:-1]
            )
            action = own_first(actions)
            value = self._action_value(following, action, target=True)
            reward = self.reward_scale * reward
            return action_value_target(reward, terminated, value, gamma=self.gamma)

    def _actions(self, td: TensorDictBase, *, target: bool = False) -> Tensor:
        network = self.actor_network
        inputs = {key: td.get(key) for key in network.in_keys}
        # What the policy calls its action; tensor_keys.action is what the replay calls it.
        with self.network("actor", target=target).filled():
            [action] = call_network(network, inputs, [network.out_keys[-1]], td.batch_size)
        return action

    def _action_value(
        self,
        td: TensorDictBase,
        joint_action: Tensor,
        *,
        target: bool = False,
        detach: bool = False,
    ) -> Tensor:
        network, keys = self.qvalue_network, self.tensor_keys
        read = [key for key in network.in_keys if key != keys.joint_action]
        inputs = {keys.joint_action: joint_action, **{key: td.get(key) for key in read}}
        with self.network("qvalue", target=target).filled(detach=detach):
            [value] = call_network(network, inputs, [keys.state_action_value], td.batch_size)
        if value.shape[-1] != 1:
            raise ValueError(
                f"MADDPG has one critic per agent, got values {tuple(value.shape)}: build them "
                "with num_critics=1."
            )
        return value.squeeze(-1)
