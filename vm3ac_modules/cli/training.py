"""``vm3ac train`` and ``vm3ac battle``: the one place that knows Hydra.

The configuration is made from the options' dataclasses; what is said on the command line is checked
inside the job, by :class:`~vm3ac_modules.runs.Settings`, so that sweeps (``-m``) pass through it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm3ac_modules.algorithms.registry import find_preset, presets
from vm3ac_modules.algorithms.tuned import TUNED, tuned
from vm3ac_modules.cli.arguments import ERRORS, fail, table
from vm3ac_modules.envs.battles.factory import BACKENDS
from vm3ac_modules.envs.tasks import FOREIGN, available_environments
from vm3ac_modules.extras import require_extra
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs.record import read_yaml
from vm3ac_modules.runs.run import train
from vm3ac_modules.runs.settings import LOOPS, MOVED, BattleTraining, Settings, StepTraining

__all__ = ["battle_main", "train_main"]

Loop = Callable[[Settings], dict[str, Any]]
GROUPS = ("algorithm", "task", "loop")
TRAIN = """Train VM3-AC or a baseline on a task with continuous actions.

  {program} algorithm=vm3ac task=predator_prey_2 seed=0 run_dir=runs/x
  {program} resume=true run_dir=runs/x frames=1_280_000
  {program} -m lr=1e-3,1e-4 seed=0,1      (a directory per job)

algorithm: {algorithms}
task: {tasks}, vmas/<scenario>, pettingzoo/<module>, python:<module>:<function>
loop: {loops}

Options of the run (key=value):
{options}

Options of an algorithm (algorithm.key=value; {shared} also without "algorithm."):
{algorithm}

Options of a task: task.max_steps=<steps>, +task.env.<option>=<value>.
"""
BATTLE = """Train VM3-AC on FOP, or a baseline, on StarCraft-like battles.

  {program} algorithm=vm3ac map=3s_vs_3z reward=sparse seed=0 run_dir=runs/x

