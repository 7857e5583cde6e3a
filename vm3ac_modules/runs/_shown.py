"""What runs and packed agents left behind, read for a report: settings, curves, results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vm3ac_modules.envs.tasks import imports
from vm3ac_modules.runs._reading import DEEPEST, is_deeper, is_whole, read_json
from vm3ac_modules.runs._state import NOT_IN_HASH, completed
from vm3ac_modules.runs._step_directory import steps
from vm3ac_modules.runs.directory import RunDirectoryError
from vm3ac_modules.runs.packed import CARD, PREFIX, ZOO, located, read_card
from vm3ac_modules.runs.record import read_config, read_csv_log

MEASURED = (
    *("eval_return_mean", "eval_return_ci95", "random_return_mean"),
    *("win_rate", "best_response_value"),
)
"""Numbers of summary.json that a page shows."""
LARGEST_FILM = 32_000_000
"""Bytes of the largest film that a page embeds."""


class Shown(NamedTuple):
    """One seed's run, or a packed agent."""

    source: str
    algorithm: str
    task: str
    seed: int
    settings: dict[str, Any]
    """By dotted name: what the run learns from, its seed left out."""
    log: dict[str, list[float]]
    """Columns of eval.csv; empty for a packed agent."""
    summary: dict[str, Any]
    """Of summary.json; empty while the run goes on."""
    evaluation: dict[str, Any] | None
    """Of ``vm3ac evaluate``."""
    versions: dict[str, str]
    film: Path | None
    no_film: str
    """Why there is none, where the directory has a file of that name."""
    outdated: tuple[str, ...] = ()
    """What was left out since the run went on after it, a sentence each."""
    config: Mapping[str, Any] = {}
    """The configuration, complete."""

    @property
    def frames(self) -> int:
        """Environment steps so far."""
        known = self.summary.get("frames")
        return int(known if known is not None else (self.log.get("frame") or [0])[-1])

    def last(self, column: str) -> float:
        """The last value of a column of eval.csv; nan without one."""
        return (self.log.get(column) or [math.nan])[-1]


def read_runs(sources: Sequence[Path | str]) -> list[Shown]:
    """Read what the sources hold; a directory of several seeds is a run for each.

    Args:
        sources: directories of runs or packed agents, or names of the zoo.

    Raises:
        RunDirectoryError: if a source holds nothing of a run, or a damaged file.
        CheckpointError: for a damaged card or an unknown name of the zoo.
        ValueError: for a damaged configuration.
    """
    return [shown for source in sources for shown in _read(source)]


def _read(source: Path | str) -> Iterator[Shown]:
    where = located(source)
    if (where / CARD).is_file():
        yield _packed(source, where)
        return
    seeds = sorted(
        (p for p in where.glob("seed_*") if (p / "config.yaml").is_file()),
        key=lambda p: (len(p.name), p.name),
    )
    if not seeds and not (where / "config.yaml").is_file():
        raise RunDirectoryError(
            f"{source} holds no run (no config.yaml) and no packed agent: give directories that "
            "vm3ac train, battle or pack wrote, or zoo/<name>."
        )
    for place in seeds or [where]:
        yield _run(place)


def _run(place: Path) -> Shown:
    config = read_config(place / "config.yaml")
    path = place / "eval.csv"
    log = read_csv_log(path) if path.is_file() else {}
    last = _done(place, log)
    summary = _json(place / "summary.json", _check_summary) or {}
    evaluation = _json(place / "evaluation.json", _check_evaluation)
    old = {
        "summary.json": summary.get("frames"),
        "evaluation.json": (evaluation or {}).get("frame"),
    }
    outdated = tuple(
        f"{place}: {name} is of frame {frame:,} and was left out; the run went on to {last:,.0f}"
        for name, frame in old.items()
        if frame is not None and frame < last
    )
    evaluated = _last_frame(log)
    if log and evaluated < last:
        outdated += (
            f"{place}: results are of its last evaluation, at {evaluated:,.0f} steps; it has done "
            f"{last:,.0f} (vm3ac evaluate run_dir={place} measures its checkpoint)",
        )
    summary = {} if summary.get("frames", last) < last else summary
    evaluation = evaluation if evaluation and evaluation["frame"] >= last else None
    return Shown(
        str(place),
        *_names(config, place),
        _settings(_told_apart(config)),
        log,
        summary,
        evaluation,
        _versions(summary.get("versions", {}), summary) if summary else {},
        *_film(place),
        outdated,
        config,
    )


def _done(place: Path, log: Mapping[str, Sequence[float]]) -> float:
    """Environment steps that a run has done, by its checkpoints and logs."""
    metrics = place / "metrics.csv"
    trained = read_csv_log(metrics) if metrics.is_file() else {}
    saved = steps(place / "checkpoint")
    return max(_last_frame(log), _last_frame(trained), *saved[-1:], 0.0)


def _last_frame(log: Mapping[str, Sequence[float]]) -> float:
    return max(filter(math.isfinite, log.get("frame", ())), default=0.0)


