"""What every prior of the shared latent can do.

Priors draw from the device's default generator, so that ``torch.compile(fullgraph=True)`` and
``torch.vmap(..., randomness="different")`` work. Their only state is a non-persistent buffer.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.data import TensorSpec

__all__ = ["LatentPrior"]


class LatentPrior(nn.Module, ABC):
    """Base of the priors ``P_Z`` of a shared latent.

    A subclass gives :meth:`log_prob` and the two private methods at the end. ``dim`` is the size
    of the latent, ``num_uniforms`` how many uniforms one draw of :meth:`from_uniforms` consumes.

    Args:
        constant: the outcome that agents agree on without communication, ``[Z]``.
        num_uniforms: uniforms per draw; as many as ``Z`` by default.
    """

    _constant: Tensor

    def __init__(self, constant: Tensor, num_uniforms: int | None = None) -> None:
        super().__init__()
        self.dim = len(constant)
        self.num_uniforms = self.dim if num_uniforms is None else num_uniforms
        self.register_buffer("_constant", constant, persistent=False)

    def sample(self, batch_shape: Sequence[int], *, like: Tensor | None = None) -> Tensor:
        """Draw from the default generator of a device, ``[*B, Z]``.

        Args:
            batch_shape: ``*B``.
            like: the tensor whose dtype and device are taken; the prior's own by default.
        """
        like = self._constant if like is None else like
        # Half precision has too few uniforms for small probabilities.
        dtype = torch.promote_types(like.dtype, torch.float32)
        shape = (*batch_shape, self.num_uniforms)
        return self._transform(torch.rand(shape, dtype=dtype, device=like.device)).to(like.dtype)

    def from_uniforms(self, u: Tensor) -> Tensor:
        """Map uniforms to a draw, with the same bits in torch and NumPy.

        Args:
            u: uniforms in the open unit interval, float64 ``[*B, num_uniforms]``.

        Returns:
            The draw, rounded once to float32, ``[*B, Z]``.
        """
        return self._transform(u).to(torch.float32)

    def constant(self) -> Tensor:
        """One agreed outcome of the support, ``[Z]``."""
        return self._constant.clone()

    def mean(self, *, force: bool = False) -> Tensor:
        """The expectation ``E[z]``, ``[Z]``; ``force`` returns it even outside the support."""
        del force
        return self.constant()

    def support(self) -> Tensor:
        """Every outcome, ``[K, Z]``; a continuous prior raises ValueError."""
        raise ValueError(
            f"{type(self).__name__} is continuous: its outcomes cannot be enumerated. "
            "Draw some with sample(...), or use a CategoricalPrior."
        )

    def spec(self, batch_shape: Sequence[int] = ()) -> TensorSpec:
        """The TorchRL spec of draws, of shape ``[*B, Z]``."""
        return self._spec(
            shape=torch.Size((*batch_shape, self.dim)),
            dtype=self._constant.dtype,
            device=self._constant.device,
        )

    def describe(self) -> dict[str, Any]:
        """The prior as JSON holds it; :func:`prior_from` makes it again, with the same draws.

        Raises:
            ValueError: for a prior that is none of this package's three.
        """
        raise ValueError(
            f"{type(self).__name__} has no describe(); only the three priors of this package can "
            "be exported."
        )

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, or log-probability of a categorical outcome, in nats, ``[*B]``."""

    @abstractmethod
    def _transform(self, u: Tensor) -> Tensor:
        """Map uniforms ``[*B, num_uniforms]`` to latents ``[*B, Z]`` of the same dtype."""

    @abstractmethod
    def _spec(self, **options: Any) -> TensorSpec: ...
