"""What training several seeds at once costs: milliseconds of an update, and of a step of all rows.

An update is loss, backward, optimizers and target on a batch that is already sampled, with the
networks of the presets (2 x 128). Numbers of seeds alternate in one process; the median counts.

    python recipes/benchmarks/seeds.py algorithm=vm3ac seeds=1,3,7 [threads=2] [json=true]
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import take_turns

from vm3ac_modules.algorithms import build, presets
from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import make_env
from vm3ac_modules.learning import SourceSizes, seed_everything
from vm3ac_modules.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Seeds(Options):
    """Options of this program."""

    algorithm: str = option("vm3ac", "name", choices=tuple(presets("continuous")))
    task: str = option("predator_prey_2", "an environment of make_env")
    seeds: tuple[int, ...] = option((1, 3, 7), "numbers of seeds", least=1)
    envs: int = option(64, "rows per seed", least=1)
    batch: int = option(128, "transitions per seed and update", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)
    repeats: int = option(50, "timed rounds", least=1)
    device: str = option("cpu", "cpu or cuda")
    json: bool = option(False, "print one JSON object")


def contestants(args: Seeds, seeds: int) -> dict[str, Callable[[], None]]:
    """An update and a step of all rows, for one number of seeds."""
    env = make_env(args.task, seeds * args.envs, seed=0, device=args.device)
    agent = build(args.algorithm, env, seeds=seeds, device=args.device)
    env = agent.wrap(env)
    sizes = SourceSizes(10 * args.batch, args.batch, seeds=seeds, device=args.device)
    source = agent.source(sizes)
    source.append_transforms(list(agent.replay_transforms()))
    # Enough steps for a batch of every seed, one at a time as in training.
    steps = -(-2 * args.batch // args.envs) + 1
    for step in env.rollout(steps, agent.policy, break_when_any_done=False).unbind(-1):
        source.add(step.detach())
    batch = next(source.batches())
    state = {"now": env.reset()}

    def step() -> None:
        with torch.no_grad():
            _, state["now"] = env.step_and_maybe_reset(agent.policy(state["now"]))

    return {"update": lambda: agent.update(batch), "step": step}


def measure(args: Seeds) -> dict[str, dict[str, float]]:
    """Median milliseconds per number of seeds."""
    jobs = {
        (seeds, name): job for seeds in args.seeds for name, job in contestants(args, seeds).items()
    }
    times = take_turns(jobs, args.repeats, warmup=5)
    result: dict[str, dict[str, float]] = {str(seeds): {} for seeds in args.seeds}
    for (seeds, name), values in times.items():
        result[str(seeds)][f"{name}_ms"] = 1e3 * statistics.median(values)
    return result


def compare(args: Seeds) -> None:
    """Measure, print."""
    torch.set_num_threads(args.threads)
    seed_everything(0)
    result = measure(args)
    if args.json:
        settings = {name: getattr(args, name) for name in ("algorithm", "task", "batch", "threads")}
        print(json.dumps({**settings, "seeds": result}))
        return
    print(f"{args.algorithm} on {args.task}, B={args.batch}, threads={args.threads}")
    first = next(iter(result.values()))
    for seeds, row in result.items():
        parts = [f"{name[:-3]} {ms:7.2f} ms ({ms / first[name]:.2f}x)" for name, ms in row.items()]
        print(f"S={seeds:2s}  " + "   ".join(parts))


if __name__ == "__main__":
    run(compare, "seeds.py", __doc__, Seeds, sys.argv[1:])
