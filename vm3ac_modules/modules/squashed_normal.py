r"""The law of continuous actions: TorchRL's, made without asking the device for a value.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action. Source: Haarnoja et al. 2018, arXiv:1801.01290,
Appendix C.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributions as D
from torchrl.modules import TanhNormal
from torchrl.modules.distributions.continuous import SafeTanhTransform

__all__ = ["SquashedNormal"]


class SquashedNormal(TanhNormal):
    r"""TorchRL's ``TanhNormal`` over bounds that were checked when its actor was made.

    .. math:: a = c + h \tanh(\mu + \sigma \epsilon)

    ``TanhNormal`` compares its bounds whenever it is made, which is at every step: on a GPU the
    host then waits for the device three times. This one has the same draws and densities.

    Args:
        loc: mean before the squash, ``[*B, N, A]``.
        scale: its standard deviation, > 0, ``[*B, N, A]``.
        low: lowest action, ``[N, A]``, on the device of ``loc``.
        high: highest action, above ``low``, ``[N, A]``.

    Example:
        >>> loc, scale = torch.zeros(3, 1), torch.ones(3, 1)
        >>> law = SquashedNormal(loc, scale, low=-torch.ones(1), high=torch.ones(1))
        >>> torch.equal(law.log_prob(0.5 * scale), TanhNormal(loc, scale).log_prob(0.5 * scale))
        True
    """

    def __init__(self, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> None:
        self.low, self.high, self.device = low.to(loc.device), high.to(loc.device), loc.device
        self.update(loc, scale)

    def update(self, loc: Tensor, scale: Tensor) -> None:
        """Take other parameters.

        Args:
            loc: mean before the squash, ``[*B, N, A]``.
            scale: its standard deviation, ``[*B, N, A]``.
        """
        self.loc, self.scale = loc, scale
        affine = D.AffineTransform((self.high + self.low) / 2, (self.high - self.low) / 2)
        squash: Any = D.ComposeTransform([SafeTanhTransform(), affine])
        # TanhNormal's own beginning is what asks for values.
        super(TanhNormal, self).__init__(D.Independent(D.Normal(loc, scale), 1), squash)