algorithm: {algorithms}
map: 3s_vs_3z, 3m, 8m_vs_9m, 2s3z and every other that the backend knows
backend: smax (embedded, on the CPU), smac or smacv2 (StarCraft II; see vm3ac doctor)
reward: sparse (deaths, time and victory) or shaped (the backend's own)

Options of the run (key=value):
{options}

Options of an algorithm (algorithm.key=value; {shared} also without "algorithm."):
{algorithm}

Options of the environment: +env.<option>=<value>.
"""
BATTLE_PLACE = {"map": "3s_vs_3z", "backend": "smax", "reward": "sparse", "env": {}}


def train_main(
    arguments: Sequence[str], *, program: str = "vm3ac train", loop: Loop = train
) -> None:
    """Train on a task with continuous actions.

    Args:
        arguments: the command line.
        program: its name, for help.
        loop: trains as settings say and returns a summary.
    """
    _run("train", arguments, program, loop)


def battle_main(
    arguments: Sequence[str], *, program: str = "vm3ac battle", loop: Loop = train
) -> None:
    """Train on battles.

    Args:
        arguments: the command line.
        program: its name, for help.
        loop: trains as settings say and returns a summary.
    """
    _run("battle", arguments, program, loop)


def _run(command: str, arguments: Sequence[str], program: str, loop: Loop) -> None:
    try:
        require_extra("hydra", "recipes", f"{program}")
    except ImportError as error:
        fail(str(error))
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    given = list(rewritten(arguments, command))
    chosen = _chosen_algorithm(given)
    if any(a in ("-h", "--help") for a in given):
        sys.stdout.write(help_text(command, program, chosen))
        return
    try:
        check_groups(command, given)
    except OptionsError as error:
        fail(str(error))
    register(command, given)
    failed = False

    def job(cfg: DictConfig) -> None:
        nonlocal failed
        try:
            config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
            said = list(HydraConfig.get().overrides.task)
            summary = loop(Settings.of(prepared(config, said)))
        except ERRORS as error:
            # The other jobs of a sweep go on.
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            failed = True
            return
        sys.stdout.write(f"{result_line(summary)} -> {config['run_dir']}\n")

    sys.argv = [program, *given]
    hydra.main(version_base="1.3", config_path=None, config_name=command)(job)()
    if failed:
        sys.exit(2)


def rewritten(arguments: Sequence[str], command: str) -> Iterator[str]:
    """The command line as Hydra takes it.

    Keys that moved get their new names. Plain ``key=value`` becomes ``++key=value``, so that
    unknown keys reach the job, whose message names the valid ones.
    """
    groups = GROUPS if command == "train" else GROUPS[:1]
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
            yield f"{key}={value}"
        else:
            yield f"++{bare}={value}"
    if "-m" in arguments or "--multirun" in arguments:
        swept = [a.partition("=")[0].lstrip("+") for a in arguments if _is_sweep(a)]
        yield f"++sweep={'/'.join(swept)}"


def check_groups(command: str, arguments: Sequence[str]) -> None:
    """Refuse names of algorithms, tasks and loops that do not exist, those of a sweep included.

    Args:
        command: ``"train"`` or ``"battle"``.
        arguments: the command line.

    Raises:
        OptionsError: says which names there are.
    """
    kind = StepTraining if command == "train" else BattleTraining
    for argument in arguments:
        key, _, value = argument.partition("=")
        names = [] if value.startswith(("choice(", "glob(")) else value.split(",")
        for name in names:
            if key == "algorithm":
                find_preset(name, kind.kind)
            elif key == "loop" and name not in LOOPS:
                raise OptionsError(f"unknown loop {name!r}; valid: {', '.join(LOOPS)}.")
            elif key == "task" and command == "train":
                known = available_environments()
                if name not in known and not name.startswith(FOREIGN):
                    also = ", ".join(f"{start}..." for start in FOREIGN)
                    valid = f"{', '.join(known)}, {also}"
                    raise OptionsError(f"unknown task {name!r}; valid: {valid}.")


def _is_sweep(argument: str) -> bool:
    _, separator, value = argument.partition("=")
    lists = value.startswith(("[", "{", "'", '"'))
    sweeps = "," in value and not lists
    return bool(separator) and (sweeps or value.startswith(("range(", "choice(", "glob(")))


def prepared(config: dict[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """What a job trains with: a resumed run's own configuration, or a directory by default.

    Args:
        config: what Hydra composed; its ``run_dir`` is filled in.
        said: the overrides of this job.

    Raises:
        OptionsError: if a resumed run is another one than what is said.
    """
    swept = [key for key in str(config.pop("sweep", "") or "").split("/") if key]
    words = dict(text.lstrip("+").split("=", 1) for text in said if "=" in text)
    if not config.get("run_dir"):
        config["run_dir"] = default_place(config)
        named = ("seed", "algorithm", "task", "map")
        swept = [key for key in swept if key not in named]
    if swept:
        parts = (f"{key}={words[key]}" for key in swept if key in words)
        config["run_dir"] += "/" + _clean(",".join(parts))
    saved = Path(config["run_dir"]) / "config.yaml"
    if not config["resume"] or not saved.exists():
        return config
    return resumed(config, read_yaml(saved), words)


def resumed(
    config: Mapping[str, Any], saved: dict[str, Any], words: Mapping[str, str]
) -> dict[str, Any]:
    """The configuration that a run was started with, and what the command line changes in it.

    Args:
        config: what is composed now.
        saved: the run's own.
        words: overrides of the command line by key.

    Raises:
        OptionsError: for another algorithm, task, loop or number of seeds.
    """
    place = config["run_dir"]
    known = {key: value for key, value in config.items() if key in saved}
    base = {**known, **saved, "run_dir": place}
    base |= {key: config[key] for key in ("resume", "overwrite")}
    for key, text in words.items():
        first, _, rest = key.partition(".")
        if key == "loop":
            raise OptionsError("loop= cannot be given with resume=true: give its options by name.")
        if key in ("algorithm", "task"):
            if saved[key]["name"] != text:
                raise OptionsError(
                    f"{place} holds a run of {key}={saved[key]['name']}, not {text}."
                )
        elif key == "seeds" and int(text) != saved.get("seeds", 1):
            raise OptionsError(f"{place} holds {saved.get('seeds', 1)} seeds, not {text}.")
        elif rest and isinstance(base.get(first), dict):
            base[first] = {**base[first], **_nested(config[first], rest)}
        elif key != "sweep" and not key.startswith("hydra"):
            base[key] = config[key]
    return base


def _nested(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    first = path.partition(".")[0]
    return {first: values[first]}


def default_place(config: Mapping[str, Any]) -> str:
    """Where a run writes if nothing is said: no character that a file system refuses."""
    place = config["map"] if "map" in config else config["task"]["name"]
    return f"runs/{_clean(place)}/{config['algorithm']['name']}/seed_{config['seed']}"


def _clean(text: str) -> str:
    for bad in ":/\\\"'*?<>| ":
        text = text.replace(bad, "_")
    return text


def register(command: str, arguments: Sequence[str] = ()) -> None:
    """Make the configuration of a command known to Hydra.

    Args:
        command: ``"train"`` or ``"battle"``.
        arguments: the command line, which may name tasks by import path.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("tuned", _tuned, replace=True)
    store = ConfigStore.instance()
    for group in GROUPS:
        store.repo.pop(group, None)
    kind = StepTraining if command == "train" else BattleTraining
    for name, preset in presets(kind.kind).items():
        node = {"name": name, **_with_tuned(preset.options.to_dict())}
        store.store(group="algorithm", name=name, node=node)
    defaults: list[Any] = ["_self_", {"algorithm": "vm3ac"}]
    options = {**_with_tuned(kind().to_dict()), "run_dir": None}
    shared = {name: f"${{algorithm.{name}}}" for name in kind.shared}
    if command == "train":
        defaults += [{"task": "predator_prey_2"}, {"loop": "default"}]
        _register_tasks(arguments)
        for name, (_, values) in LOOPS.items():
            store.store(group="loop", name=name, node=values, package="_global_")
    else:
        options |= BATTLE_PLACE
    quiet = [
        {"override hydra/job_logging": "disabled"},
        {"override hydra/hydra_logging": "disabled"},
    ]
    own = {
        "run": {"dir": "."},
        "sweep": {"dir": "runs/sweep", "subdir": "."},
        "output_subdir": None,
        "job": {"chdir": False},
    }
    node = {"defaults": [*defaults, *quiet], **options, **shared, "hydra": own}
    store.store(name=command, node=node)


def _register_tasks(arguments: Sequence[str]) -> None:
    from hydra.core.config_store import ConfigStore

    said = [a.partition("=")[2] for a in arguments if a.startswith("task=")]
    asked = [name for text in said for name in text.split(",") if name.startswith(FOREIGN)]
    for task in dict.fromkeys([*available_environments(), *asked]):
        group, _, name = task.rpartition("/")
        node = {"name": task, "max_steps": None, "env": {}}
        place = f"task/{group}".rstrip("/")
        ConfigStore.instance().store(group=place, name=name, node=node, package="task")


TUNABLE = frozenset(key for _, _, values in TUNED for key in values)


def _with_tuned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are tuned for an algorithm on a task are looked up when both are known."""
    return {key: f"${{tuned:{key}}}" if key in TUNABLE else value for key, value in values.items()}


def _tuned(key: str, *, _root_: Any) -> Any:
    algorithm = _root_.algorithm.name
    battle = "map" in _root_
    task = f"battle/{_root_.backend}/{_root_.reward}/{_root_.map}" if battle else _root_.task.name
    kind = BattleTraining if battle else StepTraining
    default = find_preset(algorithm, kind.kind).options.to_dict() | kind().to_dict()
    return tuned(algorithm, task).get(key, default[key])


def _chosen_algorithm(arguments: Sequence[str]) -> str:
    said = [a.partition("=")[2] for a in arguments if a.startswith("algorithm=")]
    return said[-1].split(",")[0] if said else "vm3ac"


def help_text(command: str, program: str, algorithm: str) -> str:
    """Help with every option, those of one algorithm included.

    Args:
        command: ``"train"`` or ``"battle"``.
        program: its name.
        algorithm: whose options are listed.
    """
    kind = StepTraining if command == "train" else BattleTraining
    known = presets(kind.kind)
    preset = known.get(algorithm, known["vm3ac"])
    loops = ", ".join(f"{name} ({about})" for name, (about, _) in LOOPS.items())
    own = [name for name in available_environments() if "/" not in name]
    return (TRAIN if command == "train" else BATTLE).format(
        program=program,
        algorithms=", ".join(known),
        tasks=", ".join(own),
        loops=loops,
        backends=", ".join(BACKENDS),
        options=table(kind().table()),
        shared=", ".join(kind.shared),
        algorithm=f"  {algorithm}: {preset.about}\n" + table(preset.options.table()),
    )


def result_line(summary: Mapping[str, Any]) -> str:
    """The result of a training in a line.

    Args:
        summary: as ``summary.json`` holds it.
    """
    seeds = f", {len(summary['seeds'])} seeds" if "seeds" in summary else ""
    backend = (
        f" ({summary['backend'].upper()}, {summary['reward']} reward)" if "map" in summary else ""
    )
    won = f"win rate {summary['win_rate']:.2f}, " if "win_rate" in summary else ""
    return (
        f"{summary['algorithm']} on {summary['task']}{backend}: {won}return "
        f"{summary['eval_return_mean']:.1f} +- {summary['eval_return_ci95']:.1f} "
        f"(random policy {summary['random_return_mean']:.1f}), {summary['frames']} frames{seeds}, "
        f"{summary['updates']} updates, {summary['wall_seconds']:.0f} s"
    )
