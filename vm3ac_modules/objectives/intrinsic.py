r"""A second slot of the centralized actor-critic: an intrinsic term with a network of its own.

MAVEN and social influence are MA-AC plus such a term: a bonus in the policies' loss, a bonus in the
reward of the Q target, or both, and a loss that trains the term's network.

Shapes: ``*S`` seeds, ``*B`` batch (seeds included), ``N`` agents, ``A`` action.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6 (baselines implemented on MA-AC).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from tensordict import TensorDictBase, TensorDictParams
from tensordict.utils import NestedKey
from torch import Tensor, nn

from vm3ac_modules.objectives.policy import PolicySample
from vm3ac_modules.objectives.slots import ParameterSlots

__all__ = ["IntrinsicTerm", "IntrinsicValues", "intrinsic_values", "own_gradient_rows"]


class IntrinsicValues(NamedTuple):
    """What an intrinsic term adds to one call of a loss."""

    policy_bonus: Tensor | None
    """Subtracted from every agent's policy loss, ``[*B, N]``; it trains policies only."""
    reward_bonus: Tensor | None
    """Added to the reward of the Q target, ``[*B, N]``, constant."""
    loss: Tensor
    """Loss of the term's own network, ``[*B]``."""
    diagnostics: dict[str, Tensor]
    """What to log, ``[*B, N]`` each, constant."""


class IntrinsicTerm(nn.Module, ABC):
    """Base of what fills the slot; the network itself is the loss's and handed in at each call."""

    name: ClassVar[str]
    """Of the network: the loss holds ``<name>_network`` and returns ``loss_<name>``."""
    logged: tuple[str, ...]
    """Names of the diagnostics."""

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

    def policy_bonus(
        self, network: nn.Module, tensordict: TensorDictBase, sample: PolicySample, keys: Any
    ) -> Tensor | None:
        """Bonus in every agent's policy loss; the network is constant here.

        Args:
            network: the term's network.
            tensordict: the batch.
            sample: the fresh joint draw.
            keys: the loss's ``tensor_keys``.

        Returns:
            ``[*B, N]``, or None for no bonus.
        """
        return None

    def reward_bonus(
        self,
        network: nn.Module,
        tensordict: TensorDictBase,
        sample: PolicySample,
        noise: TensorDictBase,
        keys: Any,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Bonus in the reward of the Q target; nothing is differentiated here.

        Args:
            network: the term's network.
            tensordict: the batch.
            sample: the fresh joint draw.
            noise: what :meth:`draw_noise` gave, beside the loss's own.
            keys: the loss's ``tensor_keys``.

        Returns:
            ``[*B, N]``, or None for no bonus; and diagnostics ``[*B, N]`` by name.
        """
        return None, {}

    @abstractmethod
    def loss(
        self, network: nn.Module, tensordict: TensorDictBase, sample: PolicySample, keys: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the term's network, which alone it reaches.

        Args:
            network: the term's network.
            tensordict: the batch.
            sample: the fresh joint draw.
            keys: the loss's ``tensor_keys``.

        Returns:
            The loss ``[*B]``, and diagnostics ``[*B, N]`` by name.
        """


def intrinsic_values(
    term: IntrinsicTerm,
    network: nn.Module,
    slots: ParameterSlots,
    params: TensorDictParams,
    tensordict: TensorDictBase,
    sample: PolicySample,
    noise: TensorDictBase,
    keys: Any,
) -> IntrinsicValues:
    """Evaluate a term with the gradient rule of each of its parts.

    Args:
        term: the term.
        network: its network.
        slots: where the network keeps its parameters.
        params: its parameters.
        tensordict: the batch.
        sample: the fresh joint draw.
        noise: all noise of the call.
        keys: the loss's ``tensor_keys``.

    Returns:
        The term's parts.
    """
    with slots.filled(params, detach=True):
        policy_bonus = term.policy_bonus(network, tensordict, sample, keys)
        with torch.no_grad():
            reward_bonus, found = term.reward_bonus(network, tensordict, sample, noise, keys)
    with slots.filled(params):
        loss, diagnostics = term.loss(network, tensordict, sample, keys)
    return IntrinsicValues(policy_bonus, reward_bonus, loss, {**diagnostics, **found})


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
