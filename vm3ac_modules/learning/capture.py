"""Capture what a training does over and over as CUDA graphs, which replace hundreds of launches.

An update, a policy and a step of a simulation are functions of tensors: what a graph repeats.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import SoftUpdate
from torchrl.objectives.utils import TargetNetUpdater

__all__ = [
    "CapturedCall",
    "CapturedPolicy",
    "CapturedUpdate",
    "cuda_graph",
    "reason_against_capture",
]

LOG = logging.getLogger("vm3ac_modules")

WARMUP = 3
"""Calls before the capture: they make the optimizers' state and choose kernels."""

Recorder = Callable[
    [Callable[[], dict[str, Tensor]], torch.device, Sequence[torch.Generator]],
    tuple[Callable[[], None], dict[str, Tensor]],
]
"""Records a function; returns what does it again, and the tensors that it then writes to."""


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


def cuda_graph(
    function: Callable[[], dict[str, Tensor]],
    device: torch.device,
    generators: Sequence[torch.Generator] = (),
) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """Record a function as a CUDA graph, without running it.

    Args:
        function: works on tensors of one GPU, always the same ones.
        device: that GPU.
        generators: what it draws from besides the GPU's default generator.

    Returns:
        What replays it, and the tensors that a replay writes to.

    Raises:
        RuntimeError: if the function asks the GPU for a value.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        drawn_from = [default, *generators]
        kept = [generator.clone_state() for generator in drawn_from]
        for generator in generators:
            graph.register_generator_state(generator)
        # A graph that is freed while another one is recorded spoils that one.
        gc.collect()
        collects = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.graph(
                graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"
            ):
                out = function()
        except RuntimeError as error:
            # They still wait for the graph, and would refuse every further draw.
            for generator, state in zip(drawn_from, kept, strict=True):
                generator.graphsafe_set_state(state)
            # Ending the recording failed because of what went wrong within it.
            raise RuntimeError(str(error.__context__ or error)) from error
        finally:
            if collects:
                gc.enable()
    return graph.replay, out


class CapturedCall:
    """A function of a tensordict that runs a few times, is recorded, and is replayed from then on.

    Nothing waits for the device. Draws go on in the generators' streams. Tensors that the function
    reads besides its argument must stay the same ones; their values may change between calls. A
    function that cannot be recorded goes on running, with a warning.

    Args:
        function: from a tensordict to a tensordict, the same entries at every call.
        what: what it is, for the warning.
        generators: what it draws from besides the device's default generator.
        record: how it is recorded; :func:`cuda_graph` by default.
        warmup: calls before that.
    """

    def __init__(
        self,
        function: Callable[[TensorDictBase], TensorDictBase],
        what: str,
        *,
        generators: Sequence[torch.Generator] = (),
        record: Recorder | None = None,
        warmup: int = WARMUP,
    ) -> None:
        self.function, self.what, self.generators = function, what, generators
        self.record = cuda_graph if record is None else record
        self.left = warmup
        self.replay: Callable[[], None] | None = None
        self.against: str | None = None

    def __call__(self, given: TensorDictBase) -> TensorDictBase:
        """Call the function.

        Args:
            given: its argument; its entries are copied into the ones that the graph reads.

        Returns:
            What the function returns, in tensors of its own.
        """
        if self.left > 0:
            self.left -= 1
            with _on_a_stream_of_its_own(_device_of(given)):
                return self.function(given)
        if not self.recorded(given):
            return self.function(given)
        sources = [given.get(key) for key in self._keys]
        torch._foreach_copy_(self._given, sources, non_blocking=True)
        assert self.replay is not None
        self.replay()
        return self._unpacked()

    def recorded(self, given: TensorDictBase) -> bool:
        """Whether the function is recorded; it is tried once.

        Args:
            given: its argument.
        """
        if self.replay is not None or self.against is not None:
            return self.against is None
        own = given.clone()
        self._keys: list[NestedKey] = list(own.keys(True, True))
        self._given = [own.get(key) for key in self._keys]
        try:
            self.replay, self._flat = self.record(
                lambda: self._packed(own), _device_of(given), self.generators
            )
        except RuntimeError as error:
            self.against = str(error)
            LOG.warning("%s is not replayed as a CUDA graph: %s", self.what, error)
            return False
        return True

    def _packed(self, given: TensorDictBase) -> dict[str, Tensor]:
        """All results of a type one after the other, so that one copy takes them out."""
        self._out = self.function(given).copy()
        self._places: list[tuple[NestedKey, str, int, torch.Size]] = []
        parts: dict[str, list[Tensor]] = {}
        for key, value in self._out.items(True, True):
            kind = str(value.dtype)
            before = sum(part.numel() for part in parts.setdefault(kind, []))
            parts[kind].append(value.detach().reshape(-1))
            self._places.append((key, kind, before, value.shape))
        return {kind: torch.cat(flat) for kind, flat in parts.items()}

    def _unpacked(self) -> TensorDictBase:
        flat = {kind: values.clone() for kind, values in self._flat.items()}
        out = self._out.copy()
        for key, kind, start, shape in self._places:
            out.set(key, flat[kind][start : start + shape.numel()].view(shape))
        return out


def _device_of(given: TensorDictBase) -> torch.device:
    return next(iter(given.values(True, True))).device


@contextlib.contextmanager
def _on_a_stream_of_its_own(device: torch.device) -> Iterator[None]:
    """What is captured later must not have run on the default stream of a GPU before."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


class CapturedUpdate:
    """An update that is captured once and replayed from then on.

    Losses, gradients, clipping, optimizers and targets are in the graph, and so are the draws,
    which go on in the generator's stream. Every size of a batch and every limit of the gradients
    has a graph of its own. Parameters, states of optimizers and buffers must stay the same tensors;
    their values may change between updates (a schedule, say).

    Args:
        learn: an update: takes a batch and the largest norm of a gradient, returns losses and
            diagnostics.
        optimizers: the optimizers that it steps.
        record: how it is recorded; :func:`cuda_graph` by default.
    """

    def __init__(
        self,
        learn: Callable[[TensorDictBase, float | None], dict[str, Tensor]],
        optimizers: Sequence[torch.optim.Optimizer],
        record: Recorder | None = None,
    ) -> None:
        self.learn, self.optimizers, self.record = learn, optimizers, record
        self.graphs: dict[Any, CapturedCall] = {}

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
            self.graphs[place] = CapturedCall(
                self._update(max_grad_norm), "The update", record=self.record
            )
        return {str(name): value for name, value in self.graphs[place](batch).items()}

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
            except RuntimeError:
                # What a recording that failed has left is no gradient.
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
                raise
            finally:
                for group, capturable in zip(groups, before, strict=True):
                    group["capturable"] = capturable

        return update


class CapturedPolicy(TensorDictModuleBase):
    """A policy that is captured once and replayed from then on, for a collector.

    Its parameters must stay the same tensors; their values may change.

    Args:
        policy: a policy that reads and writes tensors alone.
        record: how it is recorded; :func:`cuda_graph` by default.
    """

    def __init__(self, policy: TensorDictModuleBase, record: Recorder | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.in_keys, self.out_keys = list(policy.in_keys), list(policy.out_keys)
        self.answer = CapturedCall(self._answer, "The policy", record=record)

    def _answer(self, given: TensorDictBase) -> TensorDictBase:
        return self.policy(given).select(*self.out_keys, strict=False)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write what the policy writes.

        Args:
            tensordict: with the policy's entries.
        """
        return tensordict.update(self.answer(tensordict.select(*self.in_keys, strict=False)))
