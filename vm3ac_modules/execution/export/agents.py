"""One file per agent of a trained team: programs of ``torch.export``, or ONNX models.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (decentralized execution) and Appendix H.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModuleBase
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vm3ac_modules.execution.export.graph import (
    FeedForwardAgent,
    RecurrentAgent,
    cut_out_agent,
)
from vm3ac_modules.execution.export.latent_source import LatentInput, LatentSource
from vm3ac_modules.execution.export.record import INPUT_TYPES, describe, input_shapes
from vm3ac_modules.execution.runtime.agent_file import FORMATS, write_agent_file
from vm3ac_modules.keys import require_extra
from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.nn import DeterministicNet, LatentGaussianNet, LatentUtilityNet
from vm3ac_modules.nn.recurrent import RecurrentPolicyNet
from vm3ac_modules.priors import LatentPrior

__all__ = ["ONNX_OPSET", "TeamPolicy", "export_agents"]

ONNX_OPSET = 20
"""Version of ONNX's operators that agents are written with."""
PROGRAM_NETS = (LatentGaussianNet, DeterministicNet, RecurrentPolicyNet, LatentUtilityNet)
Format = Literal["torch", "onnx"]


@dataclass(frozen=True)
class TeamPolicy:
    """What an export reads off a policy.

    Args:
        net: the network of all agents.
        num_agents: number of agents N.
        prior: law of the latent; None without one, or where the agents cannot draw it alone.
        latent_dim: size Z of the latent that the network reads; 0 for none.
        low: lowest actions ``[N, A]``; None for discrete actions.
        high: highest actions ``[N, A]``.
    """

    net: nn.Module
    num_agents: int
    prior: LatentPrior | None
    latent_dim: int
    low: Tensor | None = None
    high: Tensor | None = None

    @classmethod
    def of(cls, policy: TensorDictModuleBase) -> TeamPolicy:
        """Read a policy of :func:`~vm3ac_modules.algorithms.build` or ``build_discrete``.

        Args:
            policy: the policy.

        Raises:
            ValueError: if it holds no network that can be cut into agents.
        """
        modules = list(policy.modules())
        net = next((m for m in modules if isinstance(m, PROGRAM_NETS)), None)
        if net is None:
            raise ValueError(
                "this policy holds none of the networks that can be exported: "
                f"{', '.join(kind.__name__ for kind in PROGRAM_NETS)}."
            )
        prior = next((m.prior for m in modules if isinstance(m, LatentSampler)), None)
        latent_dim = getattr(net, "latent_dim", 0)
        if isinstance(net, (RecurrentPolicyNet, LatentUtilityNet)):
            return cls(net, len(net.identity), prior, latent_dim)
        if isinstance(net, DeterministicNet):
            bounds = net.center - net.half_range, net.center + net.half_range
        else:
            kind = ProbabilisticTensorDictModule
            squash = next((m for m in modules if isinstance(m, kind)), None)
            if squash is None:
                raise ValueError("the policy must be one of make_actor: it holds no distribution.")
            bounds = squash.distribution_kwargs["low"], squash.distribution_kwargs["high"]
        low, high = (bound.detach().cpu() for bound in bounds)
        return cls(net, len(low), prior, latent_dim, low, high)

    def default_source(self) -> LatentInput:
        """The latent's source where none is asked for: by itself if an agent can."""
        if self.latent_dim == 0:
            return "none"
        return "given" if self.prior is None else "synchronized"

    def agent(self, agent: int, source: LatentInput) -> FeedForwardAgent | RecurrentAgent:
        """One agent as a module of its own.

        Args:
            agent: which, from 0.
            source: where its latent comes from.

        Raises:
            ValueError: if the agent cannot have its latent from there.
        """
        if (source == "none") != (self.latent_dim == 0):
            raise ValueError(
                f"latent source {source!r} does not fit a policy "
                f"{'with' if self.latent_dim else 'without'} a latent."
            )
        if self.latent_dim and self.prior is None and source != "given":
            raise ValueError(
                f"latent source {source!r}: this algorithm draws its latent once per episode from "
                "the state of the whole team, which no agent knows alone. Export with latent "
                "'given', and hand every agent the latent at the start of an episode."
            )
        where = LatentSource(source, self.prior)
        net = cut_out_agent(self.net, agent, self.num_agents).cpu()
        if isinstance(net, (RecurrentPolicyNet, LatentUtilityNet)):
            return RecurrentAgent(net, where)
        assert self.low is not None
        assert self.high is not None
        assert isinstance(net, (LatentGaussianNet, DeterministicNet))
        return FeedForwardAgent(net, where, self.low[agent], self.high[agent])


def export_agents(
    policy: TensorDictModuleBase,
    folder: Path | str,
    *,
    format: Format = "torch",
    latent: LatentInput | None = None,
    about: Mapping[str, Any],
) -> list[Path]:
    """Write one file per agent: its actor alone, its latent's source, its action bounds.

    Args:
        policy: the policy of the team (greedy play: actions at the mean, or the most probable).
        folder: directory of the files ``agent_<i>.pt2`` or ``agent_<i>.onnx``.
        format: ``"torch"`` for programs of ``torch.export``, ``"onnx"`` for ONNX models.
        latent: ``"synchronized"`` (inputs seed, episode and step), ``"given"`` (input latent),
            ``"mean"`` or ``"constant"`` (no input); by default synchronized where an agent can.
        about: what the record says of the run: ``algorithm``, ``task`` and ``checkpoint``
            (a mapping with ``sha256`` and ``frame``).

    Returns:
        The files, in the order of the agents.

    Raises:
        ValueError: for an unknown format, or a latent that does not fit the policy.
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
    if format not in get_args(Format):
        raise ValueError(f"unknown format {format!r}; valid: {', '.join(get_args(Format))}.")
    if format == "onnx":
        for package in ("onnx", "onnxscript"):
            require_extra(package, "export", "Exporting to ONNX")
    team = TeamPolicy.of(policy)
    source = team.default_source() if latent is None else latent
    # All of them before the first file: a refusal leaves nothing behind.
    agents = [team.agent(index, source) for index in range(team.num_agents)]
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
    """Trace an agent for any number of rows.

    Args:
        agent: the agent.

    Returns:
        The program; it holds no path of this machine.
    """
    rows = Dim("rows", min=1)
    example = {name: _example(agent, name) for name in agent.inputs}
    shapes = {name: None if value.ndim == 0 else {0: rows} for name, value in example.items()}
    fixed = [name for name in example if name not in agent.source.inputs]
    clock = tuple(shapes[name] for name in agent.source.inputs)
    by_name: dict[str, Any] = {name: shapes[name] for name in fixed}
    if clock:
        by_name["clock"] = clock
    program = torch.export.export(agent, tuple(example.values()), dynamic_shapes=by_name)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    # They would be stored as a pickle.
    program.example_inputs = None
    return program


def _example(agent: FeedForwardAgent | RecurrentAgent, name: str) -> Tensor:
    shape = input_shapes(agent)[name]
    return torch.ones([2, *shape[1:]] if shape else [], dtype=getattr(torch, INPUT_TYPES[name]))


def serialize(program: ExportedProgram) -> bytes:
    """A program as the bytes of a PT2 archive, without pickles."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def to_onnx(agent: FeedForwardAgent | RecurrentAgent, program: ExportedProgram) -> bytes:
    """A program as an ONNX model that ``onnx.checker`` has accepted.

    Args:
        agent: the agent, which names inputs and outputs.
        program: its program.

    Returns:
        The serialized model.
    """
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
    """Without the converter's notes about packages that nothing here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
