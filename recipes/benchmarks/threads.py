"""Wall seconds of a training with one, two and timed threads, alone and beside a busy core.

Each is a process of its own, as ``vm3ac train`` runs it: VM3-AC on predator-prey N = 2 with the
sizes of the demo. The busy core is a Python loop in a process beside it.

    python recipes/benchmarks/threads.py out=docs/results/threads
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm3ac_modules.cli.arguments import fail, run, say
from vm3ac_modules.files import write_csv
from vm3ac_modules.options import Options, option

CHOICES = ("1", "2", "auto")


@dataclass(frozen=True, kw_only=True)
class ThreadsBenchmark(Options):
    """Options of this program."""

    frames: int = option(20_480, "environment steps of each training", least=2_560)
    rounds: int = option(2, "trainings of each kind; the fastest counts", least=1)
    out: str = option("", "directory of threads.csv; empty: nothing is written")


@contextmanager
def busy_core(busy: bool) -> Iterator[None]:
    """Keep a core busy meanwhile."""
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if beside is not None:
            beside.kill()
            beside.wait()


def training(threads: str, frames: int) -> dict[str, Any]:
    """The summary of a training."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    with tempfile.TemporaryDirectory() as place:
        words = ["algorithm=vm3ac", "task=predator_prey_2", "loop=demo", f"frames={frames}"]
        words += [f"run_dir={place}", "overwrite=true", "draw=false", f"threads={threads}"]
        words += ["eval_every_frames=1000000", "eval_episodes=2", "information_rows=0"]
        line = [sys.executable, "-m", "vm3ac_modules.cli.main", "train", *words]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            fail(done.stderr[-2000:])
        found: dict[str, Any] = json.loads(Path(place, "summary.json").read_text())
        return found


def compare(options: ThreadsBenchmark) -> None:
    """Measure, print, write."""
    rows = []
    for busy in (False, True):
        for threads in CHOICES:
            with busy_core(busy):
                found = [training(threads, options.frames) for _ in range(options.rounds)]
            best = min(found, key=lambda one: one["wall_seconds"])
            row = {"threads": threads, "busy_core": busy, "seconds": best["wall_seconds"]}
            row["frames_per_second"] = round(options.frames / best["wall_seconds"])
            rows.append({**row, "used": best["device"].removeprefix("cpu, ")})
            say("  ".join(f"{key}={value}" for key, value in rows[-1].items()))
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / "threads.csv", rows)


if __name__ == "__main__":
    run(compare, "python recipes/benchmarks/threads.py", __doc__, ThreadsBenchmark, sys.argv[1:])
