"""The generators that VMAS's scenarios draw from, as one value that can be swapped and saved."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomStreams:
    """States of torch's, NumPy's and Python's global generators, and of one CUDA device's.

    VMAS's scenarios draw from the global generators, hence NumPy's legacy one.
    """

    torch_state: Tensor
    numpy_state: Any
    python_state: Any
    cuda_state: Tensor | None = None

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> RandomStreams:
        """The states after seeding each generator, without touching the global ones."""
        cuda = device.type == "cuda"
        return cls(
            torch.Generator().manual_seed(seed).get_state(),
            np.random.RandomState(seed % 2**32).get_state(),
            random.Random(seed).getstate(),
            torch.Generator(device=device).manual_seed(seed).get_state() if cuda else None,
        )

    @classmethod
    def current(cls, device: torch.device) -> RandomStreams:
        """The states of the global generators."""
        return cls(
            torch.random.get_rng_state(),
            np.random.get_state(),  # noqa: NPY002
            random.getstate(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        )

    def install(self, device: torch.device) -> None:
        """Set the global generators to these states."""
        torch.random.set_rng_state(self.torch_state)
        np.random.set_state(self.numpy_state)  # noqa: NPY002
        random.setstate(self.python_state)
        if self.cuda_state is not None:
            torch.cuda.set_rng_state(self.cuda_state, device)

    def moved(self, device: torch.device) -> RandomStreams:
        """The same streams for a simulation on another device; that of a new one starts afresh."""
        cuda_state = self.cuda_state if device.type == "cuda" else None
        if device.type == "cuda" and cuda_state is None:
            # any function of the present state will do, so that the move is reproducible
            seed = int(self.torch_state.long().sum())
            cuda_state = torch.Generator(device=device).manual_seed(seed).get_state()
        return RandomStreams(self.torch_state, self.numpy_state, self.python_state, cuda_state)

    def to_tensors(self) -> dict[str, Tensor]:
        """The states as tensors on the CPU, for a checkpoint."""
        _, keys, position, has_gauss, gauss = self.numpy_state
        _, words, python_gauss = self.python_state
        # NaN stands for Python's None: no second normal draw is waiting
        python_gauss = float("nan") if python_gauss is None else python_gauss
        state = {
            "torch": self.torch_state.clone(),
            "numpy": torch.tensor([*keys.tolist(), position, has_gauss]),
            "python": torch.tensor(words),
            "gauss": torch.tensor([gauss, python_gauss], dtype=torch.float64),
        }
        if self.cuda_state is not None:
            state["cuda"] = self.cuda_state.clone()
        return state

    @classmethod
    def from_tensors(cls, state: dict[str, Tensor]) -> RandomStreams:
        """The inverse of :meth:`to_tensors`."""
        *keys, position, has_gauss = state["numpy"].tolist()
        gauss, python_gauss = state["gauss"].tolist()
        numpy_keys = np.array(keys, dtype=np.uint32)
        words = tuple(state["python"].tolist())
        cuda_state = state.get("cuda")
        return cls(
            state["torch"].cpu().clone(),
            ("MT19937", numpy_keys, position, has_gauss, gauss),
            (3, words, None if np.isnan(python_gauss) else python_gauss),
            None if cuda_state is None else cuda_state.cpu().clone(),
        )
