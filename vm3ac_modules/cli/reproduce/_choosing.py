"""Options that are chosen on seeds which are not reported, and the cases that are trained then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from vm3ac_modules.cli.reproduce._cases import Case, make_case
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.cli.reproduce._results import Row
from vm3ac_modules.cli.reproduce._trainings import log_of, trained

FIRST_SEED = 100
"""Of those on which options are chosen; reported ones begin with 0."""
EVALUATIONS = 10
"""Per run, the one before the first update aside."""
Own = dict[str, object]


class Tried(NamedTuple):
    """A candidate whose runs are done."""

    own: Own
    score: tuple[float, ...]
    """The larger, the better; a later number decides where the earlier ones are equal."""
    rows: Sequence[Row]


class Choice(NamedTuple):
    """What is chosen for an algorithm on a task, and from what."""

    own: Own
    """Options of the reported runs."""
    tried: Sequence[dict[str, Any]] = ()
    """A row per candidate."""


def said(command: Command) -> set[str]:
    """Options of the command line by their present name, without their group."""
    return {key.removeprefix("algorithm.") for key in command.given}


def left_open(command: Command, own: Mapping[str, object]) -> Own:
    """What the command line does not say itself."""
    given = said(command)
    return {k: v for k, v in own.items() if k.removeprefix("algorithm.") not in given}


def try_out(
    command: Command,
    cases: Sequence[tuple[Own, Case]],
    score: Callable[[Command, Sequence[Row]], tuple[float, ...]],
) -> tuple[Tried, list[Tried]] | None:
    """Train candidates on the seeds that are not reported.

    Args:
        command: the command line, which says with how many seeds.
        cases: what is peculiar to each candidate, and its case.
        score: what the rows of a candidate's runs are worth.

    Returns:
        The best one, the first of equals, and all of them; None if one was not trained.
    """
    tuning = replace(command, first_seed=FIRST_SEED, count=command.options.tuning_seeds)
    rows = trained(tuning, [case for _, case in cases], needed=False)
    tried = [Tried(own, score(tuning, rows[case]), rows[case]) for own, case in cases if rows[case]]
    if len(tried) < len(cases):
        return None
    return max(tried, key=lambda one: one.score), tried


def late_mean(command: Command, rows: Sequence[Row], column: str, share: float) -> float:
    """Mean of the evaluations in the last ``share`` of the frames of some runs."""
    late: list[float] = []
    for row in rows:
        log = log_of(command, row)
        since = log["frame"][-1] * (1.0 - share)
        late += [x for f, x in zip(log["frame"], log[column], strict=True) if f > since]
    return sum(late) / len(late)


def chosen_cases(
    command: Command,
    choose: Callable[[Command, str, str], Choice | None],
    title: Callable[[str], str] = str,
) -> tuple[dict[str, dict[str, Case]], list[dict[str, Any]]]:
    """Title of each task -> algorithm -> case, and what options were chosen from.

    Where options are chosen first, an algorithm is trained to its end before the next one is begun.

    Args:
        command: the command line.
        choose: the options of an algorithm on a task, after training what they are chosen on; None
            if that is not there.
        title: of a task.
    """
    found: dict[str, dict[str, Case]] = {}
    tried: list[dict[str, Any]] = []
    for task in command.tasks:
        cases = found.setdefault(title(task), {})
        for name in command.algorithms:
            choice = choose(command, task, name)
            if choice is None:
                continue
            cases[name] = make_case(command, task, name, choice.own)
            tried += choice.tried
            if choice.tried and not command.options.draw_only:
                trained(command, [cases[name]])
    return found, tried
