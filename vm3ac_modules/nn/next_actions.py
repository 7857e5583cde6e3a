r"""The network of a model of other agents: what each partner does next, given what all do now.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``M`` own actions, ``N`` agents, ``P = N - 1`` partners
(ascending), ``O`` observation, ``A`` action. Source: Jaques et al. 2019, "Social Influence as
Intrinsic Motivation for Multi-Agent Deep Reinforcement Learning", arXiv:1810.08647, Section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.pairwise import gather_others, others_index
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, check_agents

__all__ = ["NextActionNet"]


class NextActionNet(nn.Module):
    r"""Mean of every partner's next action, by every agent's own model.

    .. math:: \mu_i(o_i, a_1, .., a_N, \mathrm{onehot}_N(j)) \approx E[a'_j], \quad j \ne i

    Actions are in units of their half range. The first layer is a sum over its inputs (the same
    function as one layer over all of them), so many own actions share everything else.

    Args:
        obs_dim: size O of an agent's observation.
        action_dim: size A of an agent's action.
        num_agents: number of agents N >= 1.
        hidden: widths of the hidden layers, at least one.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: if ``num_agents < 1`` or there is no hidden layer.

    Example:
        >>> net = NextActionNet(obs_dim=6, action_dim=2, num_agents=3)
        >>> net(torch.zeros(5, 3, 6), torch.zeros(5, 3, 2), torch.zeros(5, 7, 3, 2)).shape
        torch.Size([5, 7, 3, 2, 2])
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        num_agents: int,
        *,
        hidden: Sequence[int] = (128, 128),
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_agents(num_agents)
        if not hidden:
            raise ValueError("the model of other agents needs at least one hidden layer.")
        rest = obs_dim + (num_agents - 1) * action_dim
        fan_in = rest + action_dim + num_agents

        def first(size: int, bias: bool) -> AgentLinear:
            return AgentLinear(
                size, hidden[0], num_agents, bias=bias, fan_in=fan_in, stack_shape=stack_shape
            )

        self.rest_layer = first(rest, True)
        self.own_layer = first(action_dim, False)
        self.partner_layer = first(num_agents, False)
        self.trunk = AgentMLP(
            hidden[0], action_dim, num_agents, hidden=hidden[1:], stack_shape=stack_shape
        )
        self.num_agents, self.stack_dims = num_agents, len(stack_shape)

    def forward(self, observation: Tensor, action: Tensor, own: Tensor) -> Tensor:
        """Predict under one or many own actions, the others' fixed.

        Args:
            observation: ``[*S, *B, N, O]``.
            action: actions of all, ``[*S, *B, N, A]``; every agent reads its partners' from it.
            own: own actions, ``[*S, *B, M, N, A]``.

        Returns:
            ``[*S, *B, M, N, P, A]``, in (-1, 1).

        Raises:
            ValueError: if the number of agents is not the one the network was built for.
        """
        if action.shape[-2] != self.num_agents:
            raise ValueError(
                f"the model was built for {self.num_agents} agents, got {tuple(action.shape)}."
            )
        others = gather_others(action).flatten(-2)
        rest = self.rest_layer(torch.cat((observation, others), dim=-1))
        hidden = (rest.unsqueeze(-3) + self.own_layer(own)).unsqueeze(-3)
        # Partners before agents, so that both are batch dimensions of the agents' networks.
        hidden = (hidden + self._partners(hidden)).relu_()
        out: Tensor = self.trunk(hidden).tanh()
        return out.transpose(-3, -2)

    def _partners(self, like: Tensor) -> Tensor:
        """The partner's part of the first layer, ``[*S, 1, .., P, N, H]``."""
        ids = torch.eye(self.num_agents, dtype=like.dtype, device=like.device)
        rows = ids[others_index(self.num_agents, like.device)].transpose(0, 1)
        stack = like.shape[: self.stack_dims]
        part: Tensor = self.partner_layer(rows.expand(*stack, *rows.shape))
        ones = (1,) * (like.ndim - part.ndim)
        return part.reshape(*stack, *ones, *part.shape[self.stack_dims :])
