"""Capture a whole update as one CUDA graph, which replaces hundreds of launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import CudaGraphModule
from tensordict.nn.functional_modules import _exclude_td_from_pytree
from torch import Tensor
from torchrl.objectives import SoftUpdate
from torchrl.objectives.utils import TargetNetUpdater

__all__ = ["CapturedUpdate", "reason_against_capture"]

WARMUP = 3
"""Updates before the capture: they make the optimizers' state and choose kernels."""


def reason_against_capture(
    parameters: Iterable[Tensor],
    optimizers: Iterable[torch.optim.Optimizer],
    target: TargetNetUpdater | None,
) -> str | None:
    """Why an update cannot be one CUDA graph; None if it can.

    A graph repeats what was done to tensors: what the host counts or decides stays as it was.

    Args:
        parameters: what it trains.
        optimizers: the optimizers that it steps.
        target: what moves the target networks.

    Example:
        >>> weights = [torch.nn.Parameter(torch.zeros(2))]
        >>> reason_against_capture(weights, [torch.optim.Adam(weights, fused=True)], None)
        'its networks are on the cpu'
    """
    for parameter in parameters:
        if parameter.device.type != "cuda":
            return f"its networks are on the {parameter.device.type}"
    for optimizer in optimizers:
        groups = optimizer.param_groups
        if not all("capturable" in g and (g.get("fused") or g["capturable"]) for g in groups):
            return f"its optimizer {type(optimizer).__name__} counts its steps on the host"
    if target is not None and not isinstance(target, SoftUpdate):
        return f"{type(target).__name__} counts on the host when it copies the targets"
    return None


class CapturedUpdate:
    """An update that is captured once and replayed from then on, by ``CudaGraphModule``.

    Losses, gradients, clipping, optimizers and targets are in the graph, and so are the draws,
    which go on in the generator's stream. Every size of a batch and every limit of the gradients
    has a graph of its own. Parameters, states of optimizers and buffers must stay the same tensors;
    their values may change between updates (a schedule, say).

    Args:
        learn: an update: takes a batch and the largest norm of a gradient, returns losses and
            diagnostics.
        optimizers: the optimizers that it steps.
    """

    def __init__(
        self,
        learn: Callable[[TensorDictBase, float | None], dict[str, Tensor]],
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        self.learn, self.optimizers = learn, optimizers
        self.graphs: dict[Any, CudaGraphModule] = {}

    def __call__(self, batch: TensorDictBase, max_grad_norm: float | None) -> dict[str, Tensor]:
        """Update.

        Args:
            batch: on the GPU; copied into the graph's own.
            max_grad_norm: largest norm of a gradient; None clips nothing.

        Returns:
            What the update returned.
        """
        place = (batch.batch_size, max_grad_norm)
        if place not in self.graphs:
            # Without this it would take tensordicts out of torch's pytrees for good.
            with _exclude_td_from_pytree():
                self.graphs[place] = CudaGraphModule(
                    self._update(max_grad_norm), warmup=WARMUP, in_keys=[], device=batch.device
                )
        return dict(self.graphs[place](batch.copy()).items())

    def _update(self, max_grad_norm: float | None) -> Callable[[TensorDictBase], TensorDict]:
        def update(batch: TensorDictBase) -> TensorDict:
            capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
            groups = [group for o in self.optimizers for group in o.param_groups]
            before = [group["capturable"] for group in groups]
            for group in groups:
                # Asked by torch while it captures; no checkpoint shall hold it.
                group["capturable"] |= capturing
            try:
                return TensorDict(self.learn(batch, max_grad_norm), [])
            finally:
                for group, capturable in zip(groups, before, strict=True):
                    group["capturable"] = capturable

        return update
