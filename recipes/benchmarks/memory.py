"""What updates fetch from the system: page faults, CPU time and resident memory.

Every row is two processes of its own: one lets the allocator give freed memory back, one keeps it,
as trainings do. An update is loss, backward, optimizers and target on a batch that is already
sampled, with the networks of the presets (2 x 128).

    python recipes/benchmarks/memory.py [out=docs/results/memory]

Linux only: faults are the kernel's count of the process.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vm3ac_modules.algorithms import build, presets
from vm3ac_modules.cli.arguments import fail, run, say
from vm3ac_modules.envs import make_env
from vm3ac_modules.files import write_csv
from vm3ac_modules.learning import SourceSizes, seed_everything
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs._machine import keep_freed_memory

CASES = (
    ("ma_sac", "cooperative_navigation_3"),
    ("vm3ac", "cooperative_navigation_3"),
    ("vm3ac", "predator_prey_2"),
    ("vm3ac", "predator_prey_4"),
    ("vm3ac_tight", "predator_prey_4"),
)


@dataclass(frozen=True, kw_only=True)
class Memory(Options):
    """Options of this program."""

    algorithm: str = option("", "measured in this process; empty: all cases in processes of theirs")
    task: str = option("predator_prey_2", "an environment of make_env")
    keep: bool = option(True, "keep freed memory")
    batch: int = option(128, "transitions per update B", least=1)
    updates: int = option(100, "updates of a block, of which there are five", least=1)
    out: str = option("", "directory of memory.csv; empty: nothing is written")


def measure(args: Memory) -> dict[str, Any]:
    """Faults, CPU milliseconds per update and resident megabytes of this process."""
    if args.algorithm not in presets("continuous"):
        fail(f"unknown algorithm {args.algorithm!r}; valid: {', '.join(presets('continuous'))}.")
    torch.set_num_threads(1)
    seed_everything(0)
    if args.keep and not keep_freed_memory():
        fail("this C library has no allocator that can be told to keep memory.")
    env = make_env(args.task, 32, seed=0)
    agent = build(args.algorithm, env)
    env = agent.wrap(env)
    source = agent.source(SourceSizes(10 * args.batch, args.batch))
    source.append_transforms(list(agent.replay_transforms()))
    steps = -(-2 * args.batch // 32) + 1
    for step in env.rollout(steps, agent.policy, break_when_any_done=False).unbind(-1):
        source.add(step.detach())
    batch = next(source.batches())
    for _ in range(args.updates // 2):
        agent.update(batch)
    faults, times = [], []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.process_time()
        for _ in range(args.updates):
            agent.update(batch)
        times.append((time.process_time() - start) / args.updates)
        after = resource.getrusage(resource.RUSAGE_SELF)
        faults.append((after.ru_minflt - before.ru_minflt) / args.updates)
    return {
        "faults_per_update": round(statistics.median(faults), 1),
        "cpu_ms": round(1e3 * statistics.median(times), 2),
        "largest_mb": round(after.ru_maxrss / 1024),
    }


def compare(args: Memory) -> None:
    """Measure here, or every case in processes of its own; print, write."""
    if args.algorithm:
        say(json.dumps(measure(args)))
        return
    rows = []
    for algorithm, task in CASES:
        for keep in (False, True):
            case = replace(args, algorithm=algorithm, task=task, keep=keep, out="").to_dict()
            words = [f"{key}={value}" for key, value in case.items() if value != ""]
            done = subprocess.run(
                [sys.executable, __file__, *words], capture_output=True, text=True, check=False
            )
            if done.returncode:
                fail(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"algorithm": algorithm, "task": task, "keep": keep, **found})
            say("  ".join(f"{key}={value}" for key, value in rows[-1].items()))
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        write_csv(Path(args.out) / "memory.csv", rows)


if __name__ == "__main__":
    run(compare, "python recipes/benchmarks/memory.py", __doc__, Memory, sys.argv[1:])
