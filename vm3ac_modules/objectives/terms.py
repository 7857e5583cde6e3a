r"""Terms of the centralized actor-critic: what an algorithm adds to the return.

Shapes: ``*S`` seeds, ``*B`` batch (seeds included), ``N`` agents, ``A`` action. Entropy, mutual
information, MAVEN's discriminator and social influence are such terms.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Eqs. (46), (49).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from vm3ac_modules.functional.soft_value import pair_weight, soft_bonus
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.drawn_pairs import check_pairs, draw_offsets, drawn_offsets
from vm3ac_modules.objectives.options import check_choice, check_count, check_not_negative
from vm3ac_modules.objectives.pairs import (
    REVERSE_MODELS,
    Estimator,
    bonus_weight,
    check_estimator,
    pair_estimates,
    pair_terms,
    predictor_loss,
)
from vm3ac_modules.objectives.policy import PolicySample, contrast_of, extra_action_noise
from vm3ac_modules.objectives.slots import LossNetwork

__all__ = [
    "EntropyTerm",
    "MutualInformationTerm",
    "Term",
    "TermInputs",
    "TermValues",
    "own_gradient_rows",
]


class TermInputs(NamedTuple):
    """What a term is evaluated on."""

    tensordict: TensorDictBase
    """The batch, ``[*B]``."""
    sample: PolicySample
    """The fresh joint draw."""
    noise: TensorDictBase
    """All noise of the call."""
    keys: Any
    """The loss's ``tensor_keys``."""
    scale: float
    """Reward scale: multiplies a term's temperature or weight as it does rewards."""


class TermValues(NamedTuple):
    """What a term adds to one call of the loss."""

    policy: tuple[Tensor, ...] = ()
    """Summands of what the policies gain beside the action value, ``[*B, N]`` each."""
    value: tuple[Tensor, ...] = ()
    """Summands of the state value's target beside the action value, ``[*B, N]`` each, constant."""
    reward: Tensor | None = None
    """Added to the reward of the Q target, ``[*B, N]``, constant, not yet scaled."""
    losses: dict[str, Tensor] = {}  # noqa: RUF012 - never written to
    """Losses ``[*B]`` by name; added to the loss of that name if there is one."""
    scalars: dict[str, Tensor] = {}  # noqa: RUF012 - never written to
    """What to log, ``[*B, N]`` each, constant."""
    pairs: dict[str, Tensor] = {}  # noqa: RUF012 - never written to
    """The same per agent and partner, ``[*B, N, k]``, logged as mean and as ``<name>_matrix``."""
    offsets: Tensor | None = None
    """Which partners those are, ``[*B, k]`` of
    :func:`~vm3ac_modules.objectives.drawn_pairs.draw_offsets`; None for all, ascending."""


class Term(nn.Module, ABC):
    """Base of a term.

    Args:
        network: the term's network, if it has one. The loss takes it: its parameters become the
            loss's, under ``<name>_network_params``, and ``loss_<name>`` trains them.

    Example:
        A reward for large actions:

        >>> class Size(Term):
        ...     logged = ("size",)
        ...     def evaluate(self, inputs, network):
        ...         size = inputs.tensordict.get(inputs.keys.action).square().sum(-1)
        ...         return TermValues(reward=0.1 * size, scalars={"size": size})
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
        >>> critics = vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2)
        >>> vm.MAACLoss(actor, *critics, terms=[Size()]).out_keys[-1]
        'size'
    """

    name: ClassVar[str] = ""
    """Of the network; empty for a term without one."""
    kind: ClassVar[str] = ""
    """What the network has to be, for messages."""
    logged: tuple[str, ...] = ()
    """Names of the diagnostics."""
    num_latents: int | None = None
    """Extra latents K of the entropy family; None for a term that does not read ``log pi_K``."""
    network: nn.Module | None

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        # Not registered: its parameters are the loss's.
        self.__dict__["network"] = network

    def in_keys(self, keys: Any) -> list[NestedKey]:
        """Entries that the term reads.

        Args:
            keys: the loss's ``tensor_keys``.
        """
        return []

    def draw_noise(self, action: Tensor) -> dict[str, Tensor]:
        """What the term needs of noise, by name.

        Args:
            action: stored actions ``[*B, N, A]``; only shape, type and device are read.
        """
        return {}

    @abstractmethod
    def evaluate(self, inputs: TermInputs, network: LossNetwork | None) -> TermValues:
        """Compute all that the term adds.

        Args:
            inputs: batch, fresh draw, noise, keys and reward scale.
            network: the term's network with its parameters.

        Returns:
            Bonuses, losses and diagnostics.
        """


