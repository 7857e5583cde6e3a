"""Steps per second of SMAX: the compiled step alone, and rollouts through TorchRL.

Actions are random legal ones, and rollouts reset the battles that are over. A step is one of one
row. Seconds are of CPU time and the best of the rounds counts, so that other programs count less.
The first step, which compiles, is not counted but given in a column of its own.

    python recipes/benchmarks/smax_throughput.py maps=3s_vs_3z rows=1,8,32,128 [csv=out.csv]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timing import take_turns

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import SMAXEnv
from vm3ac_modules.files import write_csv
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.options import Options, option

COLUMNS = ("map", "rows", "step_alone", "torchrl", "seconds_to_first_step", "load")


@dataclass(frozen=True, kw_only=True)
class Throughput(Options):
    """Options of this program."""

    maps: str = option("3s_vs_3z", "maps, separated by commas")
    rows: tuple[int, ...] = option((1, 8, 32, 128), "numbers of rows", least=1)
    steps: int = option(4000, "row-steps per round", least=1)
    rounds: int = option(4, "rounds of each measurement", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)
    csv: str | None = option(None, "also write the table to this file")


def best_rate(play: Callable[[int], None], steps: int, rows: int, rounds: int) -> int:
    """Most row-steps per second of CPU time, of the rounds."""
    times = take_turns({"play": lambda: play(steps)}, rounds, clock=time.process_time)
    return round(steps * rows / min(times["play"]))


def play_step_alone(env: SMAXEnv) -> Callable[[int], None]:
    """The compiled step with the same actions over and over, from a running battle."""
    action = env.rand_action()[Keys().action].numpy().astype(np.int32)

    def play(steps: int) -> None:
        state = env._state
        for _ in range(steps):
            state, seen = env._game.step(state, action)
        seen["state"].block_until_ready()

    return play


def measure(map_name: str, rows: int, row_steps: int, rounds: int) -> dict[str, Any]:
    """One line of the table."""
    start = time.process_time()
    env = SMAXEnv(map_name, rows, seed=0)
    env.rollout(2)
    first = time.process_time() - start
    steps = max(row_steps // rows, 10)

    def rollout(steps: int) -> None:
        env.rollout(steps, break_when_any_done=False)

    rates = (
        best_rate(play_step_alone(env), steps, rows, rounds),
        best_rate(rollout, steps, rows, rounds),
    )
    load = round(os.getloadavg()[0], 2)
    return dict(zip(COLUMNS, (map_name, rows, *rates, round(first, 1), load), strict=True))


def compare(args: Throughput) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    seed_everything(0)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    found = []
    for map_name in args.maps.split(","):
        for rows in args.rows:
            found.append(measure(map_name, rows, args.steps, args.rounds))
            print("| " + " | ".join(map(str, found[-1].values())) + " |", flush=True)
    if args.csv:
        write_csv(args.csv, found)


if __name__ == "__main__":
    run(compare, "smax_throughput.py", __doc__, Throughput, sys.argv[1:])
