"""Agent-batched layers: one batched matrix product serves all agents (and all stacked copies).

Shapes: ``*S`` stacked copies of the whole network (seeds, twin critics; absent in an ordinary
run), ``*B`` batch, ``N`` agents, ``F`` features. Weights are ``[*S, N, in, out]`` (``[*S, 1, in,
out]`` where the agents share them) and inputs ``[*S, *B, N, in]``. Nothing here branches on values
or reads ambient state, so the layers also work under ``torch.func.vmap`` over stacked parameters
and ``torch.compile(fullgraph=True)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["AgentLinear", "AgentMLP", "agent_linear"]


def check_agents(num_agents: int) -> None:
    """Raise ``ValueError`` unless there is at least one agent."""
    if num_agents < 1:
        raise ValueError(f"num_agents must be at least 1, got {num_agents}.")


def check_critic(num_agents: int, num_critics: int, hidden: Sequence[int]) -> None:
    """Raise ``ValueError`` unless there are agents, critics and a hidden layer."""
    check_agents(num_agents)
    if num_critics < 1 or not hidden:
        raise ValueError(
            f"a critic needs num_critics >= 1 and a hidden layer, got {num_critics} and "
            f"{list(hidden)}."
        )


def repeat_input(x: Tensor, dims: int, copies: int) -> Tensor:
    """The input of stacked critics: ``[*S, *B, N, in]`` to ``[*S, K, *B, N, in]``, a view."""
    return x.unsqueeze(dims).expand(*x.shape[:dims], copies, *x.shape[dims:])


class LayerInputError(ValueError):
    """An input has another shape than a layer was built for."""


def agent_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Apply every agent's own affine map in one batched product.

    .. math:: y_i = x_i W_i + b_i

    Args:
        x: ``[*S, *B, N, in]``.
        weight: ``[*S, N, in, out]``, or ``[*S, 1, in, out]`` shared by all agents.
        bias: ``[*S, N, 1, out]`` or ``[*S, 1, 1, out]``; None for a linear map.

    Returns:
        ``[*S, *B, N, out]``.

    Raises:
        ValueError: if the agents or features of ``x`` do not fit ``weight``.

    Example:
        >>> agent_linear(torch.ones(5, 3, 2), torch.ones(3, 2, 4)).shape
        torch.Size([5, 3, 4])
    """
    return ungroup_agents(_affine(group_agents(x, weight), weight, bias), x, weight)


def group_agents(x: Tensor, weight: Tensor) -> Tensor:
    """Put the rows of every network side by side, as a batched product wants them.

    ``[*S, *B, N, in]`` becomes ``[S * N, B, in]``, or ``[S, B * N, in]`` if the agents share the
    weights that will be applied.
    """
    num_stack = weight.ndim - 3
    agents, fan_in = weight.shape[-3], weight.shape[-2]
    stack = x.shape[:num_stack]
    if x.shape[-1] != fan_in or agents not in (1, x.shape[-2]) or stack != weight.shape[:-3]:
        raise LayerInputError(
            f"input {tuple(x.shape)} does not fit weights {tuple(weight.shape)}: expected "
            f"[*{list(weight.shape[:-3])}, *B, {agents if agents > 1 else 'N'}, {fan_in}]."
        )
    if num_stack == 0 and agents > 1:
        # A view: the product takes the strides as they are.
        return (x if x.ndim == 3 else x.reshape(-1, agents, fan_in)).transpose(0, 1)
    copies, rows = math.prod(stack), math.prod(x.shape[num_stack:-2])
    if agents == 1:
        return x.reshape(copies, rows * x.shape[-2], fan_in)
    if x.ndim != num_stack + 3:
        x = x.reshape(*stack, rows, agents, fan_in)
    return x.transpose(-3, -2).reshape(copies * agents, rows, fan_in)


