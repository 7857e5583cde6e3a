r"""VDAC's values: one per agent from the memory of its policy, mixed into that of the team.

Shapes: ``*B`` batch, ``N`` agents, ``H`` memory, ``S`` state. Source: Su et al. 2021,
"Value-Decomposition Multi-Agent Actor-Critics", arXiv:2007.12306.
"""

from __future__ import annotations

from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.nn.mixers import QMixer

__all__ = ["ValueHead"]


class ValueHead(nn.Module):
    r"""A value of the team from what the agents remember.

    .. math:: V_i = w^\top h_i + b, \qquad V_{tot} = \mathrm{mix}(V_1, \dots, V_N; s)

    References:
        Su et al. 2021, "Value-Decomposition Multi-Agent Actor-Critics", arXiv:2007.12306.

    Args:
        hidden_size: size H of the memory.
        num_agents: number of agents N.
        mixer: monotone mixing with the state (VDAC-mix); None for the sum (VDAC-sum).
        share_params: one set of weights for all agents.

    Example:
        >>> import torch
        >>> head = ValueHead(8, num_agents=3, mixer=QMixer(7, num_agents=3))
        >>> head(torch.zeros(5, 3, 8), torch.zeros(5, 7)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        hidden_size: int,
        num_agents: int,
        mixer: QMixer | None = None,
        *,
        share_params: bool = True,
    ) -> None:
        super().__init__()
        self.head = AgentLinear(hidden_size, 1, num_agents, share_params=share_params)
        self.mixer = mixer

    def individual(self, memory: Tensor) -> Tensor:
        """Values of the agents, ``[*B, N, H]`` to ``[*B, N]``."""
        values: Tensor = self.head(memory).squeeze(-1)
        return values

    def forward(self, memory: Tensor, state: Tensor) -> Tensor:
        """Value of the team.

        Args:
            memory: ``[*B, N, H]``.
            state: ``[*B, S]``; the sum does not read it.

        Returns:
            ``[*B]``.
        """
        values = self.individual(memory)
        total: Tensor = values.sum(-1) if self.mixer is None else self.mixer(values, state)
        return total
