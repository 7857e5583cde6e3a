r"""DOP's critic: every agent's action values, and the shares by which they make those of the team.

Shapes: ``*B`` batch, ``N`` agents, ``O`` observation, ``S`` state, ``A`` actions. Source: Wang et
al. 2021, "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients", arXiv:2007.12322.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP
from vm3ac_modules.nn.mixers import LinearMixer

__all__ = ["DecomposedCriticNet"]


class DecomposedCriticNet(nn.Module):
    r"""Action values of every agent from the state and its own observation, linearly mixed.

    .. math::
        Q_i(a) = f_a(s, o_i, i) + g(s, o_i, i), \qquad
        Q_{tot}(s, a) = \sum_i k_i(s)\, Q_i(a_i)

    One set of weights for all agents; nothing is subtracted from :math:`f`.

    References:
        Wang et al. 2021, "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients",
        arXiv:2007.12322.

    Args:
        obs_dim: size O of an observation.
        state_dim: size S of the state.
        num_actions: number of actions A.
        num_agents: number of agents N.
        hidden: widths of the hidden layers, at least one.
        embed_dim: width of the mixer's product.

    Raises:
        ValueError: without a hidden layer.

    Example:
        >>> critic = DecomposedCriticNet(4, 7, num_actions=5, num_agents=3)
        >>> values, shares = critic(torch.zeros(6, 7), torch.zeros(6, 3, 4))
        >>> values.shape, shares.shape
        (torch.Size([6, 3, 5]), torch.Size([6, 3]))
    """

    identity: Tensor

    def __init__(
        self,
        obs_dim: int,
        state_dim: int,
        num_actions: int,
        num_agents: int,
        *,
        hidden: Sequence[int] = (256, 256),
        embed_dim: int = 32,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("DecomposedCriticNet needs at least one hidden layer.")
        self.num_actions, self.num_agents = num_actions, num_agents
        self.register_buffer("identity", torch.eye(num_agents))
        # One layer over [s, o_i, i], in two parts: the agents share the product of the state.
        fan_in = state_dim + obs_dim + num_agents
        self.from_state = AgentLinear(
            state_dim, hidden[0], num_agents, share_params=True, bias=False, fan_in=fan_in
        )
        self.from_agent = AgentLinear(
            obs_dim + num_agents, hidden[0], num_agents, share_params=True, fan_in=fan_in
        )
        self.heads = AgentMLP(
            hidden[0], num_actions + 1, num_agents, hidden=hidden[1:], share_params=True
        )
        self.mixer = LinearMixer(state_dim, num_agents, embed_dim=embed_dim)

    def forward(self, state: Tensor, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Values and shares.

        Args:
            state: ``[*B, S]``.
            observation: ``[*B, N, O]``.

        Returns:
            Action values of the agents, ``[*B, N, A]``, and their shares, ``[*B, N]``, which sum
            to 1.
        """
        index = self.identity.expand(*observation.shape[:-1], -1)
        own = self.from_agent(torch.cat((observation, index), dim=-1))
        hidden = (own + self.from_state(state.unsqueeze(-2))).relu()
        advantage, value = self.heads(hidden).split((self.num_actions, 1), dim=-1)
        return advantage + value, self.mixer.shares(state)
