"""The directory of a run: refused, resumed or cleared, but never shared by two runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunDirectoryError", "open_run_directory"]

LOCK = ".lock"

SUM = "# sha256 of the lines above: "
"""How the last line of a run's config.yaml begins."""
_MARKS = ("config.yaml", "metrics.csv", "summary.json", "checkpoint")
_FOLDERS = ("checkpoint", "agents", "logs")
_FILES = (
    *_MARKS[:3],
    "eval.csv",
    *(f"evaluation.{form}" for form in ("json", "png", "svg", "pdf")),
    *(f"decentralized.{form}" for form in ("json", "csv")),
    "curve.png",
    "rollout*.gif",
    "rollout*.mp4",
    "report.html",
    "events.out.tfevents.*",
    ".tmp_*",
)


class RunDirectoryError(RuntimeError):
    """A run directory cannot be used as asked."""


def check_run_directory(path: Path | str, *, resume: bool, overwrite: bool) -> None:
    """Refuse a directory that a run cannot use as asked; nothing is written."""
    path = Path(path)
    if resume and overwrite:
        raise RunDirectoryError(
            "resume=true and overwrite=true contradict each other; give one of them."
        )
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file; give run_dir=<a directory>.")
    holds_run = _holds_run(path)
    if resume and not holds_run:
        raise RunDirectoryError(
            f"nothing to resume: {path} holds no run; leave out resume=true to start one."
        )
    told = _is_told(path) or any(map(_is_told, _seeds(path)))
    if told and not (resume or overwrite):
        raise RunDirectoryError(
            f"{path} already holds a run; give resume=true to go on with it, overwrite=true to "
            "replace it, or another run_dir."
        )
    if overwrite and holds_run and not _is_run(path):
        raise RunDirectoryError(
            f"{path} holds no run of its own but runs in seed_*, which overwrite=true would "
            "remove; give one of them as run_dir."
        )
    if not (resume or told) and (others := _in_the_way(path)):
        raise RunDirectoryError(
            f"{path} holds no run, but {others[0].name}, which a run writes, too, and "
            "overwrite=true does not remove: move it away, or give another run_dir."
        )


def open_run_directory(path: Path | str, *, resume: bool, overwrite: bool) -> Path:
    """Make a directory ready for a run, without ever mixing two runs.

    Args:
        path: the directory; created if missing.
        resume: go on with the run that it holds.
        overwrite: remove the run that it holds first; files that are not a run's are kept. Where
            there is no run, nothing is removed.

    Returns:
        The directory.

    Raises:
        RunDirectoryError: if it holds a run and neither flag is given, if there is nothing to
            resume, if both flags are given, if files of other origin would be overwritten, if
            another process trains one of its seeds, or if the path is a file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     open_run_directory(f"{root}/run", resume=False, overwrite=False).name
        'run'
    """
    check_run_directory(path, resume=resume, overwrite=overwrite)
    path = Path(path)
    if overwrite and _is_told(path):
        for folder in filter(_is_told, _seeds(path)):
            # One of them may be trained alone by another process.
            RunLock(folder).release()
        _remove_run(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


class RunLock:
    """Keep other processes out of a run's directory; the system lets go when a process ends."""

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        self._file = (path / LOCK).open("a+", encoding="utf-8")
        if fcntl is None:  # no such locks on this system
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            if not isinstance(error, BlockingIOError):
                raise  # a file system without locks, say
            raise RunDirectoryError(
                f"{path} is in use by another process ({owner}); wait for it, or give another "
                "run_dir."
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}")
        self._file.flush()

    def release(self) -> None:
        """Release the directory to other processes."""
        self._file.close()


def _is_run(path: Path) -> bool:
    return any((path / mark).exists() for mark in _MARKS)


def _holds_run(path: Path) -> bool:
    return _is_run(path) or any(map(_holds_run, _seeds(path)))


def _seeds(path: Path) -> list[Path]:
    folders = path.glob("seed_*")
    return [folder for folder in folders if folder.is_dir() and folder.name[5:].isdigit()]


def _is_told(path: Path) -> bool:
    """Whether there is a run for certain: its sealed configuration, a checkpoint, its summary."""
    marks = {"config.yaml": SUM, "summary.json": '"git_commit"'}
    told = (
        mark in (path / name).read_text(encoding="utf-8", errors="replace")
        for name, mark in marks.items()
        if (path / name).is_file()
    )
    return any(told) or any(path.glob("checkpoint/step_*/meta.json"))


def _in_the_way(path: Path) -> list[Path]:
    """What a run would write over: its files and folders, by name; not what a kill left."""
    found = [file for pattern in _FILES[:-1] for file in path.glob(pattern)]
    return found + [path / name for name in _FOLDERS if (path / name).exists()]


def _remove_run(path: Path) -> None:
    for pattern in _FILES:
        for file in path.glob(pattern):
            if file.is_file() or file.is_symlink():
                file.unlink()
    whole = [path / name for name in _FOLDERS]
    for folder in [*whole, *_seeds(path)]:
        # A link is the run's, what it points to may not be.
        if folder.is_symlink():
            folder.unlink()
        elif folder in whole and folder.is_dir():
            shutil.rmtree(folder)
        elif folder.is_dir() and _is_told(folder):
            _remove_run(folder)
            (folder / LOCK).unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
