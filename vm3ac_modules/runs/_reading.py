"""Files of a checkpoint that somebody else may have written: read without believing them.

Nothing in them is executed, no path leads out of the directory, and what they declare is compared
with what they hold before memory is taken.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGEST_META = 4_000_000
"""Bytes of the largest file of JSON that is read."""
DEEPEST = 64


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a file of JSON holds; a ValueError says why it holds none."""
    if path.stat().st_size > LARGEST_META:
        raise ValueError(f"has {path.stat().st_size} bytes, which no {path.name} has")
    try:
        found = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("holds no mapping")
    return found


def read_meta(path: Path) -> dict[str, Any]:
    """What ``meta.json`` says, a mapping with a version; a ValueError says why it is none."""
    meta = read_json(path)
    if not is_whole(meta.get("version")):
        raise ValueError("does not say its version")
    return meta


def check_meta(meta: Mapping[str, Any], state: str) -> None:
    """Check the fields that this version reads; a ValueError says which one is wrong."""
    files, config = meta.get("files"), meta.get("config")
    if not is_whole(meta.get("frame")):
        raise ValueError("says no frame")
    if not isinstance(config, dict) or is_deeper(config, DEEPEST):
        raise ValueError("holds no configuration")
    if not isinstance(meta.get("config_hash"), str):
        raise ValueError("says no hash of its configuration")
    if not isinstance(files, dict) or not _is_mark(files.get(state)):
        raise ValueError(f"does not say what {state} holds")
    if "replay" not in meta or not isinstance(meta["replay"], (dict, type(None))):
        raise ValueError("does not say what the replay holds")


def is_whole(value: Any) -> bool:
    """Whether a value is a count: an integer that is not negative, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_mark(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and is_whole(value.get("size"))
        and isinstance(value.get("sha256"), str)
    )


def is_deeper(value: Any, depth: int) -> bool:
    """Whether mappings and lists are nested in more levels."""
    if depth == 0:
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(is_deeper(part, depth - 1) for part in parts)


def load_tensors(path: Path) -> dict[str, Any]:
    """Load what ``torch.save`` wrote as plain values; a ValueError says what is wrong."""
    _check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever a spoiled archive makes torch raise: nothing of it was kept.
        first = str(error).splitlines()[0] if str(error) else ""
        raise ValueError(f"cannot be read ({type(error).__name__}: {first[:200]})") from error
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__}, not a dictionary")
    _check_tensors(found)
    return found


def _check_archive(path: Path) -> None:
    """Refuse archives that grow when they are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is no archive of torch ({error})") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("holds compressed parts, which torch does not write")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("declares more than it holds")


def _check_tensors(value: Any) -> None:
    """Refuse tensors that declare more than their memory, and values nested without end."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError("is nested too deeply")
        if isinstance(part, Tensor):
            if part.layout is not torch.strided or part.is_quantized or part.device.type != "cpu":
                raise ValueError(f"holds a tensor of a kind that no checkpoint has ({part.layout})")
            if part.numel() * part.element_size() > part.untyped_storage().nbytes():
                raise ValueError(f"declares a tensor {list(part.shape)} that it does not hold")
        elif isinstance(part, (dict, list, tuple, set)) and id(part) not in seen:
            seen.add(id(part))
            inner = part.values() if isinstance(part, dict) else part
            waiting += [(one, depth + 1) for one in inner]
