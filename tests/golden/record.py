"""Record what every algorithm of both recipes prints on short, fixed-seed runs.

    python tests/golden/record.py CHECKOUT OUT.json [--only NAME ...]
    python tests/golden/record.py --compare OLD.json NEW.json

Each run is a process of its own on one thread, with the checkout's own package and recipes, so two
commits are compared on one machine by recording both. Columns that tell the time are left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONTINUOUS = (
    *("vm3ac", "vm3ac_tight", "vm3ac_no_latent", "ma_ac", "ma_sac", "maddpg", "maven", "si_moa"),
    *("vm3ac_k16", "vm3ac_learned_scale", "vm3ac_basin", "vm3ac_mixture", "vm3ac_shared"),
    *("vm3ac_attention", "vm3ac_pair_mean", "vm3ac_auto_entropy", "vm3ac_auto_bonus"),
)
DISCRETE = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")
TASKS = (
    *("cooperative_navigation_3", "treasure_collection_4", "multiwalker_2", "vmas/balance"),
    "pettingzoo/mpe2.simple_spread_v3",
)
TIMED = {"wall_seconds", "frames_per_second", "updates_per_second"}

STEPS = {
    "frames": 320,
    "num_envs": 16,
    "batch_size": 32,
    "init_random_frames": 64,
    "task.max_steps": 10,
    "eval_episodes": 3,
    "eval_every_frames": 160,
    "threads": 1,
    "checkpoint_every_frames": 320,
    "log_every_updates": 3,
    "information_rows": 6,
    "information_latents": 8,
    "draw": "false",
    "buffer_size": 300,
    "hidden": "[16,16]",
}
EPISODES = {
    "map": "3m",
    "frames": 240,
    "num_envs": 4,
    "batch_size": 4,
    "start_episodes": 4,
    "eval_episodes": 3,
    "eval_every_frames": 100,
    "checkpoint_every_frames": 1000,
    "log_every_updates": 2,
    "draw": "false",
    "buffer_size": 12,
    "hidden_size": 16,
}


def runs() -> dict[str, list[str]]:
    """Name -> command line of every run."""

    def line(recipe: str, values: dict[str, object], **more: object) -> list[str]:
        merged = {**values, **{key.replace("__", "."): value for key, value in more.items()}}
        return [recipe, *(f"{key}={value}" for key, value in merged.items())]

    steps, episodes = "train_continuous.py", "train_smac.py"
    found = {f"continuous/{a}": line(steps, STEPS, algorithm=a) for a in CONTINUOUS}
    found |= {f"task/{t}": line(steps, STEPS, algorithm="vm3ac", task=t) for t in TASKS}
    for name in ("vm3ac_tight", "maven", "si_moa", "vm3ac_auto_bonus"):
        found[f"seeds/{name}"] = line(steps, STEPS, algorithm=name, seeds=2)
    paper = {"loop": "paper", **STEPS, "num_envs": 1, "frames": 90, "init_random_frames": 15}
    found["loop/paper"] = line(steps, paper, algorithm="vm3ac", max_grad_norm=1.0)
    found |= {f"discrete/{a}": line(episodes, EPISODES, algorithm=a) for a in DISCRETE}
    shaped = {"algorithm": "vm3ac", "reward": "shaped", "algorithm__num_latents": "all"}
    found["discrete/shaped"] = line(episodes, EPISODES, **shaped)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """A log without its clock."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def play(checkout: Path, command: list[str]) -> dict[str, list[dict[str, str]]]:
    """Run one command of a checkout and read its logs."""
    with tempfile.TemporaryDirectory() as place:
        env = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        program = [sys.executable, str(checkout / "recipes" / command[0]), *command[1:]]
        done = subprocess.run(
            [*program, f"run_dir={place}/run"], env=env, cwd=place, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
        logs = sorted(Path(place, "run").rglob("*.csv"))
        return {str(log.relative_to(Path(place, "run"))): rows(log) for log in logs}


def differences(old: dict, new: dict) -> list[str]:
    """Every run, file, row and column in which two records differ."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            found.append(f"{name}: in one record only")
            continue
        for file in sorted(old[name].keys() | new[name].keys()):
            one, other = old[name].get(file, []), new[name].get(file, [])
            if len(one) != len(other):
                found.append(f"{name} {file}: {len(one)} and {len(other)} rows")
            for index, (a, b) in enumerate(zip(one, other, strict=False)):
                found += [
                    f"{name} {file} row {index} {key}: {a.get(key)} and {b.get(key)}"
                    for key in sorted(a.keys() | b.keys())
                    if a.get(key) != b.get(key)
                ]
    return found


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs=2, type=Path)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only", nargs="*", help="names that begin like this")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.compare:
        found = differences(*(json.loads(path.read_text()) for path in args.paths))
        print("\n".join(found) or "equal to the last digit")
        return int(bool(found))
    checkout, out = args.paths[0].resolve(), args.paths[1]
    chosen = {
        name: command
        for name, command in runs().items()
        if args.only is None or name.startswith(tuple(args.only))
    }
    with ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(lambda command: play(checkout, command), chosen.values())
        record = dict(zip(chosen, done, strict=True))
    out.write_text(json.dumps(record, indent=1))
    print(f"{len(record)} runs -> {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
