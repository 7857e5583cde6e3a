"""Trainings of the programs of this folder: what is there, what is missing, and making it.

A run directory of a training recipe lies in
``<runs>/trained/<task>/<algorithm>-<hash of its configuration>/seeds_<a>_<b>/seed_<k>``, and
``<runs>/results.csv`` has a row for it. One command at a time per ``<runs>``: nothing is locked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import check_overrides, fail, register_stock_tasks
from common import Case
from results import Results, Row, row_of

from vm3ac_modules.evaluation import AggregatedCurve, aggregate_curves
from vm3ac_modules.runs import has_checkpoint, open_run_directory, read_csv_log

RECIPES = Path(__file__).parents[1]


class Batch(NamedTuple):
    """Seeds of a case that one process trains."""

    case: Case
    seeds: range
    folder: Path

    @property
    def seed_folders(self) -> list[Path]:
        """Run directory of each seed."""
        return [self.folder / f"seed_{seed}" for seed in self.seeds]

    @property
    def finished(self) -> bool:
        """Whether every seed has its summary."""
        return all((folder / "summary.json").exists() for folder in self.seed_folders)

    def __str__(self) -> str:
        first, last = self.seeds[0], self.seeds[-1]
        seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
        own = f" {self.case.own}" if self.case.own else ""
        return f"{self.case.algorithm}{own} on {self.case.task}, {seeds}"


def make_case(args: argparse.Namespace, task: str, algorithm: str, **knobs: object) -> Case:
    """A case of a program's command line.

    Args:
        args: the command line; what it overrides is stronger than its budget.
        task: name of the task.
        algorithm: name of the algorithm.
        **knobs: what is peculiar to the case, the strongest; ``__`` stands for a dot.
    """
    own = {name.replace("__", "."): str(value) for name, value in knobs.items()}
    merged = args.program.budgets[args.budget].knobs | args.overrides | own
    listed = sorted(f"{name}={value}" for name, value in merged.items())
    said = " ".join(f"{name}={value}" for name, value in own.items())
    chosen = (f"algorithm={algorithm}", f"{args.program.task_key}={task}")
    return Case(task, algorithm, (*chosen, *listed), said)


def trained(args: argparse.Namespace, cases: Iterable[Case]) -> dict[Case, list[Row]]:
    """Rows of every case's seeds, after training those that have none.

    Args:
        args: the command line.
        cases: what is needed.

    Returns:
        The rows by case, in the order of the seeds; with ``--draw-only`` those that are there.
    """
    cases, results = (
        list(dict.fromkeys(cases)),
        Results(args.runs / "results.csv", args.program.measures),
    )
    for case in cases:
        collect(args.runs, results, case)
    batches = [batch for case in cases for batch in plan(args, results, case)]
    if batches and not args.draw_only:
        check(args, batches)
        train_all(args, results, batches)
        batches = [batch for case in cases for batch in plan(args, results, case)]
    for batch in batches:
        print(f"missing: {batch}")
    rows = {case: rows_of(results, case, range(args.seeds)) for case in cases}
    commits = sorted({row["git_commit"] or "none" for found in rows.values() for row in found})
    if len(commits) > 1:
        print(f"these runs are of several commits: {', '.join(commits)}")
    if not any(rows.values()):
        fail(
            f"{args.runs} holds no run of this configuration ({len(results.rows)} of others); "
            f"this makes them: {args.again}"
        )
    return rows


def rows_of(results: Results, case: Case, seeds: Iterable[int]) -> list[Row]:
    """The rows of a case that are there."""
    found = (results.find(case.configuration, seed) for seed in seeds)
    return [row for row in found if row is not None]


def batches_there(root: Path, case: Case) -> list[Batch]:
    """Batches of a case that were started."""
    found = []
    for folder in sorted((root / case.folder).glob("seeds_*_*")):
        first, last = folder.name.removeprefix("seeds_").split("_")
        if folder.is_dir():
            found.append(Batch(case, range(int(first), int(last) + 1), folder))
    return found


def collect(root: Path, results: Results, case: Case) -> None:
    """Give finished runs their rows: a command may have been killed before it did."""
    for batch in batches_there(root, case):
        if batch.finished:
            for seed, folder in zip(batch.seeds, batch.seed_folders, strict=True):
                if results.find(case.configuration, seed) is None:
                    together = len(batch.seeds)
                    results.add(row_of(folder, results, case.configuration, together))


def plan(args: argparse.Namespace, results: Results, case: Case) -> list[Batch]:
    """Batches that make the missing seeds: those that were begun, then new ones."""
    wanted = set(range(args.seeds))
    missing = {seed for seed in wanted if results.find(case.configuration, seed) is None}
    batches = []
    for batch in batches_there(args.runs, case):
        if not batch.finished and missing.issuperset(batch.seeds):
            batches.append(batch)
            missing.difference_update(batch.seeds)
    for seeds in [range(s, s + 1) for s in sorted(missing)] if args.separate else spans(missing):
        folder = args.runs / case.folder / f"seeds_{seeds[0]}_{seeds[-1]}"
        batches.append(Batch(case, seeds, folder))
    return batches


def spans(numbers: Iterable[int]) -> list[range]:
    """Consecutive numbers as ranges."""
    found: list[range] = []
    for number in sorted(numbers):
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found


def check(args: argparse.Namespace, batches: Sequence[Batch]) -> None:
    """End with one sentence if the recipe would refuse one of the trainings."""
    register_stock_tasks()
    program = args.program
    for batch in batches:
        said = arguments_of(args, batch)
        check_overrides(said, RECIPES / program.config_dir, program.script)


def arguments_of(args: argparse.Namespace, batch: Batch) -> list[str]:
    """What is said to the recipe; one seed's run directory is its run_dir itself."""
    several = len(batch.seeds) > 1
    place = batch.folder if several else batch.seed_folders[0]
    listed = [*batch.case.arguments, f"device={args.device}", f"seed={batch.seeds[0]}"]
    listed += [f"seeds={len(batch.seeds)}"] if several else []
    # More processes than cores slow each other down severely if each has several threads.
    given = any(text.startswith("threads=") for text in listed)
    listed += ["threads=1"] if args.jobs > 1 and not given else []
    return [*listed, f"run_dir={place}"]


