"""What the programs of this folder share: options, and the command line with its overrides."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vm3ac_modules.cli.arguments import ERRORS, fail, figure_forms, parse_some
from vm3ac_modules.cli.reproduce._budgets import CONTINUOUS, Budget, Program
from vm3ac_modules.extras import require_extra
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs.place import MOVED

SHARED_RUNS = "runs/reproduce/figure3"
RESERVED = ("algorithm", "task", "map", "seed", "run_dir", "resume", "overwrite")
"""What the programs themselves say to the training."""


@dataclass(frozen=True, kw_only=True)
class Study(Options):
    """Options of every program."""

    program: ClassVar[Program] = CONTINUOUS
    own_runs: ClassVar[bool] = False
    """Whether its runs lie in its own ``out``, not in those of figure3."""

    budget: str = option("cpu", "how much is trained", choices=tuple(CONTINUOUS.budgets))
    tasks: str = option("", "tasks, separated by commas")
    seeds: int | None = option(None, "seeds 0, 1, ... of each; null: the budget's", least=1)
    jobs: int = option(1, "trainings at once, one thread each if above 1", least=1)
    separate: bool = option(False, "a process for each seed, not one for all seeds")
    device: str | None = option(None, "where to train; null: cpu, and cuda for budget=gpu")
    out: str = option("", "directory to write into")
    runs: str | None = option(
        None,
        f"where trained runs lie: results.csv, or the directory of a sweep; null: {SHARED_RUNS} "
        "for continuous tasks, else out",
    )
    draw_only: bool = option(False, "train nothing, use the runs that are there")
    figures: str = option("png", "forms of every figure, separated by commas: png, svg, pdf")

    def __post_init__(self) -> None:
        super().__post_init__()
        figure_forms(self.figures)
        if self.budget not in (budgets := type(self).program.budgets):
            raise OptionsError(f"budget must be {' or '.join(budgets)} here, got {self.budget!r}.")


@dataclass(frozen=True, kw_only=True)
class Comparison(Study):
    """Options of programs that compare algorithms."""

    algorithms: str = option("", "algorithms, separated by commas")


@dataclass(frozen=True)
class Command:
    """A command line: options of the program, those of the training, and how it was called."""

    options: Any
    overrides: dict[str, str]
    name: str
    first_seed: int = 0
    count: int | None = None
    """Of seeds; None for what the command line or its budget says."""

    @property
    def given(self) -> dict[str, str]:
        """What is said to the training, by present names."""
        keys = {key: key.lstrip("+~") for key in self.overrides}
        return {MOVED.get(name, name): self.overrides[key] for key, name in keys.items()}

    @property
    def budget(self) -> Budget:
        """How much is trained."""
        return self.options.program.budgets[self.options.budget]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return self._names("tasks")

    @property
    def algorithms(self) -> list[str]:
        """Names of the algorithms."""
        return self._names("algorithms")

    @property
    def seeds(self) -> range:
        """Seeds of every case."""
        count = self.count or self.options.seeds or self.budget.seeds
        return range(self.first_seed, self.first_seed + count)

    @property
    def separate(self) -> bool:
        """Whether each seed is trained in a process of its own."""
        return self.options.separate or not self.options.program.together

    @property
    def device(self) -> str:
        """Where to train."""
        return self.options.device or ("cuda" if self.options.budget == "gpu" else "cpu")

    @property
    def out(self) -> Path:
        """Directory to write into."""
        return Path(self.options.out)

    def figure(self, name: str) -> list[Path]:
        """Files of a figure, in every form that is asked for."""
        return [self.out / f"{name}.{form}" for form in figure_forms(self.options.figures)]

    @property
    def runs(self) -> Path:
        """Where the trained runs lie."""
        own = self.options.out if self.options.own_runs else SHARED_RUNS
        return Path(self.options.runs or own)

    def _names(self, key: str) -> list[str]:
        found = [name for name in getattr(self.options, key).split(",") if name]
        if not found:
            raise OptionsError(f"{key} must name at least one.")
        return found

    @property
    def again(self) -> str:
        """The command that trains what is missing."""
        default = type(self.options)().to_dict()
        given = {k: v for k, v in self.options.to_dict().items() if v != default[k]}
        given.pop("draw_only", None)
        said = [f"{k}={str(v).lower() if v is True else v}" for k, v in given.items()]
        said += [f"{key}={text}" for key, text in self.overrides.items()]
        return f"{self.name} {shlex.join(said)}".strip()


def program(
    function: Callable[[Command], None], options: type[Study], doc: str | None, module: str
) -> Callable[..., None]:
    """The ``main`` of a module: reads a command line and makes what the function makes."""

    def main(
        arguments: Sequence[str], name: str = f"vm3ac reproduce {module.rpartition('.')[-1]}"
    ) -> None:
        budgets = "\n".join(
            f"  {budget}: seeds={seeds} " + " ".join(f"{k}={v}" for k, v in said.items())
            for budget, (seeds, said) in options.program.budgets.items()
        )
        help_text = (
            f"{doc}\nEvery other key=value is an option of the training, see vm3ac "
            f"{options.program.command} --help.\n\nbudgets:\n{budgets}"
        )
        chosen, overrides = parse_some(name, help_text, options, arguments)
        if reserved := [key for key in overrides if key.lstrip("+~") in RESERVED]:
            fail(f"{reserved[0]} is the program's own: see --help for its options.")
        try:
            require_extra("rliable", "reproduce", "The statistics of these programs")
            require_extra("matplotlib", "recipes", "Drawing")
            function(Command(chosen, overrides, name))
        except ERRORS as error:
            fail(str(error))

    return main
