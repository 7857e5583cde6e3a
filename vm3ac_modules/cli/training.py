"""``vm3ac train`` and ``vm3ac battle``: the one place that knows Hydra.

The configuration is made from the options' dataclasses; what is said on the command line is checked
inside the job, by :class:`~vm3ac_modules.runs.Settings`, so that sweeps (``-m``) pass through it.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm3ac_modules.algorithms.registry import find_preset
from vm3ac_modules.cli._config import (
    GROUPS,
    chosen_algorithm,
    help_text,
    register,
    register_resolvers,
)
from vm3ac_modules.cli.arguments import ERRORS, fail, spelled
from vm3ac_modules.envs.tasks import check_task
from vm3ac_modules.evaluation.names import decimals, plus_minus
from vm3ac_modules.extras import require_extra
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs.checkpoint import has_checkpoint
from vm3ac_modules.runs.place import MOVED
from vm3ac_modules.runs.record import read_config
from vm3ac_modules.runs.settings import COMMANDS, Settings, check_loop, clean_name
from vm3ac_modules.runs.training import train
from vm3ac_modules.runs.trust import check_trusted

__all__ = ["battle_main", "train_main"]

HYDRA = ("help", "multirun", "hydra-help", "version", "cfg", "info", "resolve", "package")
"""Flags of Hydra that a command line may hold."""
Loop = Callable[[Settings], dict[str, Any]]


def _main(command: str) -> Callable[..., None]:
    def main(
        arguments: Sequence[str], *, program: str = f"vm3ac {command}", loop: Loop = train
    ) -> None:
        _run(command, arguments, program, loop)

    return main


train_main = _main("train")
"""Train on a task with continuous actions; ``loop`` trains as settings say, ``train`` unasked."""
battle_main = _main("battle")
"""The same on battles."""


def _run(command: str, arguments: Sequence[str], program: str, loop: Loop) -> None:
    try:
        require_extra("hydra", "recipes", f"{program}")
    except ImportError as error:
        fail(str(error))
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from omegaconf import DictConfig, OmegaConf

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("vm3ac_modules.threads").setLevel(logging.INFO)
    if "RL_LOGGING_LEVEL" not in os.environ:
        # TorchRL says how large its storages are.
        logging.getLogger("torchrl").setLevel(logging.WARNING)
    # Hydra's parser wants its flags behind all overrides.
    given = list(rewritten(list(spelled(arguments, COMMANDS[command](), HYDRA)), command))
    given.sort(key=lambda text: text.startswith("-"))
    chosen = chosen_algorithm(given)
    if any(a in ("-h", "--help") for a in given):
        sys.stdout.write(help_text(command, program, chosen))
        return
    try:
        check_groups(command, given)
    except OptionsError as error:
        fail(str(error))
    register(command, given)
    failed, here = False, os.getpid()

    def job(cfg: DictConfig) -> None:
        nonlocal failed
        register_resolvers()
        try:
            config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
            said = list(HydraConfig.get().overrides.task)
            summary = loop(Settings.of(prepared(config, said)))
        except ERRORS as error:
            # The other jobs of a sweep go on.
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            failed = True
            if os.getpid() != here:
                # A launcher's process tells this one of a failure in this way alone.
                raise CompactHydraException("a job failed; the others went on.") from None
            return
        except (KeyboardInterrupt, SystemExit) as stopped:
            sys.stderr.write(f"\nstopped; {_way_on(cfg)}.\n")
            sys.exit(130 if isinstance(stopped, KeyboardInterrupt) else stopped.code)
        sys.stdout.write(f"{result_line(summary)} -> {config['run_dir']}\n")

    sys.argv = [program, *given]
    hydra.main(version_base="1.3", config_path=None, config_name=command)(job)()
    if failed:
        sys.exit(2)


def _way_on(cfg: Mapping[str, Any]) -> str:
    """How a run that was stopped goes on."""
    place = cfg.get("run_dir")
    runs = [Path(place), *Path(place).glob("seed_*")] if place else []
    if not any(map(has_checkpoint, runs)):
        return "there is no checkpoint yet: start it again"
    return "resume=true with the same run_dir goes on from its last checkpoint"


def rewritten(arguments: Sequence[str], command: str) -> Iterator[str]:
    """The command line as Hydra takes it.

    Keys that moved get their new names. Plain ``key=value`` becomes ``++key=value``, so that
    unknown keys reach the job, whose message names the valid ones.
    """
    groups = GROUPS if command == "train" else GROUPS[:1]
    swept = []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if argument.startswith("-") or not separator:
            if not separator and not argument.startswith(("-", "~")):
                fail(f"{argument!r} is not of the form key=value; see --help.")
            yield argument
            continue
        bare = key.lstrip("+")
        if bare in MOVED:
            sys.stderr.write(f"{bare} is {MOVED[bare]} now.\n")
            bare = MOVED[bare]
            key = bare
        if bare in groups or key.startswith(("+", "~")) or bare.startswith("hydra"):
            text = f"{key}={value}"
        else:
            text = f"++{bare}={value}"
        if _is_sweep(text):
            swept.append(bare)
        yield text
    if "-m" in arguments or "--multirun" in arguments:
        yield f"++sweep={'/'.join(swept)}"


def check_groups(command: str, arguments: Sequence[str]) -> None:
    """Refuse names of algorithms, tasks and loops that do not exist, those of a sweep included."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        names = [] if value.startswith(("choice(", "glob(")) else value.split(",")
        for name in names:
            if key == "algorithm":
                find_preset(name, COMMANDS[command].kind)
            elif key == "loop":
                check_loop(name)
            elif key == "task" and command == "train":
                check_task(name)


def _is_sweep(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        return False  # Hydra says what is wrong with it


def prepared(config: dict[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """What a job trains with: a resumed run's own configuration, or a directory by default."""
    swept = [key for key in str(config.pop("sweep", "") or "").split("/") if key]
    words = dict(text.lstrip("+").split("=", 1) for text in said if "=" in text)
    if not config.get("run_dir"):
        config["run_dir"] = Settings.of({**config, "run_dir": ""}).training.run_dir
        named = ("seed", "algorithm", "task", "map")
        swept = [key for key in swept if key not in named]
    if swept:
        parts = (f"{key}={words[key]}" for key in swept if key in words)
        config["run_dir"] += "/" + clean_name(",".join(parts))
    saved = Path(config["run_dir"]) / "config.yaml"
    if not config["resume"] or not saved.exists():
        return config
    kept = read_config(saved)
    # Who names the task again vouches for it.
    check_trusted(kept, saved, config["trust"] or "task" in words)
    return resumed(config, kept, words)


def resumed(
    config: Mapping[str, Any], saved: dict[str, Any], words: Mapping[str, str]
) -> dict[str, Any]:
    """The configuration that a run was started with, and what the command line changes in it."""
    place = config["run_dir"]
    known = {key: value for key, value in config.items() if key in saved}
    base = {**known, **saved, "run_dir": place}
    base |= {key: config[key] for key in ("resume", "overwrite", "trust")}
    for key, text in words.items():
        first, _, rest = key.partition(".")
        if key == "loop":
            raise OptionsError("loop= cannot be given with resume=true: give its options by name.")
        if key in ("algorithm", "task"):
            name = saved.get(key, {}).get("name")
            if name != text:
                held = f"{key}={name}" if name else f"map={saved.get('map')}"
                raise OptionsError(f"{place} holds a run of {held}, not {text}.")
        elif key == "seeds" and config["seeds"] != saved.get("seeds", 1):
            raise OptionsError(f"{place} holds {saved.get('seeds', 1)} seeds, not {text}.")
        elif rest and isinstance(base.get(first), dict):
            name = rest.partition(".")[0]
            base[first] = {**base[first], name: config[first][name]}
        elif key != "sweep" and not key.startswith("hydra"):
            base[key] = config[key]
    return base


def result_line(summary: Mapping[str, Any]) -> str:
    """The result of a training in a line."""
    seeds = f", {len(summary['seeds'])} seeds" if "seeds" in summary else ""
    played = ""
    # A small game has one reward.
    if "map" in summary and summary["backend"] != "games":
        played = f" ({summary['backend'].upper()}, {summary['reward']} reward)"
    won = f"win rate {summary['win_rate']:.2f}, " if "win_rate" in summary else ""
    if "greedy_win_rate" in summary:
        won = f"win rate {summary['win_rate']:.2f} (greedy {summary['greedy_win_rate']:.2f}), "
    if "best_response_value" in summary:
        won = f"against the best response {summary['best_response_value']:.3f}, "
    shown = (summary[f"eval_return_{part}"] for part in ("mean", "ci95"))
    mean, half, random = (*shown, summary["random_return_mean"])
    digits = decimals(mean, half, random)
    return (
        f"{summary['algorithm']} on {summary['task']}{played}: {won}return "
        f"{plus_minus(mean, half, digits)} (random policy {plus_minus(random, math.nan, digits)}), "
        f"{summary['frames']} frames{seeds}, "
        f"{summary['updates']} updates, {summary['wall_seconds']:.0f} s"
    )
