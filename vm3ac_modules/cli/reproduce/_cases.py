"""One line of a figure: an algorithm on a task with its options, and the runs that are of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm3ac_modules.cli.arguments import value_of
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs._configs import config_hash
from vm3ac_modules.runs.record import read_config
from vm3ac_modules.runs.settings import LOOPS, Settings, check_loop

UNIMPORTANT = (
    *("seed", "seeds", "run_dir", "device", "threads", "resume", "overwrite", "draw"),
    *("log_every_updates", "checkpoint_every_frames", "replay_checkpoint_bytes"),
)
"""Options in which runs of one case may differ."""


@dataclass(frozen=True)
class Case:
    """An algorithm with its options on a task, trained with several seeds."""

    task: str
    algorithm: str
    arguments: tuple[str, ...]
    """What is said to the training, save seeds, place and device."""
    settings: Settings = field(compare=False, repr=False)
    own: str = field(default="", compare=False)
    """What is peculiar to it, for messages."""

    @property
    def configuration(self) -> str:
        """All that is said to the training but seeds, place and device."""
        return " ".join(self.arguments)

    @property
    def folder(self) -> Path:
        """Where its runs lie; the hash keeps runs of another configuration apart."""
        digest = config_hash({"configuration": self.configuration})[:8]
        return Path("trained") / self.task.replace(":", "_") / f"{self.algorithm}-{digest}"

    def is_of(self, settings: Settings) -> bool:
        """Whether a run of these settings is one of this case."""
        return _identity(self.settings) == _identity(settings)


def make_case(
    command: Command, task: str, algorithm: str, own: Mapping[str, object] | None = None
) -> Case:
    """A case of a command line, checked before anything is trained.

    Raises OptionsError if the command line says what is peculiar to the case: ``own``.
    """
    peculiar = {name: str(value) for name, value in (own or {}).items()}
    given = command.given
    if twice := [name for name in peculiar if name in given]:
        raise OptionsError(f"{twice[0]} is this program's to choose: see --help for its options.")
    merged = command.budget.options | given | peculiar
    said = " ".join(f"{name}={value}" for name, value in peculiar.items())
    chosen = (f"algorithm={algorithm}", f"{command.options.program.task_key}={task}")
    arguments = (*chosen, *sorted(f"{name}={value}" for name, value in merged.items()))
    return Case(task, algorithm, arguments, settings_of(arguments), said)


def grid(
    command: Command, own: Callable[[str, str], Mapping[str, object]] = lambda task, name: {}
) -> dict[str, dict[str, Case]]:
    """Every task with every algorithm of a command line; ``own`` says what is peculiar to each."""
    return {
        task: {name: make_case(command, task, name, own(task, name)) for name in command.algorithms}
        for task in command.tasks
    }


def settings_of(arguments: Iterable[str]) -> Settings:
    """What arguments of a training mean, ``key=value`` each; refused as the training would."""
    config: dict[str, Any] = {}
    for text in arguments:
        key, _, value = text.partition("=")
        named = key in ("algorithm", "task")
        *groups, name = [key, "name"] if named else key.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise OptionsError(f"unknown key {key!r}.")
        place[name] = value if named else value_of(value)
    loop = config.pop("loop", "default")
    check_loop(loop)
    return Settings.of({**LOOPS[loop][1], **config})


def finished_runs(root: Path) -> Iterator[tuple[Path, Settings]]:
    """Finished runs of one seed each that others left under a directory: a sweep, say."""
    for file in sorted(root.rglob("summary.json")):
        folder = file.parent
        if folder.relative_to(root).parts[:1] == ("trained",):
            continue
        try:
            settings = Settings.of(read_config(folder / "config.yaml"))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no run, or none that this version can train
        if settings.training.seeds == 1:
            yield folder, settings


def _identity(settings: Settings) -> Mapping[str, Any]:
    """What runs of one case have in common."""
    training, task = settings.training.to_dict(), settings.task
    return {
        "training": {name: v for name, v in training.items() if name not in UNIMPORTANT},
        "task": (task.name, task.max_steps, dict(task.options), task.agent_index),
        "algorithm": (settings.name, settings.algorithm.to_dict()),
    }
