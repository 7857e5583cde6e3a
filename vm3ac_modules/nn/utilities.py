r"""MAVEN's utilities of discrete actions: a recurrent network whose head the latent gives.

Shapes: ``*B`` rows, ``T`` steps, ``N`` agents, ``O`` observation, ``A`` actions, ``H`` memory,
``K`` outcomes of the latent. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational
Exploration", arXiv:1910.07483.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.nn.recurrent import RecurrentNet

__all__ = ["LatentUtilityNet"]


class LatentUtilityNet(RecurrentNet):
    r"""Utilities of all actions from what an agent has seen, under an episode's latent.

    .. math::
        h_t = \mathrm{GRU}(\mathrm{ReLU}(W [o_t, a_{t-1}, i]), h_{t-1}), \qquad
        Q_i(\cdot) = W(z, i)\, h_t

    with :math:`W(z, i)` linear in the one-hot latent and index, and no bias.

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
        if latent_dim < 2:
            raise ValueError(f"MAVEN's latent needs at least 2 outcomes, got {latent_dim}.")
        super().__init__(
            obs_dim,
            num_actions,
            num_agents,
            latent_dim=latent_dim,
            hidden_size=hidden_size,
            share_params=share_params,
        )
        self.hyper = AgentLinear(
            latent_dim + num_agents,
            num_actions * hidden_size,
            num_agents,
            share_params=share_params,
        )

    def score(
        self, memory: Tensor, latent: Tensor | None = None, *, per_agent: bool = False
    ) -> Tensor:
        """Utilities of all actions; a latent given once per episode costs one head per episode."""
        if latent is None:
            raise ValueError("the utilities read a latent: give one.")
        latent = latent if per_agent else self._for_agents(latent)
        index = self.identity.expand(*latent.shape[:-1], -1)
        weights = self.hyper(torch.cat((latent, index), dim=-1))
        weights = weights.unflatten(-1, (self.num_actions, self.hidden_size))
        return torch.einsum("...nah,...nh->...na", weights, memory)