class EntropyTerm(Term):
    r"""Entropy bonus :math:`\beta H_K(a_i|s)`: MA-SAC for K = 0.

    Args:
        beta: temperature >= 0 (nats to reward), a number or one per agent ``[N]``. It is a buffer:
            saved with the loss, and annealed in place.
        num_latents: extra latents K >= 0 of the entropy family; 0 is the paper's form.
        network: of a subclass.

    Raises:
        ValueError: for ``beta < 0`` or ``num_latents < 0``.

    Example:
        >>> EntropyTerm(0.2).beta
        tensor(0.2000)
    """

    beta: Tensor

    def __init__(
        self,
        beta: float | Sequence[float],
        num_latents: int = 0,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__(network)
        value = torch.as_tensor(beta, dtype=torch.get_default_dtype())
        for each in beta if value.ndim else [beta]:  # type: ignore[union-attr]
            check_not_negative(beta=each)
        check_count(**{"num_latents (K)": num_latents})
        self.register_buffer("beta", value)
        self.num_latents = num_latents

    def evaluate(self, inputs: TermInputs, network: LossNetwork | None) -> TermValues:
        """The entropy terms of Eqs. (46) and (49)."""
        entropy = -(inputs.scale * self.beta) * inputs.sample.log_prob
        return TermValues((entropy,), (entropy.detach(),))


class MutualInformationTerm(EntropyTerm):
    r"""Lower bound of the mutual information between agents' actions: VM3-AC.

    .. math:: \beta H_K(a_i|s) + \beta w \sum_{j \ne i} [\log q_i(a_j|a_i) + \log q_i(a_i|a_j)]

    Args:
        predictor: the variational predictor q.
        beta: temperature >= 0, a number or one per agent ``[N]``.
        num_latents: extra latents K of the entropy family.
        weight: ``"paper"`` for w = 1/N, ``"mean"`` for w = 1/(N - 1).
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``.
        estimator: what holds the place of log q, see :class:`VM3ACLoss`.
        pairs: partners k of every agent that enter per transition, see :class:`VM3ACLoss`.

    Raises:
        ValueError: for unknown options, ``beta < 0``, ``num_latents < 0`` or too few of them for
            the estimator, ``pairs < 1`` or ``pairs > N - 1``.

    Example:
        >>> from torchrl.data import Bounded
        >>> predictor = VariationalPredictor(4, Bounded(-1.0, 1.0, (2, 1)))
        >>> MutualInformationTerm(predictor, 0.15).logged
        ('correlation_term', 'pair_log_prob', 'pair_log_prob_matrix')
    """

    name = "predictor"
    kind = "a VariationalPredictor"
    logged: tuple[str, ...] = ("correlation_term", "pair_log_prob", "pair_log_prob_matrix")

    def __init__(
        self,
        predictor: VariationalPredictor,
        beta: float | Sequence[float],
        num_latents: int = 0,
        weight: Literal["paper", "mean"] = "paper",
        reverse_model: Literal["own", "partner"] = "own",
        estimator: Estimator = "barber_agakov",
        pairs: int | None = None,
    ) -> None:
        super().__init__(beta, num_latents, predictor)
        pair_weight(1, weight)
        check_choice("reverse_model", reverse_model, REVERSE_MODELS)
        self.weight, self.reverse_model = weight, reverse_model
        self.pairs = check_pairs(pairs, predictor)
        self.contrastive = check_estimator(estimator, num_latents)
        if self.contrastive is not None:
            self.logged = (*self.logged, "mi_estimate", "mi_estimate_matrix")

    def in_keys(self, keys: Any) -> list[NestedKey]:
        """The observations, which the predictor reads."""
        return [keys.observation]

    def draw_noise(self, action: Tensor) -> dict[str, Tensor]:
        """The partners that enter, and normals of what a contrastive estimator compares with."""
        noise = draw_offsets(action, self.pairs)
        if self.contrastive is not None:
            noise |= extra_action_noise(action, self.num_latents or 0)
        return noise

    def evaluate(self, inputs: TermInputs, network: LossNetwork | None) -> TermValues:
        """The bonuses of Eqs. (46) and (49) with the gradient rule of Eq. (50)."""
        assert network is not None
        sample, observation = inputs.sample, inputs.tensordict.get(inputs.keys.observation)
        contrast = contrast_of(self.contrastive, sample)
        offsets = drawn_offsets(inputs.noise, self.pairs)
        pairs = pair_terms(
            network, sample.action, observation, self.reverse_model, contrast, offsets
        )
        logged = {"pair_log_prob": pairs.partner.detach()}
        if contrast is not None:
            logged["mi_estimate"] = pair_estimates(pairs, sample.log_prob, offsets)
        weight = bonus_weight(pairs, self.weight)
        bonus = partial(soft_bonus, sample.log_prob, beta=inputs.scale * self.beta, weight=weight)
        # What is no gradient's way for the policies is a constant to them.
        policy = bonus(pairs.policy + pairs.own.detach())
        with torch.no_grad():
            value = bonus(pairs.partner + pairs.own)
        return TermValues(
            policy,
            value,
            losses={"loss_predictor": predictor_loss(pairs)},
            scalars={"correlation_term": value[1]},
            pairs=logged,
            offsets=offsets,
        )


def own_gradient_rows(action: Tensor) -> Tensor:
    r"""The joint action once per agent, agents in order, differentiable in that agent's own part.

    Args:
        action: ``[*B, N, A]``.

    Returns:
        ``[*B, N, N * A]``; in row i the entries of agent i alone have a gradient.

    Example:
        >>> a = torch.tensor([[1.0], [2.0]], requires_grad=True)
        >>> own_gradient_rows(a).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
        >>> torch.autograd.grad(own_gradient_rows(a)[0].sum(), a)[0].squeeze(-1).tolist()
        [1.0, 0.0]
    """
    own = torch.eye(action.shape[-2], dtype=torch.bool, device=action.device).unsqueeze(-1)
    rows = torch.where(own, action.unsqueeze(-3), action.detach().unsqueeze(-3))
    return rows.flatten(-2)
