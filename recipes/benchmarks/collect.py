"""Frames per second of every way of collecting, and the bytes that go to and fro.

    python recipes/benchmarks/collect.py [tasks=multiwalker_3,predator_prey_2] [workers=1,2]
        [json=out.json]

An untrained policy of the paper's networks plays; nothing learns meanwhile, so that this is what
collecting can give. Seconds are of wall time, since several processes work: run nothing else. The
start of the processes and the first round are not counted. Ray is left out where it is missing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict

from vm3ac_modules.algorithms import build
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs.tasks import find_task
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import SourceSizes
from vm3ac_modules.learning._collecting import Collected, collecting
from vm3ac_modules.learning._spread import Spread, spread_collecting
from vm3ac_modules.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Collect(Options):
    """Options of this program."""

    tasks: str = option("multiwalker_3,predator_prey_2", "tasks, separated by commas")
    algorithm: str = option("vm3ac", "the algorithm whose policy plays")
    collectors: str = option("sync,multi_sync,multi_async,ray", "ways, separated by commas")
    workers: tuple[int, ...] = option((1, 2), "numbers of workers, where there are any", least=1)
    rows: int = option(64, "environments at once, of all workers", least=1)
    steps: int = option(10, "steps of all rows in a round of the workers", least=1)
    seconds: float = option(10.0, "of every measurement", unit="s", above=0)
    batch_size: int = option(256, "transitions of an update", least=1)
    json: str | None = option(None, "also write everything to this file")


class Speed(NamedTuple):
    """What was measured of one way."""

    task: str
    collector: str
    workers: int
    frames_per_second: float
    milliseconds_per_round: float


class Sizes(NamedTuple):
    """What goes to and fro, and what an update costs."""

    task: str
    sent_bytes_per_frame: int
    stored_bytes_per_frame: int
    weight_bytes: int
    microseconds_per_stored_frame: float
    milliseconds_per_update: float


def measure(turns: Iterator[Collected], steps: int, seconds: float) -> tuple[float, float]:
    """Frames per second, and seconds of a round."""
    for _ in range(steps):
        next(turns)
    frames = rounds = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        frames += sum(next(turns).frames for _ in range(steps))
        rounds += 1
    passed = time.perf_counter() - started
    return frames / passed, passed / rounds


def ways(args: Collect) -> Iterator[tuple[str, int]]:
    """Collectors and their numbers of workers."""
    for collector in args.collectors.split(","):
        if collector != "ray" or find_spec("ray"):
            yield from ((collector, w) for w in ((1,) if collector == "sync" else args.workers))


def speeds(args: Collect, name: str) -> Iterator[Speed]:
    """Every way on one task."""
    task = find_task(name)
    for collector, workers in ways(args):
        torch.manual_seed(0)
        env = task.make(args.rows if collector == "sync" else 1, seed=0)
        agent = build(args.algorithm, env)
        env = agent.wrap(env)
        if collector == "sync":
            steps: Any = collecting(agent, env, episodes=False, max_steps=task.limit(env))
        else:
            spread = Spread(collector, workers, args.rows, args.steps, 0, task.make)  # type: ignore[arg-type]
            steps = spread_collecting(
                agent, env, spread, frames=0, random_frames=0, restarted=print
            )
        try:
            speed, each = measure(iter(steps), args.steps, args.seconds)
        finally:
            steps.close()
        yield Speed(name, collector, workers, round(speed, 1), round(1e3 * each, 2))


def each_takes(do: Callable[[], Any], seconds: float) -> float:
    """Seconds of a call; the first is not counted."""
    do()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        do()
        done += 1
    return (time.perf_counter() - started) / done


def sizes(args: Collect, name: str) -> Sizes:
    """What goes to and fro on one task."""
    task = find_task(name)
    env = task.make(args.rows, seed=0)
    agent = build(args.algorithm, env)
    env = agent.wrap(env)
    steps = collecting(agent, env, episodes=False, max_steps=task.limit(env))
    found = next(iter(steps))
    weights = TensorDict.from_module(agent.policy).data.bytes()
    stored, sent = (td.bytes() // args.rows for td in (found.data, found.steps))
    batch, seconds = args.batch_size, min(args.seconds, 5.0)
    source: Any = agent.source(SourceSizes(2 * batch, batch, keys=agent.keys))
    source.append_transforms(list(agent.replay_transforms()))
    for _ in range(2 + batch // args.rows):
        source.add(found.data)
    add = each_takes(lambda: source.add(found.data), seconds / 2) / args.rows
    update = each_takes(lambda: agent.update(source.sample()), seconds)
    return Sizes(name, sent, stored, weights, round(1e6 * add, 2), round(1e3 * update, 2))


def compare(args: Collect) -> None:
    """Measure, print two tables, write JSON."""
    torch.set_num_threads(1)
    measured, counted = [], []
    print("| task | collector | workers | frames/s | ms per round |\n|---|---|---|---|---|")
    for name in args.tasks.split(","):
        for s in speeds(args, name):
            measured.append(s._asdict())
            print(
                f"| {s.task} | {s.collector} | {s.workers} | {s.frames_per_second:,.0f} | "
                f"{s.milliseconds_per_round:.1f} |",
                flush=True,
            )
    print(
        "\n| task | bytes sent per frame | bytes stored per frame | bytes of the weights | us to "
        "store a frame | ms per update |\n|---|---|---|---|---|---|"
    )
    for name in args.tasks.split(","):
        one = sizes(args, name)
        counted.append(one._asdict())
        print(
            f"| {name} | {one.sent_bytes_per_frame:,} | {one.stored_bytes_per_frame:,} | "
            f"{one.weight_bytes:,} | {one.microseconds_per_stored_frame:.1f} | "
            f"{one.milliseconds_per_update:.1f} |",
            flush=True,
        )
    if args.json:
        about = {"cores": os.cpu_count(), "rows": args.rows, "steps": args.steps}
        write_json(args.json, {**about, "speeds": measured, "sizes": counted})


if __name__ == "__main__":
    run(compare, "collect.py", __doc__, Collect, sys.argv[1:])
