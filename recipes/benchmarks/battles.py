"""Time of training on battles: of playing, of an update, and of both together, per algorithm.

    python recipes/benchmarks/battles.py --map 3s_vs_3z [--rows 32] [--seconds 5] [--csv out.csv]

Seconds are of CPU time (wall time says little where other programs run). Played by the untrained
policy through TorchRL, one torch thread, SMAX compiled beforehand; updates on the recipe's batch
of those episodes, as many per episode as the recipe makes. The reference point steps one
environment at a time, as EPyMARL's episode runner does, with the same updates.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from omegaconf import OmegaConf

from vm3ac_modules.algorithms import DISCRETE_ALGORITHMS, DiscreteAgent, build_discrete
from vm3ac_modules.envs import make_battle_env, time_limit
from vm3ac_modules.learning import EpisodeCollector, EpisodeSource

PRESETS = Path(__file__).parents[1] / "config_smac" / "algorithm"


class Timing(NamedTuple):
    """What was measured of one algorithm."""

    algorithm: str
    rows: int
    played_frames_per_second: float
    milliseconds_per_update: float
    updates_per_frame: float
    frames_per_second: float


def collect(agent: DiscreteAgent, map_name: str, rows: int, seconds: float) -> tuple[float, Any]:
    """Frames per second of playing, and the last round."""
    env = make_battle_env(map_name, rows, seed=0)
    max_steps = time_limit(env)
    collector = EpisodeCollector(agent.wrap(env), agent.policy, max_steps, agent.recorded)
    played = collector.play()
    frames, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        played = collector.play()
        frames += int(played.lengths.sum())
    return frames / (time.process_time() - started), played


def time_updates(agent: DiscreteAgent, source: EpisodeSource, seconds: float) -> tuple[float, int]:
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
    preset = OmegaConf.load(PRESETS / f"{algorithm}.yaml")
    rows = preset.num_envs if rows is None else rows
    torch.manual_seed(0)
    agent = build_discrete(algorithm, make_battle_env(map_name, 1, seed=0))
    # Exploration as at the start: nearly random play, so all algorithms see episodes of a length.
    agent.set_frames(0)
    source = EpisodeSource(
        agent.loss.on_policy,
        capacity=1000,
        batch_size=preset.batch_size,
        updates_per_episode=preset.updates_per_episode,
    )
    speed, played = collect(agent, map_name, rows, seconds)
    while source.added < 2 * preset.batch_size:
        source.add(played.episodes)
    per_update, _ = time_updates(agent, source, seconds)
    frames_per_episode = float(played.lengths.float().mean())
    on_policy = agent.loss.on_policy is True
    per_episode = 1 / preset.batch_size if on_policy else preset.updates_per_episode
    per_frame = per_episode / frames_per_episode
    alone, _ = collect(agent, map_name, 1, seconds)
    return [
        Timing(algorithm, n, f, 1e3 * per_update, per_frame, 1 / (1 / f + per_frame * per_update))
        for n, f in ((rows, speed), (1, alone))
    ]


def main() -> None:
    """Measure, print a table, write a CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", default="3s_vs_3z")
    parser.add_argument("--algorithms", nargs="+", default=list(DISCRETE_ALGORITHMS))
    parser.add_argument("--rows", type=int, help="battles at once (default: the recipe's)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| algorithm | rows | played, frames/s | update, ms | updates/frame | together, frames/s |"
    )
    print("|---|---|---|---|---|---|")
    table = []
    for algorithm in args.algorithms:
        for t in measure(algorithm, args.map, args.rows, args.seconds):
            table.append(t)
            print(
                f"| {t.algorithm} | {t.rows} | {t.played_frames_per_second:,.0f} | "
                f"{t.milliseconds_per_update:.1f} | {t.updates_per_frame:.4f} | "
                f"{t.frames_per_second:,.0f} |",
                flush=True,
            )
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Timing._fields)
            writer.writerows(
                [[x if isinstance(x, (str, int)) else f"{x:.6g}" for x in t] for t in table]
            )


if __name__ == "__main__":
    main()
