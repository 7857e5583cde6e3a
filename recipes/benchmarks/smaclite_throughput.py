"""Steps per second of SMAClite, its rows in this process or shared out among workers.

Actions are random legal ones, and rollouts reset the battles that are over. A step is one of one
row; the best of the rounds counts. Rates are of wall time, since workers are processes of their
own, and of this process's CPU time where it plays alone, which other programs disturb less.

    python recipes/benchmarks/smaclite_throughput.py maps=2s3z workers=1,2 [csv=x.csv]
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from timing import take_turns

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import make_battle_env
from vm3ac_modules.files import write_csv
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.options import Options, option

COLUMNS = ("map", "rows", "workers", "per_second", "per_cpu_second", "cores", "load")


@dataclass(frozen=True, kw_only=True)
class Throughput(Options):
    """Options of this program."""

    maps: str = option("2s3z,3s_vs_3z", "maps, separated by commas")
    rows: int = option(4, "rows, a multiple of every number of workers", least=1)
    workers: tuple[int, ...] = option((1, 2), "numbers of processes", least=1)
    steps: int = option(40, "steps of all rows per round", least=1)
    rounds: int = option(3, "rounds of each measurement", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)
    csv: str | None = option(None, "also write the table to this file")


def measure(map_name: str, workers: int, args: Throughput) -> dict[str, Any]:
    """One line of the table."""
    env = make_battle_env(
        map_name, args.rows, backend="smaclite", seed=0, max_steps=10_000, num_workers=workers
    )
    try:
        env.rollout(2)

        def rollout() -> None:
            env.rollout(args.steps, break_when_any_done=False)

        rates = []
        for clock in (time.perf_counter, time.process_time):
            seconds = min(take_turns({"play": rollout}, args.rounds, clock=clock)["play"])
            rates.append(round(args.steps * args.rows / seconds, 1))
    finally:
        env.close()
    load, own = round(os.getloadavg()[0], 2), rates[1] if workers == 1 else ""
    found = (map_name, args.rows, workers, rates[0], own, os.cpu_count(), load)
    return dict(zip(COLUMNS, found, strict=True))


def compare(args: Throughput) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    seed_everything(0)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    found = []
    for map_name in args.maps.split(","):
        for workers in args.workers:
            found.append(measure(map_name, workers, args))
            print("| " + " | ".join(map(str, found[-1].values())) + " |", flush=True)
    if args.csv:
        write_csv(args.csv, found)


if __name__ == "__main__":
    run(compare, "smaclite_throughput.py", __doc__, Throughput, sys.argv[1:])
