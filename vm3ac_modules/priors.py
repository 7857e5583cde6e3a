"""Priors of the shared latent: what can be drawn, and what the agents can agree on.

Priors draw from the device's default generator, so that ``torch.compile(fullgraph=True)`` and
``torch.vmap(..., randomness="different")`` work. Their only state is a non-persistent buffer.

Source: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.data import Bounded, OneHot, TensorSpec, Unbounded

from vm3ac_modules.functional.counter import normal_icdf

__all__ = ["CategoricalPrior", "GaussianPrior", "LatentPrior", "UniformPrior"]


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

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, or log-probability of a categorical outcome, in nats, ``[*B]``."""

    @abstractmethod
    def _transform(self, u: Tensor) -> Tensor:
        """Map uniforms ``[*B, num_uniforms]`` to latents ``[*B, Z]`` of the same dtype."""

    @abstractmethod
    def _spec(self, **options: Any) -> TensorSpec: ...


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

    def __init__(self, dim: int) -> None:
        _check_dim(dim)
        super().__init__(torch.zeros(dim))

    def sample(self, batch_shape: Sequence[int], *, like: Tensor | None = None) -> Tensor:
        """Draw from the default generator of a device, ``[*B, Z]``."""
        like = self._constant if like is None else like
        return torch.randn((*batch_shape, self.dim), dtype=like.dtype, device=like.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, ``[*B]``."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def _transform(self, u: Tensor) -> Tensor:
        return normal_icdf(u)

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

    def __init__(self, dim: int, low: float = -1.0, high: float = 1.0) -> None:
        _check_dim(dim)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"UniformPrior: need finite low < high, got {low} and {high}.")
        super().__init__(torch.full((dim,), 0.5 * (low + high)))
        self.low = float(low)
        self.high = float(high)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, ``-inf`` outside the cube, ``[*B]``."""
        inside = ((z >= self.low) & (z <= self.high)).all(-1)
        log_density = -self.dim * math.log(self.high - self.low)
        return torch.where(inside, log_density, -math.inf).to(z.dtype)

    def _transform(self, u: Tensor) -> Tensor:
        return u * (self.high - self.low) + self.low

    def _spec(self, **options: Any) -> TensorSpec:
        return Bounded(self.low, self.high, **options)


class CategoricalPrior(LatentPrior):
    """One of ``K`` outcomes, one-hot: the paper's latent for discrete actions (``K = 3``).

    Args:
        num_outcomes: number of outcomes, ``K = Z >= 1``.
        probs: their probabilities; equal by default.

    Raises:
        ValueError: num_outcomes is below 1, or probs is not a distribution over the outcomes.

    Example:
        >>> from vm3ac_modules.priors import CategoricalPrior
        >>> CategoricalPrior(3, probs=[0.2, 0.5, 0.3]).constant().tolist()
        [0.0, 1.0, 0.0]
    """

    def __init__(self, num_outcomes: int, probs: Sequence[float] | None = None) -> None:
        if num_outcomes < 1:
            raise ValueError(f"CategoricalPrior: num_outcomes must be >= 1, got {num_outcomes}.")
        given = [1.0 / num_outcomes] * num_outcomes if probs is None else [*map(float, probs)]
        _check_probs(given, num_outcomes)
        # math.fsum is correctly rounded, so the edges are the same numbers on every machine; and
        # unlike a buffer, Python numbers survive .to(bfloat16).
        total = math.fsum(given)
        self.probs = tuple(p / total for p in given)
        self._edges = tuple(math.fsum(self.probs[: k + 1]) for k in range(num_outcomes - 1))
        most_probable = given.index(max(given))
        super().__init__(torch.eye(num_outcomes)[most_probable], num_uniforms=1)

    def mean(self, *, force: bool = False) -> Tensor:
        """The probabilities, ``[Z]``: being no outcome, refused (ValueError) unless forced."""
        if not force:
            shown = ", ".join(f"{p:.3g}" for p in self.probs)
            raise ValueError(
                f"CategoricalPrior: the mean ({shown}) is outside the support, which holds "
                "one-hot vectors only, so a policy never saw it in training and coordination "
                "breaks. Use mode='constant' or 'synchronized', or force the mean."
            )
        return self._constant.new_tensor(self.probs)

    def support(self) -> Tensor:
        """All one-hot vectors, ``[K, K]``."""
        return torch.eye(self.dim, dtype=self._constant.dtype, device=self._constant.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-probability in nats, ``-inf`` for anything but a one-hot vector, ``[*B]``."""
        log_probs = z.new_tensor([math.log(p) if p > 0 else -math.inf for p in self.probs])
        one_hot = ((z == 0) | (z == 1)).all(-1) & (z.sum(-1) == 1)
        return torch.where(one_hot, log_probs[z.argmax(-1)], -math.inf)

    def _transform(self, u: Tensor) -> Tensor:
        # Comparing with Python numbers copies nothing to the device.
        outcome = torch.zeros_like(u, dtype=torch.int64)
        for edge in self._edges:
            outcome = outcome + (u >= edge)
        return (outcome == torch.arange(self.dim, device=u.device)).to(u.dtype)

    def _spec(self, **options: Any) -> TensorSpec:
        return OneHot(self.dim, **options)


def _check_dim(dim: int) -> None:
    if dim < 0:
        raise ValueError(f"the dimension of a latent must be >= 0, got {dim}.")


def _check_probs(probs: Sequence[float], num_outcomes: int) -> None:
    valid = len(probs) == num_outcomes and all(math.isfinite(p) and p >= 0 for p in probs)
    if not valid or abs(math.fsum(probs) - 1) > 1e-6:
        raise ValueError(
            f"CategoricalPrior: probs must be {num_outcomes} non-negative numbers that sum to 1, "
            f"got {list(probs)}."
        )
