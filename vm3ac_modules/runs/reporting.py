"""One page on one run or many: curves, coordination, what differs, a film; and marl-eval's JSON.

Runs that differ in nothing but their seed are one experiment, drawn as one line with its interval.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm3ac_modules.evaluation.comparison import comparison_figure
from vm3ac_modules.evaluation.coordination.report import coordination_table, evaluation_figure
from vm3ac_modules.evaluation.curves import AggregatedCurve, aggregate_curves
from vm3ac_modules.evaluation.names import (
    algorithm_title,
    decimals,
    metric_title,
    plus_minus,
    task_title,
)
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.runs import _page
from vm3ac_modules.runs._pictures import can_be_drawn
from vm3ac_modules.runs._shown import Shown, read_runs
from vm3ac_modules.runs.directory import RunDirectoryError

__all__ = ["marl_eval_results", "report_page"]

OUTCOMES = ("return_mean", "win_rate", "best_response_value")
COORDINATION = ("mi_lower_bound", "mi_upper_bound", "mutual_information", "latent_share")
Experiments = Mapping[str, Sequence[Shown]]


def report_page(sources: Sequence[Path | str]) -> str:
    """A page of HTML on runs and packed agents; it needs no other file.

    Args:
        sources: directories of runs (with one seed or several) or packed agents, or names of the
            zoo.

    Returns:
        The page.

    Raises:
        RunDirectoryError: if a source holds nothing of a run, or a damaged file.
        CheckpointError: if a card is damaged or of a newer format.
        ValueError: if there is no source, or two are the same seed of one experiment.
        ImportError: if matplotlib or PyYAML is not installed; names the extra.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("matplotlib"), pytest.importorskip("yaml")
        >>> page = report_page(["zoo/guard"])
        >>> page.startswith("<!doctype html>"), "://" in page.split("<body>")[0]
        (True, False)
    """
    runs = read_runs(sources)
    if not runs:
        raise ValueError("a report needs at least one run.")
    found = experiments(runs)
    named = sorted({task_title(run.task) for run in runs})
    title = f"{', '.join(named)}: {', '.join(dict.fromkeys(found))}" if len(found) < 4 else ""
    title = title or f"{len(found)} experiments on {', '.join(named)}"
    with tempfile.TemporaryDirectory() as place:
        parts = [
            _page.heading(title, 1),
            _page.paragraph(f"{len(runs)} run{'s' if len(runs) > 1 else ''}."),
            *_results(found),
            *_curves(found, OUTCOMES, "Learning curves", Path(place)),
            *_curves(found, COORDINATION, "Coordination over training", Path(place)),
            *_coordination(found, Path(place)),
            *_films(found),
            *_settings(found),
            *_versions(runs),
        ]
        return _page.page(title, parts)


def experiments(runs: Sequence[Shown]) -> dict[str, list[Shown]]:
    """Runs by a label that says what they are; only seeds differ under one."""
    found = _by_task(runs)
    several = len({task for task, _ in found}) > 1
    return {f"{name} on {task}" if several else name: own for (task, name), own in found.items()}


def _by_task(runs: Sequence[Shown]) -> dict[tuple[str, str], list[Shown]]:
    """The same by the task's title, and by what the experiment is called there."""
    alike: dict[str, list[Shown]] = {}
    for run in runs:
        key = json.dumps([run.algorithm, run.task, run.settings], sort_keys=True, default=str)
        alike.setdefault(key, []).append(run)
    groups = list(alike.values())
    names = []
    for group in groups:
        _check_seeds(group)
        first = group[0]
        others = [g[0] for g in groups if g is not group and g[0].task == first.task]
        same = [other for other in others if other.algorithm == first.algorithm]
        apart = sorted({key for other in same for key in _differing([first, other])})
        said = [f"{key.removeprefix('algorithm.')}={_word(first, key)}" for key in apart[:3]]
        names.append((task_title(first.task), " ".join([algorithm_title(first.algorithm), *said])))
    unique = [
        name if names.count(name) == 1 else (name[0], f"{name[1]} ({index + 1})")
        for index, name in enumerate(names)
    ]
    return dict(zip(unique, groups, strict=True))


def _check_seeds(runs: Sequence[Shown]) -> None:
    """Refuse a seed that stands twice: counted as two, it would make the interval too narrow."""
    first: dict[int, Shown] = {}
    for run in runs:
        other = first.setdefault(run.seed, run)
        if other is not run:
            raise ValueError(
                f"{other.source} and {run.source} are seed {run.seed} of the same experiment: "
                "intervals are over independent seeds, so give one of them."
            )


