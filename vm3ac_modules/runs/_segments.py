"""The replay in a checkpoint: files of the items that came since the last one.

A checkpoint every minute then writes what a minute collects, not the whole replay. A segment is
named by the numbers of its items, counted from the first that ever went in; a step of the
checkpoint lists those that it needs, and files that no step needs are removed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase

from vm3ac_modules.runs._step_directory import TEMPORARY, fingerprint, sync_directory

FOLDER = "replay"
NAME = re.compile(r"items_\d{1,19}_\d{1,19}_frame_\d{1,19}\.pt")


class Segment(NamedTuple):
    """A file of consecutive items."""

    name: str
    first: int
    end: int
    size: int
    sha256: str


class ReplayFiles(NamedTuple):
    """What a step of a checkpoint says of the replay."""

    written: int
    """Items that had gone in so far."""
    held: int
    """Items that are still there: the newest."""
    segments: tuple[Segment, ...]
    batch_dims: int = 1
    """Batch dimensions of the items: 1 for transitions, 2 for episodes."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**self._asdict(), "segments": [segment._asdict() for segment in self.segments]}

    @classmethod
    def of(cls, data: dict[str, Any]) -> ReplayFiles:
        """Undo :meth:`to_dict`; a ValueError says what cannot be."""
        segments = tuple(Segment(**segment) for segment in data["segments"])
        for part in segments:
            # A name with a path in it would lead out of the directory.
            if not NAME.fullmatch(part.name):
                raise ValueError(f"a file of the replay is called {part.name!r}")
            if not 0 <= part.first < part.end or part.size < 0:
                raise ValueError(f"{part.name} holds the items {part.first} to {part.end}")
        for part, following in pairwise(segments):
            if following.first != part.end:
                raise ValueError(f"{following.name} does not follow {part.name}")
        written, held, dims = data["written"], data["held"], data["batch_dims"]
        if not 0 <= held <= written or dims not in (1, 2):
            raise ValueError(f"the replay holds {held} of {written} items, {dims} dimensions")
        if held and not (segments and segments[0].first <= written - held < segments[-1].end):
            raise ValueError(f"the files do not hold the newest {held} of {written} items")
        if segments and segments[-1].end != written:
            raise ValueError(f"the files end with item {segments[-1].end}, not {written}")
        return cls(written, held, segments, dims)


def write_segments(
    folder: Path,
    before: ReplayFiles | None,
    rows: Callable[[int, int], TensorDictBase],
    *,
    written: int,
    held: int,
    frame: int,
) -> ReplayFiles:
    """Write the items that no segment has yet."""
    oldest = written - held
    kept = [s for s in (before.segments if before else ()) if s.end > oldest]
    start = max(kept[-1].end if kept else oldest, oldest)
    dims = rows(written - 1, written).batch_dims
    if start < written:
        place = folder / FOLDER
        place.mkdir(parents=True, exist_ok=True)
        # The frame tells segments apart from those of a future that a resume has abandoned.
        name = f"items_{start}_{written}_frame_{frame}.pt"
        temporary = place / f"{TEMPORARY}{name}"
        content = rows(start, written).flatten_keys(".").to_dict()
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        mark = fingerprint(temporary)
        os.replace(temporary, place / name)
        sync_directory(place)
        kept.append(Segment(name, start, written, **mark))
    return ReplayFiles(written, held, tuple(kept), dims)


def joined(
    files: ReplayFiles, read: Callable[[Path, dict[str, Any]], dict[str, Any]], folder: Path
) -> TensorDictBase:
    """The items that were held, oldest first."""
    oldest, parts = files.written - files.held, []
    for segment in files.segments:
        content = read(folder / FOLDER / segment.name, segment._asdict())
        if not content:
            raise ValueError(f"{segment.name} is empty")
        shape = next(iter(content.values())).shape[: files.batch_dims]
        if shape[0] != segment.end - segment.first:
            raise ValueError(f"{segment.name} holds {shape[0]} items")
        rows = TensorDict(content, shape).unflatten_keys(".")
        parts.append(rows[max(oldest - segment.first, 0) :])
    items = torch.cat(parts)
    if len(items) != files.held:
        raise ValueError(f"{len(items)} items instead of {files.held}")
    return items


def remove_unlisted(folder: Path, steps: Iterable[Path]) -> None:
    """Remove segments that no step of a checkpoint lists."""
    needed: set[str] = set()
    for step in steps:
        needed.update(_listed(step))
    for file in (folder / FOLDER).glob("*"):
        if file.name not in needed:
            file.unlink()


def _listed(step: Path) -> Sequence[str]:
    try:
        meta = json.loads((step / "meta.json").read_text(encoding="utf-8"))
        return [segment["name"] for segment in meta["replay"]["segments"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
