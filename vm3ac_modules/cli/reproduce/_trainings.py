"""Trainings of the programs of this folder: what is there, what is missing, and making it.

A run of ours lies in
``<runs>/trained/<task>/<algorithm>-<hash of its configuration>/seeds_<a>_<b>/seed_<k>``, and
``<runs>/results.csv`` has a row for it. Runs that others left under ``<runs>`` get their rows too,
if their saved configuration is that of a case. One command at a time per ``<runs>``: nothing is
locked.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from vm3ac_modules.cli.arguments import fail, say
from vm3ac_modules.cli.evaluate import play
from vm3ac_modules.cli.reproduce._cases import Case, finished_runs, settings_of
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._results import Results, Row, row_of
from vm3ac_modules.evaluation.curves import AggregatedCurve, aggregate_curves
from vm3ac_modules.evaluation.protocol import Actions
from vm3ac_modules.runs.checkpoint import has_checkpoint
from vm3ac_modules.runs.directory import open_run_directory
from vm3ac_modules.runs.record import read_csv_log, read_yaml
from vm3ac_modules.runs.training import train as train_here


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


def trained(
    command: Command, cases: Iterable[Case], *, needed: bool = True
) -> dict[Case, list[Row]]:
    """Rows of every case's seeds, in their order, after training those that have none.

    If there is none at all the command ends with a message, unless they are not ``needed``.
    """
    cases = list(dict.fromkeys(cases))
    results = Results(command.runs / "results.csv", command.options.program.measures)
    for case in cases:
        collect(command.runs, results, case)
    collect_others(command.runs, results, cases)
    batches = [batch for case in cases for batch in plan(command, results, case)]
    if batches and not command.options.draw_only:
        train_all(command, results, batches)
        batches = [batch for case in cases for batch in plan(command, results, case)]
    for batch in batches:
        say(f"missing: {batch}")
    rows = {case: rows_of(results, case, command.seeds) for case in cases}
    commits = sorted({row["git_commit"] or "none" for found in rows.values() for row in found})
    if len(commits) > 1:
        say(f"these runs are of several commits: {', '.join(commits)}")
    if needed and not any(rows.values()):
        fail(
            f"{command.runs} holds no run of this configuration ({len(results.rows)} of others); "
            f"this makes them: {command.again}"
        )
    return rows


def trained_panels(
    command: Command, panels: Mapping[str, Mapping[str, Case]]
) -> dict[str, dict[str, list[Row]]]:
    """Rows by title and label, after training what is missing; what has none is left out."""
    rows = trained(command, [case for panel in panels.values() for case in panel.values()])
    there = {
        title: {label: rows[case] for label, case in panel.items() if rows[case]}
        for title, panel in panels.items()
    }
    return {title: panel for title, panel in there.items() if panel}


def plays_of(
    command: Command,
    row: Row,
    modes: Iterable[str],
    known: Mapping[str, str],
    actions: Actions = "mean",
) -> list[dict[str, Any]]:
    """Returns of a run's agent by where z comes from, a row per mode that it has.

    None where actions shall be drawn from a policy that draws none.
    """
    episodes, modes = command.options.episodes, list(modes)
    found = play(command.runs / row["run_dir"], modes, episodes, actions)
    return [
        {**known, "latent": mode, "episodes": episodes, **found[mode]}
        for mode in modes
        if mode in found
    ]


def log_of(command: Command, row: Row) -> dict[str, list[float]]:
    """The columns of a run's ``eval.csv``."""
    return read_csv_log(command.runs / row["run_dir"] / "eval.csv")


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


def collect_others(root: Path, results: Results, cases: Sequence[Case]) -> None:
    """Give runs that others left their rows, where they are runs of a case that lacks one."""
    for folder, settings in finished_runs(root):
        for case in cases:
            missing = results.find(case.configuration, settings.training.seed) is None
            if missing and case.is_of(settings):
                parent = folder.parent / "config.yaml"
                together = read_yaml(parent).get("seeds", 1) if parent.exists() else 1
                results.add(row_of(folder, results, case.configuration, together))


