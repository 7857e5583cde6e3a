r"""VDAC: advantage actor-critic whose agents' state values are mixed into one, on policy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions. Source: Su et al. 2021,
"Value-Decomposition Multi-Agent Actor-Critics", arXiv:2007.12306, and its code.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from vm3ac_modules.functional.categorical import categorical_entropy
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.value_head import ValueHead
from vm3ac_modules.objectives.episode_pieces import check_shares, chosen, network_slots
from vm3ac_modules.objectives.episodic import (
    EpisodeKeys,
    Episodes,
    lambda_return,
    read_episodes,
    wanted_losses,
)

__all__ = ["VDACLoss"]


class VDACLoss(LossModule):
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
        gamma: discount per step.
        lam: weight of the lambda-return.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_vdac`` and detached means: its terms ``policy_part`` (the
        entropy included) and ``value_part`` (not yet weighed), ``entropy`` (nats per agent),
        ``state_value`` (of the team) and ``value_target``.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
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

    _AcceptedKeys = EpisodeKeys
    default_keys = EpisodeKeys
    tensor_keys: EpisodeKeys
    out_keys: tuple[str, ...] = (
        *("loss_vdac", "policy_part", "value_part"),
        *("entropy", "state_value", "value_target"),
    )
    phases: tuple[tuple[str, ...], ...] = (("loss_vdac",),)
    on_policy: ClassVar[bool | str] = True

    actor_network: RecurrentActor
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    value_network: ValueHead
    value_network_params: TensorDictParams
    target_value_network_params: TensorDictParams

    def __init__(
        self,
        actor_network: RecurrentActor,
        value_network: ValueHead,
        *,
        value_weight: float = 0.1,
        entropy_weight: float = 0.0,
        gamma: float = 0.99,
        lam: float = 0.8,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        check_shares(gamma=gamma, lam=lam)
        weights = {"value_weight": value_weight, "entropy_weight": entropy_weight}
        for name, weight in weights.items():
            if not weight >= 0.0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        self.value_weight, self.entropy_weight = value_weight, entropy_weight
        self.gamma, self.lam = gamma, lam
        self.convert_to_functional(actor_network, "actor_network")
        self.convert_to_functional(value_network, "value_network")
        self.slots = network_slots(self, "actor_network", "value_network")
        if keys is not None:
            self.set_keys(**self._AcceptedKeys.named_by(keys))

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        return None

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        return self.tensor_keys.all()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that the loss trains: those of the actor, the values and their mixer."""
        networks = self.actor_network_params, self.value_network_params
        return {"loss_vdac": [p for params in networks for p in params.parameters()]}

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
        """Compute the loss; the input is not changed.

        Args:
            tensordict: episodes ``[B, T + 1]`` with the entries of :attr:`in_keys`.
            noise: not read.
            only: names of the losses that are wanted: there is one.

        Returns:
            The loss and diagnostics, see the class.
        """
        del noise
        wanted_losses(self.out_keys, only)
        episodes = read_episodes(tensordict, self.tensor_keys, type(self).__name__)
        actor, head = self.slots["actor_network"], self.slots["value_network"]
        with (
            actor.filled(self.actor_network_params),
            head.filled(self.value_network_params),
        ):
            memory, _ = self.actor_network.net.unroll(episodes.observation, episodes.last_action)
            log_prob = self.actor_network.log_prob(memory[:, :-1], episodes.action_mask[:, :-1])
            value = self.value_network(memory, episodes.state)
        return TensorDict(self._losses(episodes, log_prob, value), [])

    def _losses(self, episodes: Episodes, log_prob: Tensor, value: Tensor) -> dict[str, Tensor]:
        mask = episodes.mask
        ends = episodes.reward, value.detach(), episodes.terminated, mask
        target = lambda_return(*ends, gamma=self.gamma, lam=self.lam)
        error = value[:, :-1] - target
        # The advantage is the team's: every agent's score is weighed by the same one.
        score = chosen(log_prob, episodes.action[:, :-1])
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
