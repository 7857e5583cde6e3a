"""What the programs of this folder share: budgets, cases and the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import fail

from vm3ac_modules.keys import require_extra
from vm3ac_modules.runs import CheckpointError, RunDirectoryError, config_hash

TITLES = {
    "multiwalker_3": "MW (N=3)",
    "multiwalker_4": "MW (N=4)",
    "predator_prey_2": "PP (N=2)",
    "predator_prey_3": "PP (N=3)",
    "predator_prey_4": "PP (N=4)",
    "treasure_collection_4": "CTC (N=4)",
    "treasure_collection_5": "CTC (N=5)",
    "cooperative_navigation_3": "CN (N=3)",
}
"""The tasks of the paper's Figure 3, in its order, and what it calls them."""

SHARED_RUNS = "runs/reproduce/figure3"
ERRORS = (ValueError, ImportError, CheckpointError, RunDirectoryError)
# What the programs themselves say to train_continuous.py.
RESERVED = ("algorithm", "task", "map", "seed", "seeds", "run_dir", "resume", "overwrite", "device")


class Budget(NamedTuple):
    """How much is trained: number of seeds, and knobs of train_continuous.py."""

    seeds: int
    knobs: dict[str, str]


def _budget(seeds: int, *lines: str) -> Budget:
    return Budget(seeds, dict(text.split("=", 1) for text in " ".join(lines).split()))


BUDGETS = {
    # Does every part work? Too short to learn anything; the episodes are cut as well.
    "smoke": _budget(
        2,
        "frames=256 num_envs=4 updates_per_step=2 batch_size=16 init_random_frames=32",
        "buffer_size=1000 hidden=[16,16] task.max_steps=10 information_rows=4 draw=false threads=1",
        "eval_episodes=2 eval_every_frames=64 checkpoint_every_frames=128",
        "information_latents=8",
    ),
    # About 8,000 updates, a minute to four of one core per seed; above the paper's learning rate,
    # as in loop=demo, for the sake of the time.
    "cpu": _budget(
        3,
        "frames=256000 num_envs=64 updates_per_step=2 batch_size=128 lr=1e-3",
        "eval_episodes=20 eval_every_frames=32000 checkpoint_every_frames=128000",
        "replay_checkpoint_bytes=0",
    ),
    # The paper's seeds and batch. It does not print its frames: those of loop=paper. About 250,000
    # updates, a quarter of its one update per frame (updates_per_step=64 does them all).
    "gpu": _budget(
        7,
        "frames=1000000 num_envs=64 updates_per_step=16 batch_size=128",
        "eval_episodes=20 eval_every_frames=50000 checkpoint_every_frames=250000",
    ),
}


# Budgets of recipes/train_smac.py.
BATTLE_BUDGETS = {
    "smoke": _budget(
        2,
        "frames=100 num_envs=4 batch_size=4 start_episodes=4 buffer_size=16 hidden_size=8",
        "eval_episodes=4 eval_every_frames=50 checkpoint_every_frames=50 log_every_updates=1",
        "draw=false +env.max_steps=10",
    ),
    # Two to eight minutes of one core per run on 3s_vs_3z; 8m_vs_9m is several times dearer.
    "cpu": _budget(
        3,
        "frames=150000 eval_every_frames=15000 checkpoint_every_frames=150000",
        "replay_checkpoint_bytes=0 draw=false",
    ),
    # The baselines' codes stop at 2.05 million steps.
    "gpu": _budget(
        5,
        "frames=2050000 eval_every_frames=50000",
        "checkpoint_every_frames=250000 draw=false",
    ),
}


class Program(NamedTuple):
    """A training recipe that the programs of this folder run."""

    script: str
    config_dir: str
    task_key: str
    budgets: dict[str, Budget]
    together: bool
    """Whether it trains several seeds in one process."""
    measures: tuple[str, ...]
    """Entries of its summary that results.csv has besides."""


