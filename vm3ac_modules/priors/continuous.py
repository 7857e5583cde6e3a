"""Continuous priors of the shared latent: standard normal and uniform.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrl.data import Bounded, TensorSpec, Unbounded

from vm3ac_modules.functional.counter import normal_icdf, normal_table
from vm3ac_modules.priors.base import LatentPrior

__all__ = ["GaussianPrior", "UniformPrior"]


class GaussianPrior(LatentPrior):
    """Standard normal latent, ``z ~ N(0, I)``: the paper's choice for continuous actions.

    Args:
        dim: size of the latent, ``Z >= 0``.

    Raises:
        ValueError: dim is negative.

    Example:
        >>> from vm3ac_modules.priors import GaussianPrior
        >>> GaussianPrior(8).sample((4,)).shape
        torch.Size([4, 8])
    """

    _LAW = "gaussian"

    def __init__(self, dim: int) -> None:
        _check_dim(dim)
        super().__init__(torch.zeros(dim))

    def sample(self, batch_shape: Sequence[int], *, like: Tensor | None = None) -> Tensor:
        """Draw from the default generator of a device, ``[*B, Z]``."""
        like = self._constant if like is None else like
        return torch.randn((*batch_shape, self.dim), dtype=like.dtype, device=like.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, ``[*B]``."""
        z = self._floating(z)
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def numbers(self) -> dict[str, Tensor]:
        """The table of the inverse normal, which eager draws keep on every device."""
        return {**super().numbers(), "table": normal_table()}

    def _transform(self, u: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        return normal_icdf(u, numbers.get("table"))

    def _spec(self, **options: Any) -> TensorSpec:
        return Unbounded(**options)


class UniformPrior(LatentPrior):
    """Uniform latent, ``z ~ U([low, high]^Z)``.

    Args:
        dim: size of the latent, ``Z >= 0``.
        low: lower end, -1 by default.
        high: upper end, 1 by default.

    Raises:
        ValueError: dim is negative, or the ends are not finite with low < high.

    Example:
        >>> from vm3ac_modules.priors import UniformPrior
        >>> UniformPrior(2, low=0.0, high=1.0).mean().tolist()
        [0.5, 0.5]
    """

    _LAW = "uniform"

    def __init__(self, dim: int, low: float = -1.0, high: float = 1.0) -> None:
        _check_dim(dim)
        if not (math.isfinite(high - low) and low < high):
            raise ValueError(f"UniformPrior: need finite low < high, got {low} and {high}.")
        # Floats first, as they are after a round trip through JSON.
        low, high = float(low), float(high)
        super().__init__(torch.full((dim,), 0.5 * (low + high)))
        self.low, self.high = low, high

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, ``-inf`` outside the cube, ``[*B]``."""
        z = self._floating(z)
        inside = ((z >= self.low) & (z <= self.high)).all(-1)
        log_density = -self.dim * math.log(self.high - self.low)
        return torch.where(inside, log_density, -math.inf).to(z.dtype)

    def _described(self) -> dict[str, Any]:
        return {"dim": self.dim, "low": self.low, "high": self.high}

    def _numbers(self) -> dict[str, Any]:
        return {"span": self.high - self.low, "low": self.low}

    def _transform(self, u: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        return u * numbers["span"] + numbers["low"]

    def _spec(self, **options: Any) -> TensorSpec:
        return Bounded(self.low, self.high, **options)


def _check_dim(dim: int) -> None:
    if dim < 0:
        raise ValueError(f"the dimension of a latent must be >= 0, got {dim}.")
