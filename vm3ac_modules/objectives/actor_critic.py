r"""The centralized actor-critic, and the terms that make algorithms of it.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``O`` observation,
``A`` action, ``Z`` latent, ``K`` extra latents.

Sources: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Eqs. (45)-(50), Algorithm 1; Haarnoja et al.
2018, "Soft Actor-Critic", arXiv:1801.01290.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from vm3ac_modules.functional.pairwise import own_first, own_gradient_joint_action
from vm3ac_modules.functional.soft_value import action_value_target, squared_error
from vm3ac_modules.keys import Keys
from vm3ac_modules.objectives.base import MultiAgentLoss, Transitions
from vm3ac_modules.objectives.common import (
    call_network,
    next_outcome,
    ordered_keys,
    scalar_means,
)
from vm3ac_modules.objectives.drawn_pairs import logged_pairs
from vm3ac_modules.objectives.policy import PolicyReader, draw_noise, sample_policy
from vm3ac_modules.objectives.policy_body import Latent
from vm3ac_modules.objectives.terms import Term, TermInputs, TermValues

__all__ = ["CentralizedActorCriticLoss"]

AnyTerm = TypeVar("AnyTerm", bound=Term)


class CentralizedActorCriticLoss(MultiAgentLoss):
    r"""Off-policy actor-critic with per-agent V, twin Q, and terms beside the return.

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
        terms: what the algorithm adds to the return (:class:`~vm3ac_modules.objectives.Term`);
            their bonuses are added in this order. The reward scale multiplies rewards and bonuses
            alike, so the best policy stays the same.
        gamma: discount per step; :meth:`make_value_estimator` changes it.
        policy_q: critic that trains the policies: ``"first"`` (the paper) or ``"min"``.
        latent: ``"fresh"``: the loss draws its own; ``"stored"`` for that of the batch (MAVEN's).
        options: ``reward_scale``, ``reduction``, ``seed_dims`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.MultiAgentLoss`.

    Returns:
        ``forward`` returns ``loss_actor``, ``loss_qvalue`` and ``loss_value``, each ``[*S]``, and
        the detached diagnostics ``entropy`` (nats per agent, of pi_K), ``state_action_value`` and
        ``state_value_target``; with the losses and diagnostics of its terms: for VM3-AC
        ``loss_predictor``, ``correlation_term`` (of (46), reward units), ``pair_log_prob`` (nats)
        and its matrix ``pair_log_prob_matrix`` ``[*S, N, N]``.

    Raises:
        ValueError: for unknown options, a latent that nothing draws or that is replayed although a
            fresh one is meant, a term that lacks its network, or (when called) one built for
            another number of agents.
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
        :class:`~vm3ac_modules.objectives.VM3ACLoss`, the paper's algorithm, and
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
    value_network: TensorDictModuleBase
    center: Tensor
    half_range: Tensor
    gamma: Tensor
    terms: Any  # an nn.ModuleList of Term

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        *,
        terms: Sequence[Term] = (),
        gamma: float = 0.99,
        policy_q: Literal["first", "min"] = "first",
        latent: Latent = "fresh",
        **options: Any,
    ) -> None:
        super().__init__(gamma=gamma, **options)
        if policy_q not in ("first", "min"):
            raise ValueError(f"policy_q must be 'first' or 'min', got {policy_q!r}.")
        self.policy_q = policy_q
        latents = {term.num_latents for term in terms} - {None}
        if len(latents) > 1:
            raise ValueError(f"terms disagree about num_latents: {sorted(map(str, latents))}.")
        self.num_latents = next(iter(latents), None) or 0
        self.reader = PolicyReader(actor_network, latent=latent)
        if self.num_latents:
            self.reader.require_prior(f"num_latents={self.num_latents}")
        self.reader.register_range(self)
        self.add_network("actor", actor_network)
        self.add_network("qvalue", qvalue_network)
        self.add_network("value", value_network, target=True)
        self.terms = nn.ModuleList(terms)
        for term in terms:
            if not term.name:
                continue
            if term.network is None:
                raise ValueError(
                    f"{type(self).__name__} needs a {term.name}_network: build {term.kind}."
                )
            self.reader.check_predictor(term.network)
            self.add_network(term.name, term.network)

    def term(self, kind: type[AnyTerm]) -> AnyTerm:
        """The term of this kind.

        Args:
            kind: a class of terms.

        Raises:
            ValueError: if there is none.
        """
        for term in self.terms:
            if isinstance(term, kind):
                return term
        raise ValueError(f"{type(self).__name__} has no {kind.__name__}.")

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        keys = self.tensor_keys
        critics = [*self.qvalue_network.in_keys, *self.value_network.in_keys]
        extra = [key for term in self.terms for key in term.in_keys(keys)]
        read = ordered_keys([*self.reader.data_keys, *critics, keys.action, *extra])
        nexts = ordered_keys([keys.reward, keys.terminated, *self.value_network.in_keys])
        read = [key for key in read if key != keys.joint_action]
        return ordered_keys([*read, *(("next", key) for key in nexts)])

    @property
    def diagnostics(self) -> list[str]:  # type: ignore[override]
        """What ``forward`` returns beside the losses."""
        own = ["entropy", "state_action_value", "state_value_target"]
        return [*own, *(name for term in self.terms for name in term.logged)]

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs: latents and standard normals (noise is data).

        Args:
            tensordict: the batch, ``[*S, *B]``.

        Returns:
            ``latent`` ``[*S, *B, Z]``, ``extra_latents`` ``[*S, *B, K, Z]`` and ``action``
            ``[*S, *B, N, A]``; terms add their own.
        """
        with self.network("actor").filled():
            noise = draw_noise(self.reader, tensordict, self.tensor_keys.action, self.num_latents)
        for term in self.terms:
            noise.update(term.draw_noise(noise.get("action")))
        return noise

    def compute(
        self, batch: Transitions, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """All losses and diagnostics: draw, score, evaluate the terms, add up, reduce, log."""
        td, mask = batch
        with self.network("actor").filled():
            sample = sample_policy(self.reader, td, noise, self.center, self.half_range)
        inputs = TermInputs(td, sample, noise, self.tensor_keys, self.reward_scale)
        found = [
            term.evaluate(inputs, self.network(term.name) if term.name else None)
            for term in self.terms
        ]
        q_fresh = self._action_value(td, own_gradient_joint_action(sample.action), detach=True)
        q_min = q_fresh.amin(-1)
        q_policy = q_fresh[..., 0] if self.policy_q == "first" else q_min
        # Eqs. (49) and (46): the action value and the terms' bonuses.
        gain = sum((bonus for values in found for bonus in values.policy), start=q_policy)
        target = sum((bonus for values in found for bonus in values.value), start=q_min.detach())
        losses = {
            "loss_actor": (-gain).sum(-1),
            "loss_qvalue": self._q_loss(td, found).sum(-1),
            "loss_value": squared_error(self._state_value(td), target).sum(-1),
        }
        for name, loss in (item for values in found for item in values.losses.items()):
            losses[name] = losses[name] + loss if name in losses else loss
        scalars = {
            "entropy": -sample.log_prob,
            "state_action_value": q_policy,
            "state_value_target": target,
        }
        return self.reduce(losses, mask) | self._logged(scalars, found, mask)

    def _action_value(self, td: TensorDictBase, joint_action: Tensor, *, detach: bool) -> Tensor:
        """Values of all critics, ``[*S, *B, N, k]``."""
        network, keys = self.qvalue_network, self.tensor_keys
        read = [key for key in network.in_keys if key != keys.joint_action]
        inputs = {keys.joint_action: joint_action, **{key: td.get(key) for key in read}}
        with self.network("qvalue").filled(detach=detach):
            [value] = call_network(network, inputs, [keys.state_action_value], td.batch_size)
        return value

    def _state_value(self, td: TensorDictBase, *, target: bool = False) -> Tensor:
        """State value of every agent, ``[*S, *B, N]``."""
        network, keys = self.value_network, self.tensor_keys
        inputs = {key: td.get(key) for key in network.in_keys}
        with self.network("value", target=target).filled():
            [value] = call_network(network, inputs, [keys.state_value], td.batch_size)
        return value.squeeze(-1)

    def _q_loss(self, td: TensorDictBase, found: list[TermValues]) -> Tensor:
        """Loss (47) of every agent, summed over its critics, ``[*S, *B, N]``."""
        following, keys = td.get("next"), self.tensor_keys
        action = td.get(keys.action)
        reward, terminated = next_outcome(
            following, keys.reward, keys.terminated, action.shape[:-1]
        )
        for bonus in (values.reward for values in found if values.reward is not None):
            reward = reward + bonus
        with torch.no_grad():
            next_value = self._state_value(following, target=True)
            reward = self.reward_scale * reward
            target = action_value_target(reward, terminated, next_value, gamma=self.gamma)
        q_value = self._action_value(td, own_first(action), detach=False)
        return squared_error(q_value, target.unsqueeze(-1)).sum(-1)

    def _logged(
        self, scalars: dict[str, Tensor], found: list[TermValues], mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Means over agents and transitions, ``[*S]``, and pair matrices."""
        for values in found:
            scalars.update(values.scalars)
        out = scalar_means(scalars, mask, self.seed_dims)
        for values in found:
            out |= logged_pairs(values.pairs, values.offsets, mask, self.seed_dims)
        return out
