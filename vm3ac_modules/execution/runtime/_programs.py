"""Loads and runs an agent's program: onnxruntime for ONNX models, torch for its own programs.

An ONNX model is data. A program of ``torch.export`` is code: torch evaluates expressions that stand
in it, so it is refused unless the caller vouches for it. Pickles in it are refused in any case.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.execution.runtime.agent_file import AgentFileError

Array = NDArray[Any]
# What a PT2 archive of ours holds; torch would unpickle none of it.
_HARMLESS = re.compile(
    r"[^/]+/(data/(weights/weight_\d+|constants/tensor_\d+|(weights|constants)/model_\w+\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|\.?data/(version|serialization_id)|version"
    r"|archive_format|archive_version|byteorder|\.format_version|extra/\w+)"
)


class Program(Protocol):
    """A program with positional inputs and outputs."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run it: arrays in the order of the record's inputs in, of its outputs out."""
        ...


def open_program(path: Path, record: Mapping[str, Any], *, trust: bool = False) -> Program:
    """Load the program of an agent's file; refused unless it is what the record says."""
    if path.suffix != ".onnx" and not trust:
        raise AgentFileError(
            f"{path} is a program of torch.export, which is code: loading it can run anything. If "
            "it is yours, say so (trust=True, or format=torch on the command line); agents of "
            "others should come as ONNX (vm3ac export format=onnx), which is data."
        )
    try:
        program = _OnnxProgram(path) if path.suffix == ".onnx" else _TorchProgram(path)
    except (ImportError, AgentFileError):
        raise
    except Exception as error:
        # Whatever a runtime makes of a spoiled model.
        first = (str(error).splitlines() or [""])[0][:200]
        raise AgentFileError(
            f"{path} cannot be loaded ({type(error).__name__}: {first})."
        ) from error
    for kind, found in (("inputs", program.inputs), ("outputs", program.outputs)):
        said = [entry["name"] for entry in record[kind]]
        if found is not None and found != said:
            raise AgentFileError(
                f"{path}: the program's {kind} are {', '.join(found)}, the record says "
                f"{', '.join(said)}; export the agents again."
            )
    return program


class _OnnxProgram:
    """An ONNX model in onnxruntime."""

    def __init__(self, path: Path) -> None:
        if find_spec("onnxruntime") is None:
            raise ImportError(
                f"Running {path.name} needs onnxruntime: pip install 'vm3ac-modules[export]', or "
                "pip install onnxruntime where torch shall not be installed."
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One agent's step is far too small to be shared among threads.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Its bytes, not its path: nothing beside the file is read as a part of it.
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs: list[str] | None = [entry.name for entry in self._session.get_inputs()]
        self.outputs: list[str] | None = [entry.name for entry in self._session.get_outputs()]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        assert self.inputs is not None
        return list(self._session.run(None, dict(zip(self.inputs, inputs, strict=True))))


class _TorchProgram:
    """A program of ``torch.export``."""

    inputs: list[str] | None = None
    outputs: list[str] | None = None

    def __init__(self, path: Path) -> None:
        if find_spec("torch") is None:
            raise ImportError(
                f"Running {path.name} needs torch. Where there is none, export the agents with "
                "--format onnx."
            )
        import torch

        _refuse_pickles(path)
        self._module = torch.export.load(path).module()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        import torch

        tensors = [torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in inputs]
        with torch.no_grad():
            return [value.numpy() for value in self._module(*tensors)]


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive with parts that ``torch.export.load`` would unpickle."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
        for name in file.namelist():
            if not _HARMLESS.fullmatch(name):
                raise AgentFileError(f"{path} holds {name}, which no agent's file has.")
            pickled = name.endswith("sample_inputs/model.pt") and file.getinfo(name).file_size
            if name.endswith("_config.json"):
                entries = json.loads(file.read(name))["config"].values()
                pickled = any(entry["use_pickle"] for entry in entries)
            if pickled:
                raise AgentFileError(
                    f"{path} holds pickled data ({name}), which could run any code: it is refused."
                )
