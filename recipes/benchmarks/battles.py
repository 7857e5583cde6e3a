"""Time of training on battles: of playing, of an update, and of both together, per algorithm.

    python recipes/benchmarks/battles.py map=3s_vs_3z [rows=32] [seconds=5] [csv=out.csv]

Seconds are of CPU time (wall time says little where other programs run). Played by the untrained
policy through TorchRL, one torch thread, SMAX compiled beforehand; updates on the recipe's batch
of those episodes, as many per episode as the recipe makes. The reference point steps one
environment at a time, as EPyMARL's episode runner does, with the same updates.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from vm3ac_modules.algorithms import build, presets
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import make_battle_env, time_limit
from vm3ac_modules.files import write_csv
from vm3ac_modules.learning import Agent, EpisodeCollector, OnPolicy, SourceSizes
from vm3ac_modules.learning.sources import Source
from vm3ac_modules.options import Options, option
from vm3ac_modules.runs import Settings


@dataclass(frozen=True, kw_only=True)
class Battles(Options):
    """Options of this program."""

    map: str = option("3s_vs_3z", "name of the map")
    algorithms: str = option(",".join(presets("discrete")), "names, separated by commas")
    rows: int | None = option(None, "battles at once; null: those of the training", least=1)
    seconds: float = option(5.0, "of every measurement", unit="s", above=0)
    threads: int = option(1, "intra-op threads of torch", least=1)
    csv: str | None = option(None, "also write the table to this file")


class Timing(NamedTuple):
    """What was measured of one algorithm."""

    algorithm: str
    rows: int
    played_frames_per_second: float
    milliseconds_per_update: float
    updates_per_frame: float
    frames_per_second: float


def collect(agent: Agent, map_name: str, rows: int, seconds: float) -> tuple[float, Any]:
    """Frames per second of playing, and the first round: the same however fast it went."""
    env = make_battle_env(map_name, rows, seed=0)
    max_steps = time_limit(env)
    collector = EpisodeCollector(agent.wrap(env), agent.policy, max_steps, agent.recorded)
    first = collector.play()
    frames, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        frames += int(collector.play().lengths.sum())
    return frames / (time.process_time() - started), first


def time_updates(agent: Agent, source: Source, seconds: float) -> tuple[float, int]:
    """Seconds per update, and how many are due for what was added."""
    batches = list(source.batches())
    for batch in batches[:2]:
        agent.update(batch, 10.0)
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        agent.update(batches[done % len(batches)], 10.0)
        done += 1
    return (time.process_time() - started) / done, len(batches)


def measure(algorithm: str, map_name: str, rows: int | None, seconds: float) -> list[Timing]:
    """The recipe's rows and one row, with the same updates."""
    training: Any = Settings.of({"algorithm": {"name": algorithm}, "map": map_name}).training
    rows = training.num_envs if rows is None else rows
    torch.manual_seed(0)
    agent = build(algorithm, make_battle_env(map_name, 1, seed=0))
    # Exploration as at the start: nearly random play, so all algorithms see episodes of a length.
    for hook in agent.hooks:
        hook.before_collect(0)
    size, updates = training.batch_size, training.updates_per_episode
    source = agent.source(SourceSizes(1000, size, updates=updates, episodes=True))
    speed, played = collect(agent, map_name, rows, seconds)
    # Whole batches, however few rows play.
    source.add(torch.cat([played.episodes] * -(-2 * size // len(played.episodes))))
    per_update, _ = time_updates(agent, source, seconds)
    frames_per_episode = float(played.lengths.float().mean())
    per_episode = 1 / size if isinstance(source, OnPolicy) else updates
    per_frame = per_episode / frames_per_episode
    alone, _ = collect(agent, map_name, 1, seconds)
    return [
        Timing(algorithm, n, f, 1e3 * per_update, per_frame, 1 / (1 / f + per_frame * per_update))
        for n, f in ((rows, speed), (1, alone))
    ]


def compare(args: Battles) -> None:
    """Measure, print a table, write a CSV."""
    torch.set_num_threads(args.threads)
    print(
        "| algorithm | rows | played, frames/s | update, ms | updates/frame | together, frames/s |"
    )
    print("|---|---|---|---|---|---|")
    table = []
    for algorithm in args.algorithms.split(","):
        for t in measure(algorithm, args.map, args.rows, args.seconds):
            table.append(t)
            print(
                f"| {t.algorithm} | {t.rows} | {t.played_frames_per_second:,.0f} | "
                f"{t.milliseconds_per_update:.1f} | {t.updates_per_frame:.4f} | "
                f"{t.frames_per_second:,.0f} |",
                flush=True,
            )
    if args.csv:
        cells = [
            {k: x if isinstance(x, (str, int)) else f"{x:.6g}" for k, x in t._asdict().items()}
            for t in table
        ]
        write_csv(args.csv, cells)


if __name__ == "__main__":
    run(compare, "battles.py", __doc__, Battles, sys.argv[1:])
