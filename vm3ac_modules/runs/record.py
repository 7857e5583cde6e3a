"""Files of a run: its directory, CSV and TensorBoard logs, versions and JSON."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vm3ac_modules.extras import require_extra
from vm3ac_modules.files import csv_text, write_text
from vm3ac_modules.runs.directory import SUM

__all__ = [
    "CsvLog",
    "TensorBoardLog",
    "git_commit",
    "read_csv_log",
    "read_yaml",
    "to_yaml",
    "versions",
]


LARGEST = 1_000_000
"""Bytes of the largest configuration that is read."""
MOST_ALIASES = 16
"""References of a YAML file to what stands before them."""


class CsvLog:
    """Append rows to a CSV file that survives a kill at any moment.

    Args:
        path: the file; must be new or empty unless ``resume_rows`` is given.
        resume_rows: keep so many rows of an existing file, and go on after them.

    Raises:
        FileExistsError: if the file has rows and ``resume_rows`` is not given.
        ValueError: if an existing file does not start with the column ``frame``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     log = CsvLog(f"{root}/metrics.csv")
        ...     log.write({"frame": 100, "loss": 0.5})
        ...     log.close()
        ...     read_csv_log(f"{root}/metrics.csv")
        {'frame': [100.0], 'loss': [0.5]}
    """

    def __init__(self, path: Path | str, *, resume_rows: int | None = None) -> None:
        path = Path(path)
        self._path = path
        self._columns: list[str] = []
        self.rows = 0
        if path.exists() and path.stat().st_size > 0:
            if resume_rows is None:
                raise FileExistsError(
                    f"{path} already has rows, and no run of this directory wrote them: move it "
                    "away."
                )
            self._columns, self.rows = _cut(path, resume_rows)
        # Options that add columns may be switched on at a resume.
        self._grows = self.rows > 0
        # One flushed write per row: a killed run can tear its last line only.
        self._file = path.open("a", buffering=1, newline="", encoding="utf-8")

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Append one row.

        Args:
            row: value per column, ``frame`` first; the first row fixes the columns, later rows
                may leave some out. The first row after a resume may add some, which are empty in
                the rows before.

        Raises:
            ValueError: if ``frame`` is missing or not first, or a column is unknown.
            OSError: if the file was removed meanwhile, or the disk is full.
        """
        if "frame" not in row or (not self._columns and next(iter(row)) != "frame"):
            raise ValueError(f"the first column must be 'frame', got {list(row)}.")
        unknown = [column for column in row if column not in self._columns]
        if self._grows and unknown:
            self._add_columns(unknown)
        elif self._columns and unknown:
            raise ValueError(
                f"unknown column(s) {', '.join(unknown)}: the first row fixed {self._columns}."
            )
        lines = []
        if not self._columns:
            self._columns = list(row)
            lines.append(self._columns)
        lines.append([_cell(row.get(column, "")) for column in self._columns])
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it was removed meanwhile", str(self._path))
        self._file.write(csv_text(lines))
        self._file.flush()
        self.rows, self._grows = self.rows + 1, False

    def _add_columns(self, names: Sequence[str]) -> None:
        self._columns = [*self._columns, *names]
        _, *found = _complete_rows(self._path)
        wider = [[*row, *[""] * len(names)] for row in found]
        self._file.close()
        write_text(self._path, csv_text([self._columns, *wider]))
        self._file = self._path.open("a", buffering=1, newline="", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cell(value: Any) -> str:
    # Zero-dimensional tensors and NumPy scalars would print their type.
    return str(value if isinstance(value, str) or type(value) is int else float(value))


def _complete_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        text = file.read()
    # What follows the last newline was torn by a kill.
    try:
        return list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is no log of a run: {error}.") from error


def _cut(path: Path, rows: int) -> tuple[list[str], int]:
    header, *found = _complete_rows(path) or [[]]
    if header and header[0] != "frame":
        raise ValueError(f"{path} is not a log of a run: its first column is {header[0]!r}.")
    if len(found) < rows:
        raise ValueError(
            f"{path} has {len(found)} rows, but the checkpoint was written after {rows}: rows "
            "were removed since; put them back, or remove the file to go on without them."
        )
    kept = found[:rows]
    # Without a row the next one names the columns.
    write_text(path, csv_text([header, *kept]) if kept else "")
    return (header if kept else []), len(kept)


def to_yaml(data: Mapping[str, Any]) -> str:
    """A nested mapping as YAML, in the order given.

    Args:
        data: plain Python values.

    Raises:
        ImportError: if PyYAML is not installed; names the extra.
    """
    require_extra("yaml", "recipes", "Writing config.yaml")
    import yaml

    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    return text


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a file that :func:`to_yaml` wrote.

    Args:
        path: the file.

    Raises:
        ImportError: if PyYAML is not installed; names the extra.
        ValueError: if it is no YAML, asks for objects of Python, or holds no mapping.
    """
    require_extra("yaml", "recipes", "Reading config.yaml")
    import yaml

    try:
        text = Path(path).read_bytes()
        # Each may double what a file of a few bytes unfolds to.
        aliases = sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        data = yaml.safe_load(text) if aliases <= MOST_ALIASES else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({type(error).__name__}).") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no mapping of options.")
    return data


def write_config(path: Path | str, config: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` with its own checksum as its last line.

    Args:
        path: the file.
        config: plain Python values.
    """
    text = to_yaml(config)
    write_text(path, f"{text}{SUM}{hashlib.sha256(text.encode()).hexdigest()}\n")


def read_config(path: Path | str) -> dict[str, Any]:
    """Read a ``config.yaml``; one without a checksum is of an older version, and is believed.

    Args:
        path: the file.

    Raises:
        ImportError: if PyYAML is not installed; names the extra.
        ValueError: if it is no configuration, was damaged, or was changed since it was written.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes: it is no configuration of a run."
        )
    content = path.read_bytes()
    head, mark, said = content.rpartition(SUM.encode())
    if mark and hashlib.sha256(head).hexdigest().encode() != said.strip():
        raise ValueError(
            f"{path} was damaged, or changed by hand: its checksum differs. Give what shall change "
            "on the command line; to go on with the file as it is, remove its line "
            f"{SUM.strip()!r}."
        )
    return read_yaml(path)


def read_csv_log(path: Path | str) -> dict[str, list[float]]:
    """Read a log by column.

    Args:
        path: a file written by :class:`CsvLog`, possibly by a run that is still going.

    Returns:
        The values of each column; NaN for an empty, missing or textual cell.

    Raises:
        ValueError: if it is no CSV.
    """

    def number(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return float("nan")

    header, *rows = _complete_rows(Path(path)) or [[]]
    return {
        name: [number(row[i]) if i < len(row) else math.nan for row in rows]
        for i, name in enumerate(header)
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on.

    Returns:
        Version per name; packages that are not installed are left out.

    Example:
        >>> sorted(versions())[:3]
        ['python', 'tensordict', 'torch']
    """
    found = {"python": platform.python_version()}
    for name in ("torch", "torchrl", "tensordict", "vm3ac-modules", "vmas"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def writer() -> dict[str, str | None]:
    """Versions and commit of what writes, asked once a process."""
    return {**versions(), "git_commit": git_commit()}


def git_commit(path: Path | str | None = None) -> str | None:
    """The commit of a checkout, with ``-dirty`` if tracked files differ from it.

    Args:
        path: a directory of the checkout; this package's own by default.

    Returns:
        The commit, or None if there is no checkout or no git.
    """
    here = Path(__file__)
    directory = here.parent if path is None else Path(path)

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(directory), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside the checkout of something else.
    if path is None and git("ls-files", "--error-unmatch", here.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


class TensorBoardLog:
    """Write the numbers of each row as TensorBoard scalars.

    Args:
        path: directory of the event files.
        resume_frame: hide what an earlier, killed run wrote after this frame.

    Raises:
        ImportError: if tensorboard is not installed; names the extra.
    """

    def __init__(self, path: Path | str, *, resume_frame: int | None = None) -> None:
        require_extra("tensorboard", "recipes", "The TensorBoard log")
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_frame is None else resume_frame + 1
        self._writer = SummaryWriter(str(path), purge_step=purge)

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Write one row at its ``frame``; text is left out.

        Args:
            row: value per column, ``frame`` included.
        """
        for name, value in row.items():
            if name != "frame" and not isinstance(value, str):
                self._writer.add_scalar(name, value, int(row["frame"]))

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
