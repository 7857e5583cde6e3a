"""Random streams of a run: seeding, saving, restoring, and borrowing them for an evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = [
    "LARGEST_SEED",
    "evaluation_seed",
    "fork_rng",
    "rng_state",
    "seed_everything",
    "set_rng_state",
    "worker_seed",
]

LARGEST_SEED = 999_999
"""Of a training; the seeds of evaluations lie above it."""


def evaluation_seed(seed: int) -> int:
    """Seed of a run's evaluations; none is a seed of training, which are at most 999,999.

    Args:
        seed: seed of the training run.

    Returns:
        The evaluation seed.

    Example:
        >>> evaluation_seed(3)
        1000003
    """
    return LARGEST_SEED + 1 + seed


def worker_seed(seed: int, worker: int, frames: int = 0) -> int:
    """Seed of a worker process: that of its environments, actions and latents.

    It is ``SeedSequence(seed, spawn_key=(worker, frames))``, not the sum of these: runs of
    neighboring seeds share no worker's stream.

    Args:
        seed: seed of the run.
        worker: number of the worker, from 0.
        frames: environment steps that the run had done when the process began. A process that
            takes another's place, after a crash or a resume, so goes on with other draws.

    Returns:
        A number in 0..2^31 - 1, since simulators keep it in an int.

    Example:
        >>> worker_seed(0, 1), worker_seed(1, 0), worker_seed(0, 1, frames=640)
        (1976665982, 1511999270, 1431147676)
    """
    words = np.random.SeedSequence(seed, spawn_key=(worker, frames)).generate_state(1)
    return int(words[0]) >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, CUDA's included.

    Args:
        seed: the seed; NumPy takes it modulo 2**32.

    Example:
        >>> seed_everything(0)
        >>> torch.rand(1).item() == torch.rand(1, generator=torch.manual_seed(0)).item()
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - simulators draw from the legacy stream
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Read the state of every global generator.

    Returns:
        Plain Python values and tensors, loadable with ``torch.load(weights_only=True)``. CUDA
        states are read only if CUDA is in use, since reading them would initialize it.

    Example:
        >>> state = rng_state()
        >>> first = torch.rand(2)
        >>> set_rng_state(state)
        >>> torch.equal(first, torch.rand(2))
        True
    """
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": {
            "name": str(name),
            "keys": torch.tensor(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`rng_state` read.

    Args:
        state: the state, as returned or as loaded from a checkpoint. States of CUDA devices that
            this process does not have are left out.

    Raises:
        KeyError: if the state lacks a generator.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        (saved["name"], keys, saved["position"], saved["has_gauss"], saved["cached_gaussian"])
    )
    torch.set_rng_state(state["torch"])
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Seed everything inside the block and restore every generator after it.

    An evaluation run in such a block does not move the training streams.

    Args:
        seed: seed inside the block.

    Yields:
        Nothing.

    Example:
        >>> seed_everything(0)
        >>> with fork_rng(1):
        ...     _ = torch.rand(100)
        >>> inside_did_not_count = torch.rand(1)
        >>> seed_everything(0)
        >>> torch.equal(inside_did_not_count, torch.rand(1))
        True
    """
    state = rng_state()
    initial_seed = torch.initial_seed()
    try:
        seed_everything(seed)
        yield
    finally:
        set_rng_state(state)
        if not state["cuda"]:
            # CUDA was unused, so it had no state to save; its stream still starts from the seed.
            torch.cuda.manual_seed_all(initial_seed)
