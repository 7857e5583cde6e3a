r"""MAVEN's utilities of discrete actions: a recurrent network whose head the latent gives.

Shapes: ``*B`` rows, ``T`` steps, ``N`` agents, ``O`` observation, ``A`` actions, ``H`` memory,
``K`` outcomes of the latent. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational
Exploration", arXiv:1910.07483.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.nn.recurrent import AgentGRU, LatentInput

__all__ = ["LatentUtilityNet"]


class LatentUtilityNet(nn.Module):
    r"""Utilities of all actions from what an agent has seen, under an episode's latent.

    .. math::
        h_t = \mathrm{GRU}(\mathrm{ReLU}(W [o_t, a_{t-1}, i]), h_{t-1}), \qquad
        Q_i(\cdot) = W(z, i)\, h_t

    with :math:`W(z, i)` linear in the one-hot latent and index, and no bias. The methods are those
    of :class:`~vm3ac_modules.nn.RecurrentPolicyNet`.

    References:
        Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration", arXiv:1910.07483.

    Args:
        obs_dim: size O of an observation.
        num_actions: number of actions A.
        num_agents: number of agents N.
        latent_dim: outcomes K of the latent.
        hidden_size: width of the first layer and of the memory.
        share_params: one set of weights for all agents, who are told apart by their index.

    Raises:
        ValueError: for fewer than two outcomes.

    Example:
        >>> net = LatentUtilityNet(4, 5, num_agents=2, latent_dim=3)
        >>> memory, _ = net.unroll(torch.zeros(6, 7, 2, 4), torch.zeros(6, 7, 2, 5))
        >>> net.score(memory, torch.eye(3)[0]).shape
        torch.Size([6, 7, 2, 5])
    """

    identity: Tensor
    latent_input: LatentInput = "head"

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        num_agents: int,
        *,
        latent_dim: int,
        hidden_size: int = 64,
        share_params: bool = True,
    ) -> None:
        super().__init__()
        if latent_dim < 2:
            raise ValueError(f"MAVEN's latent needs at least 2 outcomes, got {latent_dim}.")
        self.obs_dim, self.num_agents = obs_dim, num_agents
        self.num_actions, self.latent_dim, self.hidden_size = num_actions, latent_dim, hidden_size
        self.register_buffer("identity", torch.eye(num_agents))
        size = obs_dim + num_actions + num_agents
        self.embed = AgentLinear(size, hidden_size, num_agents, share_params=share_params)
        self.gru = AgentGRU(hidden_size, hidden_size, num_agents, share_params=share_params)
        self.hyper = AgentLinear(
            latent_dim + num_agents,
            num_actions * hidden_size,
            num_agents,
            share_params=share_params,
        )

    def unroll(
        self,
        observation: Tensor,
        last_action: Tensor,
        latent: Tensor | None = None,
        memory: Tensor | None = None,
        is_init: Tensor | None = None,
        *,
        per_agent: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Memories over a sequence of steps; the latent does not enter them.

        Args:
            observation: ``[*B, T, N, O]``.
            last_action: one-hot of the previous actions, zeros where there is none,
                ``[*B, T, N, A]``.
            latent: not read.
            memory: what was remembered before, ``[*B, N, H]``; zeros if None.
            is_init: see :class:`~vm3ac_modules.nn.AgentGRU`.
            per_agent: not read.

        Returns:
            Memory after every step, ``[*B, T, N, H]``, and after the last, ``[*B, N, H]``.
        """
        del latent, per_agent
        index = self.identity.expand(*observation.shape[:-1], -1)
        embedded = self.embed(torch.cat((observation, last_action, index), dim=-1)).relu()
        memories: tuple[Tensor, Tensor] = self.gru(embedded, memory, is_init)
        return memories

    def score(
        self, memory: Tensor, latent: Tensor | None = None, *, per_agent: bool = False
    ) -> Tensor:
        """Utilities of all actions.

        Args:
            memory: ``[*B, N, H]``.
            latent: broadcastable to ``[*L, *B, K]``, or ``[*L, *B, N, K]`` with ``per_agent``.
                Given once per episode, it costs one head per episode.
            per_agent: every agent has a latent of its own.

        Returns:
            ``[*L, *B, N, A]``; legality is not looked at.

        Raises:
            ValueError: without a latent.
        """
        if latent is None:
            raise ValueError("the utilities read a latent: give one.")
        num_agents = len(self.identity)
        if not per_agent:
            latent = latent.unsqueeze(-2).expand(*latent.shape[:-1], num_agents, -1)
        index = self.identity.expand(*latent.shape[:-1], -1)
        weights = self.hyper(torch.cat((latent, index), dim=-1))
        weights = weights.unflatten(-1, (self.num_actions, self.hidden_size))
        return torch.einsum("...nah,...nh->...na", weights, memory)
