r"""Which latent an episode was played with, told from its steps or from the whole of it.

Shapes: ``B`` episodes, ``T`` transitions, ``X`` joint input of a step, ``K`` outcomes of the
latent, ``H`` memory. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration",
arXiv:1910.07483.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vm3ac_modules.nn.discriminators import JointNet
from vm3ac_modules.nn.recurrent import AgentGRU

__all__ = ["EpisodeDiscriminatorNet"]


class EpisodeDiscriminatorNet(nn.Module):
    r"""Logits of the latent's outcomes for padded episodes.

    .. math::
        D(x_1, \dots, x_T) = f(h_{\mathrm{last}}),\; h_t = \mathrm{GRU}(x_t, h_{t-1})
        \qquad\text{or}\qquad D(x_t) = f(x_t)

    References:
        Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration", arXiv:1910.07483.

    Args:
        in_features: size X of what is read at a step.
        num_outcomes: outcomes K of the latent.
        recurrent: read the whole episode and judge once, at its last real step.
        hidden_size: size H of the memory.
        hidden: widths of the hidden layers of f.

    Example:
        >>> import torch
        >>> real = torch.tensor([[True, True, False]])
        >>> EpisodeDiscriminatorNet(6, 4)(torch.zeros(1, 3, 6), real).shape
        torch.Size([1, 1, 4])
        >>> EpisodeDiscriminatorNet(6, 4, recurrent=False)(torch.zeros(1, 3, 6), real).shape
        torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        in_features: int,
        num_outcomes: int,
        *,
        recurrent: bool = True,
        hidden_size: int = 32,
        hidden: Sequence[int] = (64, 64, 64),
    ) -> None:
        super().__init__()
        self.num_outcomes, self.recurrent = num_outcomes, recurrent
        self.gru: AgentGRU | None = None
        if recurrent:
            # Not torch.nn.GRU, which caches its parameters: losses put other tensors there.
            self.gru = AgentGRU(in_features, hidden_size, 1)
        self.net = JointNet(hidden_size if recurrent else in_features, num_outcomes, hidden=hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Judge.

        Args:
            x: finite joint inputs, ``[B, T, X]``.
            mask: bool ``[B, T]`` of the real ones: the first of each row.

        Returns:
            Logits, ``[B, T, K]``; ``[B, 1, K]`` if recurrent, from the first step alone for an
            episode without a real one.
        """
        if self.gru is not None:
            memories, _ = self.gru(x.unsqueeze(-2))
            last = (mask.sum(1) - 1).clamp_min(0).reshape(-1, 1, 1)
            memory = memories.squeeze(-2)
            x = memory.gather(1, last.expand(-1, 1, memory.shape[-1]))
        logits: Tensor = self.net(x)
        return logits
