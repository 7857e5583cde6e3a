"""A CUDA graph as a CPU can have it: what was done to tensors, done again to the same ones."""

from __future__ import annotations

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
        self.written: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a graph cannot read a value")
        self._keep_what_is_written(func, args, kwargs or {})
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def _keep_what_is_written(self, func: Any, args: Any, kwargs: Any) -> None:
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            for x in tree_leaves(given):
                if isinstance(x, Tensor) and id(x) not in self.written:
                    self.written[id(x)] = (x, x.detach().clone())

    def undo(self) -> None:
        """Put back what recording has written to."""
        for x, before in reversed(self.written.values()):
            x.data.copy_(before)

    def replay(self) -> None:
        """Do all of it again."""
        with torch.no_grad():
            for func, args, kwargs, made in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and _storage(old) != _storage(new):
                        old.copy_(new)


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def tape(function: Any, device: Any, generators: Any = ()) -> Any:
    """Record a function without running it, as ``cuda_graph`` does."""
    generators = [torch.default_generator, *generators]
    states = [generator.get_state() for generator in generators]
    recorded = Tape()
    try:
        with recorded:
            out = function()
    finally:
        recorded.undo()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
    return recorded.replay, out
