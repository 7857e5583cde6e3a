r"""MAVEN on the centralized actor-critic: a latent per episode that the agents' behavior must show.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``O`` observation,
``A`` action, ``K`` outcomes of the latent, ``E`` episodes.

Sources: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration", arXiv:1910.07483; Kim et
al. 2023, arXiv:2303.00451, Section 6 (MAVEN implemented on MA-AC for continuous actions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.nn.discriminators import JointNet
from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.base import MultiAgentLoss
from vm3ac_modules.objectives.options import check_choice, check_not_negative
from vm3ac_modules.objectives.slots import LossNetwork
from vm3ac_modules.objectives.terms import Term, TermInputs, TermValues, own_gradient_rows

__all__ = [
    "EpisodeLatentLoss",
    "EpisodeLatentPolicy",
    "LatentDiscriminator",
    "MAVENLoss",
    "joint_situation",
]

MI_MODES = ("policy", "reward")


def joint_situation(tensordict: TensorDictBase, key: NestedKey) -> Tensor:
    """The situation x that a centralized network reads: the state, or all observations.

    Args:
        tensordict: ``[*B]``.
        key: entry of the state ``[*B, X]``, or of the observations ``[*B, N, O]``.

    Returns:
        ``[*B, X]`` or ``[*B, N * O]``.

    Example:
        >>> from tensordict import TensorDict
        >>> joint_situation(TensorDict({"x": torch.zeros(5, 2, 3)}, [5]), "x").shape
        torch.Size([5, 6])
    """
    x = tensordict.get(key)
    return x.flatten(tensordict.batch_dims) if x.ndim > tensordict.batch_dims + 1 else x


class EpisodeLatentPolicy(TensorDictModuleBase):
    r"""Draw an episode's one-hot latent from a learned prior: :math:`z \sim \pi_\zeta(z|x_0)`.

    :class:`~vm3ac_modules.envs.EpisodeLatent` calls it at every reset and keeps what it wrote until
    the episode ends. It draws whatever the exploration type: an evaluation plays drawn latents too.

    Args:
        in_features: size X of the joint situation.
        num_outcomes: outcomes K of the latent.
        uniform: draw uniformly, with nothing to learn (an ablation).
        situation: entry that holds the situation; all observations by default.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.JointNet`.

    Raises:
        ValueError: for fewer than two outcomes.

    Example:
        >>> from tensordict import TensorDict
        >>> policy = EpisodeLatentPolicy(6, 4)
        >>> td = TensorDict({"agents": {"observation": torch.zeros(5, 2, 3)}}, [5])
        >>> policy(td)["latent"].sum(-1)
        tensor([1., 1., 1., 1., 1.])
    """

    def __init__(
        self,
        in_features: int,
        num_outcomes: int,
        *,
        uniform: bool = False,
        situation: NestedKey | None = None,
        keys: Keys | None = None,
        **net_options: Any,
    ) -> None:
        super().__init__()
        if num_outcomes < 2:
            raise ValueError(f"MAVEN's latent needs at least 2 outcomes, got {num_outcomes}.")
        keys = Keys() if keys is None else keys
        self.num_outcomes = num_outcomes
        self.net = None if uniform else JointNet(in_features, num_outcomes, **net_options)
        self.situation = keys.observation if situation is None else situation
        self.in_keys = [self.situation]
        self.out_keys = [keys.latent, keys.latent_log_prob, keys.situation]
        self.out_sizes = (num_outcomes, 1, in_features)

    def distribution(self, situation: Tensor) -> OneHotCategorical:
        """The prior of every situation ``[*B, X]``."""
        shape = (*situation.shape[:-1], self.num_outcomes)
        logits = situation.new_zeros(shape) if self.net is None else self.net(situation)
        return OneHotCategorical(logits=logits, validate_args=False)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the latent ``[*B, K]``, its log-probability ``[*B, 1]`` and the situation."""
        situation = joint_situation(tensordict, self.situation)
        with torch.no_grad():
            prior = self.distribution(situation)
            latent = prior.sample()
            log_prob = prior.log_prob(latent).unsqueeze(-1)
        for key, value in zip(self.out_keys, (latent, log_prob, situation), strict=True):
            tensordict.set(key, value)
        return tensordict


class LatentDiscriminator(Term):
    r"""Reward behavior from which the latent can be told, :math:`\lambda \log D_\upsilon(z|x, a)`.

    The discriminator learns on replayed situations with fresh actions of the current policies, to
    which it passes no gradient; the policies are pushed by a constant discriminator, each through
    its own action only.

    Args:
        network: the discriminator, a :class:`~vm3ac_modules.nn.JointNet` from (x, a) to K logits.
        weight: :math:`\lambda` >= 0 (nats to reward).
        mode: ``"policy"`` puts the bonus into the policies' loss; ``"reward"`` adds
            :math:`\lambda (\log D(z|x_t, a_t) - \log \pi_\zeta(z|x_0))` to the reward instead.
        situation: entry of the joint situation.

    Raises:
        ValueError: for a negative weight or an unknown mode.

    Example:
        >>> LatentDiscriminator(JointNet(8 + 2, 3), 0.1).weight
        tensor(0.1000)
    """

    name: ClassVar[str] = "discriminator"
    kind = "a JointNet from (x, a) to K logits"
    weight: Tensor

    def __init__(
        self,
        network: nn.Module,
        weight: float = 0.1,
        mode: Literal["policy", "reward"] = "policy",
        situation: NestedKey | None = None,
    ) -> None:
        super().__init__(network)
        check_not_negative(mi_weight=weight)
        check_choice("mi_mode", mode, MI_MODES)
        self.register_buffer("weight", torch.tensor(float(weight)))
        self.mode, self.situation = mode, situation
        self.logged = ("latent_log_prob", *(["reward_bonus"] if mode == "reward" else []))

    def in_keys(self, keys: Any) -> list[NestedKey]:
        """The stored latent and the joint situation."""
        read = [keys.latent, self.situation or keys.observation]
        return [*read, keys.latent_log_prob] if self.mode == "reward" else read

    def log_prob(
        self, network: nn.Module, tensordict: TensorDictBase, rows: Tensor, keys: Any
    ) -> Tensor:
        """Log-probability (nats) of the stored latent given joint actions.

        Args:
            network: the discriminator.
            tensordict: the batch ``[*B]``.
            rows: joint actions, ``[*B, R, N * A]``.
            keys: the loss's ``tensor_keys``.

        Returns:
            ``[*B, R]``.
        """
        x = joint_situation(tensordict, self.situation or keys.observation).unsqueeze(-2)
        inputs = torch.cat((x.expand(*rows.shape[:-1], -1), rows), dim=-1)
        latent = tensordict.get(keys.latent).unsqueeze(-2)
        return (network(inputs).log_softmax(-1) * latent).sum(-1)

    def evaluate(self, inputs: TermInputs, network: LossNetwork | None) -> TermValues:
        """The bonus of one of the modes, and the discriminator's cross-entropy."""
        assert network is not None
        td, sample, keys = inputs.tensordict, inputs.sample, inputs.keys
        losses: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        reward = None
        with network.filled(detach=True):
            if self.mode == "policy":
                rows = own_gradient_rows(sample.action)
                bonus = self.weight * self.log_prob(network.module, td, rows, keys)
                losses["loss_actor"] = -(inputs.scale * bonus).sum(-1)
            else:
                with torch.no_grad():
                    reward = scalars["reward_bonus"] = self._information(network.module, inputs)
        # The current policies' actions; they are constants to the discriminator.
        rows = sample.action.detach().flatten(-2).unsqueeze(-2)
        with network.filled():
            log_prob = self.log_prob(network.module, td, rows, keys)
        losses["loss_discriminator"] = -log_prob.squeeze(-1)
        scalars["latent_log_prob"] = log_prob.detach().expand(sample.log_prob.shape)
        return TermValues(reward=reward, losses=losses, scalars=scalars)

    def _information(self, discriminator: nn.Module, inputs: TermInputs) -> Tensor:
        """The weighted information that the stored actions give about the latent, ``[*B, N]``."""
        td, keys = inputs.tensordict, inputs.keys
        stored = td.get(keys.action).flatten(-2).unsqueeze(-2)
        gain = self.log_prob(discriminator, td, stored, keys) - td.get(keys.latent_log_prob)
        return (self.weight * gain).expand(inputs.sample.log_prob.shape)


class EpisodeLatentLoss(MultiAgentLoss):
    """What losses share that hold the prior of an episode's latent.

    Example:
        See :class:`MAVENLoss`.
    """

    latent_policy_network: EpisodeLatentPolicy
    entropy_weight: float

    def add_latent_policy(self, latent_policy: EpisodeLatentPolicy, entropy_weight: float) -> None:
        r"""Take the prior, which :meth:`latent_policy_loss` trains.

        Args:
            latent_policy: the prior.
            entropy_weight: :math:`\eta` >= 0 of its exact entropy.
        """
        check_not_negative(entropy_weight=entropy_weight)
        self.entropy_weight = entropy_weight
        self.add_network("latent_policy", latent_policy, loss=None)

    def latent_policy_loss(
        self, situation: Tensor, latent: Tensor, advantage: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""REINFORCE on finished episodes, with the prior's exact entropy.

        .. math:: -\frac1E \sum_e \hat A_e \log \pi_\zeta(z_e|x_{0,e}) - \eta\, H(\pi_\zeta)

        MAVEN's code takes the mean of :math:`\log \pi_\zeta` of the latents drawn for the
        entropy, whose gradient is zero in expectation.

        Args:
            situation: where episodes began, ``[*S, E, X]``.
            latent: what they drew, ``[*S, E, K]``.
            advantage: standardized returns above the baseline, ``[*S, E]``.

        Returns:
            The loss and the mean entropy (nats), ``[*S]`` each.
        """
        with self.network("latent_policy").filled():
            prior = self.latent_policy_network.distribution(situation)
        entropy = prior.entropy().mean(-1)
        score = (advantage.detach() * prior.log_prob(latent)).mean(-1)
        return -score - self.entropy_weight * entropy, entropy


class MAVENLoss(EpisodeLatentLoss, CentralizedActorCriticLoss):
    r"""MA-AC with an episode's latent in policies and critics, and a discriminator of it.

    .. math:: L_{\pi_i} = -Q_{i,1}(x, a, z) - \lambda \log D_\upsilon(z|x, a_i, \mathrm{sg}\,a_{-i})

    The latent is the stored one: it never changes inside an episode, so the next state has the
    same. The policies maximize the discriminator's log-probability. (The reference's optional
    intrinsic reward adds the cross-entropy, which rewards the opposite.) The prior of the latent
    learns from finished episodes (:meth:`latent_policy_loss`).

    References:
        Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration",
        https://arxiv.org/abs/1910.07483; docs/readings.md for the continuous variant.

    Args:
        actor_network: a policy that reads the latent, without a sampler.
        qvalue_network: action values that read the latent.
        value_network: state values that read the latent.
        discriminator_network: a :class:`~vm3ac_modules.nn.JointNet` from (x, a) to K logits.
        latent_policy: the prior :class:`EpisodeLatentPolicy` that the environment's transform draws
            from.
        mi_weight: :math:`\lambda` >= 0.
        mi_mode: ``"policy"`` or ``"reward"``, see :class:`LatentDiscriminator`.
        entropy_weight: :math:`\eta` >= 0 of the prior's exact entropy.
        options: passed to :class:`~vm3ac_modules.objectives.CentralizedActorCriticLoss`.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> from vm3ac_modules.nn import JointNet
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> loss = MAVENLoss(
        ...     vm.make_actor(4, 3, spec), vm.make_action_value(4, 1, 2, latent_dim=3),
        ...     vm.make_state_value(4, 2, latent_dim=3), JointNet(8 + 2, 3),
        ...     EpisodeLatentPolicy(8, 3))
        >>> list(loss.parameter_groups())
        ['loss_actor', 'loss_qvalue', 'loss_value', 'loss_discriminator']
    """

    @dataclass
    class _AcceptedKeys(CentralizedActorCriticLoss._AcceptedKeys):
        latent: NestedKey = Keys().latent
        latent_log_prob: NestedKey = Keys().latent_log_prob

    default_keys = _AcceptedKeys

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        discriminator_network: nn.Module,
        latent_policy: EpisodeLatentPolicy,
        *,
        mi_weight: float = 0.1,
        mi_mode: Literal["policy", "reward"] = "policy",
        entropy_weight: float = 0.01,
        **options: Any,
    ) -> None:
        term = LatentDiscriminator(
            discriminator_network, mi_weight, mi_mode, latent_policy.situation
        )
        if Policy.of(actor_network).sampler is not None:
            raise ValueError(
                "MAVEN's latent lives for an episode: give the actor without a LatentSampler and "
                "append EpisodeLatent(latent_policy) to the environment."
            )
        networks = (actor_network, qvalue_network, value_network)
        super().__init__(*networks, terms=[term], latent="stored", **options)
        self.add_latent_policy(latent_policy, entropy_weight)
