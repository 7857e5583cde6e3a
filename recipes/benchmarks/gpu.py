"""All that wants a GPU, in one command of at most eight minutes.

    python recipes/benchmarks/gpu.py out=runs/gpu

Five parts, one after the other, each within a budget of seconds:

- ``tests``: the tests that need a GPU (``pytest -m gpu``);
- ``updates``: one VM3-AC update, step by step and as a CUDA graph, beside TorchRL's SACLoss;
- ``frames``: predator-prey frames per second through the collector;
- ``seeds``: an update and a step of all rows with several seeds at once;
- ``learning``: predator-prey of four agents, three seeds at once, the same seconds for each
  algorithm.

A part writes ``out/<part>.json`` when it is over, with what failed and what was not reached in its
time; a second call skips the parts that are there. ``parts=updates,frames`` does some alone, and
``device=cpu tiny=true`` rehearses all in seconds.

It needs ``vm3ac-modules[vmas,recipes]`` (torch with CUDA, torchrl, tensordict, numpy, vmas, pyyaml,
tqdm, tensorboard, scipy) and, for ``tests``, ``vm3ac-modules[testing]``, pytest and mpmath.
"""

from __future__ import annotations

import gc
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import seeds as seeds_at_once
import torch
import update_step
from timing import take_turns

from vm3ac_modules.algorithms import build
from vm3ac_modules.cli.arguments import run, say
from vm3ac_modules.envs import make_env
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import seed_everything
from vm3ac_modules.learning._collecting import collecting
from vm3ac_modules.learning.capture import WARMUP
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import Run, Settings, versions
from vm3ac_modules.runs.settings import check_device

ROOT = Path(__file__).parents[2]
MARK = "@pytest.mark.gpu"
Job = tuple[str, float, Callable[[], dict[str, Any]]]
"""Its name, the least seconds that it takes, and what it does."""
SECONDS = {"tests": 50, "updates": 105, "frames": 60, "seeds": 15, "learning": 250}
"""The parts in their order, and the budget of each."""


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    agents: tuple[int, ...] = (2, 4, 8, 64)
    batches: tuple[int, ...] = (128, 1024, 8192)
    repeats: int = 50
    rows: tuple[int, ...] = (512, 2048, 8192, 32_768)
    seconds: float = 4.0
    seeds: tuple[int, ...] = (1, 7, 28)
    algorithms: tuple[str, ...] = ("vm3ac", "vm3ac_tight", "ma_sac_latent", "ma_sac")
    learning: float = 55.0
    tests: str = "test_*.py"


TINY = Sizes(
    *((2,), (8,), 1, (4,), 0.05, (1, 2), ("vm3ac", "ma_sac"), 0.3),
    tests="test_guards.py",
)


@dataclass(frozen=True, kw_only=True)
class Gpu(Options):
    """Options of this program."""

    device: str = option("cuda", "cuda, cuda:<k>; cpu for a rehearsal")
    out: str = option("runs/gpu", "directory of the results; parts that are there are skipped")
    parts: str = option(",".join(SECONDS), "which parts, with commas")
    scale: float = option(
        1.0, "factor on the budgets of all parts, and on the seconds of learning", above=0
    )
    cudagraph: str = option("auto", "of the trainings of `learning`", choices=("auto", "off"))
    cudagraph_steps: bool = option(False, "of the trainings of `learning`")
    tiny: bool = option(False, "small sizes, for a rehearsal")


