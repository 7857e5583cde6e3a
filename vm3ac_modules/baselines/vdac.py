r"""VDAC: advantage actor-critic whose agents' state values are mixed into one, on policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Su et al. 2021,
"Value-Decomposition Multi-Agent Actor-Critics", arXiv:2007.12306, and its code.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.functional.categorical import categorical_entropy
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.value_head import ValueHead
from vm3ac_modules.objectives.episodic import Episodes, EpisodicLoss, chosen
from vm3ac_modules.objectives.options import check_not_negative

__all__ = ["VDACLoss"]


class VDACLoss(EpisodicLoss):
    r"""The loss of VDAC over whole episodes of the present policy.

    .. math::
        A_t &= \mathrm{sg}[G_t - V_{tot}(s_t)] \\
        L &= -E\, A_t \log \pi_i(a_i|\tau_i) + c\, E\, (V_{tot}(s_t) - \mathrm{sg}\, G_t)^2
            - \eta\, E\, H(\pi_i)

    with :math:`G` the TD(lambda) return that bootstraps from the present :math:`V_{tot}`; there is
    no target network. One optimizer trains all: the values read the policies' memory, which learns
    from both terms.

    References:
        Su et al. 2021, "Value-Decomposition Multi-Agent Actor-Critics",
        https://arxiv.org/abs/2007.12306.

    Args:
        actor_network: the recurrent actor; its exploration floor is part of the policy.
        value_network: the agents' values on the actor's memory, and their mixer.
        value_weight: c >= 0.
        entropy_weight: :math:`\eta` >= 0 (reward per nat); VDAC's runs had none.
        options: ``gamma``, ``lam``, ``reward_scale`` and ``keys``, those of
            :class:`~vm3ac_modules.objectives.EpisodicLoss`.

    Returns:
        ``forward`` returns ``loss_vdac`` and detached means: its terms ``policy_part`` (the
        entropy included) and ``value_part`` (not yet weighed), ``entropy`` (nats per agent),
        ``state_value`` (of the team) and ``value_target``.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.nn import QMixer, RecurrentPolicyNet, ValueHead
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=3))
        >>> loss = VDACLoss(actor, ValueHead(64, 3, QMixer(7, num_agents=3)))
        >>> agents = {"observation": torch.zeros(2, 6, 3, 4),
        ...           "action": torch.zeros(2, 6, 3, dtype=torch.long),
        ...           "action_mask": torch.ones(2, 6, 3, 5, dtype=torch.bool),
        ...           "reward": torch.zeros(2, 6, 3, 1)}
        >>> real = torch.ones(2, 6, 1, dtype=torch.bool)
        >>> td = TensorDict({"agents": agents, "state": torch.zeros(2, 6, 7), "terminated": ~real,
        ...                  "mask": real}, [2, 6])
        >>> out = loss(td)
        >>> bool(out["loss_vdac"] == out["policy_part"] + 0.1 * out["value_part"])
        True

    See Also:
        :mod:`vm3ac_modules.objectives.episodic` for the form of a batch.
    """

    diagnostics = ("policy_part", "value_part", "entropy", "state_value", "value_target")
    on_policy: ClassVar[bool | str] = True

    actor_network: RecurrentActor
    value_network: ValueHead

    def __init__(
        self,
        actor_network: RecurrentActor,
        value_network: ValueHead,
        *,
        value_weight: float = 0.1,
        entropy_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_not_negative(value_weight=value_weight, entropy_weight=entropy_weight)
        self.value_weight, self.entropy_weight = value_weight, entropy_weight
        self.add_network("actor", actor_network, loss="loss_vdac")
        self.add_network("value", value_network, loss="loss_vdac")

    def compute(
        self, batch: Episodes, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """The loss and its parts."""
        with self.network("actor").filled(), self.network("value").filled():
            memory, _ = self.actor_network.net.unroll(batch.observation, batch.last_action)
            log_prob = self.actor_network.log_prob(memory[:, :-1], batch.action_mask[:, :-1])
            value = self.value_network(memory, batch.state)
        mask = batch.mask
        target = self.returns(batch, value.detach())
        error = value[:, :-1] - target
        # The advantage is the team's: every agent's score is weighed by the same one.
        score = chosen(log_prob, batch.action[:, :-1])
        entropy = masked_mean(categorical_entropy(log_prob), mask)
        policy = masked_mean(error.detach().unsqueeze(-1) * score, mask)
        policy = policy - self.entropy_weight * entropy
        critic = masked_mean(error.square(), mask)
        return {
            "loss_vdac": policy + self.value_weight * critic,
            "policy_part": policy.detach(),
            "value_part": critic.detach(),
            "entropy": entropy.detach(),
            "state_value": masked_mean(value[:, :-1].detach(), mask),
            "value_target": masked_mean(target, mask),
        }
