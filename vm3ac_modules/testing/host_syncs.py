"""How often the host waits for a device: a count of what makes it wait."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["HostSyncs", "count_host_syncs"]

aten = torch.ops.aten
CHECKED = "a law of random numbers is checked"
READS = {
    # Inside these the device is asked whether they are allowed.
    aten.normal: CHECKED,
    aten.multinomial: CHECKED,
    aten._linalg_check_errors: "a matrix is checked",
    aten._local_scalar_dense: "a value is read",
    aten.equal: "tensors are compared",
    aten.allclose: "tensors are compared",
    aten.is_nonzero: "a value is read",
    aten.nonzero: "the size of a result depends on values",
    aten.masked_select: "the size of a result depends on values",
    aten._unique2: "the size of a result depends on values",
    aten.unique_dim: "the size of a result depends on values",
    aten.unique_consecutive: "the size of a result depends on values",
    aten.bincount: "the size of a result depends on values",
}
COPIES = (aten._to_copy, aten.copy_, aten._foreach_copy_)
INDEXING = (aten.index, aten.index_put, aten.index_put_)
STATES = ("get_state", "set_state", "graphsafe_get_state", "graphsafe_set_state")
DEPTH = 6
"""Lines that are said of every wait."""
_NOT_NAMED = (str(Path(__file__).parent), f"{Path(torch.__file__).parent}/", "<frozen")


class HostSyncs(Counter[str]):
    """Number of times that the host waited, by what made it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []
        """The innermost lines outside torch of each, the last call first."""

    def note(self, why: str) -> None:
        """Count one more.

        Args:
            why: what made the host wait.
        """
        self[why] += 1
        frames = [f for f in traceback.extract_stack() if not f.filename.startswith(_NOT_NAMED)]
        self.places.append(f"{why}: " + " < ".join(map(_line, reversed(frames[-DEPTH:]))))

    def __str__(self) -> str:
        """What was counted, and where."""
        return "\n".join(self.places) or "the host waited for nothing"


def _line(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"


class _Watching(TorchDispatchMode):
    def __init__(self, found: HostSyncs) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        why = _reason(func, args, kwargs or {})
        if why is not None:
            self.found.note(why)
        return func(*args, **(kwargs or {}))


def _reason(func: Any, args: Any, kwargs: dict[str, Any]) -> str | None:
    """Why an operation makes the host wait; None if it does not."""
    packet, target = func.overloadpacket, kwargs.get("device")
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [leaf for leaf in leaves if _on_device(leaf.device)]
    if packet in COPIES:
        source = args[0] if packet is aten._to_copy else args[1]
        into = (target or args[0].device) if packet is aten._to_copy else args[0]
        pairs = [(source, into)] if isinstance(source, Tensor) else zip(source, into, strict=True)
        for one, other in pairs:
            other = other.device if isinstance(other, Tensor) else torch.device(other)
            if _on_device(one.device) and not _on_device(other):
                return "a tensor is copied to the host"
            if not _on_device(one.device) and _on_device(other) and not one.is_pinned():
                return "a tensor of the host is copied to the device"
        return None
    if not there:
        return None
    if packet in INDEXING:
        indices = [index for index in args[1] if index is not None]
        if any(not _on_device(index.device) for index in indices):
            return "indices of the host are copied to the device"
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            return "the size of a result depends on values"
        return None
    if packet is aten.repeat_interleave and kwargs.get("output_size") is None:
        return READS[aten.nonzero]
    return READS.get(packet)


def _on_device(device: torch.device) -> bool:
    return device.type not in ("cpu", "meta")


@contextmanager
def count_host_syncs() -> Iterator[HostSyncs]:
    """Count how often the host waits for a device that is not the CPU.

    Counted are values that are read (``item``, ``bool(tensor)``, ``tolist``), results whose size
    depends on values (``nonzero``, masks as indices), copies between host and device, and states
    of random generators that are read or set, on whatever device.

    Yields:
        The count, which goes up inside the block.

    Example:
        >>> from vm3ac_modules.testing import pretended_device
        >>> with pretended_device() as device, count_host_syncs() as found:
        ...     x = torch.ones(3, device=device)
        ...     y = x[x > 0].sum()
        ...     if y > 2:
        ...         y = 2 * y
        >>> dict(found)
        {'the size of a result depends on values': 1, 'a value is read': 1}
    """
    found = HostSyncs()
    before = sys.getprofile()

    def watch(frame: FrameType, event: Any, what: Any) -> None:
        if before is not None:
            before(frame, event, what)
        if event == "call" and frame.f_code is torch.cuda.synchronize.__code__:
            found.note("all work on the device is waited for")
        if event != "c_call":
            return
        if what.__name__ in STATES and isinstance(what.__self__, torch._C.Generator):
            found.note("the state of a generator is read or set")
        elif what.__name__ == "synchronize":
            found.note("all work on the device is waited for")

    with _Watching(found):
        sys.setprofile(watch)
        try:
            yield found
        finally:
            sys.setprofile(before)