def plan(command: Command, results: Results, case: Case) -> list[Batch]:
    """Batches that make the missing seeds: those that were begun, then new ones."""
    missing = {seed for seed in command.seeds if results.find(case.configuration, seed) is None}
    batches = []
    for batch in batches_there(command.runs, case):
        if not batch.finished and missing.issuperset(batch.seeds):
            batches.append(batch)
            missing.difference_update(batch.seeds)
    single = [range(seed, seed + 1) for seed in sorted(missing)]
    for seeds in single if command.separate else spans(missing):
        folder = command.runs / case.folder / f"seeds_{seeds[0]}_{seeds[-1]}"
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


def arguments_of(command: Command, batch: Batch) -> list[str]:
    """What is said to the training; one seed's run directory is its run_dir itself."""
    several = len(batch.seeds) > 1
    place = batch.folder if several else batch.seed_folders[0]
    listed = [*batch.case.arguments, f"device={command.device}", f"seed={batch.seeds[0]}"]
    listed += [f"seeds={len(batch.seeds)}"] if several else []
    # More processes than cores slow each other down severely if each has several threads.
    given = any(text.startswith("threads=") for text in listed)
    listed += ["threads=1"] if command.options.jobs > 1 and not given else []
    return [*listed, f"run_dir={place}"]


def resumable(batch: Batch) -> bool:
    """Whether a batch goes on from checkpoints; clears what was killed before its first one."""
    if all(map(has_checkpoint, batch.seed_folders)):
        return True
    for folder in (*batch.seed_folders, batch.folder):
        open_run_directory(folder, resume=False, overwrite=folder.exists())
    return False


def train(command: Command, batch: Batch) -> float:
    """Train a batch in a process of its own and return its seconds; its output goes to a log."""
    started, name = time.monotonic(), command.options.program.command
    line = [sys.executable, "-m", "vm3ac_modules.cli.main", name, *arguments_of(command, batch)]
    line += ["resume=true"] if resumable(batch) else []
    if command.options.program.inside and command.options.jobs == 1:
        train_here(settings_of(line[4:]))
    else:
        launch(line, batch.folder.with_suffix(".log"))
    return time.monotonic() - started


def launch(line: Sequence[str], log: Path) -> None:
    """Run a command line to its end; raises CalledProcessError if it fails."""
    with log.open("ab") as file:
        subprocess.run(line, check=True, stdout=file, stderr=subprocess.STDOUT)


def train_all(command: Command, results: Results, batches: Sequence[Batch]) -> None:
    """Train batches, ``jobs`` at once, and write their rows; then say which of them failed."""
    failed, pool = [], ThreadPoolExecutor(command.options.jobs)
    here = command.options.program.inside and command.options.jobs == 1
    logs = "" if here else f", output beside each in {command.runs}/trained/**/*.log"
    say(f"{len(batches)} trainings{logs}")
    try:
        futures = {pool.submit(train, command, batch): batch for batch in batches}
        for count, future in enumerate(as_completed(futures), 1):
            batch = futures[future]
            try:
                said = f"{future.result():.0f} s"
                collect(command.runs, results, batch.case)
            except subprocess.CalledProcessError:
                failed.append(batch)
                log = batch.folder.with_suffix(".log")
                lines = log.read_text(errors="replace").splitlines() or ["no output"]
                said = f"failed: {lines[-1]} ({log})"
            say(f"[{count}/{len(batches)}] {batch}: {said}")
    finally:
        # An interrupt must not start what waits.
        pool.shutdown(cancel_futures=True)
    if failed:
        fail(
            f"{len(failed)} of {len(batches)} trainings failed; the same command tries them again, "
            "with draw_only=true it draws without them."
        )


def curve_of(command: Command, rows: Sequence[Row], column: str = "return_mean") -> AggregatedCurve:
    """The aggregated evaluation curve of a case's runs."""
    logs = [log_of(command, row) for row in rows]
    return aggregate_curves([(log["frame"], log[column]) for log in logs])
