r"""Social influence with models of other agents (SI-MOA) on the centralized actor-critic.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``P = N - 1``
partners, ``M`` counterfactual actions, ``A`` action.

Sources: Jaques et al. 2019, "Social Influence as Intrinsic Motivation for Multi-Agent Deep
Reinforcement Learning", arXiv:1810.08647; Kim et al. 2023, arXiv:2303.00451, Section 6 (SI-MOA
implemented on MA-AC for continuous actions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from vm3ac_modules.functional.influence import INFLUENCE_FORMS, influence
from vm3ac_modules.functional.pairwise import gather_others
from vm3ac_modules.keys import Keys
from vm3ac_modules.objectives.actor_critic import CentralizedActorCriticLoss
from vm3ac_modules.objectives.options import check_choice, check_not_negative, check_positive
from vm3ac_modules.objectives.policy import PolicyReader
from vm3ac_modules.objectives.slots import LossNetwork
from vm3ac_modules.objectives.terms import Term, TermInputs, TermValues

__all__ = ["SIMOALoss", "SocialInfluence"]

MAX_INFLUENCE = 10.0


class SocialInfluence(Term):
    r"""Reward an agent for actions that change what it expects the others to do next.

    .. math:: \lambda\, \mathrm{clip}(c_i, 0, 10), \quad c_i = \sum_{j \ne i} D_{KL}(
        p(a'_j|a_i, a_{-i}, o_i) \,\|\, E_{\tilde a_i \sim \pi_i} p(a'_j|\tilde a_i, a_{-i}, o_i))

    It is computed anew on every batch with the current model and policies: stored influence would
    be that of an old model. Where the episode ended there is no next action, hence no influence
    and nothing to learn.

    Args:
        network: a :class:`~vm3ac_modules.nn.NextActionNet`: every agent's model of the others.
        weight: :math:`\lambda` >= 0 (nats to reward); a buffer, so a schedule may change it.
        num_counterfactuals: actions M drawn from the policy for the marginal.
        sigma: standard deviation of the model in half ranges; fixed, since that of squashed
            actions would collapse and the divergence explode.
        form: ``"moments"``, ``"fixed"`` or ``"samples"``, see
            :func:`~vm3ac_modules.functional.influence`.
        center: centre of the action range, ``[N, A]``.
        half_range: half of the action range, ``[N, A]``.

    Raises:
        ValueError: for a negative weight, sigma <= 0, no counterfactual, or an unknown form.

    Example:
        >>> from vm3ac_modules.nn import NextActionNet
        >>> models, one = NextActionNet(4, 1, 2), torch.ones(2, 1)
        >>> SocialInfluence(models, 0.1, center=0 * one, half_range=one).weight
        tensor(0.1000)
    """

    name: ClassVar[str] = "moa"
    kind = "a NextActionNet"
    logged = ("moa_error", "influence", "reward_bonus")
    weight: Tensor
    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        network: nn.Module,
        weight: float,
        *,
        center: Tensor,
        half_range: Tensor,
        num_counterfactuals: int = 16,
        sigma: float = 0.5,
        form: str = "moments",
    ) -> None:
        super().__init__(network)
        check_not_negative(influence_weight=weight)
        check_positive(moa_sigma=sigma)
        if num_counterfactuals < 1:
            raise ValueError(f"num_counterfactuals must be at least 1, got {num_counterfactuals}.")
        check_choice("influence_form", form, INFLUENCE_FORMS)
        self.register_buffer("weight", torch.tensor(float(weight)))
        self.register_buffer("center", center.clone())
        self.register_buffer("half_range", half_range.clone())
        self.num_counterfactuals, self.sigma, self.form = num_counterfactuals, sigma, form

    def in_keys(self, keys: Any) -> list[NestedKey]:
        """The following action and whether there is one."""
        return [keys.observation, keys.next_action, keys.next_action_valid]

    def draw_noise(self, action: Tensor) -> dict[str, Tensor]:
        """Standard normals of the counterfactual actions, and of draws from the model."""
        batch, (agents, size) = action.shape[:-2], action.shape[-2:]
        shape = (*batch, self.num_counterfactuals, agents, size)
        out = {"counterfactual": action.new_empty(shape).normal_()}
        if self.form == "samples":
            pairs = (*shape[:-1], agents - 1, size)
            out["model"] = action.new_empty(pairs).normal_()
        return out

    def _unit(self, action: Tensor) -> Tensor:
        return (action - self.center) / self.half_range

    def evaluate(self, inputs: TermInputs, network: LossNetwork | None) -> TermValues:
        """The weighted influence of the stored actions, and the models' error."""
        assert network is not None
        with network.filled(detach=True), torch.no_grad():
            influence = self.influence_of(network.module, inputs)
        with network.filled():
            error = self._error(network.module, inputs)
        bonus = self.weight * influence
        return TermValues(
            reward=bonus,
            losses={"loss_moa": error.sum(-1)},
            scalars={"moa_error": error.detach(), "influence": influence, "reward_bonus": bonus},
        )

    def influence_of(self, models: nn.Module, inputs: TermInputs) -> Tensor:
        """Influence of the stored actions, not yet weighed.

        Args:
            models: every agent's model of the others.
            inputs: batch, fresh draw, noise and keys.

        Returns:
            ``[*B, N]``, nats, in [0, 10].
        """
        td, sample, noise, keys, _ = inputs
        stored = self._unit(td.get(keys.action))
        loc, scale = sample.loc.unsqueeze(-3), sample.scale.unsqueeze(-3)
        imagined = (loc + scale * noise.get("counterfactual")).tanh()
        own = torch.cat((stored.unsqueeze(-3), imagined), dim=-3)
        means = models(td.get(keys.observation), stored, own)
        taken, others = means[..., 0, :, :, :], means[..., 1:, :, :, :]
        drawn = noise.get("model", None)
        found = influence(taken, others, self.sigma, form=self.form, noise=drawn)
        valid = td.get(keys.next_action_valid).squeeze(-1)
        # By selection, element by element: one bad entry must not cost the batch its influence.
        return torch.where(valid & found.isfinite(), found.clamp(0.0, MAX_INFLUENCE), 0.0)

    def _error(self, models: nn.Module, inputs: TermInputs) -> Tensor:
        """Squared error against what the others did next, mean over partners, ``[*B, N]``."""
        td, keys = inputs.tensordict, inputs.keys
        stored = self._unit(td.get(keys.action))
        mean = models(td.get(keys.observation), stored, stored.unsqueeze(-3)).squeeze(-4)
        valid = td.get(keys.next_action_valid).squeeze(-1)
        following = torch.where(valid.unsqueeze(-1), td.get(keys.next_action), 0.0)
        error = (gather_others(self._unit(following)) - mean).square().sum(-1)
        # With a single agent there is nobody to predict: the mean over partners is then 0, not NaN.
        mean_error = error.sum(-1) / max(error.shape[-1], 1)
        return torch.where(valid, mean_error, 0.0)


