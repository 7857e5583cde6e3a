"""The categorical prior of the shared latent.

Source: Kim et al. 2023, arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchrl.data import OneHot, TensorSpec

from vm3ac_modules.priors.base import LatentPrior

__all__ = ["CategoricalPrior"]


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

    _LAW = "categorical"

    def __init__(self, num_outcomes: int, probs: Sequence[float] | None = None) -> None:
        if num_outcomes < 1:
            raise ValueError(f"CategoricalPrior: num_outcomes must be >= 1, got {num_outcomes}.")
        given = [1.0 / num_outcomes] * num_outcomes if probs is None else [*map(float, probs)]
        _check_probs(given, num_outcomes)
        # math.fsum is correctly rounded, so the edges are the same numbers on every machine; and
        # unlike a buffer, Python numbers survive .to(bfloat16).
        total = math.fsum(given)
        # Dividing twice may move the last bit: the numbers as given are those that are described.
        self._given = given
        self.probs = tuple(p / total for p in given)
        self.edges = tuple(math.fsum(self.probs[: k + 1]) for k in range(num_outcomes - 1))
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
        """Log-probability in nats, ``-inf`` for anything but a one-hot vector, ``[*B]``.

        One-hot vectors of any type: integers and truth values too, as TorchRL's specs write them.
        """
        z = self._floating(z)
        log_probs = z.new_tensor([math.log(p) if p > 0 else -math.inf for p in self.probs])
        one_hot = ((z == 0) | (z == 1)).all(-1) & (z.sum(-1) == 1)
        return torch.where(one_hot, log_probs[z.argmax(-1)], -math.inf)

    def _described(self) -> dict[str, Any]:
        return {"probs": [*self._given]}

    def _numbers(self) -> dict[str, Any]:
        return {"edges": self.edges}

    def _transform(self, u: Tensor, numbers: Mapping[str, Any]) -> Tensor:
        # Comparing with Python numbers copies nothing to the device.
        outcome = torch.zeros_like(u, dtype=torch.int64)
        for edge in numbers["edges"]:
            outcome = outcome + (u >= edge)
        return (outcome == torch.arange(self.dim, device=u.device)).to(u.dtype)

    def _spec(self, **options: Any) -> TensorSpec:
        return OneHot(self.dim, **options)


def _check_probs(probs: Sequence[float], num_outcomes: int) -> None:
    valid = len(probs) == num_outcomes and all(math.isfinite(p) and p >= 0 for p in probs)
    if not valid or abs(math.fsum(probs) - 1) > 1e-6:
        raise ValueError(
            f"CategoricalPrior: probs must be {num_outcomes} non-negative numbers that sum to 1, "
            f"got {list(probs)}."
        )
