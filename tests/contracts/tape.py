"""A CUDA graph as a CPU can have it: what was done to tensors, done again to the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Record every operation on tensors inside the block, and repeat them all.

    A replay knows nothing of Python: counters, branches and tensors that were made anew since are
    as they were. Draws are drawn anew, in the generator's stream, as a CUDA graph draws them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a graph cannot read a value")
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        """Do all of it again."""
        for func, args, kwargs, made in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and not _shared(old, new):
                    old.copy_(new)


def _shared(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class TapedUpdate:
    """An update that is done a few times, then recorded, then replayed on its static batch.

    Args:
        learn: an update, takes a batch.
        warmup: how often it is done before.
    """

    def __init__(self, learn: Callable[[Any], dict[str, Tensor]], warmup: int = 2) -> None:
        self.learn, self.left = learn, warmup
        self.tape: Tape | None = None

    def __call__(self, batch: Any, max_grad_norm: float | None = None) -> dict[str, Tensor]:
        """Update."""
        if self.left > 0:
            self.left -= 1
            return self.learn(batch, max_grad_norm)
        if self.tape is None:
            self.batch = batch.clone()
            self.tape = Tape()
            with self.tape:
                self.out = self.learn(self.batch, max_grad_norm)
        else:
            self.batch.update_(batch)
            with torch.no_grad():
                self.tape.replay()
        return {name: value.clone() for name, value in self.out.items()}