def tests(options: Gpu, sizes: Sizes, left: Callable[[], float]) -> Iterator[Job]:
    """The tests marked ``gpu``."""

    def job() -> dict[str, Any]:
        missing = [name for name in ("pytest", "hypothesis", "mpmath") if not find_spec(name)]
        if missing:
            return {"not_run": f"not installed: {', '.join(missing)}"}
        # Only the files that have some: collecting them all takes most of the budget.
        files = [str(f) for f in (ROOT / "tests").rglob(sizes.tests) if MARK in f.read_text()]
        line = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *sorted(files)]
        try:
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=left())
        except subprocess.TimeoutExpired:
            return {"not_run": "the tests took longer than their budget"}
        said = done.stdout.strip().splitlines()
        failed = [text for text in said if text.startswith(("FAILED", "ERROR"))]
        counts = dict(re.findall(r"(\d+) (passed|failed|skipped|error)", said[-1] if said else ""))
        named = {kind: int(number) for number, kind in counts.items()}
        return {"exit": done.returncode, **named, "failed_tests": failed}

    yield "pytest -m gpu", 0.0, job


def updates(options: Gpu, sizes: Sizes, left: Callable[[], float]) -> Iterator[Job]:
    """An update of every size, the contestants in turn."""

    def job(agents: int, batch: int) -> dict[str, Any]:
        seed_everything(0)
        td = update_step.make_batch(agents, batch).to(options.device)
        contestants = {"vm3ac": update_step.vm3ac_update(agents, td)}
        contestants["torchrl_sac"] = update_step.torchrl_sac_update(agents, td)
        found: dict[str, Any] = {"agents": agents, "batch": batch}
        if torch.device(options.device).type == "cuda":
            pairs = update_step.UpdateStep(pairs=1)
            ways = {"captured": (None, False), "captured_pairs_1": (pairs, False)}
            # Compiling takes most of a minute, so it is done once.
            if (agents, batch) == (4, 128):
                ways["captured_compiled"] = (None, True)
            for name, (chosen, compiled) in ways.items():
                graph = update_step.vm3ac_update(
                    agents, td, chosen, captured=True, compiled=compiled
                )
                take_turns({name: graph}, 1, warmup=WARMUP + 1)
                contestants[name] = graph
        once = take_turns(contestants, 1, warmup=2)
        rounds = int(sizes.seconds / sum(seconds for [seconds] in once.values()))
        times = take_turns(contestants, max(3, min(sizes.repeats, rounds)))
        medians = {f"{k}_ms": 1e3 * statistics.median(seconds) for k, seconds in times.items()}
        return {**found, **medians}

    for agents in sizes.agents:
        for batch in sizes.batches:
            yield f"N={agents} B={batch}", 0.0, partial(job, agents, batch)


def frames(options: Gpu, sizes: Sizes, left: Callable[[], float]) -> Iterator[Job]:
    """Predator-prey with VM3-AC's policy, more and more rows."""

    def job(rows: int, captured: bool) -> dict[str, Any]:
        seed_everything(0)
        env = make_env("predator_prey_2", rows, seed=0, device=options.device)
        agent = build("vm3ac", env, device=options.device)
        if captured:
            agent.capture(steps=True)
        steps = collecting(agent, agent.wrap(env), episodes=False, max_steps=100)
        turns = iter(steps)
        for _ in range(WARMUP + 2):
            next(turns)
        wait(options.device)
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < sizes.seconds:
            next(turns)
            count += 1
        wait(options.device)
        seconds = time.perf_counter() - start
        steps.close()
        return {
            "rows": rows,
            "captured": captured,
            "frames_per_second": rows * count / seconds,
            "steps": count,
        }

    cuda = torch.device(options.device).type == "cuda"
    for captured in (False, True) if cuda else (False,):
        for rows in sizes.rows:
            name = f"{rows} rows{', captured' if captured else ''}"
            yield name, sizes.seconds, partial(job, rows, captured)


def seeds(options: Gpu, sizes: Sizes, left: Callable[[], float]) -> Iterator[Job]:
    """Numbers of seeds at once."""

    def job(number: int) -> dict[str, Any]:
        seed_everything(0)
        chosen = {"seeds": (number,), "device": options.device, "repeats": sizes.repeats}
        asked = seeds_at_once.Seeds(**chosen, envs=4 if options.tiny else 64)
        return {"seeds": number, **seeds_at_once.measure(asked)[str(number)]}

    for number in sizes.seeds:
        yield f"{number} seeds", 0.0, partial(job, number)


