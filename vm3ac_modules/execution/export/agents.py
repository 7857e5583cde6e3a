"""One file per agent of a trained team: programs of ``torch.export``, or ONNX models.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torch.export import Dim, ExportedProgram

from vm3ac_modules.envs.carried import Affine
from vm3ac_modules.execution.export._agent_module import (
    FeedForwardAgent,
    RecurrentAgent,
    cut_out_agent,
)
from vm3ac_modules.execution.export._latent_source import LatentInput, LatentSource
from vm3ac_modules.execution.export._record import describe, describe_entry
from vm3ac_modules.execution.runtime.agent_file import FORMATS, write_agent_file
from vm3ac_modules.extras import require_extra
from vm3ac_modules.modules.policy import Policy

__all__ = ["export_agents"]

ONNX_OPSET = 20
"""Version of ONNX's operators that agents are written with."""


def default_latent(policy: TensorDictModuleBase) -> LatentInput:
    """Default source of the latent: synchronized if agents can draw it, else given or none."""
    asked = Policy.of(policy)
    if asked.latent_dim == 0:
        return "none"
    return "given" if asked.prior is None else "synchronized"


def single_agent(
    policy: Policy, agent: int, source: LatentInput, normalization: Sequence[Affine] = ()
) -> FeedForwardAgent | RecurrentAgent:
    """Cut one agent out of a team; refused where it cannot have its latent from there."""
    has_latent = policy.latent_dim > 0
    if (source == "none") == has_latent:
        raise ValueError(
            f"latent source {source!r} does not fit a policy "
            f"{'with' if has_latent else 'without'} a latent."
        )
    if has_latent and policy.prior is None and source != "given":
        raise ValueError(
            f"latent source {source!r}: this algorithm draws its latent once per episode from "
            "the state of the whole team, which no agent knows alone. Export with latent "
            "'given', and hand every agent the latent at the start of an episode."
        )
    held = policy.sampler is not None and policy.sampler.held
    where = LatentSource(source, policy.prior, held=held)
    net = cut_out_agent(policy.net, agent, policy.sizes.num_agents).cpu()
    bounds = policy.bounds
    if bounds is None:
        return RecurrentAgent(net, where)
    low, high = (bound[agent].detach().cpu() for bound in bounds)
    own = [(loc[agent].cpu().clone(), scale[agent].cpu().clone()) for loc, scale in normalization]
    return FeedForwardAgent(net, where, low, high, own)


def export_agents(
    policy: TensorDictModuleBase,
    folder: Path | str,
    *,
    format: str = "torch",
    latent: LatentInput | None = None,
    about: Mapping[str, Any],
    normalization: Sequence[Affine] = (),
) -> list[Path]:
    """Write one file per agent, with its actor, its latent's source and its action bounds.

    Args:
        policy: the policy of the team (greedy play: actions at the mean, or the most probable).
        folder: directory of the files ``agent_<i>.pt2`` or ``agent_<i>.onnx``.
        format: ``"torch"`` for programs of ``torch.export``, ``"onnx"`` for ONNX models.
        latent: ``"synchronized"`` (inputs seed, episode and step), ``"given"`` (input latent),
            ``"mean"`` or ``"constant"`` (no input); by default synchronized where an agent can.
        about: what the record says of the run: ``algorithm``, ``task`` and ``checkpoint``
            (a mapping with ``sha256`` and ``frame``).
        normalization: what the environment's normalizers did to observations, as
            :func:`~vm3ac_modules.envs.carried.affine_observation` gives it; the agents then take
            observations as they were before.

    Returns:
        The files, in the order of the agents.

    Raises:
        ValueError: for an unknown format, a policy of another network, or a latent that does not
            fit it.
        ImportError: for ``"onnx"`` without the extra ``export``.

    Example:
        >>> import tempfile
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 2, Bounded(-1.0, 1.0, (3, 1)))
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(2)), actor)
        >>> about = {"algorithm": "vm3ac", "task": "mine", "checkpoint": {"sha256": "", "frame": 0}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = export_agents(policy, folder, latent="given", about=about)
        >>> [file.name for file in files]
        ['agent_0.pt2', 'agent_1.pt2', 'agent_2.pt2']
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; valid: {', '.join(FORMATS)}.")
    if format == "onnx":
        for package in ("onnx", "onnxscript"):
            require_extra(package, "export", "Exporting to ONNX")
    team = Policy.of(policy)
    source = default_latent(team) if latent is None else latent
    # All agents are built before the first file is written: a refusal leaves nothing behind.
    many = range(team.sizes.num_agents)
    agents = [single_agent(team, index, source, normalization) for index in many]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, agent in enumerate(agents):
        program = trace(agent)
        data = to_onnx(agent, program) if format == "onnx" else serialize(program)
        record = describe(team, agent, index, about, ONNX_OPSET if format == "onnx" else None)
        path = folder / f"agent_{index}{FORMATS[format]}"
        write_agent_file(path, data, record)
        paths.append(path)
    return paths


def trace(agent: FeedForwardAgent | RecurrentAgent) -> ExportedProgram:
    """Trace an agent for any number of rows; the program holds no path of this machine."""
    rows = Dim("rows", min=1)
    example = {name: _example(agent, name) for name in agent.inputs}
    shapes = {name: {0: rows} if value.ndim else None for name, value in example.items()}
    # What the latent is computed from arrives as one argument, a tuple.
    clock = tuple(shapes.pop(name) for name in agent.source.inputs)
    by_name = {**shapes, **({"clock": clock} if clock else {})}
    program = torch.export.export(agent, tuple(example.values()), dynamic_shapes=by_name)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    # They would be stored as a pickle.
    program.example_inputs = None
    return program


def _example(agent: FeedForwardAgent | RecurrentAgent, name: str) -> Tensor:
    entry = describe_entry(agent, name)
    shape = entry["shape"]
    return torch.ones([2, *shape[1:]] if shape else [], dtype=getattr(torch, entry["dtype"]))


def serialize(program: ExportedProgram) -> bytes:
    """Serialize a program as a PT2 archive without pickles."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def to_onnx(agent: FeedForwardAgent | RecurrentAgent, program: ExportedProgram) -> bytes:
    """Convert a program to an ONNX model and check it with ``onnx.checker``."""
    import onnx

    with _quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(agent.inputs),
            output_names=list(agent.outputs),
            opset_version=ONNX_OPSET,
            verbose=False,
        )
    assert converted is not None
    model = converted.model_proto
    # Traces of this machine's files, for the debugging of exporters.
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converter's notes about packages that are not used here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
