"""The file of one agent: a program and what one must know to run it, in one piece.

An agent's file is what ``torch.export`` or ONNX writes (``.pt2`` or ``.onnx``), and whatever reads
those reads it. It carries a JSON record with names, shapes and units of inputs and outputs, the
latent's law, versions, and two hashes: of the program, and of the checkpoint that it comes from.
Only NumPy and the standard library are needed to read the record.

Source: the layout of ``onnx.proto`` (ModelProto, field 14) and of PT2 archives (zip).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "FORMATS",
    "RECORD",
    "AgentFileError",
    "check_team",
    "read_record",
    "write_agent_file",
]

FORMATS = {"torch": ".pt2", "onnx": ".onnx"}
"""Formats of an agent's file and their suffixes."""
RECORD = "vm3ac_agent"
"""Name of the record: a metadata property of an ONNX model, an extra file of a PT2 archive."""
RECORD_VERSION = 1
NEEDED = {"agent", "num_agents", "algorithm", "task", "checkpoint", "latent", "recurrent", "inputs"}
"""What a team's records must say."""
# Field 14 of ModelProto, StringStringEntryProto, as a length-delimited field of protobuf.
_METADATA_TAG = 14 << 3 | 2
_KEY_TAG, _VALUE_TAG = 1 << 3 | 2, 2 << 3 | 2


class AgentFileError(RuntimeError):
    """An agent's file is missing, damaged, or does not belong where it was put."""


def write_agent_file(path: Path | str, program: bytes, record: Mapping[str, Any]) -> dict[str, Any]:
    """Join a program and its record in one file, atomically.

    Args:
        path: the file; its suffix says the format.
        program: what ``torch.export.save`` or ONNX's serialization gave.
        record: JSON-serializable; versions of the record and the program's hash are added.

    Returns:
        The record as written.

    Raises:
        AgentFileError: for another suffix.

    Example:
        >>> import tempfile
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
    whole = _zip_with(program, text) if kind == "torch" else program + _onnx_property(text)
    temporary = path.with_name(f".tmp_{path.name}")
    temporary.write_bytes(whole)
    os.replace(temporary, path)
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
        raise AgentFileError(
            f"there is no file {path}: write it with recipes/export_agents.py RUN_DIR."
        )
    try:
        program, text = (_split_zip if kind == "torch" else _split_onnx)(path.read_bytes())
        record: dict[str, Any] = json.loads(text)
        known, version = record["format"] == RECORD, record["format_version"]
        said = {name: str(record[name]) for name in ("program_sha256", "record_sha256")}
        found = {"program_sha256": program, "record_sha256": _hash_record(record)}
    except (ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
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
    return record


def check_team(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """Read the records of a whole team, in the order of its agents, and check that they are one.

    Args:
        paths: files of all agents, in the order of the agents.

    Returns:
        Their records.

    Raises:
        AgentFileError: if an agent is missing or twice there, or comes from another checkpoint.
    """
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
    """Hash of all that a record says but its own hash."""
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
        names = [name for name in file.namelist() if name.endswith(f"/extra/{RECORD}")]
        if len(names) != 1:
            raise ValueError("it has no record")
        text = file.read(names[0])
    return _hash_zip(archive), text


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _onnx_property(text: bytes) -> bytes:
    """A metadata property as bytes: protobuf messages are extended by writing behind them."""
    key = RECORD.encode()
    entry = bytes([_KEY_TAG]) + _varint(len(key)) + key
    entry += bytes([_VALUE_TAG]) + _varint(len(text)) + text
    return bytes([_METADATA_TAG]) + _varint(len(entry)) + entry


def _split_onnx(model: bytes) -> tuple[str, bytes]:
    start = None
    for tag, start, content in _fields(model):
        if tag != _METADATA_TAG:
            continue
        entry = {tag: value for tag, _, value in _fields(content)}
        if entry.get(_KEY_TAG) == RECORD.encode():
            if start + len(_onnx_property(entry[_VALUE_TAG])) != len(model):
                raise ValueError("something was written behind its record")
            return _sha256(model[:start]), entry[_VALUE_TAG]
    raise ValueError("it has no record")


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Tag, start and content of a protobuf message's fields, one level deep."""
    sizes = {1: 8, 5: 4}
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        if tag & 7 == 0:
            _, end = _read_varint(message, at)
        elif tag & 7 == 2:
            length, at = _read_varint(message, at)
            end = at + length
        elif tag & 7 in sizes:
            end = at + sizes[tag & 7]
        else:
            raise ValueError("it is not a protobuf message")
        if end > len(message):
            raise ValueError("it was cut")
        yield tag, start, message[at:end]
        at = end


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    # Protobuf's numbers have 64 bits, seven a byte.
    while shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("it is not a protobuf message")
