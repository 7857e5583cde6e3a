"""What every prior of the shared latent can do.

Priors draw from the device's default generator, so that ``torch.compile(fullgraph=True)`` and
``torch.vmap(..., randomness="different")`` work. Their only state is a non-persistent buffer.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.data import TensorSpec

__all__ = ["LatentPrior"]


class LatentPrior(nn.Module, ABC):
    """Base of the priors ``P_Z`` of a shared latent.

    A subclass gives :meth:`log_prob` and the two private methods at the end. ``dim`` is the size
    of the latent, ``num_uniforms`` how many uniforms one draw of :meth:`from_uniforms` consumes.
    One that exported agents can draw also has a ``_LAW``, ``_described`` and ``_numbers``.

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
        u = torch.rand(shape, dtype=dtype, device=like.device)
        return self._transform(u, self._numbers()).to(like.dtype)

    def from_uniforms(self, u: Tensor, numbers: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map uniforms to a draw, with the same bits in torch and NumPy.

        Args:
            u: uniforms in the open unit interval, float64 ``[*B, num_uniforms]``.
            numbers: what :meth:`numbers` returned, for a program that is traced.

        Returns:
            The draw, rounded once to float32, ``[*B, Z]``.
        """
        used = self._numbers() if numbers is None else numbers
        return self._transform(u, used).to(torch.float32)

    @property
    def law(self) -> str | None:
        """Name of the law that exported agents know; None for priors of other laws.

        Subclasses do not inherit it, since they may draw otherwise.
        """
        return vars(type(self)).get("_LAW")

    def numbers(self) -> dict[str, Tensor]:
        """The law's numbers as float64 tensors, which a traced program holds.

        ONNX's exporter rounds Python's numbers to float32, even beside float64 tensors.

        Raises:
            ValueError: for a prior without a :attr:`law`.
        """
        if self.law is None:
            raise ValueError(
                f"a {type(self).__name__} cannot be computed inside a program: export with latent "
                "'given'."
            )
        known = self._numbers().items()
        return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in known}

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
        """The law and its parameters as JSON holds them; exported agents read them.

        Raises:
            ValueError: for a prior without a :attr:`law`.
        """
        if self.law is None:
            raise ValueError(
                f"{type(self).__name__} has no description; only the three priors of this package "
                "can be exported."
            )
        return {"law": self.law, **self._described()}

    def _described(self) -> dict[str, Any]:
        """Parameters of the law, JSON-serializable."""
        return {"dim": self.dim}

    def _numbers(self) -> dict[str, Any]:
        """Numbers that :meth:`_transform` reads, Python's where the device needs no copy."""
        return {}

    def _floating(self, z: Tensor) -> Tensor:
        """The same latents in a type that can hold a log-density."""
        return z if z.is_floating_point() else z.to(self._constant.dtype)

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, or log-probability of a categorical outcome, in nats, ``[*B]``."""

    @abstractmethod
    def _transform(self, u: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        """Map uniforms ``[*B, num_uniforms]`` to latents ``[*B, Z]`` of the same dtype.

        The entries of ``numbers`` are those of :meth:`_numbers`, or float64 tensors of them.
        """

    @abstractmethod
    def _spec(self, **options: Any) -> TensorSpec: ...
