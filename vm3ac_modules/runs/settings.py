"""Settings of a training: run, loop, task and algorithm, checked in one place.

The command line, a saved ``config.yaml`` and Python come together here as one nested mapping
(:meth:`Settings.of`), so a sweep's job is checked like any other.

Source: Kim et al. 2023, arXiv:2303.00451, Table 1 and Algorithm 1; docs/readings.md, 20, for the
loop of the demo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from vm3ac_modules.algorithms.base import Algorithm, Kind
from vm3ac_modules.algorithms.registry import find_preset
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.learning.seeding import LARGEST_SEED
from vm3ac_modules.options import Options, OptionsError, meant, option
from vm3ac_modules.runs._spreading import CollectorOptions, check_collector
from vm3ac_modules.runs.place import PLACE, mapping, placed

__all__ = ["LOOPS", "BattleTraining", "Settings", "StepTraining", "Training"]


@dataclass(frozen=True, kw_only=True)
class Training(Options):
    """Options of every training: where it writes, how it is watched, how much it collects."""

    kind: ClassVar[Kind]
    """Kind of actions that are trained."""
    shared: ClassVar[tuple[str, ...]]
    """Options of the algorithm that may be given without its name before them."""

    seed: int = option(
        0, "seed of networks, noise, replay and environments", least=0, most=LARGEST_SEED
    )
    seeds: int = option(
        1,
        "independent runs trained at once, each in run_dir/seed_<k>; numbers are of each",
        least=1,
    )
    run_dir: str = option("", "where this run writes; empty: runs/<task>/<algorithm>/seed_<seed>")
    device: str = option("cpu", "cpu, cuda or cuda:<k>: networks, environments and replay")
    threads: int | str | None = option(
        "auto",
        "intra-op threads of torch (CPU); auto, null: OMP_NUM_THREADS, else one or two, as timed",
        least=1,
        choices=("auto",),
    )
    resume: bool = option(False, "go on from run_dir's last checkpoint")
    trust: bool = option(
        False, "import the module of a task that the resumed run_dir names (python:...)"
    )
    overwrite: bool = option(False, "delete the run that run_dir holds and start anew")
    frames: int = option(
        640_000, "environment steps in total, what a resumed run did before included", least=1
    )
    num_envs: int = option(64, "environments at once", least=1)
    batch_size: int = option(256, "transitions (or episodes) per update", least=1)
    buffer_size: int = option(
        500_000, "transitions (or episodes) that the replay holds", least=1, source="Table 1"
    )
    replay_storage: str = option(
        "memory",
        "where the replay lies: in memory (of the device), or memory-mapped in run_dir",
        choices=("memory", "memmap"),
    )
    max_grad_norm: float | None = option(
        None, "largest norm of a gradient; null clips nothing", above=0
    )
    eval_every_frames: int = option(64_000, "frames between evaluations", least=1)
    eval_episodes: int = option(20, "episodes of an evaluation, always the same starts", least=1)
    checkpoint_every_frames: int = option(128_000, "frames between checkpoints", least=1)
    log_every_updates: int = option(200, "updates between rows of metrics.csv", least=1)
    replay_checkpoint_bytes: int = option(
        1_000_000_000, "largest replay that goes into a checkpoint", unit="bytes", least=0
    )
    draw: bool = option(True, "draw the learning curve and an episode at the end")
    logger: tuple[str, ...] = option(
        ("tensorboard",),
        "what logs besides metrics.csv and eval.csv; [] for none; wandb is offline unless "
        "WANDB_MODE says otherwise",
        choices=("tensorboard", "csv", "wandb", "mlflow"),
    )
    progress: str = option(
        "auto",
        "a bar, a line a minute, or nothing; auto: a bar in a terminal, lines elsewhere",
        choices=("auto", "bar", "lines", "off"),
    )


@dataclass(frozen=True, kw_only=True)
class StepTraining(CollectorOptions, Training):
    """Options of trainings on transitions (continuous actions)."""

    kind: ClassVar[Kind] = "continuous"
    shared: ClassVar[tuple[str, ...]] = (
        *("lr", "gamma", "tau", "reward_scale", "critic", "critic_input", "hidden"),
    )

    info_per_agent: bool = option(
        False, "also a column in eval.csv of what the environment reports of every agent"
    )
    updates_per_step: int = option(2, "updates per step of all rows", least=1)
    init_random_frames: int = option(
        1280, "first frames with random actions and no update, a quarter of all at most", least=0
    )
    cudagraph: str = option(
        "auto",
        "replay an update as one CUDA graph; auto: if networks are on a GPU and the algorithm can",
        choices=("auto", "on", "off"),
    )
    cudagraph_steps: bool = option(
        False, "with it also the policy's step and those of this library's VMAS scenarios"
    )
    compile: bool = option(
        False, "compile the loss by torch.compile; the first update then takes a minute or more"
    )
    update_at_episode_end: bool = option(
        False, "do the updates at the end of each episode instead", source="Algorithm 1"
    )
    information_rows: int = option(
        64, "rows of the estimates of mutual information at an evaluation; 0 for none", least=0
    )
    information_latents: int = option(1024, "extra latents K of these estimates", least=2)


@dataclass(frozen=True, kw_only=True)
class BattleTraining(Training):
    """Options of trainings on whole episodes (discrete actions)."""

    kind: ClassVar[Kind] = "discrete"
    shared: ClassVar[tuple[str, ...]] = (
        *("lr", "gamma", "reward_scale", "hidden_size", "share_params"),
    )

    frames: int = option(
        500_000, "environment steps in total; the last round is played to its end", least=1
    )
    num_envs: int = option(32, "battles at once; every round plays one episode in each", least=1)
    batch_size: int = option(32, "episodes per update", least=1)
    buffer_size: int = option(
        1_000, "episodes that the replay holds; on-policy algorithms have none", least=1
    )
    max_grad_norm: float | None = option(
        10.0, "largest norm of the gradient of each loss's parameters; null clips nothing", above=0
    )
    updates_per_episode: float = option(
        0.5,
        "updates per episode; on-policy algorithms (lica, vdac) use every episode once",
        above=0,
    )
    start_episodes: int = option(96, "episodes before the first update; none on policy", least=0)
    eval_every_frames: int = 20_000
    eval_episodes: int = 32
    checkpoint_every_frames: int = 100_000
    log_every_updates: int = 100
    replay_checkpoint_bytes: int = 500_000_000


COMMANDS: dict[str, type[Training]] = {"train": StepTraining, "battle": BattleTraining}
"""What each command of the console program trains."""

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("vectorized environments, two updates per step of all rows", {}),
    "demo": (
        "what learns predator-prey within five and a half minutes on two CPU cores",
        {
            "frames": 400_000,
            "num_envs": 64,
            "lr": 1e-3,
            "seed": 0,
            "eval_every_frames": 40_000,
            "checkpoint_every_frames": 200_000,
        },
    ),
    "paper": (
        "Table 1 and Algorithm 1: one environment, updates at the end of each episode",
        {
            "frames": 1_000_000,
            "num_envs": 1,
            "batch_size": 128,
            "updates_per_step": 1,
            "init_random_frames": 10_000,
            "update_at_episode_end": True,
        },
    ),
}
"""Named loops of trainings on transitions: what it is, and the options that it sets."""


def check_loop(name: str) -> None:
    """Refuse the name of a loop that does not exist."""
    if name not in LOOPS:
        raise OptionsError(f"unknown loop {name!r}{meant(name, LOOPS)}; valid: {', '.join(LOOPS)}.")


@dataclass(frozen=True)
class Settings:
    """The checked settings of a run.

    Args:
        training: options of the run and its loop.
        task: what is trained on.
        name: name of the algorithm.
        algorithm: its options.
        place: how the task is named in the configuration.
    """

    training: Training
    task: Task
    name: str
    algorithm: Algorithm
    place: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Check a configuration.

        Args:
            config: options of the run by name; ``algorithm``: a mapping with ``name`` and options;
                and ``task``: a mapping with ``name``, ``max_steps``, ``agent_index`` (whether each
                agent sees its one-hot index) and ``env`` (options of the environment), or
                ``map``, ``backend``, ``reward`` and ``env`` for battles. What is missing has its
                default, or what is tuned for the algorithm on the task.

        Raises:
            OptionsError: for an unknown key or a value that is not allowed.
            ValueError: for an unknown task, or options that do not go together.
        """
        given = dict(config)
        kind: type[Training] = BattleTraining if "map" in given else StepTraining
        task, place = placed({key: given.pop(key) for key in PLACE if key in given})
        algorithm = mapping("algorithm", given.pop("algorithm", None))
        if "name" not in algorithm:
            raise OptionsError("say which algorithm: algorithm: {name: vm3ac}.")
        name = algorithm.pop("name")
        preset = find_preset(name, kind.kind).options
        # Options of the algorithm that stand beside the run's are the stronger ones.
        algorithm |= {key: given.pop(key) for key in kind.shared if key in given}
        chosen = tuned(name, task.name, given=algorithm)
        own = {key: value for key, value in chosen.items() if key in preset.names()}
        loop = {key: value for key, value in chosen.items() if key in kind.names()}
        for key in given:
            if kind is BattleTraining and key in CollectorOptions.names():
                raise OptionsError(
                    f"battles are played in whole episodes, by one process: {key} is for tasks "
                    "that are played in steps (vm3ac train)."
                )
            if key in preset.names() and key not in kind.names():
                raise OptionsError(f"{key} is an option of the algorithm: give algorithm.{key}.")
        words = ("algorithm", "task", "loop", *kind.shared)
        training = kind().changed({**loop, **given}, "the run", also=words)
        if not training.run_dir:
            where = f"{clean_name(task.title)}/{clean_name(name)}/seed_{training.seed}"
            training = training.changed({"run_dir": f"runs/{where}"})
        if getattr(training, "info_per_agent", False):
            task = replace(task, info_per_agent=True)
        settings = cls(training, task, name, preset.changed({**own, **algorithm}, name), place)
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse options that do not go together."""
        run = self.training
        if run.resume and run.overwrite:
            raise OptionsError(
                "resume=true and overwrite=true contradict each other; give one of them."
            )
        if getattr(run, "cudagraph", "") == "on" and run.device == "cpu":
            raise OptionsError(
                "cudagraph=on needs device=cuda: a CPU has no CUDA graphs; leave cudagraph=auto."
            )
        if getattr(run, "cudagraph_steps", False) and (
            run.device == "cpu" or getattr(run, "cudagraph", "") == "off"
        ):
            raise OptionsError(
                "cudagraph_steps=true needs device=cuda and cudagraph=auto or on; leave it out."
            )
        if run.seeds > 1 and getattr(run, "update_at_episode_end", False):
            raise OptionsError(
                "update_at_episode_end (loop=paper) waits for each seed's own episodes: use "
                "seeds=1, one process per seed."
            )
        if run.seed + run.seeds - 1 > LARGEST_SEED:
            raise OptionsError(
                f"seeds must end at {LARGEST_SEED}, above it evaluations have theirs; got "
                f"seed={run.seed} and seeds={run.seeds}."
            )
        if isinstance(run, StepTraining):
            check_collector(run, self.task)
            if run.batch_size > run.buffer_size:
                raise OptionsError(
                    f"batch_size={run.batch_size} is more than buffer_size={run.buffer_size} "
                    "holds: take a smaller batch or a larger replay."
                )
        if run.seeds > 1 and "mlflow" in run.logger:
            raise OptionsError("logger=mlflow keeps one run in a process: use seeds=1.")
        if run.seeds > 1 and self.task.plays == "episodes":
            raise OptionsError(f"battles are trained one seed at a time, got seeds={run.seeds}.")

    def to_dict(self) -> dict[str, Any]:
        """The configuration, complete: what ``config.yaml`` and checkpoints hold."""
        return {
            **self.training.to_dict(),
            **self.place,
            "algorithm": {"name": self.name, **self.algorithm.to_dict()},
        }

    def of_seed(self, index: int) -> Settings:
        """The settings of one seed, as if it ran alone in a directory of its own."""
        if self.training.seeds == 1:
            return self
        seed = self.training.seed + index
        place = f"{self.training.run_dir}/seed_{seed}"
        own = self.training.changed({"seed": seed, "seeds": 1, "run_dir": place})
        return Settings(own, self.task, self.name, self.algorithm, self.place)


def check_device(device: torch.device | str) -> None:
    """Refuse a device that torch does not know or that is not here."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise OptionsError(f"device must be cpu or cuda, got {device!r}.") from error
    if wanted.type == "cpu":
        return
    if wanted.type != "cuda":
        raise OptionsError(f"device must be cpu or cuda, got {device!r}.")
    if not torch.cuda.is_available():
        raise OptionsError(f"device={device}: torch finds no GPU here; give device=cpu.")
    count = torch.cuda.device_count()
    if wanted.index is not None and wanted.index >= count:
        raise OptionsError(f"device={device}: the last GPU here is cuda:{count - 1}.")


def clean_name(text: str) -> str:
    """Text as part of a path that every file system takes."""
    for bad in ":/\\\"'*?<>| ":
        text = text.replace(bad, "_")
    return text