CONTINUOUS = Program("train_continuous", "config", "task", BUDGETS, True, ())
BATTLES = Program(
    "train_smac", "config_smac", "map", BATTLE_BUDGETS, False,
    ("win_rate", "random_win_rate", "backend", "reward"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One line of a figure: an algorithm with its knobs on a task, trained with several seeds."""

    task: str
    algorithm: str
    arguments: tuple[str, ...]
    own: str = field(default="", compare=False)  # knobs peculiar to it, for messages

    @property
    def configuration(self) -> str:
        """All that is said to the recipe but seeds, place and device."""
        return " ".join(self.arguments)

    @property
    def folder(self) -> Path:
        """Where its runs lie; the hash keeps runs of another configuration apart."""
        digest = config_hash({"configuration": self.configuration})[:8]
        return Path("trained") / self.task / f"{self.algorithm}-{digest}"


def make_parser(
    doc: str,
    out: str,
    tasks: Sequence[str],
    algorithms: Sequence[str] = (),
    program: Program = CONTINUOUS,
) -> argparse.ArgumentParser:
    """The options that all programs have; ``--algorithms`` where there is a choice."""
    budgets = program.budgets
    table = [(name, budget.seeds, budget.knobs.items()) for name, budget in budgets.items()]
    lines = [f"  {n}: seeds={s} " + " ".join(f"{k}={v}" for k, v in knobs) for n, s, knobs in table]
    parser = argparse.ArgumentParser(
        prog=f"{Path(out).name}.py",
        description=doc,
        epilog="\n".join(["budgets:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    parser.set_defaults(program=program)
    add("--budget", choices=list(budgets), default="cpu", help="how much is trained (default cpu)")
    add("--tasks", type=names, default=list(tasks), help=f"default {','.join(tasks)}")
    if algorithms:
        listed = ",".join(algorithms)
        add("--algorithms", type=names, default=list(algorithms), help=f"default {listed}")
    add("--seeds", type=positive, help="seeds 0, 1, ... of each run (default: the budget's)")
    add("--jobs", type=positive, default=1, help="trainings at once, one thread each if above 1")
    add("--separate", action="store_true", help="a process for each seed, not one for all seeds")
    add("--device", help="where to train: cpu, cuda, cuda:<k> (default cpu, cuda for gpu)")
    add("--out", type=Path, default=Path(out), help=f"what to write into (default {out})")
    own_runs = out == SHARED_RUNS or program is not CONTINUOUS
    parser.set_defaults(own_runs=own_runs)
    runs = "--out" if own_runs else SHARED_RUNS
    add("--runs", type=Path, help=f"where the trained runs lie (default {runs})")
    add("--draw-only", action="store_true", help="train nothing, use the runs that are there")
    add("overrides", nargs="*", metavar="key=value", help=f"knobs of {program.script}.py")
    return parser


def names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name for name in text.split(",") if name]


def positive(text: str) -> int:
    """A number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, and check what would otherwise fail after hours of training."""
    args = parser.parse_intermixed_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    again = [a for a in given if a != "--draw-only"]
    args.again = shlex.join(["python", f"recipes/reproduce/{parser.prog}", *again])
    if bare := [text for text in args.overrides if "=" not in text]:
        fail(f"{bare[0]!r} is not of the form key=value (lists are written with commas).")
    args.overrides = dict(text.split("=", 1) for text in args.overrides)
    if reserved := [key for key in args.overrides if key.lstrip("+~") in RESERVED]:
        fail(f"{reserved[0]} is the program's own: see --help for its options.")
    args.device = args.device or ("cuda" if args.budget == "gpu" else "cpu")
    args.seeds = args.seeds or args.program.budgets[args.budget].seeds
    args.separate = args.separate or not args.program.together
    if args.runs is None:
        args.runs = args.out if args.own_runs else Path(SHARED_RUNS)
    try:
        require_extra("rliable", "reproduce", "The statistics of these programs")
        require_extra("matplotlib", "recipes", "Drawing")
    except ImportError as error:
        fail(str(error))
    return args
