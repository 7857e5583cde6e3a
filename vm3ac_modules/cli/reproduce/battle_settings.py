"""What each setting of a CPU preset is worth: one at a time back to that of its reference.

    vm3ac reproduce battle_settings budget=cpu [algorithms=vm3ac_cpu,fop_cpu] [tasks=3s_vs_3z]

Not a figure of the paper. A preset NAME_cpu differs from NAME in several options of the algorithm
and of the loop at once. Here every run changes one of them back: soft values, targets, learning
rate, updates per episode and so on; the parts of a schedule (temperature, exploration floor) go
back together. key=value arguments are options of vm3ac battle for every run. A run that has its row
is not trained again and an interrupted one goes on. It writes into out:

    battle_settings.csv   a row per run: what was changed, win rate and return in its last third
    battle_settings.md    the win rates
    battle_settings.png   the curves of each beside those of the preset as it is
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vm3ac_modules.cli.arguments import say
from vm3ac_modules.cli.reproduce._battles import LATE, late_win_rates
from vm3ac_modules.cli.reproduce._budgets import BATTLES, Program
from vm3ac_modules.cli.reproduce._cases import UNIMPORTANT, Case, make_case
from vm3ac_modules.cli.reproduce._choosing import Own, late_mean, left_open
from vm3ac_modules.cli.reproduce._command import Command, Comparison, program
from vm3ac_modules.cli.reproduce._trainings import curve_of, trained_panels
from vm3ac_modules.evaluation.comparison import comparison_figure
from vm3ac_modules.evaluation.names import algorithm_title
from vm3ac_modules.files import write_csv, write_text
from vm3ac_modules.options import OptionsError

__all__ = ["main"]

SUFFIX = "_cpu"
SCHEDULES = ("temperature", "epsilon")
"""First words of options that are one schedule."""


@dataclass(frozen=True, kw_only=True)
class BattleSettings(Comparison):
    """Options of this program."""

    program: ClassVar[Program] = BATTLES
    own_runs: ClassVar[bool] = True

    tasks: str = "3s_vs_3z"
    algorithms: str = "vm3ac_cpu,fop_cpu"
    out: str = "runs/reproduce/battle_settings"


def make(command: Command) -> None:
    """Train what is missing, then write and draw."""
    grouped = trained_panels(
        command,
        {
            task: {
                label: case
                for name in command.algorithms
                for label, case in changed(command, task, name).items()
            }
            for task in command.tasks
        },
    )
    rows = [
        {
            "map": task,
            "preset": label,
            "seed": row["seed"],
            "win_rate": round(late_mean(command, [row], "win_rate", LATE), 4),
            "return_mean": round(late_mean(command, [row], "return_mean", LATE), 3),
        }
        for task, by_label in grouped.items()
        for label, runs in by_label.items()
        for row in runs
    ]
    panels = {
        f"{task}, {algorithm_title(name)}: {setting}": {
            "the preset": curve_of(command, by_label[name], "win_rate"),
            "one setting back": curve_of(command, runs, "win_rate"),
        }
        for task, by_label in grouped.items()
        for label, runs in by_label.items()
        for name, _, setting in [label.partition(", ")]
        if setting
    }
    command.out.mkdir(parents=True, exist_ok=True)
    write_csv(command.out / "battle_settings.csv", rows)
    text = late_win_rates(command, grouped)
    write_text(command.out / "battle_settings.md", text)
    comparison_figure(command.figure("battle_settings"), panels, columns=4, ylabel="win rate")
    say(f"{text}\n-> {command.out}/battle_settings.png, battle_settings.csv")


def changed(command: Command, task: str, name: str) -> dict[str, Case]:
    """A preset as it is, and with each of its settings back: label -> case."""
    if not name.endswith(SUFFIX):
        raise OptionsError(f"{name} has no reference to go back to: give a preset NAME{SUFFIX}.")
    whole = make_case(command, task, name)
    reference = make_case(command, task, name.removesuffix(SUFFIX))
    found = {name: whole}
    for part in differences(flat(whole), flat(reference)):
        if left_open(command, part) == part:
            said = " ".join(f"{k.removeprefix('algorithm.')}={v}" for k, v in part.items())
            found[f"{name}, {said}"] = make_case(command, task, name, part)
    return found


def flat(case: Case) -> dict[str, Any]:
    """Options of a case's loop and algorithm, as a command line names them."""
    training = case.settings.training.to_dict()
    options = case.settings.algorithm.to_dict()
    return {
        **{name: value for name, value in training.items() if name not in UNIMPORTANT},
        **{f"algorithm.{name}": value for name, value in options.items()},
    }


def differences(own: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Own]:
    """What a reference has instead, apart; the parts of a schedule are one change."""
    found: dict[str, Own] = {}
    for key in own.keys() & reference.keys():
        if own[key] != reference[key]:
            name = key.removeprefix("algorithm.")
            word = name.partition("_")[0]
            value = "null" if reference[key] is None else reference[key]
            found.setdefault(word if word in SCHEDULES else name, {})[key] = value
    return [dict(sorted(found[name].items())) for name in sorted(found)]


main = program(make, BattleSettings, __doc__, __name__)
"""Make the table."""
