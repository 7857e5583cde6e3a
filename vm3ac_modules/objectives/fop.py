r"""FOP: factorized maximum-entropy actor-critic over discrete actions, off policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``K`` critics.

Source: Zhang et al. 2021, "FOP: Factorizing Optimal Joint Policy of Maximum-Entropy Multi-Agent
Reinforcement Learning", ICML, and its code in the version of July 2021.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from vm3ac_modules.functional.categorical import (
    categorical_entropy,
    draw_categorical,
    expectation,
    gumbel_noise,
)
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.objectives.episodic import Episodes, EpisodicLoss, at_slots, chosen, of_slots
from vm3ac_modules.objectives.options import check_positive

__all__ = ["FOPLoss", "PolicyView"]


class PolicyView(NamedTuple):
    """Policies of all agents along the episodes."""

    log_prob: Tensor
    """``log pi_i(a | tau_i, z)`` of the drawn latent (nats), ``[B, T + 1, N, A]``."""
    outcomes: Tensor | None
    """The same under every outcome of the latent, ``[Z, B, T + 1, N, A]``; None if not wanted."""
    action: Tensor
    """A joint draw from the policies under the drawn latent, int64 ``[B, T + 1, N]``."""
    log_q: Tensor | None = None
    """Predictions from these actions, ``[B, T + 1, N, N, A]``; None without a predictor."""
    actions: Tensor | None = None
    """Draws under every outcome of the latent, int64 ``[Z, B, T + 1, N]``; None if not wanted."""


class FOPLoss(EpisodicLoss):
    r"""Losses of FOP over whole episodes.

    .. math::
        V_i &= \alpha \log \sum_a \exp(Q_i(a) / \alpha) \\
        y_t &= G_t(\min_k \bar Q^k_{tot}(s, a')) - \frac{\alpha}{N} \sum_i
            \log \pi_i(a'_{i,t+1} | \tau_{i,t+1}) \\
        L_Q &= \sum_k E\, (Q^k_{tot}(s_t, a_t) - \mathrm{sg}\, y_t)^2 \\
        L_\pi &= E \sum_a \pi_i(a) \big( \alpha \log \pi_i(a) - \min_k Q^k_i(a) \big)

    with :math:`a' \sim \pi` drawn anew, :math:`G` the TD(lambda) return and the expectation over
    actions exact. The entropy stands outside the lambda-return, undiscounted, and averaged over
    agents, as in FOP's code (it sets the scale of the temperature); ``strict_soft`` puts it inside
    the bootstrap value, where gamma and the end of the game reach it.

    References:
        Zhang et al. 2021, "FOP: Factorizing Optimal Joint Policy of Maximum-Entropy Multi-Agent
        Reinforcement Learning", ICML.

    Args:
        actor_network: the recurrent actor; its exploration floor is part of the policy.
        qvalue_network: individual critics and mixers.
        temperature: alpha > 0 (reward per nat), a buffer that a schedule may change in place.
        strict_soft: the entropy inside the bootstrap value.
        mask_soft_values: sum only over legal actions in :math:`V_i`; FOP's code sums over all,
            which gives dead agents an advantage.
        policy_critic: what the policies follow: ``"own"`` values :math:`Q^k_i(a)`, as FOP does, or
            the ``"joint"`` critic, :math:`Q^k_{tot}(s, a, a'_{-i})` beside what the others drew.
        options: ``gamma``, ``lam``, ``reward_scale`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.EpisodicLoss`.

    Returns:
        ``forward`` returns ``loss_actor`` and ``loss_qvalue``, and detached means: ``entropy`` (of
        the policies, nats per agent), ``state_action_value`` (of the team), ``qvalue_target`` and
        ``soft_bonus`` (nats: what times alpha enters the target).

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from torchrl.objectives import SoftUpdate
        >>> from vm3ac_modules.nn import FOPMixer, RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=3))
        >>> critic = FactorizedCritic(4, 5, 3, FOPMixer(7, num_agents=3, num_actions=5))
        >>> loss = FOPLoss(actor, critic)
        >>> target = SoftUpdate(loss, tau=0.005)
        >>> agents = {"observation": torch.zeros(2, 6, 3, 4),
        ...           "action": torch.zeros(2, 6, 3, dtype=torch.long),
        ...           "action_mask": torch.ones(2, 6, 3, 5, dtype=torch.bool),
        ...           "reward": torch.zeros(2, 6, 3, 1)}
        >>> td = TensorDict({"agents": agents, "state": torch.zeros(2, 6, 7),
        ...                  "terminated": torch.zeros(2, 6, 1, dtype=torch.bool),
        ...                  "mask": torch.ones(2, 6, 1, dtype=torch.bool)}, [2, 6])
        >>> sorted(key for key in loss(td).keys() if key.startswith("loss_"))
        ['loss_actor', 'loss_qvalue']

    See Also:
        :mod:`vm3ac_modules.objectives.episodic` for the form of a batch.
    """

    diagnostics: tuple[str, ...] = ("entropy", "state_action_value", "qvalue_target", "soft_bonus")

    actor_network: RecurrentActor
    qvalue_network: FactorizedCritic
    temperature: Tensor

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: FactorizedCritic,
        *,
        temperature: float = 0.5,
        strict_soft: bool = False,
        mask_soft_values: bool = False,
        policy_critic: Literal["own", "joint"] = "own",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if policy_critic not in ("own", "joint"):
            raise ValueError(f"policy_critic must be 'own' or 'joint', got {policy_critic!r}.")
        # V_i divides by it.
        check_positive(temperature=temperature)
        self.strict_soft, self.mask_soft_values = strict_soft, mask_soft_values
        self.policy_critic: Literal["own", "joint"] = policy_critic
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.add_network("actor", actor_network)
        self.add_network("qvalue", qvalue_network, target=True)

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs (noise is data): Gumbel noise for the fresh actions.

        Args:
            tensordict: the batch, ``[B, T + 1]``.

        Returns:
            ``action`` ``[B, T + 1, N, A]``.
        """
        require_keys(tensordict, [self.tensor_keys.action_mask], type(self).__name__)
        mask = tensordict.get(self.tensor_keys.action_mask)
        noise = gumbel_noise(mask.to(self.temperature.dtype))
        return TensorDict({"action": noise}, tensordict.batch_size)

    def compute(
        self, batch: Episodes, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """All losses and diagnostics."""
        return self.losses(batch, self.view(batch, noise))

    def losses(self, episodes: Episodes, view: PolicyView) -> dict[str, Tensor]:
        """Losses and diagnostics of policies that were looked at.

        Args:
            episodes: the batch.
            view: the policies along it.

        Returns:
            A scalar per name of ``out_keys``.
        """
        mask = episodes.mask
        with self.network("qvalue").filled():
            values = self._individual_values(episodes)
            taken = self._team_value(episodes, values, episodes.action)[:, :-1]
            own = at_slots(values.detach(), episodes.seen)
        bonus = self.soft_bonus(view)
        target = self._target(episodes, view, bonus)
        followed = self.policy_values(episodes, view, own)
        policy = self.policy_objective(episodes, view, followed)
        errors = (taken - target.unsqueeze(-1)).square()
        out = {
            "loss_actor": masked_mean(policy[:, :-1], mask),
            "loss_qvalue": masked_mean(errors, mask) * errors.shape[-1],
        }
        scalars = {
            "entropy": categorical_entropy(view.log_prob)[:, :-1],
            "state_action_value": taken,
            "qvalue_target": target,
            "soft_bonus": bonus[:, 1:],
        }
        return out | {name: masked_mean(x.detach(), mask) for name, x in scalars.items()}

    def view(self, episodes: Episodes, noise: TensorDictBase) -> PolicyView:
        """Look at the policies along episodes, and draw from them.

        Args:
            episodes: the batch.
            noise: what :meth:`draw_noise` returned.

        Returns:
            Log-probabilities and a fresh joint action at every slot.
        """
        log_prob = self.policies(episodes)
        action = draw_categorical(log_prob.detach(), noise.get("action"))
        return PolicyView(log_prob, None, action)

    def soft_values(self, values: Tensor, action_mask: Tensor) -> Tensor:
        r"""Soft values of the agents, :math:`V_i = \alpha \log \sum_a e^{Q_i(a) / \alpha}`.

        Args:
            values: of every agent's actions, ``[B, T + 1, K, N, A]``.
            action_mask: legal actions, bool ``[B, T + 1, N, A]``.

        Returns:
            ``[B, T + 1, K, N]``.
        """
        scaled = values / self.temperature
        if self.mask_soft_values:
            scaled = scaled.masked_fill(~action_mask.unsqueeze(-3), -torch.inf)
        return self.temperature * scaled.logsumexp(-1)

    def _individual_values(self, episodes: Episodes) -> Tensor:
        """Values of every agent's actions in the slots that hold something, ``[R, K, N, A]``."""
        # A third to a half of a batch is padding, which no critic needs to look at.
        return self.qvalue_network.individual(of_slots(episodes.observation, episodes.seen))

    def _team_value(self, episodes: Episodes, values: Tensor, action: Tensor) -> Tensor:
        """Joint values of actions, ``[B, T + 1, K]``; 0 where nothing was seen."""
        seen = episodes.seen
        # The mixer takes advantages as constants.
        soft = self.soft_values(values.detach(), episodes.action_mask[seen])
        found = self.qvalue_network.joint(values, soft, episodes.state[seen], action[seen])
        return at_slots(found, seen)

    @torch.no_grad()
    def _target(self, episodes: Episodes, view: PolicyView, bonus: Tensor) -> Tensor:
        """The target y, ``[B, T]``."""
        with self.network("qvalue", target=True).filled():
            values = self._individual_values(episodes)
            bootstrap = self._team_value(episodes, values, view.action).amin(-1)
        soft = self.temperature * bonus
        if self.strict_soft:
            bootstrap = bootstrap + soft
        returns = self.returns(episodes, bootstrap)
        return returns if self.strict_soft else returns + soft[:, 1:]

    @torch.no_grad()
    def soft_bonus(self, view: PolicyView) -> Tensor:
        r"""What the target adds to the return, here :math:`-\frac1N \sum_i \log \pi_i(a'_i)`.

        Args:
            view: the policies and their fresh actions.

        Returns:
            ``[B, T + 1]``, nats.
        """
        return -chosen(view.log_prob, view.action).mean(-1)

    @torch.no_grad()
    def policy_values(self, episodes: Episodes, view: PolicyView, values: Tensor) -> Tensor:
        """What the policies are to value their actions by, the smallest over critics.

        Args:
            episodes: the batch.
            view: the policies along it.
            values: of every agent's actions by itself, ``[B, T + 1, K, N, A]``.

        Returns:
            ``[B, T + 1, N, A]``; ``[Z, B, T + 1, N, A]`` where the view has draws of every outcome.
        """
        if self.policy_critic == "own":
            return values.amin(-3)
        actions = view.action.unsqueeze(0) if view.actions is None else view.actions
        # All outcomes share the observations: padding is left out.
        seen = episodes.seen
        soft = self.soft_values(values, episodes.action_mask)[seen]
        with self.network("qvalue").filled():
            found = [
                self.qvalue_network.deviations(values[seen], soft, episodes.state[seen], drawn)
                for drawn in actions[:, seen]
            ]
        joint = torch.stack([at_slots(one.amin(-3), seen) for one in found])
        return joint.squeeze(0) if view.actions is None else joint

    def policy_objective(self, episodes: Episodes, view: PolicyView, values: Tensor) -> Tensor:
        """What the policies minimize.

        Args:
            episodes: the batch.
            view: the policies along it.
            values: what :meth:`policy_values` returned.

        Returns:
            ``[B, T + 1, N]``.
        """
        return expectation(view.log_prob, self.temperature * view.log_prob - values)
