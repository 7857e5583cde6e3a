"""Files that readers see whole: replaced at once, never in part."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["write_json", "write_text"]


def write_text(path: Path | str, text: str) -> None:
    """Replace a file atomically: readers see the old or the new text, never a part.

    Args:
        path: the file.
        text: its new content.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp_{path.name}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path | str, data: Any) -> None:
    """Write JSON atomically, indented, in the order given.

    Args:
        path: the file.
        data: JSON-serializable data.

    Raises:
        TypeError: if the data is not JSON-serializable; the file is then left as it was.
    """
    write_text(path, json.dumps(data, indent=2) + "\n")
