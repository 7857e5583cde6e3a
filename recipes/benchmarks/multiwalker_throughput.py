"""Steps per second of multi-walker: ours, TorchRL's PettingZooWrapper, and PettingZoo alone.

All play uniformly random actions on one thread; episodes that end are reset, and resets count. A
step is one of one simulator, whatever the number of rows. The two TorchRL environments also give
the state. Seconds are of CPU time, so that other programs count less; the contestants take turns,
and the median of the rounds counts.

    python recipes/benchmarks/multiwalker_throughput.py steps=600 rounds=3 [json=true]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from timing import take_turns
from torchrl.envs import EnvBase, MarlGroupMapType, PettingZooWrapper

from vm3ac_modules.cli.arguments import run
from vm3ac_modules.envs import MultiwalkerEnv
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.options import Options, option

ROWS = (1, 4, 16)
OPTIONS: dict[str, Any] = {"shared_reward": False, "remove_on_fall": False}


@dataclass(frozen=True, kw_only=True)
class Throughput(Options):
    """Options of this program."""

    agents: tuple[int, ...] = option((2, 3, 4), "numbers of walkers", least=1)
    steps: int = option(800, "steps per round, a multiple of 16", least=16)
    rounds: int = option(5, "rounds of each contestant", least=1)
    threads: int = option(1, "intra-op threads of torch", least=1)
    json: bool = option(False, "print one JSON object")


def pettingzoo_env(num_agents: int) -> Any:
    """PettingZoo's own parallel environment."""
    # The first of ours has loaded Box2D already, without its warnings.
    warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
    from pettingzoo.sisl import multiwalker_v9

    return multiwalker_v9.parallel_env(n_walkers=num_agents, **OPTIONS)


def play_torchrl(env: EnvBase) -> Callable[[int], None]:
    """Steps of a TorchRL environment, as a collector makes them."""
    env.set_seed(0)
    rows, last = env.batch_size.numel(), env.reset()

    def play(steps: int) -> None:
        nonlocal last
        for _ in range(steps // rows):
            _, last = env.step_and_maybe_reset(env.rand_action(last))

    return play


def play_pettingzoo(env: Any) -> Callable[[int], None]:
    """Steps of PettingZoo's environment, without tensors."""
    generator = np.random.default_rng(0)
    env.reset(seed=0)

    def play(steps: int) -> None:
        for _ in range(steps):
            joint = generator.uniform(-1, 1, (len(env.agents), 4)).astype(np.float32)
            env.step(dict(zip(env.agents, joint, strict=True)))
            if not env.agents:
                env.reset()

    return play


def contestants(num_agents: int) -> dict[str, Callable[[int], None]]:
    """What is compared, by name."""
    ours = {f"ours, W={w}": play_torchrl(MultiwalkerEnv(num_agents, w, seed=0)) for w in ROWS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wrapper warns about versions that it was not made for
        wrapped = PettingZooWrapper(
            pettingzoo_env(num_agents),
            return_state=True,
            group_map=MarlGroupMapType.ALL_IN_ONE_GROUP,
        )
        alone = pettingzoo_env(num_agents)
    return ours | {"PettingZooWrapper": play_torchrl(wrapped), "PettingZoo": play_pettingzoo(alone)}


def measure(num_agents: int, steps: int, rounds: int) -> dict[str, float]:
    """Median steps per second of each contestant."""
    jobs = {name: partial(play, steps) for name, play in contestants(num_agents).items()}
    times = take_turns(jobs, rounds, clock=time.process_time)
    rates = {name: [steps / seconds for seconds in values] for name, values in times.items()}
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def compare(args: Throughput) -> None:
    """Measure and print."""
    if args.steps % 16:
        raise ValueError(f"steps must be a multiple of 16, got {args.steps}.")
    torch.set_num_threads(args.threads)
    seed_everything(0)
    found = {n: measure(n, args.steps, args.rounds) for n in args.agents}
    if args.json:
        print(json.dumps({"steps": args.steps, "rounds": args.rounds, "steps_per_second": found}))
        return
    print("| steps/s | " + " | ".join(f"N={n}" for n in found) + " |")
    print("|---|" + "---|" * len(found))
    for name in next(iter(found.values())):
        print(f"| {name} | " + " | ".join(f"{rates[name]:.0f}" for rates in found.values()) + " |")


if __name__ == "__main__":
    run(compare, "multiwalker_throughput.py", __doc__, Throughput, sys.argv[1:])
