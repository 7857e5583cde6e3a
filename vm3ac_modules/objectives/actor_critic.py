r"""The centralized actor-critic with a regularizer slot.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``O`` observation,
``A`` action, ``Z`` latent, ``K`` extra latents.

Sources: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Eqs. (45)-(50), Algorithm 1; Haarnoja et al.
2018, "Soft Actor-Critic", arXiv:1801.01290.
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

from vm3ac_modules.functional.pairwise import (
    own_first,
    own_gradient_joint_action,
    scatter_others,
)
from vm3ac_modules.functional.soft_value import action_value_target, squared_error
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.common import (
    REDUCTIONS,
    call_network,
    matrix_mean,
    ordered_keys,
    reduce_loss,
    scalar_means,
    valid_mask,
    without_masked,
)
from vm3ac_modules.objectives.intrinsic import IntrinsicTerm, IntrinsicValues, intrinsic_values
from vm3ac_modules.objectives.pairs import check_predictor, pair_terms, predictor_loss
from vm3ac_modules.objectives.policy import PolicyReader, PolicySample, draw_noise, sample_policy
from vm3ac_modules.objectives.regularizers import NoRegularizer, PairTerms, Regularizer
from vm3ac_modules.objectives.slots import ParameterSlots

__all__ = ["CentralizedActorCriticLoss"]


class CentralizedActorCriticLoss(LossModule):
    r"""Off-policy actor-critic with per-agent V, twin Q, and a regularizer of the policies.

    .. math::
        L_V &= \tfrac12 (V_i(x) - \mathrm{sg}\, \hat V_i)^2 \quad (45), \qquad
        \hat V_i = \min_k Q_{i,k}(x, a) + \text{bonus}_i \quad (46) \\
        L_Q &= \sum_k \tfrac12 (Q_{i,k}(x, a_t) - \mathrm{sg}\, \hat Q_i)^2 \quad (47), \qquad
        \hat Q_i = r_i + \gamma (1 - \mathrm{terminated}) V_{\bar\psi_i}(x') \quad (48) \\
        L_\pi &= -Q_{i,1}(x, a) - \text{bonus}_i \quad (49), \text{ gradient rule } (50)

    Every agent's own loss trains its own policy: other agents' actions are constants in its
    critic, and its losses are summed over agents and averaged over the batch. All agents of a
    transition share one latent, drawn anew at every call; the stored latent is never read.

    References:
        Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
        Multi-Agent Reinforcement Learning", https://arxiv.org/abs/2303.00451, Appendix D;
        docs/readings.md 7-11 for what differs.

    Args:
        actor_network: the policy, sampler included (:func:`~vm3ac_modules.modules.make_policy`).
        qvalue_network: writes ``state_action_value`` ``[*B, N, k]`` from ``joint_action``
            (:func:`~vm3ac_modules.modules.make_action_value`).
        value_network: writes ``state_value`` ``[*B, N, 1]``; it alone has a target network.
        regularizer: what fills the slot.
        predictor_network: the variational predictor, if the regularizer needs pairs.
        intrinsic: a term with a network of its own (MAVEN, social influence).
        intrinsic_network: that network.
        gamma: discount per step; :meth:`make_value_estimator` changes it.
        reward_scale: multiplies rewards and beta alike, so the optimum stays.
        policy_q: critic that trains the policies: ``"first"`` (the paper) or ``"min"``.
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``.
        reduction: ``"mean"`` or ``"sum"`` over the batch, ``"none"`` for ``[*S, *B]``.
        seed_dims: number of leading seed dimensions of the networks and batches.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_actor``, ``loss_qvalue``, ``loss_value`` (and
        ``loss_predictor``), each ``[*S]``, and detached diagnostics: ``entropy`` (nats per agent,
        of pi_K), ``state_action_value``, ``state_value_target``, and with pairs
        ``correlation_term`` (of (46), reward units), ``pair_log_prob`` (nats) and its matrix
        ``pair_log_prob_matrix`` ``[*S, N, N]``.

    Raises:
        ValueError: for unknown options, a sampler whose mode is not ``"sample"``, a missing
            predictor, or one built for another number of agents (when called).
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl.objectives import SoftUpdate
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> sampler = vm.LatentSampler(vm.GaussianPrior(3))
        >>> policy = vm.make_policy(sampler, vm.make_actor(4, 3, spec))
        >>> loss = vm.VM3ACLoss(policy, vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2),
        ...                     vm.VariationalPredictor(4, spec), beta=0.1)
        >>> target = SoftUpdate(loss, tau=0.005)  # moves the target V after each optimizer step
        >>> agents = {"observation": torch.zeros(8, 2, 4), "reward": torch.zeros(8, 2, 1)}
        >>> td = TensorDict({"agents": {"action": torch.zeros(8, 2, 1), **agents}, "next": {
        ...     "agents": agents, "terminated": torch.zeros(8, 1, dtype=torch.bool)}}, [8])
        >>> sorted(key for key in loss(td).keys() if key.startswith("loss_"))
        ['loss_actor', 'loss_predictor', 'loss_qvalue', 'loss_value']

    See Also:
        :class:`~vm3ac_modules.objectives.VM3ACLoss`, which fills the slot as the paper does, and
        :func:`~vm3ac_modules.functional.policy_objective`, the algebra below it.
    """

    @dataclass
    class _AcceptedKeys:
        observation: NestedKey = Keys().observation  # what the predictor reads
        action: NestedKey = Keys().action
        reward: NestedKey = Keys().reward
        terminated: NestedKey = Keys().terminated
        joint_action: NestedKey = Keys().joint_action
        state_action_value: NestedKey = Keys().state_action_value
        state_value: NestedKey = Keys().state_value

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    default_value_estimator = ValueEstimators.TD0

    actor_network: TensorDictModuleBase
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    qvalue_network: TensorDictModuleBase
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams
    value_network: TensorDictModuleBase
    value_network_params: TensorDictParams
    target_value_network_params: TensorDictParams
    predictor_network: VariationalPredictor
    predictor_network_params: TensorDictParams
    target_predictor_network_params: TensorDictParams
    center: Tensor
    half_range: Tensor
    gamma: Tensor

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        *,
        regularizer: Regularizer | None = None,
        predictor_network: VariationalPredictor | None = None,
        intrinsic: IntrinsicTerm | None = None,
        intrinsic_network: nn.Module | None = None,
        gamma: float = 0.99,
        reward_scale: float = 1.0,
        policy_q: Literal["first", "min"] = "first",
        reverse_model: Literal["own", "partner"] = "own",
        reduction: Literal["mean", "sum", "none"] = "mean",
        seed_dims: int = 0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        self.regularizer = NoRegularizer() if regularizer is None else regularizer
        self._check(policy_q, reduction, gamma, reward_scale)
        self.policy_q, self.reverse_model, self.reduction = policy_q, reverse_model, reduction
        self.reward_scale, self.seed_dims = reward_scale, seed_dims
        self.reader = PolicyReader(actor_network)
        self.reader.register_range(self)
        self.register_buffer("gamma", torch.tensor(gamma))
        self.convert_to_functional(actor_network, "actor_network")
        self.convert_to_functional(qvalue_network, "qvalue_network")
        self.convert_to_functional(value_network, "value_network", create_target_params=True)
        if self.regularizer.needs_pairs:
            check_predictor(predictor_network, reverse_model, type(self).__name__)
            self.convert_to_functional(predictor_network, "predictor_network")
        self.intrinsic = intrinsic
        if intrinsic is not None:
            self.convert_to_functional(intrinsic_network, f"{intrinsic.name}_network")
        self.slots = {
            name: ParameterSlots(getattr(self, name), getattr(self, f"{name}_params"))
            for name in (f"{network}_network" for network in self._networks().values())
        }
        if keys is not None:
            fields = self._AcceptedKeys.__dataclass_fields__
            self.set_keys(**{name: getattr(keys, name) for name in fields})

    @staticmethod
    def _check(policy_q: str, reduction: str, gamma: float, reward_scale: float) -> None:
        if policy_q not in ("first", "min"):
            raise ValueError(f"policy_q must be 'first' or 'min', got {policy_q!r}.")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}.")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {gamma}.")
        if not reward_scale > 0.0:
            raise ValueError(f"reward_scale must be positive, got {reward_scale}.")

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        # The keys are read where they are used; there is no separate estimator to inform.
        return None

    def make_value_estimator(
        self, value_type: ValueEstimators | None = None, **hyperparams: Any
    ) -> None:
        """Set the discount of the one-step target, Eq. (48).

        Args:
            value_type: only TD(0), the paper's; None means the same.
            hyperparams: ``gamma``.

        Raises:
            ValueError: for another estimator or an unknown hyper-parameter.
        """
        if value_type not in (None, ValueEstimators.TD0):
            raise ValueError(f"Eq. (48) is a one-step target: only TD0 is known, got {value_type}.")
        gamma = hyperparams.pop("gamma", float(self.gamma))
        if hyperparams or not 0.0 <= gamma <= 1.0:
            raise ValueError(f"expected gamma in [0, 1] alone, got {gamma} and {hyperparams}.")
        self.gamma.fill_(gamma)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        keys = self.tensor_keys
        critics = [*self.qvalue_network.in_keys, *self.value_network.in_keys]
        extra = [] if self.intrinsic is None else self.intrinsic.in_keys(keys)
        read = ordered_keys([*self.reader.in_keys, keys.observation, *critics, keys.action])
        read = [key for key in [*read, *extra] if key != keys.joint_action]
        nexts = ordered_keys([keys.reward, keys.terminated, *self.value_network.in_keys])
        return ordered_keys([*read, *(("next", key) for key in nexts)])

    @property
    def out_keys(self) -> list[str]:
        """Entries that ``forward`` returns."""
        diagnostics = ["entropy", "state_action_value", "state_value_target"]
        if self.regularizer.needs_pairs:
            diagnostics += ["correlation_term", "pair_log_prob", "pair_log_prob_matrix"]
        if self.intrinsic is not None:
            diagnostics += self.intrinsic.logged
        return [*self._networks(), *diagnostics]

    def _networks(self) -> dict[str, str]:
        """Loss -> name of the network that it trains."""
        names = ["actor", "qvalue", "value"]
        names += ["predictor"] if self.regularizer.needs_pairs else []
        names += [] if self.intrinsic is None else [self.intrinsic.name]
        return {f"loss_{name}": name for name in names}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains: disjoint groups, one optimizer each.

        Returns:
            ``loss_actor`` (phi), ``loss_qvalue`` (theta), ``loss_value`` (psi) and, with a
            predictor, ``loss_predictor`` (xi); with an intrinsic term, its own.
        """
        return {
            loss: list(getattr(self, f"{name}_network_params").parameters())
            for loss, name in self._networks().items()
        }

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs: latents and standard normals (noise is data).

        Args:
            tensordict: the batch, ``[*S, *B]``.

        Returns:
            ``latent`` ``[*S, *B, Z]``, ``extra_latents`` ``[*S, *B, K, Z]`` and ``action``
            ``[*S, *B, N, A]``; an intrinsic term adds its own.
        """
        with self.slots["actor_network"].filled(self.actor_network_params):
            noise = draw_noise(
                self.reader, tensordict, self.tensor_keys.action, self.regularizer.num_latents
            )
        if self.intrinsic is not None:
            noise.update(self.intrinsic.draw_noise(noise.get("action")))
        return noise

    def forward(
        self, tensordict: TensorDictBase, noise: TensorDictBase | None = None
    ) -> TensorDict:
        """Compute all losses; the input is not changed.

        Args:
            tensordict: transitions ``[*S, *B]`` with the entries of :attr:`in_keys`.
            noise: what :meth:`draw_noise` returns; drawn if None.

        Returns:
            Losses and diagnostics, see the class.
        """
        keys = self.in_keys
        require_keys(tensordict, keys, type(self).__name__)
        mask = valid_mask(self, tensordict, self.center.device)
        tensordict = without_masked(tensordict, mask, keys)
        noise = self.draw_noise(tensordict) if noise is None else noise
        with self.slots["actor_network"].filled(self.actor_network_params):
            sample = sample_policy(self.reader, tensordict, noise, self.center, self.half_range)
        pairs = self._pairs(tensordict, sample) if self.regularizer.needs_pairs else None
        extra = None if self.intrinsic is None else self._intrinsic(tensordict, sample, noise)

        joint_action = own_gradient_joint_action(sample.action)
        q_fresh = self._action_value(tensordict, joint_action, detach=True)
        q_min = q_fresh.amin(-1)
        q_policy = q_fresh[..., 0] if self.policy_q == "first" else q_min
        policy = self.regularizer.policy_loss(q_policy, sample, pairs, self.reward_scale)
        with torch.no_grad():
            target = self.regularizer.value_target(q_min, sample, pairs, self.reward_scale)

        value = self._state_value(tensordict, self.value_network_params)
        losses = {
            "loss_actor": policy.total.sum(-1),
            "loss_qvalue": self._q_loss(tensordict, extra).sum(-1),
            "loss_value": squared_error(value, target.total).sum(-1),
        }
        if pairs is not None:
            losses["loss_predictor"] = predictor_loss(pairs)
        if self.intrinsic is not None and extra is not None:
            losses[f"loss_{self.intrinsic.name}"] = extra.loss
            if extra.policy_bonus is not None:
                bonus = self.reward_scale * extra.policy_bonus
                losses["loss_actor"] = losses["loss_actor"] - bonus.sum(-1)
        reduced = {
            name: reduce_loss(values, mask, self.seed_dims, self.reduction)
            for name, values in losses.items()
        }
        scalars = {
            "entropy": -sample.log_prob,
            "state_action_value": q_policy,
            "state_value_target": target.total,
        }
        if pairs is not None:
            scalars["correlation_term"] = target.correlation_term
        if extra is not None:
            scalars.update(extra.diagnostics)
        return TensorDict({**reduced, **self._diagnostics(scalars, pairs, mask)}, [])

    def _pairs(self, tensordict: TensorDictBase, sample: PolicySample) -> PairTerms:
        return pair_terms(
            self.predictor_network,
            self.slots["predictor_network"],
            self.predictor_network_params,
            sample.action,
            tensordict.get(self.tensor_keys.observation),
            self.reverse_model,
        )

    def _intrinsic(
        self, tensordict: TensorDictBase, sample: PolicySample, noise: TensorDictBase
    ) -> IntrinsicValues:
        assert self.intrinsic is not None
        name = f"{self.intrinsic.name}_network"
        return intrinsic_values(
            self.intrinsic,
            getattr(self, name),
            self.slots[name],
            getattr(self, f"{name}_params"),
            tensordict,
            sample,
            noise,
            self.tensor_keys,
        )

    def _action_value(
        self, tensordict: TensorDictBase, joint_action: Tensor, *, detach: bool
    ) -> Tensor:
        network, keys = self.qvalue_network, self.tensor_keys
        read = [key for key in network.in_keys if key != keys.joint_action]
        inputs = {keys.joint_action: joint_action, **{key: tensordict.get(key) for key in read}}
        with self.slots["qvalue_network"].filled(self.qvalue_network_params, detach=detach):
            return call_network(network, inputs, [keys.state_action_value], tensordict.batch_size)[
                0
            ]

    def _state_value(self, tensordict: TensorDictBase, params: TensorDictBase) -> Tensor:
        network, keys = self.value_network, self.tensor_keys
        inputs = {key: tensordict.get(key) for key in network.in_keys}
        with self.slots["value_network"].filled(params):
            [value] = call_network(network, inputs, [keys.state_value], tensordict.batch_size)
        return value.squeeze(-1)

    def _q_loss(self, tensordict: TensorDictBase, extra: IntrinsicValues | None) -> Tensor:
        """Loss (47) of every agent, summed over its critics, ``[*S, *B, N]``."""
        following = tensordict.get("next")
        reward = following.get(self.tensor_keys.reward).squeeze(-1)
        if extra is not None and extra.reward_bonus is not None:
            reward = reward + extra.reward_bonus
        terminated = following.get(self.tensor_keys.terminated)
        if terminated.ndim == reward.ndim + 1:
            terminated = terminated.squeeze(-1)
        with torch.no_grad():
            next_value = self._state_value(following, self.target_value_network_params)
            target = action_value_target(
                self.reward_scale * reward, terminated, next_value, gamma=self.gamma
            )
        stored = own_first(tensordict.get(self.tensor_keys.action))
        q_value = self._action_value(tensordict, stored, detach=False)
        return squared_error(q_value, target.unsqueeze(-1)).sum(-1)

    def _diagnostics(
        self, scalars: dict[str, Tensor], pairs: PairTerms | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Means over agents and transitions, ``[*S]``, and the pair matrix."""
        out = scalar_means(scalars, mask, self.seed_dims)
        if pairs is not None:
            matrix = scatter_others(matrix_mean(pairs.partner.detach(), mask, self.seed_dims))
            num_pairs = max(matrix.shape[-1] * (matrix.shape[-1] - 1), 1)
            out["pair_log_prob"] = matrix.sum((-1, -2)) / num_pairs
            out["pair_log_prob_matrix"] = matrix
        return out