def _differing(runs: Sequence[Shown]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({_word(run, key) for run in runs}) > 1]


def _word(run: Shown, key: str) -> str:
    value = run.settings.get(key, "-")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _results(found: Experiments) -> Iterator[str]:
    yield _page.heading("Results")
    header = ["experiment", "task", "seeds", "steps"]
    header += ["return", "win rate", "best response", "random policy"]
    rows = []
    for label, runs in found.items():
        frames = sorted({run.frames for run in runs})
        steps = " to ".join(f"{n:,}" for n in dict.fromkeys((frames[0], frames[-1])))
        seeds = ", ".join(str(run.seed) for run in runs)
        cells = [_mean(runs, *pair) for pair in _MEASURES]
        rows.append([label, task_title(runs[0].task), seeds, steps, *cells])
    yield _page.table(header, rows)
    yield _page.paragraph(
        "Several seeds: mean over them and its 95 % interval in brackets. One seed: +- is half the "
        "95 % interval of the mean over its evaluation episodes, which says nothing of other seeds."
    )
    for label, runs in found.items():
        for note in dict.fromkeys(n for run in runs for n in run.summary.get("notes", ())):
            yield _page.paragraph(f"{label}: {note}.")
    for run in _all(found):
        yield from (_page.paragraph(f"{said}.") for said in run.outdated)
        if run.log and not run.summary:
            yield _page.paragraph(
                f"{run.source} has no current summary: it goes on, or was stopped."
            )


_MEASURES = (
    ("eval_return_mean", "return_mean"),
    ("win_rate", "win_rate"),
    ("best_response_value", "best_response_value"),
    ("random_return_mean", ""),
)


def _mean(runs: Sequence[Shown], name: str, column: str) -> str:
    values = [run.summary.get(name, run.last(column)) for run in runs]
    values = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not values:
        return "-"
    digits = decimals(*values)
    if len(values) > 1:
        mean = summarize_returns(values).mean
        return f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"
    half = runs[0].summary.get("eval_return_ci95", runs[0].last("return_ci95"))
    own = name == "eval_return_mean" and half is not None
    return plus_minus(values[0], half if own else math.nan, digits)


def _curves(found: Experiments, columns: Sequence[str], title: str, place: Path) -> Iterator[str]:
    panels: dict[str, dict[str, AggregatedCurve]] = {}
    ylabels = {}
    for column in columns:
        for label, runs in found.items():
            curves = [curve for run in runs if (curve := _known(run, column))]
            if curves:
                task, measure = _drawn(task_title(runs[0].task)), metric_title(column)
                panel = f"{task}: {measure.partition(',')[0]}"
                panels.setdefault(panel, {})[_drawn(label)] = aggregate_curves(curves)
                ylabels[panel] = metric_title(column)
    if not panels:
        return
    yield _page.heading(title)
    path = place / "curves.svg"
    comparison_figure(path, panels, columns=2, ylabel=ylabels)
    yield _page.picture(
        path,
        "Evaluations over environment steps: mean over seeds; shaded is its 95 % interval, which "
        "one seed has not.",
    )


def _drawn(value: Any) -> Any:
    r"""Texts of a run as matplotlib takes them: between two $ it would read a formula."""
    if isinstance(value, str):
        return value.replace("$", r"\$")
    if isinstance(value, Mapping):
        return {_drawn(key): _drawn(inner) for key, inner in value.items()}
    return [_drawn(inner) for inner in value] if isinstance(value, list) else value


def _known(run: Shown, column: str) -> tuple[list[float], list[float]] | None:
    pairs = zip(run.log.get("frame", ()), run.log.get(column, ()), strict=False)
    kept = [(frame, value) for frame, value in pairs if math.isfinite(value)]
    return ([frame for frame, _ in kept], [value for _, value in kept]) if kept else None


def _coordination(found: Experiments, place: Path) -> Iterator[str]:
    yield _page.heading("Coordination of the trained agents")
    for index, (label, runs) in enumerate(found.items()):
        run = next((run for run in runs if run.evaluation is not None), None)
        if run is None or run.evaluation is None:
            yield _page.paragraph(
                f"{label}: not measured; vm3ac evaluate run_dir={runs[0].source} does it."
            )
            continue
        results, measured = run.evaluation["results"], run.evaluation["coordination"]
        path = place / f"evaluation_{index}.svg"
        try:
            title = _drawn(f"{label}, seed {run.seed}")
            evaluation_figure(path, _drawn(results), _drawn(measured), title=title)
            table = coordination_table(measured) if measured else ""
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise RunDirectoryError(
                f"the evaluation of {run.source} is damaged ({type(error).__name__}: {error}): "
                "measure it again with vm3ac evaluate."
            ) from error
        said = f"{label}, seed {run.seed}: returns by where z comes from"
        also = ", information and correlation of the agents' actions given the state"
        yield _page.picture(path, f"{said}{also if measured else ''}.")
        if measured:
            yield _page.details("the numbers", _page.preformatted(table))


