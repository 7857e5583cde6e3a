"""Checkpoints that a kill at any moment cannot spoil."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase

from vm3ac_modules.files import write_text
from vm3ac_modules.runs._configs import config_hash, differences
from vm3ac_modules.runs._migrations import MIGRATIONS, READERS, VERSION, migrated
from vm3ac_modules.runs._plain import check_plain
from vm3ac_modules.runs._reading import check_meta, load_tensors, read_meta
from vm3ac_modules.runs._segments import (
    FOLDER,
    ReplayFiles,
    joined,
    remove_unlisted,
    write_segments,
)
from vm3ac_modules.runs._step_directory import (
    clean,
    fingerprint,
    new_step,
    pointed,
    promote,
    steps,
    sync_directory,
)
from vm3ac_modules.runs.record import writer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ReplayItems",
    "checkpoint_identity",
    "common_frame",
    "has_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
]

STATE = "state.pt"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or of another configuration."""


class Checkpoint(NamedTuple):
    """A loaded checkpoint; all tensors are on the CPU."""

    frame: int
    state: dict[str, Any]
    replay: TensorDictBase | None
    """Items of the replay, oldest first; None if it was not saved."""
    files: ReplayFiles | None
    """Where the replay lies."""
    config: dict[str, Any]
    written_by: Mapping[str, Any] = {}
    """Versions and commit of what wrote it."""


class ReplayItems(NamedTuple):
    """The replay of a run, as a checkpoint takes it."""

    rows: Callable[[int, int], TensorDictBase]
    """Gives items by the number of the first and the one behind the last."""
    written: int
    """Items that went in so far."""
    held: int
    """Items that are still there: the newest."""


def save_checkpoint(
    run_dir: Path | str,
    frame: int,
    state: dict[str, Any],
    *,
    config: Mapping[str, Any],
    replay: ReplayItems | None = None,
    before: ReplayFiles | None = None,
    keep: int = 2,
) -> tuple[Path, ReplayFiles | None]:
    """Write a checkpoint and point ``latest`` to it.

    Args:
        run_dir: directory of the run.
        frame: number of environment frames done.
        state: nested dicts, lists and tuples of tensors and plain Python values.
        config: what a resumed run must agree with; JSON-serializable.
        replay: the replay; what no earlier step holds is written to a file of its own.
        before: what the last step says of the replay.
        keep: number of steps left on disk; at least one.

    Returns:
        The directory of this step, and what it says of the replay.

    Raises:
        TypeError: if the state holds something that ``torch.load(weights_only=True)`` refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run_dir:
        ...     _ = save_checkpoint(run_dir, 100, {"w": torch.ones(2)}, config={"lr": 0.1})
        ...     load_checkpoint(run_dir).state["w"]
        tensor([1., 1.])
    """
    check_plain(state, "state")
    folder = Path(run_dir) / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    listed = None
    if replay is not None:
        counts = {"written": replay.written, "held": replay.held, "frame": frame}
        listed = write_segments(folder, before, replay.rows, **counts)
    with new_step(folder, frame) as temporary:
        with (temporary / STATE).open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        files = {STATE: fingerprint(temporary / STATE)}
        meta: dict[str, Any] = {"version": VERSION, "frame": frame}
        meta |= {"config_hash": config_hash(config), "files": files, "config": dict(config)}
        meta |= {"written_by": writer(), "replay": None if listed is None else listed.to_dict()}
        write_text(temporary / "meta.json", json.dumps(meta))
        sync_directory(temporary)
    final = promote(temporary)
    # Steps ahead of this frame belong to a future that a resume has abandoned: they go first.
    by_age = sorted(steps(folder), key=lambda step: (step <= frame, step))
    for step in by_age[: -max(keep, 1)]:
        shutil.rmtree(folder / f"step_{step}")
    remove_unlisted(folder, folder.glob("step_*"))
    return final, listed


def has_checkpoint(run_dir: Path | str) -> bool:
    """Whether a run directory points to a checkpoint, damaged or not.

    Args:
        run_dir: directory of the run.

    Returns:
        True if :func:`load_checkpoint` would find something to read.
    """
    return (Path(run_dir) / "checkpoint" / "latest").exists()


def checkpoint_identity(run_dir: Path | str) -> dict[str, Any]:
    """Identify a run's last checkpoint.

    Args:
        run_dir: directory of the run.

    Returns:
        ``"sha256"`` of the networks' file, ``"frame"``, and ``"config_sha256"``.

    Raises:
        CheckpointError: if there is no checkpoint.
    """
    meta = _read_meta(_latest(Path(run_dir)))
    return {
        "sha256": meta["files"][STATE]["sha256"],
        "frame": meta["frame"],
        "config_sha256": meta["config_hash"],
    }


def common_frame(run_dirs: Sequence[Path | str]) -> int | None:
    """The newest frame at which several runs, trained together, all have a checkpoint.

    Args:
        run_dirs: directories of the runs.

    Returns:
        The frame; None for a single run, whose newest checkpoint is what ``latest`` points to.

    Raises:
        CheckpointError: if there is no such frame.
    """
    if len(run_dirs) == 1:
        return None
    there = {str(d): set(steps(Path(d) / "checkpoint")) for d in run_dirs}
    common = set.intersection(*there.values())
    if common:
        return max(common)
    listed = "; ".join(f"{d}: {', '.join(map(str, sorted(at)))}" for d, at in there.items() if at)
    without = ", ".join(d for d, at in there.items() if not at)
    if not listed:
        way = "the run ended before its first one; start it again with overwrite=true"
    elif without:
        way = f"{without} has none; resume those that have one ({listed}), each alone or as seeds"
    else:
        way = f"resume those that lag behind alone, to a frame that all have ({listed})"
    raise CheckpointError(f"these runs have no checkpoint of the same frame: {way}.")


