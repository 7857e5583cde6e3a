"""The file of one agent: a program and the record that describes it.

An agent's file is a complete program of ``torch.export`` (``.pt2``) or ONNX model (``.onnx``). It
carries a JSON record with names, shapes and units of inputs and outputs, the
latent's law, versions, and two hashes: of the program, and of the checkpoint that it comes from.
The standard library is all that is needed to read the record.

Source: the layout of ``onnx.proto`` (ModelProto, field 14) and of PT2 archives (zip).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vm3ac_modules.files import write_bytes

__all__ = ["FORMATS", "RECORD", "AgentFileError", "read_record", "write_agent_file"]

FORMATS = {"torch": ".pt2", "onnx": ".onnx"}
"""Formats of an agent's file and their suffixes."""
RECORD = "vm3ac_agent"
"""Name of the record: a metadata property of an ONNX model, an extra file of a PT2 archive."""
RECORD_VERSION = 1
NEEDED = {"agent", "num_agents", "algorithm", "task", "checkpoint", "latent", "recurrent", "inputs"}
"""What a team's records must say."""


LARGEST = 2_000_000_000
"""Bytes of the largest file that is read."""
LARGEST_SIZE = 1_000_000
"""Largest size of an input or output."""
UNREADABLE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError),
    *(NotImplementedError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error, EOFError),
)
"""What reading a spoiled file can raise."""


class AgentFileError(RuntimeError):
    """An agent's file is missing, damaged, or does not belong where it was put."""