def _films(found: Experiments) -> Iterator[str]:
    films = {
        label: next((run for run in runs if run.film), runs[0]) for label, runs in found.items()
    }
    yield _page.heading("An episode")
    shown = [
        _page.picture(run.film, f"{label}, seed {run.seed}", drawing=False)
        for label, run in films.items()
        if run.film
    ]
    if shown:
        yield f'<div class="pair">{"".join(shown)}</div>\n'
    for label, run in films.items():
        if not run.film:
            why = f" ({run.no_film})" if run.no_film else ""
            how = f"vm3ac play {run.source} draws one"
            if not can_be_drawn(run.config):
                how = f"the simulator of {run.task} shows nothing to be drawn"
            yield _page.paragraph(f"{label}: no film{why}; {how}.")


def _settings(found: Experiments) -> Iterator[str]:
    yield _page.heading("Settings")
    firsts = {label: runs[0] for label, runs in found.items()}
    every = dict.fromkeys(key for run in firsts.values() for key in run.settings)
    lines = {key: [key, *(_word(run, key) for run in firsts.values())] for key in every}
    apart = _differing(list(firsts.values()))
    # An option that an algorithm has alone is part of what it is: shown, but out of the way.
    own = [key for key in apart if any(key not in run.settings for run in firsts.values())]
    if len(firsts) > 1:
        yield _page.paragraph("What differs between the experiments:")
        yield _page.table(["setting", *firsts], [lines[key] for key in apart if key not in own])
    if own:
        table = _page.table(["setting", *firsts], [lines[key] for key in own])
        yield _page.details("options that not all of them have", table)
    said = "what all have in common" if len(firsts) > 1 else "all settings"
    rows = [lines[key][:2] for key in every if key not in apart]
    yield _page.details(said, _page.table(["setting", "value"], rows))


def _versions(runs: Sequence[Shown]) -> Iterator[str]:
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for run in runs:
        if run.versions:
            key = tuple(sorted(run.versions.items()))
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return
    yield _page.heading("Versions")
    names = sorted({name for key in counts for name, _ in key})
    rows = [[dict(key).get(name, "-") for name in names] + [n] for key, n in counts.items()]
    yield _page.table([*names, "runs"], rows)


def _all(found: Experiments) -> Iterator[Shown]:
    for runs in found.values():
        yield from runs


def marl_eval_results(
    sources: Sequence[Path | str], *, environment: str = "vm3ac_modules"
) -> dict[str, Any]:
    """Results in the form that marl-eval reads: environment, task, algorithm, seed, step.

    Every metric is a list of one element, the mean over a step's evaluation episodes; marl-eval
    takes that or one per episode. ``absolute_metrics`` are those of the last evaluation, since no
    run evaluates its best policy again with ten times the episodes.

    Source: Gorsane et al. 2022, *Towards a Standardised Performance Evaluation Protocol for
    Cooperative MARL*, https://arxiv.org/abs/2209.10485.

    Args:
        sources: directories of runs.
        environment: name of the outermost entry.

    Returns:
        Nested dictionaries, for JSON.

    Raises:
        RunDirectoryError: if a source holds nothing of a run, or a damaged file.
        ValueError: if a source has no evaluations, or two are the same seed of one experiment.
    """
    tree: dict[str, Any] = {}
    for (title, name), runs in _by_task(read_runs(sources)).items():
        for run in runs:
            if not run.log.get("frame"):
                raise ValueError(f"{run.source} has no evaluations: there is nothing to export.")
            seeds = tree.setdefault(title, {}).setdefault(name, {})
            names = {"return": "return_mean", "win_rate": "win_rate"}
            there = {name: run.log[column] for name, column in names.items() if column in run.log}
            steps: dict[str, Any] = {
                f"step_{k}": {
                    "step_count": int(frame),
                    **{name: [values[k]] for name, values in there.items()},
                }
                for k, frame in enumerate(run.log["frame"])
            }
            steps["absolute_metrics"] = {name: [values[-1]] for name, values in there.items()}
            seeds[f"seed_{run.seed}"] = steps
    return {environment: tree}