def resumable(batch: Batch) -> bool:
    """Whether a batch goes on from checkpoints; clears what was killed before its first one."""
    if all(map(has_checkpoint, batch.seed_folders)):
        return True
    for folder in (*batch.seed_folders, batch.folder):
        open_run_directory(folder, resume=False, overwrite=folder.exists())
    return False


def train(args: argparse.Namespace, batch: Batch) -> float:
    """Train a batch in a process of its own and return its seconds; its output goes to a log."""
    script, started = str(RECIPES / f"{args.program.script}.py"), time.monotonic()
    command = [sys.executable, script, *arguments_of(args, batch)]
    command += ["resume=true"] if resumable(batch) else []
    launch(command, batch.folder.with_suffix(".log"))
    return time.monotonic() - started


def launch(command: Sequence[str], log: Path) -> None:
    """Run a command to its end; raises CalledProcessError if it fails."""
    with log.open("ab") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)


def train_all(args: argparse.Namespace, results: Results, batches: Sequence[Batch]) -> None:
    """Train batches, ``--jobs`` at once, and write their rows; then say which of them failed."""
    failed, pool = [], ThreadPoolExecutor(args.jobs)
    print(f"{len(batches)} trainings, output beside each in {args.runs}/trained/**/*.log")
    try:
        futures = {pool.submit(train, args, batch): batch for batch in batches}
        for count, future in enumerate(as_completed(futures), 1):
            batch = futures[future]
            try:
                said = f"{future.result():.0f} s"
                collect(args.runs, results, batch.case)
            except subprocess.CalledProcessError:
                failed.append(batch)
                log = batch.folder.with_suffix(".log")
                lines = log.read_text(errors="replace").splitlines() or ["no output"]
                said = f"failed: {lines[-1]} ({log})"
            print(f"[{count}/{len(batches)}] {batch}: {said}", flush=True)
    finally:
        # An interrupt must not start what waits.
        pool.shutdown(cancel_futures=True)
    if failed:
        fail(
            f"{len(failed)} of {len(batches)} trainings failed; the same command tries them again, "
            "with --draw-only it draws without them."
        )


def curve_of(
    args: argparse.Namespace, rows: Sequence[Mapping[str, str]], column: str = "return_mean"
) -> AggregatedCurve:
    """The aggregated evaluation curve of a case's runs."""
    logs = [read_csv_log(args.runs / row["run_dir"] / "eval.csv") for row in rows]
    return aggregate_curves([(log["frame"], log[column]) for log in logs])
