r"""LICA's critic: a value of the joint policy itself, with weights that the state gives.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``S`` state, ``E`` hidden layer. Source: Zhou et
al. 2020, "Learning Implicit Credit Assignment for Cooperative Multi-Agent Reinforcement Learning",
arXiv:2007.02529.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.mixers import hypernetwork

__all__ = ["LICACritic"]


class LICACritic(nn.Module):
    r"""Value of the agents' action probabilities, one-hot ones included.

    .. math:: C(s, u) = \mathrm{ReLU}(u\, W_1(s) + b_1(s))\, w_2(s) + b_2(s), \qquad
        u = [\pi_1, \dots, \pi_N]

    Not monotone in anything: the gradient through u is all the credit that an agent gets.

    References:
        Zhou et al. 2020, "Learning Implicit Credit Assignment for Cooperative Multi-Agent
        Reinforcement Learning", arXiv:2007.02529.

    Args:
        state_dim: size S of the state.
        num_actions: number of actions A.
        num_agents: number of agents N.
        embed_dim: width E of the hidden layer and of the small hypernetworks.
        bottleneck: width of the hidden layer in the hypernetwork of :math:`W_1`; None for
            ``E * N * A``, as published, whose weights are then :math:`(ENA)^2` (51 million for 8
            agents with 14 actions).

    Raises:
        ValueError: for a bottleneck below 1.

    Example:
        >>> critic = LICACritic(7, num_actions=5, num_agents=3, bottleneck=64)
        >>> critic(torch.zeros(6, 7), torch.full((6, 3, 5), 0.2)).shape
        torch.Size([6])
    """

    def __init__(
        self,
        state_dim: int,
        num_actions: int,
        num_agents: int,
        *,
        embed_dim: int = 64,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        if bottleneck is not None and bottleneck < 1:
            raise ValueError(f"bottleneck must be at least 1, got {bottleneck}.")
        self.num_actions, self.num_agents, self.embed_dim = num_actions, num_agents, embed_dim
        weights = embed_dim * num_agents * num_actions
        self.w1 = hypernetwork(state_dim, weights, layers=2, hidden_size=bottleneck or weights)
        self.b1 = hypernetwork(state_dim, embed_dim)
        self.w2 = hypernetwork(state_dim, embed_dim, layers=2, hidden_size=embed_dim)
        self.b2 = hypernetwork(state_dim, 1, layers=2, hidden_size=embed_dim)

    def forward(self, state: Tensor, probabilities: Tensor) -> Tensor:
        """Value of a joint policy.

        Args:
            state: ``[*B, S]``.
            probabilities: of every agent's actions, ``[*B, N, A]``.

        Returns:
            ``[*B]``.
        """
        w1 = self.w1(state).unflatten(-1, (-1, self.embed_dim))
        mixed = (probabilities.flatten(-2).unsqueeze(-2) @ w1).squeeze(-2)
        hidden = torch.relu(mixed + self.b1(state))
        value: Tensor = (hidden * self.w2(state)).sum(-1) + self.b2(state).squeeze(-1)
        return value