def _packed(source: Path | str, where: Path) -> Shown:
    card = read_card(where)
    found = card.get("evaluation")
    by = card["trained_by"]
    try:
        if found is not None:
            _check_evaluation(found)
    except ValueError as error:
        raise RunDirectoryError(f"{where / CARD} is damaged: it {error}.") from error
    return Shown(
        str(source),
        *_names(card["config"], source),
        _settings(_told_apart(card["config"])),
        {},
        {**_results(found), "frames": card["frame"]},
        found,
        _versions({k: v for k, v in by.items() if k != "git_commit"}, by),
        # Programs write there what they find of the zoo's agents; a reader makes no directory.
        *_film(Path("runs") / PREFIX / where.name if where.parent == ZOO else where),
        config=card["config"],
    )


def _results(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """An evaluation in the words of summary.json."""
    if found is None:
        return {}
    results = found["results"]
    own = results.get("sample", results.get("none", {}))
    names = {"eval_return_mean": "return_mean", "eval_return_ci95": "return_ci95"}
    names |= {"win_rate": "battle_won", "best_response_value": "best_response_value"}
    summary = {name: own[key] for name, key in names.items() if key in own}
    random = results.get("random", {}).get("return_mean")
    return {**summary, "random_return_mean": random, "eval_episodes": found["episodes"]}


def _versions(found: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, str]:
    return {**{k: str(v) for k, v in found.items()}, "commit": str(by.get("git_commit") or "-")}


def _names(config: Mapping[str, Any], source: Path | str) -> tuple[str, str, int]:
    seed = config.get("seed", 0)
    if not is_whole(seed):
        raise RunDirectoryError(f"{source} is damaged: its configuration has seed {seed!r}.")
    task = config.get("task")
    named = task.get("name", "") if isinstance(task, Mapping) else ""
    algorithm = config.get("algorithm")
    own = algorithm.get("name", "") if isinstance(algorithm, Mapping) else ""
    return str(own), str(named or config.get("map", "")), seed


def _told_apart(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one experiment from another: what a resumed run must share, but for its seed."""
    task = config.get("task")
    name = task.get("name") if isinstance(task, Mapping) else None
    found = {key: value for key, value in config.items() if key not in NOT_IN_HASH}
    # A page imports no module that a directory names.
    if not (isinstance(name, str) and imports(name)):
        # Of a task or an option that this version lacks, a page shows what the file says.
        with suppress(ValueError, TypeError, AttributeError, KeyError, ImportError):
            found = completed(dict(config))
    return {key: value for key, value in found.items() if key != "seed"}


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        inner = isinstance(value, Mapping) and value
        found |= _settings(value, f"{name}.") if inner else {name: value}
    return found


def _json(path: Path, check: Callable[[Any], None]) -> dict[str, Any] | None:
    """What a file of somebody else says; None without one."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        check(found)
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} is damaged: it {error}.") from error
    return found


def _check_summary(found: Any) -> None:
    """Check the fields that a page reads; a ValueError says which one is wrong."""
    if is_deeper(found, DEEPEST):
        raise ValueError("is nested too deeply")
    if not is_whole(found.get("frames")):
        raise ValueError("says no frames")
    if not isinstance(found.get("versions", {}), dict):
        raise ValueError("says no versions")
    notes = found.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("has notes that are no texts")
    for name in MEASURED:
        _check_number(found, name)


def _check_evaluation(found: Any) -> None:
    """The same of an evaluation, in a file of its own or in a card."""
    if not isinstance(found, dict) or is_deeper(found, DEEPEST):
        raise ValueError("holds no evaluation")
    for name in ("frame", "episodes"):
        if not is_whole(found.get(name)):
            raise ValueError(f"says no {name} of its evaluation")
    results = found.get("results")
    if not isinstance(results, dict) or not all(isinstance(r, dict) for r in results.values()):
        raise ValueError("holds no results of its evaluation")
    for own in results.values():
        if not {"return_mean", "return_ci95"} <= own.keys():
            raise ValueError("holds results without a return")
        for name in own:
            _check_number(own, name)
    if not isinstance(found.get("coordination", ""), (dict, type(None))):
        raise ValueError("does not say whether coordination was measured")


def _check_number(found: Mapping[str, Any], name: str) -> None:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
        raise ValueError(f"has a {name} that is no number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"has a {name} that is too large")


def _film(place: Path) -> tuple[Path | None, str]:
    """The film of an episode, or why it is left out: what a page embeds is what others see."""
    path = place / "rollout.gif"
    if path.is_symlink():
        return None, f"{path} was left out: it is a link"
    if not path.is_file():
        return None, ""
    if (size := path.stat().st_size) > LARGEST_FILM:
        return None, f"{path} was left out: it has {size} bytes, {LARGEST_FILM} are shown at most"
    with path.open("rb") as file:
        if file.read(6) not in (b"GIF87a", b"GIF89a"):
            return None, f"{path} was left out: it is no GIF"
    return path, ""
