r"""A centralized critic that attends to the other agents: its size hardly grows with their number.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``P = N - 1`` partners (ascending),
``O`` observation, ``A`` action, ``K`` critics, ``H`` heads, ``W`` width. Source: Iqbal & Sha 2019,
"Actor-Attention-Critic for Multi-Agent Reinforcement Learning", arXiv:1810.02912, Section 3.2,
which Kim et al. 2023, arXiv:2303.00451, suggest for many agents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.pairwise import gather_others, others_index
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, check_critic, repeat_input

__all__ = ["AttentionCriticNet"]


class AttentionCriticNet(nn.Module):
    r"""K critics :math:`V_i(x)` or :math:`Q_i(x, a)` that weigh their partners by attention.

    .. math:: Q_i = f_i(e_i, x_i), \quad x_i = \sum_{j \ne i} \alpha_{ij} v_i(e_{ij}), \quad
        \alpha_{ij} \propto \exp(k_i(e_{ij})^\top q_i(e_i) / \sqrt{W/H})

    with :math:`e_i = g_i(o_i, a_i)` and :math:`e_{ij} = g'_i(o_j, a_j, \mathrm{onehot}_N(j))`. Each
    agent's critic is a network of its own (MAAC shares keys, queries and values;
    ``share_params=True`` shares everything).

    Args:
        obs_dim: size O of an agent's observation.
        action_dim: size A of an agent's action; 0 for state values.
        num_agents: number of agents N >= 1.
        num_heads: heads H, which divide the first hidden width W.
        latent_dim: size of a latent in the own part's input; 0 for none.
        num_critics: independent critics K per agent.
        hidden: widths of the hidden layers, at least one; the first is W.
        share_params: one network for all agents instead of one each.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: if ``num_heads`` does not divide W, for ``num_critics < 1``, or no hidden layer.

    Example:
        >>> q = AttentionCriticNet(obs_dim=6, action_dim=2, num_agents=3, num_critics=2)
        >>> q(torch.zeros(5, 3, 6), torch.zeros(5, 3, 3, 2)).shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        num_agents: int,
        *,
        num_heads: int = 4,
        latent_dim: int = 0,
        num_critics: int = 1,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_critic(num_agents, num_critics, hidden)
        width = hidden[0]
        if num_heads < 1 or width % num_heads:
            raise ValueError(f"num_heads must divide the width {width}, got {num_heads}.")
        self.num_agents, self.num_critics, self.num_heads = num_agents, num_critics, num_heads
        self.latent_dim, self.stack_dims = latent_dim, len(stack_shape)
        stack = (*stack_shape, num_critics)

        def layer(fan_in: int, bias: bool = True) -> AgentLinear:
            return AgentLinear(
                fan_in,
                width,
                num_agents,
                share_params=share_params,
                bias=bias,
                stack_shape=stack,
            )

        self.own_layer = layer(obs_dim + action_dim + latent_dim)
        self.partner_layer = layer(obs_dim + action_dim + num_agents)
        self.query, self.key, self.value = layer(width, False), layer(width, False), layer(width)
        self.trunk = AgentMLP(
            2 * width,
            1,
            num_agents,
            hidden=hidden[1:],
            share_params=share_params,
            stack_shape=stack,
        )

    def forward(
        self, observation: Tensor, joint_action: Tensor | None = None, latent: Tensor | None = None
    ) -> Tensor:
        """Compute all agents' values.

        Args:
            observation: ``[*S, *B, N, O]``.
            joint_action: ``[*S, *B, N, N, A]``, own first; None for state values.
            latent: ``[*S, *B, Z]``; needed if ``latent_dim`` is not 0.

        Returns:
            ``[*S, *B, N, K]``.

        Raises:
            ValueError: if the latent is missing, or given to a critic built without one.
        """
        if (latent is not None) != (self.latent_dim > 0):
            raise ValueError(f"this critic was built for latent_dim={self.latent_dim}.")
        own = [observation]
        others = [gather_others(observation), self._ids(observation)]
        if joint_action is not None:
            own.append(joint_action[..., 0, :])
            others.append(joint_action[..., 1:, :])
        if latent is not None:
            shape = (*observation.shape[:-1], latent.shape[-1])
            own.append(latent.unsqueeze(-2).expand(shape))
        hidden = self.own_layer(self._stack(torch.cat(own, dim=-1))).relu()
        # Partners before owners, so that they are a batch dimension of the owners' networks.
        partners = self._stack(torch.cat(others, dim=-1).transpose(-3, -2))
        context = self._attend(hidden, self.partner_layer(partners).relu())
        values: Tensor = self.trunk(torch.cat((hidden, context), dim=-1))
        return values.squeeze(-1).movedim(self.stack_dims, -1)

    def _attend(self, hidden: Tensor, partners: Tensor) -> Tensor:
        """Weighted sum of the partners' values, ``[*S, K, *B, N, W]``."""
        if self.num_agents == 1:
            return torch.zeros_like(hidden)
        heads = (self.num_heads, hidden.shape[-1] // self.num_heads)
        query = self.query(hidden).unflatten(-1, heads).unsqueeze(-4)
        key = self.key(partners).unflatten(-1, heads)
        scores = (query * key).sum(-1, keepdim=True) / math.sqrt(heads[1])
        values = self.value(partners).relu().unflatten(-1, heads)
        context: Tensor = (scores.softmax(-4) * values).sum(-4)
        return context.flatten(-2)

    def _ids(self, like: Tensor) -> Tensor:
        """One-hot numbers of the partners, ``[*S, *B, N, P, N]``."""
        ids = torch.eye(self.num_agents, dtype=like.dtype, device=like.device)
        rows = ids[others_index(self.num_agents, like.device)]
        return rows.expand(*like.shape[:-2], *rows.shape)

    def _stack(self, x: Tensor) -> Tensor:
        return repeat_input(x, self.stack_dims, self.num_critics)