def load_checkpoint(
    run_dir: Path | str,
    *,
    config: Mapping[str, Any] | None = None,
    replay: bool = True,
    frame: int | None = None,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Checkpoint:
    """Read the checkpoint that ``latest`` points to, after checking every file.

    Args:
        run_dir: directory of the run.
        config: the configuration of this run, which must equal the checkpoint's.
        replay: also read the replay, which may be large.
        frame: read the checkpoint of this frame instead of the latest.
        complete: brings a configuration that an earlier version saved to what this one compares.

    Returns:
        Frame, state, replay state or None, and configuration.

    Raises:
        CheckpointError: if there is none, if a file is missing or damaged, or if the
            configurations differ; says which and what to do.
    """
    latest = _latest(Path(run_dir))
    step = latest if frame is None else latest.with_name(f"step_{frame}")
    if not step.is_dir():
        raise _damaged(step, "is missing")
    meta = _read_meta(step)
    apart = [] if config is None else differences(_completed(step, meta, complete), config)
    if apart:
        raise CheckpointError(
            f"{step} was written by a run with other settings: {'; '.join(apart)}. "
            "Resume with the checkpoint's settings, or start a new run in another run_dir."
        )
    try:
        state = migrated(meta["version"], _read(step / STATE, meta["files"][STATE]))
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise _damaged(step / STATE, f"holds no state of a run ({error})") from error
    files, items = _read_replay(step, meta["replay"], replay)
    written_by = meta.get("written_by", {})
    return Checkpoint(meta["frame"], state, items, files, meta["config"], written_by)


def _read_replay(
    step: Path, said: dict[str, Any] | None, wanted: bool
) -> tuple[ReplayFiles | None, TensorDictBase | None]:
    """Where the replay lies, and its items if they are wanted."""
    try:
        files = None if said is None else ReplayFiles.of(said)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(step / "meta.json", f"is damaged: {error}") from error
    if not wanted or files is None or not files.held:
        return files, None
    try:
        return files, joined(files, partial(_read, step=step), step.parent)
    except (RuntimeError, ValueError, KeyError, AttributeError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(step.parent / FOLDER, f"holds no replay of this run ({error})") from error


def _latest(run_dir: Path) -> Path:
    """The step that ``latest`` names, or a sentence on why there is none."""
    folder = run_dir / "checkpoint"
    if not run_dir.is_dir():
        raise CheckpointError(f"there is no directory {run_dir}.")
    if has_checkpoint(run_dir):
        try:
            return pointed(folder)
        except (OSError, ValueError) as error:
            raise _damaged(folder / "latest", str(error)) from error
    if steps(folder):
        raise _damaged(folder / "latest", "is missing")
    seeds = sorted(path.name for path in run_dir.glob("seed_*") if has_checkpoint(path))
    if seeds:
        raise CheckpointError(
            f"{run_dir} holds the runs of several seeds: give one of them ({', '.join(seeds)})."
        )
    raise CheckpointError(
        f"{folder} holds no checkpoint: it is no run's directory, or its run has not written its "
        "first one. Give another, wait, or start it again with overwrite=true."
    )


def _damaged(path: Path, problem: str, step: Path | None = None) -> CheckpointError:
    folder = path.parent if path.parent.name == "checkpoint" else path.parent.parent
    # A file of the replay lies beside the steps that need it.
    bad = step or (path if path.parent == folder else path.parent)
    advice = "no other step is left: start again with overwrite=true"
    if others := [f"step_{step}" for step in steps(folder) if f"step_{step}" != bad.name]:
        named = ", ".join(others)
        advice = f"write its name into {folder / 'latest'} to resume from an older step ({named})"
    return CheckpointError(f"{path} {problem}; {advice}.")


def _read_meta(step: Path) -> dict[str, Any]:
    path = step / "meta.json"
    try:
        meta = read_meta(path)
        version = meta["version"]
        if version in MIGRATIONS or version == VERSION:
            check_meta(meta, STATE)
    except FileNotFoundError as error:
        raise _damaged(path, "is missing") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, f"is damaged: it {error}") from error
    if version in MIGRATIONS or version == VERSION:
        return meta
    readers = READERS.get(version, "a later version of vm3ac-modules: update it to go on")
    raise CheckpointError(
        f"{step} has format version {version}, this package reads {min(MIGRATIONS)} to {VERSION}: "
        f"it is read by {readers}; or start again with overwrite=true."
    )


def _completed(
    step: Path, meta: dict[str, Any], complete: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The saved configuration in the words of this version."""
    try:
        return complete(meta["config"])
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(step / "meta.json", f"holds no configuration of a run ({error})") from error
    except ValueError as error:
        writer = meta.get("written_by", {}).get("vm3ac-modules", "the version that wrote it")
        raise CheckpointError(
            f"{step} was written with settings that this version does not know ({error}) Go on "
            f"with vm3ac-modules {writer}, or start a new run in another run_dir."
        ) from error


def _read(path: Path, expected: Mapping[str, Any], step: Path | None = None) -> dict[str, Any]:
    if not path.exists():
        raise _damaged(path, "is missing", step)
    if (size := path.stat().st_size) != expected["size"]:
        problem = f"has {size} bytes, not {expected['size']}: it was cut or changed"
        raise _damaged(path, problem, step)
    if fingerprint(path) != {key: expected[key] for key in ("size", "sha256")}:
        raise _damaged(path, "is damaged: its checksum differs", step)
    try:
        return load_tensors(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error), step) from error
