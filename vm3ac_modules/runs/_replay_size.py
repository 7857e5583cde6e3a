"""Check before the first step that the replay fits into memory or onto the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torchrl.envs import EnvBase

from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.options import OptionsError

FOLDER = "replay_storage"
"""Of a run's directory: where a memory-mapped replay lies while the run goes on."""

INDEX = 8
"""Bytes of the number that the replay gives to every item."""


def item_bytes(agent: Agent, env: EnvBase, slots: int = 1) -> int:
    """Bytes of what the replay holds of one transition or episode, as far as specs tell.

    Args:
        agent: the agent, which knows what is recorded.
        env: its environment.
        slots: 1 for transitions, the time limit and one for episodes.
    """
    steps = env.fake_tensordict()
    stored = dict.fromkeys([*agent.recorded, ("next", agent.keys.done)])
    return INDEX + slots * (steps.select(*stored, strict=False).bytes() // steps.numel())


def free_bytes(device: str, folder: Path | None = None) -> int | None:
    """Bytes that are free: on a disk, a GPU or in memory; None if that cannot be known.

    Args:
        device: where the replay lies.
        folder: where it lies instead, if it is memory-mapped; it need not exist.
    """
    if folder is not None:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        return shutil.disk_usage(there).free
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        [line] = [line for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        names = os.sysconf_names
        known = "SC_AVPHYS_PAGES" in names and "SC_PAGE_SIZE" in names
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None


def check_replay(
    items: int,
    size: int,
    device: str,
    folder: Path | None = None,
    *,
    free: Callable[[str, Path | None], int | None] | None = None,
) -> None:
    """Raise if a replay is larger than the free space.

    Args:
        items: items that it will hold.
        size: bytes of one.
        device: where it lies.
        folder: where it lies instead, if it is memory-mapped.
        free: tells what is free; :func:`free_bytes` by default.

    Raises:
        OptionsError: says how large it is, what is free, and what to do.
    """
    there = (free or free_bytes)(device, folder)
    if there is None or items * size <= there:
        return
    where = f"on the disk of {folder}" if folder else f"in the memory of {device}"
    way = "" if folder else ", or replay_storage=memmap, which keeps it in run_dir"
    raise OptionsError(
        f"the replay (buffer_size) of {items:,} items of {size:,} bytes is {items * size / 1e9:.1f}"
        f" GB, and {there / 1e9:.1f} GB are free {where}: take buffer_size={there // (2 * size):d} "
        f"or less{way}."
    )