def learning(options: Gpu, sizes: Sizes, left: Callable[[], float]) -> Iterator[Job]:
    """The same seconds of training for every algorithm, and an evaluation at the end."""
    seconds_each = sizes.learning * options.scale

    def job(algorithm: str) -> dict[str, Any]:
        few = options.tiny
        config = {
            "algorithm": {"name": algorithm},
            "task": {"name": "predator_prey_4"},
            "device": options.device,
            "cudagraph": options.cudagraph,
            "cudagraph_steps": options.cudagraph_steps,
            "seeds": 3,
            "frames": 10**9,
            "num_envs": 4 if few else 128,
            "batch_size": 8 if few else 256,
            "buffer_size": 1_000 if few else 500_000,
            "init_random_frames": 8 if few else 1280,
            "eval_episodes": 2 if few else 50,
            "lr": 1e-3,
            "eval_every_frames": 10**9,
            "checkpoint_every_frames": 10**9,
            "information_rows": 0,
            "draw": False,
            "run_dir": f"{options.out}/learning/{algorithm}",
            "overwrite": True,
        }
        with Run(Settings.of(config)) as training:
            start = time.monotonic()
            for collected in training.collect():
                training.store(collected)
                for batch in training.batches(collected):
                    training.learned(training.agent.update(batch))
                training.after(collected)
                if time.monotonic() - start >= seconds_each and training.updates > 0:
                    break
            wait(options.device)
            seconds = time.monotonic() - start
            captured = training.agent.captured is not None
            summary = training.finish()
        kept = ("eval_return_mean", "eval_return_ci95", "random_return_mean")
        found = {name: summary.get(name) for name in kept}
        done = {"frames": training.frames, "updates": training.updates, "seconds": seconds}
        return {"algorithm": algorithm, "seeds": 3, **done, "captured": captured, **found}

    for algorithm in sizes.algorithms:
        yield algorithm, seconds_each, partial(job, algorithm)


PARTS = {part.__name__: part for part in (tests, updates, frames, seeds, learning)}


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, options: Gpu) -> dict[str, Any]:
    """A part: its rows, and what was not reached within its budget."""
    start, budget = time.monotonic(), SECONDS[name] * options.scale
    sizes = TINY if options.tiny else Sizes()

    def left() -> float:
        return max(budget - (time.monotonic() - start), 0.0)

    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    not_reached: list[str] = []
    for job, seconds, do in PARTS[name](options, sizes, left):
        if left() <= seconds:
            not_reached.append(job)
            continue
        try:
            rows.append(do())
        except Exception as error:
            # The other measurements are worth having: a GPU is dear.
            failed[job] = f"{type(error).__name__}: {error}"
        # The next one shall find the memory that this one held.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"{name}: {job} {failed.get(job) or rows[-1]}")
    found = {"rows": rows, "failed": failed, "not_reached": not_reached}
    return {**found, "seconds": time.monotonic() - start, "budget": budget}


def machine(device: str) -> dict[str, Any]:
    """What it was measured on."""
    gpu = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else "CPU"
    return {"device": name, "python": sys.version.split()[0], "versions": versions()}


def gpu(options: Gpu) -> None:
    """Do the parts that are not there yet."""
    check_device(options.device)
    wanted = [part.strip() for part in options.parts.split(",") if part.strip()]
    for part in wanted:
        if part not in PARTS:
            raise OptionsError(f"parts must be of {', '.join(PARTS)}, got {part!r}.")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for part in wanted:
        path = out / f"{part}.json"
        if path.exists():
            say(f"{part}: {path} is there, skipped")
            continue
        write_json(path, {"part": part, **measure(part, options), **machine(options.device)})


def main(arguments: list[str]) -> None:
    """Read the command line and do what it says."""
    run(gpu, "python recipes/benchmarks/gpu.py", __doc__, Gpu, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
