r"""The regularizer slot of the centralized actor-critic: nothing, entropy, or mutual information.

Shapes: ``*B`` batch, ``N`` agents. ``beta`` is a number or one per agent, ``[N]``; it is a buffer,
so it is saved with the loss and may be annealed in place.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (46), (49).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.soft_value import (
    PolicyObjective,
    SoftValueTarget,
    pair_weight,
    policy_objective,
    soft_value_target,
)
from vm3ac_modules.objectives.policy import PolicySample

__all__ = ["ActionMIRegularizer", "EntropyRegularizer", "NoRegularizer", "PairTerms", "Regularizer"]


class PairTerms(NamedTuple):
    """Log-densities per agent and partner (nats), ``[*B, N, N - 1]`` each, partners ascending."""

    policy: Tensor
    """``log q_i(sg a_j | a_i)`` with a constant predictor: trains the policies, term (b)."""
    partner: Tensor
    """``log q_i(a_j | a_i)``, actions detached: trains the predictor."""
    own: Tensor
    """``log q_i(a_i | a_j)``, actions detached: trains the predictor, term (a)."""


class Regularizer(nn.Module, ABC):
    """Base of what fills the slot: a bonus in the value target and its twin in the policy's loss.

    Args:
        beta: temperature >= 0 (nats to reward), a number or one per agent ``[N]``.
        num_latents: extra latents K >= 0 of the entropy family; 0 is the paper's form.

    Raises:
        ValueError: for ``beta < 0`` or ``num_latents < 0``.
    """

    needs_pairs = False
    beta: Tensor

    def __init__(self, beta: float | Sequence[float] = 0.0, num_latents: int = 0) -> None:
        super().__init__()
        value = torch.as_tensor(beta, dtype=torch.get_default_dtype())
        if not bool((value >= 0).all()):
            raise ValueError(f"beta must not be negative, got {beta}.")
        if num_latents < 0:
            raise ValueError(f"num_latents (K) must not be negative, got {num_latents}.")
        self.register_buffer("beta", value)
        self.num_latents = num_latents

    @abstractmethod
    def value_target(
        self, q_min: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> SoftValueTarget:
        """Target of the state value, Eq. (46).

        Args:
            q_min: minimum of the critics, ``[*B, N]``.
            sample: the fresh joint draw.
            pairs: the pairs' log-densities, if the regularizer needs them.
            scale: reward scale; multiplies beta as it does rewards.

        Returns:
            The target and its parts, ``[*B, N]`` each.
        """

    @abstractmethod
    def policy_loss(
        self, q_value: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> PolicyObjective:
        """Loss of the policies, Eq. (49).

        Args:
            q_value: action value at the own-gradient joint action, ``[*B, N]``.
            sample: the fresh joint draw.
            pairs: the pairs' log-densities, if the regularizer needs them.
            scale: reward scale; multiplies beta as it does rewards.

        Returns:
            The loss and its parts, ``[*B, N]`` each.
        """


class NoRegularizer(Regularizer):
    """Leave the slot empty: MA-AC maximizes the return alone.

    Example:
        >>> NoRegularizer().beta
        tensor(0.)
    """

    def __init__(self) -> None:
        super().__init__(0.0, 0)

    def value_target(
        self, q_min: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> SoftValueTarget:
        """Return the critics' minimum as it is."""
        zero = torch.zeros_like(q_min)
        return SoftValueTarget(q_min, q_min, zero, zero)

    def policy_loss(
        self, q_value: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> PolicyObjective:
        """Return minus the action value."""
        zero = torch.zeros_like(q_value)
        return PolicyObjective(-q_value, q_value, zero, zero)


class EntropyRegularizer(Regularizer):
    r"""Entropy bonus :math:`\beta H_K(a_i|s)`: MA-SAC for K = 0.

    Args:
        beta: temperature >= 0, a number or one per agent ``[N]``.
        num_latents: extra latents K of the entropy family.

    Example:
        >>> EntropyRegularizer(0.2).beta
        tensor(0.2000)
    """

    def value_target(
        self, q_min: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> SoftValueTarget:
        """Add the entropy term of Eq. (46)."""
        entropy = -(scale * self.beta) * sample.log_prob
        return SoftValueTarget(q_min + entropy, q_min, entropy, torch.zeros_like(q_min))

    def policy_loss(
        self, q_value: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> PolicyObjective:
        """Subtract the entropy term of Eq. (49)."""
        entropy = -(scale * self.beta) * sample.log_prob
        return PolicyObjective(-(q_value + entropy), q_value, entropy, torch.zeros_like(q_value))


class ActionMIRegularizer(Regularizer):
    r"""Lower bound of the mutual information between agents' actions: VM3-AC.

    .. math:: \beta H_K(a_i|s) + \beta w \sum_{j \ne i} [\log q_i(a_j|a_i) + \log q_i(a_i|a_j)]

    Args:
        beta: temperature >= 0, a number or one per agent ``[N]``.
        num_latents: extra latents K of the entropy family.
        weight: ``"paper"`` for w = 1/N, ``"mean"`` for w = 1/(N - 1).

    Example:
        >>> ActionMIRegularizer(0.15).needs_pairs
        True
    """

    needs_pairs = True

    def __init__(
        self,
        beta: float | Sequence[float],
        num_latents: int = 0,
        weight: Literal["paper", "mean"] = "paper",
    ) -> None:
        super().__init__(beta, num_latents)
        pair_weight(1, weight)
        self.weight = weight

    def _pair_weight(self, values: Tensor) -> float:
        return pair_weight(values.shape[-1], self.weight)

    def value_target(
        self, q_min: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> SoftValueTarget:
        """Evaluate Eq. (46)."""
        assert pairs is not None
        return soft_value_target(
            q_min,
            sample.log_prob,
            pairs.partner,
            pairs.own,
            beta=scale * self.beta,
            weight=self._pair_weight(q_min),
        )

    def policy_loss(
        self, q_value: Tensor, sample: PolicySample, pairs: PairTerms | None, scale: float
    ) -> PolicyObjective:
        """Evaluate Eq. (49) with the gradient rule of Eq. (50)."""
        assert pairs is not None
        return policy_objective(
            q_value,
            sample.log_prob,
            pairs.policy,
            pairs.own,
            beta=scale * self.beta,
            weight=self._pair_weight(q_value),
        )
