"""Hours of training with evaluations, checkpoints and a resume in the middle: what grows?

Every few seconds the process's memory (MB), open files, threads and speed (environment steps per
second) are noted. Half way the run is saved, closed and resumed in the same process, so that what
a closed run leaves behind would show. At the end a line is laid through each measure: means of
blocks over time, least squares, with the 95% interval of the slope (Student's t over the blocks);
over the whole, and before and after the resume.

    python recipes/benchmarks/soak.py minutes=120 run_dir=/tmp/soak out=docs/results/soak

Linux only: the numbers are read from /proc.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vm3ac_modules.cli.arguments import run, say
from vm3ac_modules.files import write_csv, write_json
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import Run, Settings, versions

MEASURES = {
    "memory_mb": "MB",
    "open_files": "files",
    "threads": "threads",
    "steps_per_second": "steps/s",
}
STEPS = {"frames": 10**12, "num_envs": 16, "batch_size": 64, "hidden": [32, 32], "draw": False}
OFTEN = {
    "buffer_size": 20_000,
    "eval_every_frames": 8_000,
    "eval_episodes": 5,
    "checkpoint_every_frames": 8_000,
    "information_rows": 8,
    "information_latents": 16,
    "log_every_updates": 500,
    "threads": 1,
}


@dataclass(frozen=True, kw_only=True)
class Soak(Options):
    """Options of this program."""

    minutes: float = option(120.0, "how long", unit="minutes", above=0)
    every: float = option(5.0, "between two notes", unit="seconds", above=0)
    warm_up: float = option(
        0.1, "share of the time that no line is laid through", least=0, most=0.9
    )
    blocks: int = option(24, "blocks whose means the line is laid through", least=4)
    algorithm: str = option("vm3ac", "what is trained")
    task: str = option("predator_prey_2", "on what")
    run_dir: str = option("runs/soak", "where the run writes; what it holds is replaced")
    out: str = option("docs/results/soak", "where soak.csv and soak.json are written")


def measures() -> dict[str, float]:
    """Memory, open files and threads of this process."""
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    return {
        "memory_mb": float(status["VmRSS"].split()[0]) / 1024,
        "open_files": float(len(os.listdir("/proc/self/fd"))),
        "threads": float(status["Threads"]),
    }


def slope(seconds: list[float], values: list[float], blocks: int) -> dict[str, float]:
    """Mean of a measure and its slope per hour with the half width of its 95% interval."""
    from scipy.stats import t as student_t

    x = np.array([part.mean() for part in np.array_split(np.array(seconds) / 3600, blocks)])
    y = np.array([part.mean() for part in np.array_split(np.array(values), blocks)])
    centered = x - x.mean()
    per_hour = float(centered @ y / (centered @ centered))
    rest = y - y.mean() - per_hour * centered
    error = float(np.sqrt(rest @ rest / (blocks - 2) / (centered @ centered)))
    half = float(student_t.ppf(0.975, blocks - 2)) * error
    mean = float(y.mean())
    return {
        "mean": mean,
        "slope_per_hour": per_hour,
        "slope_ci95": half,
        "percent_per_hour": 100 * per_hour / mean,
        "percent_ci95": 100 * half / mean,
    }


def part(options: Soak, settings: Settings, until: float) -> Iterator[int]:
    """Train until a moment of the clock, save and leave; the frames after every turn."""
    with Run(settings) as training:
        for collected in training.collect():
            training.store(collected)
            for batch in training.batches(collected):
                training.learned(training.agent.update(batch, training.training.max_grad_norm))
            training.after(collected)
            yield training.frames
            if time.monotonic() >= until:
                break
        training.save()


def soak(options: Soak) -> None:
    """Train, note, resume half way, and lay the lines."""
    config: dict[str, Any] = {
        **STEPS,
        **OFTEN,
        "algorithm": {"name": options.algorithm},
        "task": {"name": options.task},
        "run_dir": options.run_dir,
    }
    begun, rows = time.monotonic(), []
    last, last_frames = begun, 0
    for half in (1, 2):
        settings = Settings.of({**config, "overwrite": half == 1, "resume": half == 2})
        until = begun + options.minutes * 30 * half
        for frames in part(options, settings, until):
            now = time.monotonic()
            if now - last < options.every:
                continue
            speed = (frames - last_frames) / (now - last)
            note = {"seconds": now - begun, "frame": frames, "half": half, **measures()}
            rows.append({**note, "steps_per_second": speed})
            last, last_frames = now, frames
            if len(rows) % 12 == 0:
                # What is there is kept, should the program be stopped.
                report(options, rows)
        last = time.monotonic()
    report(options, rows)
    say(json.dumps(json.loads((Path(options.out) / "soak.json").read_text()), indent=2))


def report(options: Soak, rows: list[dict[str, float]]) -> None:
    """Write the notes and the lines through them."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "soak.csv", [{k: f"{v:.6g}" for k, v in row.items()} for row in rows])
    halves = {
        half: lines_of([row for row in rows if row["half"] == half], options) for half in (1, 2)
    }
    about = {
        "minutes": round(rows[-1]["seconds"] / 60, 1),
        "frames": rows[-1]["frame"],
        "resumed": max(row["half"] for row in rows) == 2,
        "notes": len(rows),
        "warm_up": options.warm_up,
        "blocks": options.blocks,
        "algorithm": options.algorithm,
        "task": options.task,
    }
    found = {"measures": lines_of(rows, options), "before the resume": halves[1]}
    found["after the resume"] = halves[2]
    write_json(out / "soak.json", {**about, **found, "versions": versions()})


def lines_of(rows: list[dict[str, float]], options: Soak) -> dict[str, dict[str, Any]]:
    """The line of every measure through notes, those of their warm-up aside."""
    if not rows:
        return {}
    first, last = rows[0]["seconds"], rows[-1]["seconds"]
    start = first + (last - first) * options.warm_up
    kept = [row for row in rows if row["seconds"] >= start]
    # No line through fewer notes than this.
    if len(kept) < 2 * options.blocks:
        return {}
    seconds = [row["seconds"] for row in kept]
    return {
        name: {**slope(seconds, [row[name] for row in kept], options.blocks), "unit": unit}
        for name, unit in MEASURES.items()
    }


if __name__ == "__main__":
    import sys

    run(soak, "python recipes/benchmarks/soak.py", __doc__, Soak, sys.argv[1:])