def _affine(groups: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if weight.ndim > 3:
        weight = weight.flatten(0, -3)
        bias = None if bias is None else bias.flatten(0, -3)
    if weight.shape[-1] == 1:
        # One output: the same numbers with other strides, which MKL multiplies faster.
        weight = weight.squeeze(-1).unsqueeze(-2).mT
    return torch.bmm(groups, weight) if bias is None else torch.baddbmm(bias, groups, weight)


def ungroup_agents(groups: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Undo :func:`group_agents` with the leading dimensions of its input ``x``."""
    agents, shape = weight.shape[-3], (*x.shape[:-1], groups.shape[-1])
    if agents == 1:
        return groups.reshape(shape)
    if weight.ndim == 3:
        rows = groups.transpose(0, 1)
        return rows if len(shape) == 3 else rows.reshape(shape)
    return groups.reshape(-1, agents, *groups.shape[1:]).transpose(1, 2).reshape(shape)


class AgentLinear(nn.Module):
    r"""One affine map per agent, :math:`y_i = x_i W_i + b_i`, in one batched product.

    Args:
        in_features: size of the input.
        out_features: size of the output.
        num_agents: number of agents N >= 1.
        share_params: one map for all agents instead of one each.
        bias: add a bias.
        fan_in: number of inputs that the initial range ``1 / sqrt(fan_in)`` is computed from;
            ``in_features`` unless this layer is one of several summands of a wider one.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: if ``num_agents < 1``, or a size is negative.

    Example:
        >>> AgentLinear(4, 8, num_agents=3)(torch.zeros(16, 3, 4)).shape
        torch.Size([16, 3, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_agents: int,
        *,
        share_params: bool = False,
        bias: bool = True,
        fan_in: int | None = None,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_agents(num_agents)
        if in_features < 0 or out_features < 0:
            raise ValueError(
                f"sizes of a layer must not be negative, got {in_features} and {out_features}."
            )
        shape = (*stack_shape, 1 if share_params else num_agents)
        self.fan_in = in_features if fan_in is None else fan_in
        self.weight = nn.Parameter(torch.empty(*shape, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(*shape, 1, out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as ``nn.Linear`` does."""
        bound = 1.0 / math.sqrt(max(self.fan_in, 1))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[*S, *B, N, in]`` to ``[*S, *B, N, out]``."""
        return agent_linear(x, self.weight, self.bias)

    def grouped(self, groups: Tensor) -> Tensor:
        """Map ``[S * N, B, in]`` to ``[S * N, B, out]``, see :func:`group_agents`."""
        return _affine(groups, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Shape of the weights."""
        return f"weight={list(self.weight.shape)}, bias={self.bias is not None}"


class AgentMLP(nn.Module):
    """One multilayer perceptron per agent, ReLU between layers, linear at the end.

    Args:
        in_features: size of the input.
        out_features: size of the output.
        num_agents: number of agents N >= 1.
        hidden: widths of the hidden layers.
        share_params: one network for all agents instead of one each.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Example:
        >>> AgentMLP(4, 2, num_agents=3, hidden=(8,))(torch.zeros(16, 3, 4)).shape
        torch.Size([16, 3, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_agents: int,
        *,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden, out_features]
        self.layers = nn.ModuleList(
            AgentLinear(
                fan_in, fan_out, num_agents, share_params=share_params, stack_shape=stack_shape
            )
            for fan_in, fan_out in itertools.pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[*S, *B, N, in]`` to ``[*S, *B, N, out]``."""
        first = cast("AgentLinear", self.layers[0]).weight
        return ungroup_agents(self.grouped(group_agents(x, first)), x, first)

    def grouped(self, groups: Tensor) -> Tensor:
        """Map ``[S * N, B, in]`` to ``[S * N, B, out]``, see :func:`group_agents`."""
        return self.after_first(cast("AgentLinear", self.layers[0]).grouped(groups))

    def after_first(self, groups: Tensor) -> Tensor:
        """Go on from the first layer's output, ``[S * N, B, hidden]``."""
        for layer in itertools.islice(cast("Iterable[AgentLinear]", self.layers), 1, None):
            # In place: what an affine map returned is nobody else's.
            groups = layer.grouped(groups.relu_())
        return groups
