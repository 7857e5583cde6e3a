"""What training several seeds at once costs: milliseconds of an update, and of a step of all rows.

An update is loss, backward, optimizers and target on a batch that is already sampled, with the
networks of the presets (2 x 128). Numbers of seeds alternate in one process; the median counts.

    python recipes/benchmarks/seeds.py --algorithm vm3ac --seeds 1 3 7 [--threads 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from vm3ac_modules.algorithms import ALGORITHMS, build
from vm3ac_modules.envs import make_env
from vm3ac_modules.learning import interleave, make_replay, seed_everything


def contestants(args: argparse.Namespace, seeds: int) -> dict[str, Callable[[], None]]:
    """An update and a step of all rows, for one number of seeds."""
    env = make_env(args.task, seeds * args.envs, seed=0, device=args.device)
    agent = build(args.algorithm, env, seeds=seeds, device=args.device)
    env = agent.wrap(env)
    replay = make_replay(10 * args.batch, args.batch, seeds=seeds, device=args.device)
    if (transform := agent.replay_transform()) is not None:
        replay.append_transform(transform)
    # Enough steps for a batch of every seed, one at a time as in training.
    steps = -(-2 * args.batch // args.envs) + 1
    for step in env.rollout(steps, agent.policy, break_when_any_done=False).unbind(-1):
        replay.extend(interleave(step.detach(), seeds))
    batch = replay.sample()
    batch = batch if seeds == 1 else batch.reshape(seeds, -1)
    state = {"now": env.reset()}

    def step() -> None:
        with torch.no_grad():
            _, state["now"] = env.step_and_maybe_reset(agent.policy(state["now"]))

    return {"update": lambda: agent.update(batch), "step": step}


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median milliseconds per number of seeds."""
    jobs = {seeds: contestants(args, seeds) for seeds in args.seeds}
    cuda = torch.device(args.device).type == "cuda"
    times: dict[tuple[int, str], list[float]] = {}
    for repeat in range(args.repeats + 5):
        for seeds, named in jobs.items():
            for name, job in named.items():
                start = time.perf_counter()
                job()
                if cuda:
                    torch.cuda.synchronize()
                if repeat >= 5:
                    times.setdefault((seeds, name), []).append(time.perf_counter() - start)
    return {
        str(seeds): {f"{name}_ms": 1e3 * statistics.median(times[seeds, name]) for name in named}
        for seeds, named in jobs.items()
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="vm3ac", choices=list(ALGORITHMS))
    parser.add_argument("--task", default="predator_prey_2", help="an environment of make_env")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 7], help="numbers of seeds")
    parser.add_argument("--envs", type=int, default=64, help="rows per seed")
    parser.add_argument("--batch", type=int, default=128, help="transitions per seed and update")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of torch")
    parser.add_argument("--repeats", type=int, default=50, help="timed rounds")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
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
    main()
