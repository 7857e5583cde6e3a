"""What a script and uniformly random actions reach on SMAClite's maps.

The script attacks the weakest enemy in reach, else it walks towards the nearest one
(vm3ac_modules.envs.battles.scripted). Both play the battles that evaluations of vm3ac battle play.

    python recipes/benchmarks/smaclite_baselines.py maps=2s3z reward=shaped [csv=x.csv]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from vm3ac_modules import Keys
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import make_battle_env, time_limit
from vm3ac_modules.envs.battles.scripted import focus_fire
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.files import write_csv
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.options import Options, option

COLUMNS = ("map", "reward", "play", "battles", "return_mean", "return_ci95", "won", "dead_enemies")


@dataclass(frozen=True, kw_only=True)
class Baselines(Options):
    """Options of this program."""

    maps: str = option("2s3z", "maps, separated by commas")
    reward: str = option("shaped", "what pays", choices=("sparse", "shaped"))
    battles: int = option(16, "battles of each", least=1)
    seed: int = option(0, "the run whose evaluations are played", least=0)
    csv: str | None = option(None, "also write the table to this file")


def measure(map_name: str, args: Baselines) -> list[dict[str, Any]]:
    """Two lines of the table."""
    env = make_battle_env(
        map_name, args.battles, backend="smaclite", seed=args.seed, reward=args.reward
    )

    def script(td: Any) -> Any:
        return td.set(Keys().action, focus_fire(env))

    found = []
    for name, policy in (("script", script), ("random", None)):
        options = {"max_steps": time_limit(env), "seed": evaluation_seed(args.seed)}
        result = evaluate(policy, env, plays="episodes", **options)
        numbers = (
            result.mean,
            result.ci95,
            result.info["battle_won"].mean(),
            result.info["dead_enemies"].mean(),
        )
        said = (map_name, args.reward, name, args.battles, *(f"{float(x):.4g}" for x in numbers))
        found.append(dict(zip(COLUMNS, said, strict=True)))
    return found


def compare(args: Baselines) -> None:
    """Play and print."""
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    found = []
    for map_name in args.maps.split(","):
        for line in measure(map_name, args):
            print("| " + " | ".join(map(str, line.values())) + " |", flush=True)
            found.append(line)
    if args.csv:
        write_csv(args.csv, found)


if __name__ == "__main__":
    run(compare, "smaclite_baselines.py", __doc__, Baselines, sys.argv[1:])
