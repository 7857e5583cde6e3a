"""The parts of a run: settings, agent, environment, source of batches, counters and files.

:class:`~vm3ac_modules.runs.Run` adds how it goes; saving, reports and evaluations work on this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase

from vm3ac_modules.algorithms.registry import build_from
from vm3ac_modules.envs._processes import check_main_guard
from vm3ac_modules.envs.battles.factory import lost_episodes
from vm3ac_modules.envs.resume import find_resumable
from vm3ac_modules.evaluation.statistics import require_intervals
from vm3ac_modules.learning.guards import FiniteGuard
from vm3ac_modules.learning.seeding import seed_everything
from vm3ac_modules.learning.sources import SourceSizes
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs._loggers import check_loggers
from vm3ac_modules.runs._logs import MetricsLog, SeedFiles
from vm3ac_modules.runs._machine import Threads, keep_freed_memory
from vm3ac_modules.runs._replay_size import FOLDER, check_replay, item_bytes
from vm3ac_modules.runs._segments import ReplayFiles
from vm3ac_modules.runs._spreading import check_spread, spread_of
from vm3ac_modules.runs._statistics import check_carried
from vm3ac_modules.runs.directory import RunDirectoryError, check_run_directory
from vm3ac_modules.runs.settings import Settings, check_device

LOG = logging.getLogger("vm3ac_modules")


class RunBase:
    """The parts of a run, built from its settings; nothing is written yet."""

    def __init__(self, settings: Settings) -> None:
        check_main_guard()
        self.settings, self.training, self.task = settings, settings.training, settings.task
        training = self.training
        check_device(training.device)
        require_intervals(training.seeds)
        check_loggers(training.logger)
        check_run_directory(training.run_dir, resume=training.resume, overwrite=training.overwrite)
        keep_freed_memory()
        self.threads = Threads(training.threads, training.device)
        self.frames = self.updates = self.episodes = 0
        self.lost_before = 0
        self.started, self.seconds_before = time.monotonic(), 0.0
        self.notes: list[str] = []
        # The newest round's battles that were won, if any were won.
        self.won: TensorDictBase | None = None
        self.last_checkpoint: Path | None = None
        self.saved_frame = -1
        self.template: dict[str, Any] | None = None
        self.streams: dict[str, Any] | None = None
        self.settings_of_seeds = [settings.of_seed(index) for index in range(training.seeds)]
        self.replay_files: list[ReplayFiles | None] = [None] * training.seeds
        self.spread = spread_of(training, self.task)
        self._count_frames()
        self._build()

    def _count_frames(self) -> None:
        training = self.training
        rows = training.num_envs
        if self.task.plays == "episodes":
            self.frames_total, self.random_frames = training.frames, 0
            return
        self.frames_total = -(-training.frames // rows) * rows
        wanted = min(getattr(training, "init_random_frames", 0), self.frames_total // 4)
        # Random and chosen actions are never in one round of the workers.
        least = rows if self.spread is None else self.spread.frames
        self.random_frames = -(-wanted // least) * least

    def _build(self) -> None:
        training, task = self.training, self.task
        seed_everything(training.seed)
        rows = training.seeds * training.num_envs
        # Battles are simulated, and their replay lies, on the CPU.
        device = training.device if task.plays == "steps" else "cpu"
        # Where workers play, the environment of this process only tells what theirs are like.
        here = rows if self.spread is None else 1
        env = task.make(here, device=training.device, seed=training.seed, teams=training.seeds)
        self.of_rows = check_carried(task, env, training.seeds)
        self.agent = build_from(
            self.settings.algorithm,
            env,
            name=self.settings.name,
            device=training.device,
            seeds=training.seeds,
        )
        self.max_steps = task.limit(env)
        self.env = self.agent.wrap(env)
        find_resumable(self.env)
        if self.spread is not None:
            check_spread(self.spread, self.agent, env)
        sizes = self._source_sizes(device)
        self._check_memory(sizes)
        self.source = self.agent.source(sizes)
        self.replay_transforms = list(self.agent.replay_transforms())
        self.metrics = MetricsLog(self.agent, training.device)
        self.guard = FiniteGuard(0)
        self.files: list[SeedFiles] = []
        self._check_source()
        self._capture(getattr(training, "cudagraph", "off"))

    def _capture(self, wanted: str) -> None:
        """Replay updates as a CUDA graph where that is wanted and can be."""
        against = self.agent.reason_against_capture
        if wanted == "on" and against is not None:
            raise OptionsError(
                f"cudagraph=on: {self.agent.algorithm} cannot update as a CUDA graph, {against}; "
                "leave cudagraph=auto."
            )
        if getattr(self.training, "compile", False):
            self.agent.compile()
        if wanted != "off" and against is None:
            self.agent.capture(steps=getattr(self.training, "cudagraph_steps", False))

    def _source_sizes(self, device: str) -> SourceSizes:
        training = self.training
        episodes = self.task.plays == "episodes"
        updates = "updates_per_episode" if episodes else "updates_per_step"
        return SourceSizes(
            training.buffer_size,
            training.batch_size,
            updates=getattr(training, updates),
            start=getattr(training, "start_episodes", self.first_update),
            episodes=episodes,
            seeds=training.seeds,
            # What is mapped lies on the CPU, whatever the networks' device.
            device="cpu" if self.replay_folder else device,
            folder=self.replay_folder,
            keys=self.agent.keys,
        )

    @property
    def first_update(self) -> int:
        """The step of all rows that updates begin with, the one after the last random one."""
        return self.random_frames // self.training.num_envs + 1

    @property
    def replay_folder(self) -> Path | None:
        """Where a memory-mapped replay lies."""
        mapped = self.training.replay_storage == "memmap"
        return Path(self.training.run_dir) / FOLDER if mapped else None

    def _check_memory(self, sizes: SourceSizes) -> None:
        if not self.agent.source.keeps_replay:
            return
        slots = self.max_steps + 1 if sizes.episodes else 1
        items = sizes.seeds * min(sizes.capacity, self.frames_total)
        size = item_bytes(self.agent, self.env, slots)
        check_replay(items, size, str(sizes.device), sizes.folder)

    def _check_source(self) -> None:
        training = self.training
        once = self.task.plays == "episodes" and not self.source.keeps_replay
        if once and training.num_envs % training.batch_size:
            raise ValueError(
                f"{self.agent.algorithm} uses every episode once: num_envs must be a multiple of "
                f"batch_size, got {training.num_envs} and {training.batch_size}."
            )

    @property
    def wall_seconds(self) -> float:
        """Seconds that this run took, including those before a resume."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def lost_episodes(self) -> int:
        """Episodes that crashes of a simulator cut short, those before a resume included."""
        now = lost_episodes(self.env) if self.task.plays == "episodes" else 0
        return self.lost_before + now

    def note(self, text: str, level: int = logging.WARNING) -> None:
        """Log a note for readers of the results and add it to ``summary.json``."""
        LOG.log(level, "%s: %s.", self.training.run_dir, text)
        self.notes.append(text)

    def counters(self) -> dict[str, Any]:
        """Counters for a checkpoint."""
        return {
            "frames": self.frames,
            "updates": self.updates,
            "episodes": self.episodes,
            "lost_episodes": self.lost_episodes,
            "wall_seconds": self.wall_seconds,
            "notes": list(self.notes),
            "random_frames": self.random_frames,
            "clips": {name: count.tolist() for name, count in self.agent.clip_counts.items()},
        }

    def load_counters(self, state: Mapping[str, Any]) -> None:
        """Restore the values that :meth:`counters` returned."""
        self.frames, self.updates = state["frames"], state["updates"]
        self.episodes, self.lost_before = state["episodes"], state["lost_episodes"]
        self.seconds_before, self.notes = state["wall_seconds"], list(state["notes"])
        # A run that was shorter first had fewer random actions; there are no more later.
        self.random_frames = state.get("random_frames", self.random_frames)
        for name, count in state.get("clips", {}).items():
            self.agent.clip_counts[name] = torch.tensor(count, dtype=torch.float64)

    def write_metrics(self) -> None:
        """Write a row of metrics of every seed."""
        counts: dict[str, Any] = {"episode": self.episodes} if self.episodes else {}
        counts["wall_seconds"] = round(self.wall_seconds, 2)
        rows = self.metrics.rows(self.frames, self.updates, counts)
        with self.writing("metrics.csv"):
            for files, row in zip(self.files, rows, strict=True):
                files.write_metrics(row)

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Say in one sentence what could not be written, why, and how to go on."""
        try:
            yield
        except OSError as error:
            last = self.last_checkpoint
            last = last if last and Path(last).exists() else None
            way = f"{last} is whole: go on from it with resume=true" if last else "start again"
            if self.training.resume and not last:
                way = "the last checkpoint is whole: go on from it with resume=true"
            raise RunDirectoryError(
                f"{self.training.run_dir}: {what} could not be written ({error}). Make room or "
                f"give the directory back, then {way}."
            ) from error

    def check_directory(self) -> None:
        """Refuse to go on in a directory that was removed meanwhile: its logs would be lost."""
        for own in self.settings_of_seeds:
            place = Path(own.training.run_dir)
            if not (place / "config.yaml").exists():
                raise RunDirectoryError(
                    f"{place} was removed or emptied while its run went on: nothing can be saved "
                    "there. Give another run_dir."
                )