def write_agent_file(path: Path | str, program: bytes, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a program and its record into one file, atomically.

    Args:
        path: the file; its suffix says the format.
        program: what ``torch.export.save`` or ONNX's serialization gave.
        record: JSON-serializable; versions of the record and the program's hash are added.

    Returns:
        The record as written.

    Raises:
        AgentFileError: for another suffix.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("onnx")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_agent_file(f"{folder}/a.onnx", b"", {"agent": 0})
        ...     read_record(f"{folder}/a.onnx")["agent"]
        0
    """
    path = Path(path)
    kind = _format_of(path)
    full = {
        "format": RECORD,
        "format_version": RECORD_VERSION,
        **record,
        "program_sha256": _hash_zip(program) if kind == "torch" else _sha256(program),
    }
    full["record_sha256"] = _hash_record(full)
    text = json.dumps(full, indent=1).encode()
    whole = _zip_with(program, text) if kind == "torch" else _onnx_with(program, text)
    write_bytes(path, whole)
    return full


def read_record(path: Path | str) -> dict[str, Any]:
    """Read an agent's record, after checking that it belongs to the program beside it.

    Args:
        path: the agent's file.

    Returns:
        The record.

    Raises:
        AgentFileError: if there is no such file, it is no agent's file, the program is not the one
            that the record was written for, or the record was changed.
    """
    path = Path(path)
    kind = _format_of(path)
    if not path.is_file():
        raise AgentFileError(f"there is no file {path}: write it with vm3ac export run_dir=DIR.")
    try:
        content = _content(path)
        program, text = (_split_zip if kind == "torch" else _split_onnx)(content)
        record: dict[str, Any] = json.loads(text)
        known, version = record["format"] == RECORD, record["format_version"]
        said = {name: str(record[name]) for name in ("program_sha256", "record_sha256")}
        found = {"program_sha256": program, "record_sha256": _hash_record(record)}
    except (*UNREADABLE, RuntimeError) as error:
        raise AgentFileError(
            f"{path} is no agent's file, or damaged ({error}); export the agents again."
        ) from error
    if not known or version != RECORD_VERSION:
        raise AgentFileError(
            f"{path} has format version {version}, this package reads {RECORD_VERSION}; export the "
            "agents again."
        )
    problems = {
        "program_sha256": "the record does not belong to the weights beside it",
        "record_sha256": "the record was changed after it was written",
    }
    for name, problem in problems.items():
        if said[name] != found[name]:
            raise AgentFileError(
                f"{path}: {problem} (hash {found[name][:12]}, the record says {said[name][:12]}); "
                "export the agents again."
            )
    check_record(path, record)
    return record


def check_record(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a record whose fields are not what a program that runs it relies on."""
    wrong = [name for name in ("inputs", "outputs") if not _are_entries(record.get(name, []))]
    latent = record.get("latent", {})
    if not isinstance(latent, Mapping) or not isinstance(
        latent.get("prior", {}), (Mapping, type(None))
    ):
        wrong.append("latent")
    if "checkpoint" in record and not isinstance(record["checkpoint"], Mapping):
        wrong.append("checkpoint")
    for name in ("agent", "num_agents"):
        number = record.get(name, 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
            wrong.append(name)
    if wrong:
        raise AgentFileError(
            f"{path}: its record says what no agent has under {', '.join(wrong)}; export the "
            "agents again."
        )


def _are_entries(entries: Any) -> bool:
    """Whether these are inputs or outputs: a name, and a shape of at most two sizes, each."""
    return isinstance(entries, list) and all(
        isinstance(entry, Mapping)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("shape"), list)
        and len(entry["shape"]) <= 2
        and all(size == "rows" or _is_size(size) for size in entry["shape"])
        for entry in entries
    )


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 < size <= LARGEST_SIZE


def _content(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size} bytes")
    return path.read_bytes()


def check_team(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """The records of a team's files, after checking that they belong together."""
    if not paths:
        raise AgentFileError("no agent's file was given.")
    records = [read_record(path) for path in paths]
    for path, record in zip(paths, records, strict=True):
        missing = sorted(NEEDED - set(record))
        if missing:
            raise AgentFileError(f"{path}: its record lacks {', '.join(missing)}.")
    first = records[0]
    for path, record in zip(paths, records, strict=True):
        if record["checkpoint"]["sha256"] != first["checkpoint"]["sha256"]:
            raise AgentFileError(
                f"{path} comes from another run than {paths[0]}: checkpoint "
                f"{record['checkpoint']['sha256'][:12]} ({_described(record)}) instead of "
                f"{first['checkpoint']['sha256'][:12]} ({_described(first)}). "
                "Export all agents of one run together."
            )
        if record["latent"]["source"] != first["latent"]["source"]:
            raise AgentFileError(
                f"{path} was exported with latent {record['latent']['source']!r}, {paths[0]} with "
                f"{first['latent']['source']!r}: a team needs the same."
            )
    agents = [record["agent"] for record in records]
    if agents != list(range(first["num_agents"])):
        raise AgentFileError(
            f"a team of {first['num_agents']} agents needs each agent's file once and in order, "
            f"got agents {agents}."
        )
    return records


def _described(record: Mapping[str, Any]) -> str:
    return f"{record['algorithm']} on {record['task']}, frame {record['checkpoint']['frame']}"


def _format_of(path: Path) -> str:
    for name, suffix in FORMATS.items():
        if path.suffix == suffix:
            return name
    raise AgentFileError(
        f"{path} is no agent's file: their names end in {' or '.join(FORMATS.values())}."
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_record(record: Mapping[str, Any]) -> str:
    """Hash of a record without its own hash."""
    rest = {name: value for name, value in record.items() if name != "record_sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _hash_zip(archive: bytes) -> str:
    """Hash of names and contents, whatever the archive's own order and dates."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for name in sorted(file.namelist()):
            if not name.endswith(f"/extra/{RECORD}"):
                digest.update(f"{name}\0{file.getinfo(name).file_size}\0".encode())
                digest.update(file.read(name))
    return digest.hexdigest()


def _zip_with(archive: bytes, text: bytes) -> bytes:
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as file:
        root = file.namelist()[0].split("/", 1)[0]
        # The archive's place for extra files: torch.export.load(..., extra_files=) finds it too.
        file.writestr(f"{root}/extra/{RECORD}", text)
    return buffer.getvalue()


def _split_zip(archive: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        entries = file.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it holds compressed parts, which no agent's file has")
        if sum(entry.file_size for entry in entries) > len(archive):
            raise ValueError("it declares more than it holds")
        names = [name for name in file.namelist() if name.endswith(f"/extra/{RECORD}")]
        if len(names) != 1:
            raise ValueError("it has no record")
        text = file.read(names[0])
    return _hash_zip(archive), text


def _onnx_with(program: bytes, text: bytes) -> bytes:
    import onnx

    entry = onnx.StringStringEntryProto(key=RECORD, value=text.decode())
    # Protobuf reads messages that lie one behind the other as one.
    return program + onnx.ModelProto(metadata_props=[entry]).SerializeToString()


def _split_onnx(model: bytes) -> tuple[str, bytes]:
    """Take a model apart without parsing it.

    The hash is checked before onnxruntime parses the model, and ``onnx`` is not installed where
    agents run. So this looks from the end for the record's key, which JSON cannot hold, and
    accepts nothing around it but the lengths that are true.
    """
    key = b"\x0a" + _length(len(RECORD)) + RECORD.encode() + b"\x12"
    at = model.rfind(key)
    if at < 0:
        raise ValueError("it has no record")
    # Field 14 of ModelProto, and the length of its one entry.
    head = b"\x72" + _length(len(model) - at)
    value = model[at + len(key) :]
    for digits in range(1, 6):
        if value.startswith(_length(len(value) - digits)) and model[:at].endswith(head):
            return _sha256(model[: at - len(head)]), value[digits:]
    raise ValueError("it was cut, or something was written behind its record")


def _length(size: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the last below 128."""
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*out, max(size, 0)])
