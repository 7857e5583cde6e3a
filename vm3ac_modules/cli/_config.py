"""The configuration that Hydra composes, and help, both made from the options' dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vm3ac_modules.algorithms.registry import find_preset, presets
from vm3ac_modules.algorithms.tuning import BESIDE, TUNED, tuned
from vm3ac_modules.cli.arguments import table
from vm3ac_modules.envs.tasks import FOREIGN, available_environments, battle_name
from vm3ac_modules.runs.settings import COMMANDS, LOOPS

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

Options of a task: task.max_steps=<steps>, task.env.<option>=<value>, and task.agent_index=true,
with which each agent sees its one-hot index besides.
"""
BATTLE = """Train VM3-AC on FOP, or a baseline, on StarCraft-like battles.

  {program} algorithm=vm3ac map=3s_vs_3z reward=sparse seed=0 run_dir=runs/x

algorithm: {algorithms}
map: 3s_vs_3z, 3m, 8m_vs_9m, 2s3z and every other that the backend knows; smacv2 has random teams,
  terran_5_vs_5, protoss_10_vs_11, zerg_20_vs_23, ...
backend: smax (embedded, on the CPU), smaclite (on the CPU, rules nearer to StarCraft), smac or
  smacv2 (StarCraft II; see vm3ac doctor); games, whose maps are coordination, climbing, penalty,
  non_monotonic, two_step, guard and same_mode
reward: sparse (deaths, time and victory) or shaped (the backend's own)

Options of the run (key=value):
{options}

Options of an algorithm (algorithm.key=value; {shared} also without "algorithm."):
{algorithm}

Options of the environment: env.<option>=<value>.
"""
BATTLE_PLACE: dict[str, Any] = {"map": "3s_vs_3z", "backend": "smax", "reward": "sparse", "env": {}}


def register_resolvers() -> None:
    """Make known how tuned values are looked up, in whatever process a job runs."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("tuned", _tuned, replace=True)


def register(command: str, arguments: Sequence[str] = ()) -> None:
    """Make the configuration of a command known to Hydra."""
    from hydra.core.config_store import ConfigStore

    register_resolvers()
    store = ConfigStore.instance()
    for group in GROUPS:
        store.repo.pop(group, None)
    kind = COMMANDS[command]
    for name, preset in presets(kind.kind).items():
        node: dict[str, Any] = {"name": name, **_with_tuned(preset.options.to_dict())}
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
        {"override hydra/job_logging": "none"},
        {"override hydra/hydra_logging": "none"},
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
        node: dict[str, Any] = {"name": task, "max_steps": None, "env": {}, "agent_index": False}
        place = f"task/{group}".rstrip("/")
        ConfigStore.instance().store(group=place, name=name, node=node, package="task")


TUNABLE = frozenset(key for _, _, values in TUNED for key in values)


def _with_tuned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are tuned for an algorithm on a task are looked up when both are known."""
    return {key: f"${{tuned:{key}}}" if key in TUNABLE else value for key, value in values.items()}


def _tuned(key: str, *, _root_: Any) -> Any:
    algorithm = _root_.algorithm.name
    if "map" in _root_:
        kind = COMMANDS["battle"]
        task = battle_name(_root_.map, _root_.backend, _root_.reward)
    else:
        kind, task = COMMANDS["train"], _root_.task.name
    default = find_preset(algorithm, kind.kind).options.to_dict() | kind().to_dict()
    beside = [name for name in BESIDE.get(key, ()) if _said(_root_.algorithm, name, default)]
    return tuned(algorithm, task, given=beside).get(key, default[key])


def _said(node: Any, name: str, default: Mapping[str, Any]) -> bool:
    """Whether the command line chooses an option of the algorithm."""
    from omegaconf import OmegaConf

    if name not in node or OmegaConf.is_interpolation(node, name):
        return False
    return name in TUNABLE or bool(node[name] != default[name])


def chosen_algorithm(arguments: Sequence[str]) -> str:
    """The algorithm that a command line names, the first one of a sweep."""
    said = [a.partition("=")[2] for a in arguments if a.startswith("algorithm=")]
    return said[-1].split(",")[0] if said else "vm3ac"


def help_text(command: str, program: str, algorithm: str) -> str:
    """Help with every option, those of one algorithm included."""
    kind = COMMANDS[command]
    known = presets(kind.kind)
    preset = known.get(algorithm, known["vm3ac"])
    loops = ", ".join(f"{name} ({about})" for name, (about, _) in LOOPS.items())
    own = [name for name in available_environments() if "/" not in name]
    return (TRAIN if command == "train" else BATTLE).format(
        program=program,
        algorithms=", ".join(known),
        tasks=", ".join(own),
        loops=loops,
        options=table(kind().table()),
        shared=", ".join(kind.shared),
        algorithm=f"  {algorithm}: {preset.about}\n" + table(preset.options.table()),
    )
