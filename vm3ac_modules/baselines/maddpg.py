r"""MADDPG: deterministic policies, each trained against what the others did in the replay.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``A`` action.

Source: Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments",
arXiv:1706.02275, Eqs. (5), (6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule
from torchrl.objectives.utils import ValueEstimators

from vm3ac_modules.functional.pairwise import gather_others, own_first
from vm3ac_modules.functional.soft_value import action_value_target, squared_error
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.objectives.common import (
    REDUCTIONS,
    call_network,
    ordered_keys,
    reduce_loss,
    valid_mask,
    without_masked,
)
from vm3ac_modules.objectives.slots import ParameterSlots

__all__ = ["MADDPGLoss"]


class MADDPGLoss(LossModule):
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
        reward_scale: multiplies rewards inside the loss.
        reduction: ``"mean"`` or ``"sum"`` over the batch, ``"none"`` for ``[*S, *B]``.
        seed_dims: number of leading seed dimensions of the networks and batches.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, each ``[*S]``, and the detached
        means of ``state_action_value`` and ``state_action_value_target``.

    Raises:
        ValueError: for unknown options, or action values of several critics (when called).
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
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
    default_value_estimator = ValueEstimators.TD0
    out_keys = (
        *("loss_actor", "loss_qvalue"),
        *("state_action_value", "state_action_value_target"),
    )

    actor_network: NetworkModule
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    qvalue_network: TensorDictModuleBase
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams
    gamma: Tensor

    def __init__(
        self,
        actor_network: NetworkModule,
        qvalue_network: TensorDictModuleBase,
        *,
        gamma: float = 0.99,
        reward_scale: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        seed_dims: int = 0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}.")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {gamma}.")
        if not reward_scale > 0.0:
            raise ValueError(f"reward_scale must be positive, got {reward_scale}.")
        self.reward_scale, self.reduction, self.seed_dims = reward_scale, reduction, seed_dims
        self.register_buffer("gamma", torch.tensor(gamma))
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.convert_to_functional(qvalue_network, "qvalue_network", create_target_params=True)
        self.slots = {
            name: ParameterSlots(getattr(self, name), getattr(self, f"{name}_params"))
            for name in ("actor_network", "qvalue_network")
        }
        if keys is not None:
            fields = self._AcceptedKeys.__dataclass_fields__
            self.set_keys(**{name: getattr(keys, name) for name in fields})

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        # The keys are read where they are used; there is no separate estimator to inform.
        return None

    def make_value_estimator(
        self, value_type: ValueEstimators | None = None, **hyperparams: Any
    ) -> None:
        """Set the discount of the one-step target, Eq. (6).

        Args:
            value_type: only TD(0); None means the same.
            hyperparams: ``gamma``.

        Raises:
            ValueError: for another estimator or an unknown hyper-parameter.
        """
        if value_type not in (None, ValueEstimators.TD0):
            raise ValueError(f"Eq. (6) is a one-step target: only TD0 is known, got {value_type}.")
        gamma = hyperparams.pop("gamma", float(self.gamma))
        if hyperparams or not 0.0 <= gamma <= 1.0:
            raise ValueError(f"expected gamma in [0, 1] alone, got {gamma} and {hyperparams}.")
        self.gamma.fill_(gamma)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        keys = self.tensor_keys
        critic = [key for key in self.qvalue_network.in_keys if key != keys.joint_action]
        read = ordered_keys([*self.actor_network.in_keys, *critic])
        nexts = ordered_keys([keys.reward, keys.terminated, *read])
        return ordered_keys([*read, keys.action, *(("next", key) for key in nexts)])

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains: ``loss_actor`` and ``loss_qvalue``, disjoint."""
        return {
            "loss_actor": list(self.actor_network_params.parameters()),
            "loss_qvalue": list(self.qvalue_network_params.parameters()),
        }

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Nothing is drawn: policies are deterministic.

        Args:
            tensordict: the batch, ``[*S, *B]``.

        Returns:
            An empty tensordict.
        """
        return TensorDict({}, tensordict.batch_size)

    def forward(
        self, tensordict: TensorDictBase, noise: TensorDictBase | None = None
    ) -> TensorDict:
        """Compute both losses; the input is not changed.

        Args:
            tensordict: transitions ``[*S, *B]`` with the entries of :attr:`in_keys`.
            noise: not used; for the same signature as other losses.

        Returns:
            Losses and diagnostics, see the class.
        """
        keys, read = self.tensor_keys, self.in_keys
        require_keys(tensordict, read, type(self).__name__)
        mask = valid_mask(self, tensordict, self.gamma.device)
        tensordict = without_masked(tensordict, mask, read)
        stored = tensordict.get(keys.action)

        own = self._actions(tensordict, self.actor_network_params)
        joint = torch.cat((own.unsqueeze(-2), gather_others(stored)), dim=-2)
        q_params = self.qvalue_network_params
        q_policy = self._action_value(tensordict, joint, q_params, detach=True)
        target = self._target(tensordict.get("next"))
        q_stored = self._action_value(tensordict, own_first(stored), q_params)
        losses = {
            "loss_actor": -q_policy.sum(-1),
            "loss_qvalue": squared_error(q_stored, target).sum(-1),
        }
        scalars = {"state_action_value": q_policy, "state_action_value_target": target}
        out = {
            name: reduce_loss(values, mask, self.seed_dims, self.reduction)
            for name, values in losses.items()
        }
        for name, values in scalars.items():
            out[name] = reduce_loss(values.detach().mean(-1), mask, self.seed_dims, "mean")
        return TensorDict(out, [])

    def _target(self, following: TensorDictBase) -> Tensor:
        """Right side of (6), ``[*S, *B, N]``."""
        keys = self.tensor_keys
        reward = following.get(keys.reward).squeeze(-1)
        terminated = following.get(keys.terminated)
        if terminated.ndim == reward.ndim + 1:
            terminated = terminated.squeeze(-1)
        with torch.no_grad():
            action = self._actions(following, self.target_actor_network_params)
            value = self._action_value(
                following, own_first(action), self.target_qvalue_network_params
            )
            return action_value_target(
                self.reward_scale * reward, terminated, value, gamma=self.gamma
            )

    def _actions(self, tensordict: TensorDictBase, params: TensorDictBase) -> Tensor:
        network, batch = self.actor_network, tensordict.batch_size
        inputs = {key: tensordict.get(key) for key in network.in_keys}
        # What the policy calls its action; tensor_keys.action is what the replay calls it.
        with self.slots["actor_network"].filled(params):
            [action] = call_network(network, inputs, [network.out_keys[-1]], batch)
        return action

    def _action_value(
        self,
        tensordict: TensorDictBase,
        joint_action: Tensor,
        params: TensorDictBase,
        *,
        detach: bool = False,
    ) -> Tensor:
        network, keys = self.qvalue_network, self.tensor_keys
        read = [key for key in network.in_keys if key != keys.joint_action]
        inputs = {keys.joint_action: joint_action, **{key: tensordict.get(key) for key in read}}
        wanted, batch = [keys.state_action_value], tensordict.batch_size
        with self.slots["qvalue_network"].filled(params, detach=detach):
            [value] = call_network(network, inputs, wanted, batch)
        if value.shape[-1] != 1:
            raise ValueError(
                f"MADDPG has one critic per agent, got values {tuple(value.shape)}: build them "
                "with num_critics=1."
            )
        return value.squeeze(-1)
