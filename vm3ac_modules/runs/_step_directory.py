"""How ``checkpoint/step_<n>/`` and ``checkpoint/latest`` are replaced atomically."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vm3ac_modules.files import write_text

LONGEST = 64
STEP = re.compile(r"(\.tmp_)?step_[0-9]{1,18}")
TEMPORARY = ".tmp_"
"""Prefix of what a save has not completed."""


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, to tell later whether it is still whole."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    if os.name == "nt":  # directories cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _point(folder: Path, name: str) -> None:
    write_text(folder / "latest", name + "\n")
    sync_directory(folder)


@contextmanager
def new_step(folder: Path, frame: int) -> Iterator[Path]:
    """A step's directory that is being written, gone again if that fails.

    On a full disk it would take the room of what is whole.
    """
    temporary = folder / f"{TEMPORARY}step_{frame}"
    temporary.mkdir()
    try:
        yield temporary
    except (OSError, RuntimeError):
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def promote(temporary: Path) -> Path:
    """Give a complete temporary directory its final name, and point ``latest`` to it."""
    folder = temporary.parent
    final = folder / temporary.name.removeprefix(TEMPORARY)
    if final.exists():
        # A step saved twice: point to the new, complete one before the old one goes.
        _point(folder, temporary.name)
        shutil.rmtree(final)
    os.replace(temporary, final)
    sync_directory(folder)
    _point(folder, final.name)
    return final


def pointed(folder: Path) -> Path:
    """The step that ``latest`` names, which may not exist; a ValueError if it names no step."""
    with (folder / "latest").open("rb") as file:
        text = file.read(LONGEST)
    name = text.decode("ascii", "replace").strip()
    # Nothing else is followed: a path could lead out of the directory.
    if not STEP.fullmatch(name):
        raise ValueError(f"names {name!r}, which is no step of a checkpoint")
    if (folder / name).is_dir():
        return folder / name
    return folder / name.removeprefix(TEMPORARY)


def clean(folder: Path) -> None:
    """Finish what a killed save had completed, and remove what it had not."""
    try:
        last = pointed(folder)
    except (OSError, ValueError):
        # None yet, or one that somebody spoiled: the save that follows writes it anew.
        last = folder
    if last.name.startswith(TEMPORARY):
        promote(last)
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def steps(folder: Path) -> list[int]:
    """Frames of the complete steps, in rising order."""
    names = (path.name.removeprefix("step_") for path in folder.glob("step_*"))
    return sorted(int(name) for name in names if name.isdigit())
