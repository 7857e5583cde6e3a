"""CPU seconds of whole training programs on VMAS navigation: this library, BenchMARL, TorchRL.

Every contestant is a process of its own, from its start to its end: imports, 12,800 frames of 3
agents in 32 rows, two updates of 128 transitions per step of all rows, networks of 2 x 128 without
shared parameters, 10 episodes of evaluation at every quarter. They alternate; the median counts.
CPU seconds are the kernel's account of the process (user and system), with one thread.

    python recipes/benchmarks/end_to_end.py benchmarl=VENV/bin/python out=docs/results/end_to_end

``benchmarl`` is the interpreter of an environment that has BenchMARL (docs/benchmarl.md); without
it the others run alone. ``_plain`` names critics of one branch, like those of the others.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm3ac_modules.cli.arguments import fail, run, say
from vm3ac_modules.evaluation.figures import COLORS, new_figure
from vm3ac_modules.files import write_csv, write_json
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import versions

HERE = Path(__file__).parent
OURS = {
    "ma_sac": ["algorithm=ma_sac"],
    "ma_sac_plain": ["algorithm=ma_sac", "critic=plain"],
    "vm3ac": ["algorithm=vm3ac"],
    "vm3ac_plain": ["algorithm=vm3ac", "critic=plain"],
    "vm3ac_tight": ["algorithm=vm3ac_tight"],
}
REFERENCE = "benchmarl_masac"
OTHERS = {REFERENCE: "end_to_end_benchmarl.py", "torchrl_sac": "end_to_end_torchrl.py"}


@dataclass(frozen=True, kw_only=True)
class EndToEnd(Options):
    """Options of this program."""

    contestants: str = option("ma_sac,ma_sac_plain,vm3ac,benchmarl_masac,torchrl_sac", "who runs")
    benchmarl: str = option("", "Python of an environment with BenchMARL; empty: it is left out")
    frames: int = option(12_800, "environment steps", least=256)
    rounds: int = option(3, "processes of each contestant", least=1)
    out: str = option("", "directory of end_to_end.json, .csv and .png; empty: nothing is written")


def command(name: str, options: EndToEnd, scratch: Path) -> list[str]:
    """The command line of a contestant."""
    if name in OTHERS:
        python = options.benchmarl if name == REFERENCE else sys.executable
        return [python, str(HERE / OTHERS[name]), str(options.frames)]
    quarter = options.frames // 4
    sizes = {
        "task": "vmas/navigation",
        "task.env.n_agents": 3,
        "task.max_steps": 100,
        "num_envs": 32,
        "frames": options.frames,
        "batch_size": 128,
        "updates_per_step": 2,
        "init_random_frames": 320,
        "hidden": "[128,128]",
        "eval_every_frames": quarter,
        "eval_episodes": 10,
        # As the others: nothing is saved or drawn, and no information is estimated.
        "checkpoint_every_frames": 10**9,
        "information_rows": 0,
        "draw": "false",
        "run_dir": scratch / name,
        "overwrite": "true",
    }
    words = [f"{key}={value}" for key, value in sizes.items()]
    return [sys.executable, "-m", "vm3ac_modules.cli.main", "train", *OURS[name], *words]


def cost(line: list[str]) -> dict[str, float]:
    """CPU and wall seconds of a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RL_LOGGING_LEVEL": "ERROR"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(line, stdout=said, stderr=said, env=environment)
        # Waited for here, since only this tells what that process alone has used.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            said.seek(0)
            fail(f"{' '.join(line)} failed:\n{said.read().decode(errors='replace')[-2000:]}")
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - start}


def measure(options: EndToEnd, names: list[str]) -> list[dict[str, Any]]:
    """A row per contestant, from alternating processes."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(options.rounds):
            for name in names:
                found[name].append(cost(command(name, options, Path(scratch))))
                say(f"round {turn + 1}: {name} {found[name][-1]['cpu']:.1f} CPU seconds")
    rows = []
    for name, costs in found.items():
        seconds = [each["cpu"] for each in costs]
        row = {"contestant": name, "cpu_seconds": round(statistics.median(seconds), 2)}
        row |= {"lowest": round(min(seconds), 2), "highest": round(max(seconds), 2)}
        wall = round(statistics.median(each["wall"] for each in costs), 2)
        rows.append({**row, "wall_seconds": wall})
    reference = next((r["cpu_seconds"] for r in rows if r["contestant"] == REFERENCE), None)
    if reference is not None:
        for row in rows:
            row["times_faster"] = round(reference / row["cpu_seconds"], 2)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A bar per contestant, with the range over its processes."""
    figure = new_figure((6.4, 0.5 * len(rows) + 1.2), 150)
    axes = figure.subplots()
    names = [row["contestant"] for row in rows]
    seconds = [row["cpu_seconds"] for row in rows]
    low = [row["cpu_seconds"] - row["lowest"] for row in rows]
    high = [row["highest"] - row["cpu_seconds"] for row in rows]
    colors = [COLORS[1] if name in OTHERS else COLORS[0] for name in names]
    axes.barh(names, seconds, xerr=[low, high], color=colors, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds of the whole program (median; range of its processes)")
    figure.savefig(path)


def compare(options: EndToEnd) -> None:
    """Measure, print, write."""
    names = [name.strip() for name in options.contestants.split(",") if name.strip()]
    known = [*OURS, *OTHERS]
    for name in names:
        if name not in known:
            fail(f"unknown contestant {name!r}; valid: {', '.join(known)}.")
    if not options.benchmarl:
        names = [name for name in names if name != REFERENCE]
    rows = measure(options, names)
    columns = list(rows[0])
    say("  ".join(columns))
    for row in rows:
        say("  ".join(str(row[column]) for column in columns))
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / "end_to_end.csv", rows)
        about = {"frames": options.frames, "rounds": options.rounds, "threads": 1}
        machine = f"{os.cpu_count()}-core {platform.machine()} CPU"
        data = {**about, "machine": machine, "rows": rows, "versions": versions()}
        write_json(out / "end_to_end.json", data)
        draw(rows, out / "end_to_end.png")
        say(json.dumps({"written": str(out)}))


if __name__ == "__main__":
    run(compare, "python recipes/benchmarks/end_to_end.py", __doc__, EndToEnd, sys.argv[1:])
