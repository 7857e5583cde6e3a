"""A check that training stays finite, at the cost of one device synchronization per interval."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

__all__ = ["FiniteGuard", "NonFiniteError"]


class NonFiniteError(RuntimeError):
    """A watched quantity became infinite or NaN during training."""


class FiniteGuard:
    """Accumulate finiteness flags on the device and read them once per interval.

    Args:
        start_frame: frame at which the first interval starts; the resumed frame of a resumed run.

    Example:
        >>> guard = FiniteGuard()
        >>> guard.watch("losses", torch.ones(3))
        >>> guard.check(100)
        >>> guard.watch("rewards", torch.tensor([0.0, float("nan")]))
        >>> guard.check(200)
        Traceback (most recent call last):
        ...
        vm3ac_modules.learning.guards.NonFiniteError: rewards became infinite or NaN ...
    """

    def __init__(self, start_frame: int = 0) -> None:
        self._start = start_frame
        self._flags: dict[tuple[str, torch.device], Tensor] = {}

    def watch(self, name: str, *tensors: Tensor) -> None:
        """Note whether tensors are finite, without waiting for the device.

        Args:
            name: what the tensors are, for the message; may be watched many times.
            tensors: tensors of any shape and device.
        """
        for tensor in tensors:
            key = (name, tensor.device)
            finite = tensor.detach().isfinite().all()
            self._flags[key] = self._flags[key] & finite if key in self._flags else finite

    def check(self, frame: int, last_checkpoint: Path | str | None = None) -> None:
        """Read the flags of the interval that ends here, and start the next one.

        Args:
            frame: the current frame.
            last_checkpoint: the newest checkpoint written after a clean check.

        Raises:
            NonFiniteError: names the quantities, the interval and what to do.
        """
        start, self._start = self._start, frame
        flags, self._flags = self._flags, {}
        if not flags:
            return
        device = next(iter(flags.values())).device
        # Stacked, the flags come back in one transfer, which is the only wait of the interval.
        finite = torch.stack([flag.to(device) for flag in flags.values()]).tolist()
        bad = dict.fromkeys(name for (name, _), ok in zip(flags, finite, strict=True) if not ok)
        if bad:
            way = "Start again"
            if last_checkpoint:
                way = f"Go on from {last_checkpoint} (resume=true) or start again"
            raise NonFiniteError(
                f"{', '.join(bad)} became infinite or NaN between frames {start} and {frame}. "
                f"{way} with a smaller lr or reward_scale, or with max_grad_norm set; non-finite "
                "rewards or observations come from the environment."
            )
