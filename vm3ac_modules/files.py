"""Files that readers see whole: replaced at once, never in part."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["csv_text", "write_bytes", "write_csv", "write_json", "write_text"]


def write_text(path: Path | str, text: str) -> None:
    """Replace a file atomically: readers see the old or the new text, never a part.

    Args:
        path: the file.
        text: its new content.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path | str, content: bytes) -> None:
    """The same for bytes.

    Args:
        path: the file.
        content: its new content.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp_{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # A full disk is not filled further by halves of files.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path | str, data: Any) -> None:
    """Write JSON atomically, indented, in the order given; null for what is not finite.

    Args:
        path: the file.
        data: JSON-serializable data.

    Raises:
        TypeError: if the data is not JSON-serializable; the file is then left as it was.
    """
    write_text(path, json.dumps(finite(data), indent=2, allow_nan=False) + "\n")


def finite(data: Any) -> Any:
    """The same data with None for NaN and infinities, which JSON has no words for.

    Args:
        data: mappings, lists and plain values.
    """
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Rows as CSV.

    Args:
        rows: the cells of every row, the header first.

    Example:
        >>> csv_text([["a", "b"], [1, "x,y"]])
        'a,b\n1,"x,y"\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_csv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV atomically; the first row gives the columns, later ones may leave some out.

    Args:
        path: the file.
        rows: value per column.

    Raises:
        ValueError: for a row with a column that the first one lacks.
    """
    columns = list(rows[0])
    for row in rows:
        if extra := row.keys() - rows[0].keys():
            raise ValueError(f"{path}: the first row has no column {', '.join(sorted(extra))}.")
    cells = [[row.get(name, "") for name in columns] for row in rows]
    write_text(path, csv_text([columns, *cells]))
