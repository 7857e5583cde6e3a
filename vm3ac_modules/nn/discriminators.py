r"""Networks over the whole joint situation: who drew this latent, and which latent to draw.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``R`` rows, ``X`` joint input, ``K`` outcomes of the
latent. Source: Mahajan et al. 2019, "MAVEN: Multi-Agent Variational Exploration",
arXiv:1910.07483.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentMLP

__all__ = ["JointNet"]


class JointNet(nn.Module):
    r"""One multilayer perceptron over what all agents see or do together.

    .. math:: f(x): \mathbb{R}^X \to \mathbb{R}^K

    Args:
        in_features: size X of the joint input.
        out_features: size K of the output.
        hidden: widths of the hidden layers.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Example:
        >>> import torch
        >>> JointNet(6, 3)(torch.zeros(5, 6)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: Sequence[int] = (128, 128),
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.net = AgentMLP(
            in_features, out_features, 1, hidden=hidden, share_params=True, stack_shape=stack_shape
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[*S, *B, X]`` to ``[*S, *B, K]``; any further batch dimension may be rows R."""
        out: Tensor = self.net(x.unsqueeze(-2))
        return out.squeeze(-2)