class SIMOALoss(CentralizedActorCriticLoss):
    r"""MA-AC whose rewards hold each agent's influence on the others' next actions.

    .. math:: \hat Q_i = r_i + \lambda\, \mathrm{sg}\, c_i
        + \gamma (1 - \mathrm{terminated}) V_{\bar\psi_i}(x')

    The influence is on :math:`a_{j,t+1}`, unlike the mutual information of simultaneous actions
    that VM3-AC maximizes. The replay must know the following action
    (:class:`~vm3ac_modules.baselines.NextAction`).

    References:
        Jaques et al. 2019, "Social Influence as Intrinsic Motivation for Multi-Agent Deep
        Reinforcement Learning", https://arxiv.org/abs/1810.08647; docs/readings.md for the
        continuous variant.

    Args:
        actor_network: the policy, without a latent.
        qvalue_network: the action values.
        value_network: the state values.
        moa_network: a :class:`~vm3ac_modules.nn.NextActionNet`: every agent's model of the others.
        influence_weight: :math:`\lambda` >= 0.
        num_counterfactuals: actions M drawn for the marginal.
        moa_sigma: standard deviation of the models in half ranges of the actions.
        influence_form: ``"moments"``, ``"fixed"`` or ``"samples"``.
        options: passed to :class:`~vm3ac_modules.objectives.CentralizedActorCriticLoss`.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> from vm3ac_modules.nn import NextActionNet
        >>> actor = vm.make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
        >>> loss = SIMOALoss(actor, vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2),
        ...                  NextActionNet(4, 1, 2))
        >>> list(loss.parameter_groups())
        ['loss_actor', 'loss_qvalue', 'loss_value', 'loss_moa']
    """

    @dataclass
    class _AcceptedKeys(CentralizedActorCriticLoss._AcceptedKeys):
        next_action: NestedKey = Keys().next_action
        next_action_valid: NestedKey = Keys().next_action_valid

    default_keys = _AcceptedKeys
    moa_network: nn.Module

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: TensorDictModuleBase,
        value_network: TensorDictModuleBase,
        moa_network: nn.Module,
        *,
        influence_weight: float = 0.1,
        num_counterfactuals: int = 16,
        moa_sigma: float = 0.5,
        influence_form: str = "moments",
        **options: Any,
    ) -> None:
        reader = PolicyReader(actor_network)
        term = SocialInfluence(
            moa_network,
            influence_weight,
            center=reader.center,
            half_range=reader.half_range,
            num_counterfactuals=num_counterfactuals,
            sigma=moa_sigma,
            form=influence_form,
        )
        super().__init__(actor_network, qvalue_network, value_network, terms=[term], **options)
