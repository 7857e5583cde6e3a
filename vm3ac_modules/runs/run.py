"""A training run: one object that owns counters, logs, evaluations, pictures and checkpoints.

A loop around it is what is left: collect, store, update, ``run.after(...)``. It serves both ways of
collecting (steps, whole episodes), one seed or many.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.algorithms.registry import build_from
from vm3ac_modules.envs.battles.factory import lost_episodes
from vm3ac_modules.envs.resume import find_resumable
from vm3ac_modules.evaluation.protocol import EvaluationResult, evaluate
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.learning.collecting import Collected, collecting
from vm3ac_modules.learning.guards import FiniteGuard
from vm3ac_modules.learning.seeding import evaluation_seed, seed_everything, set_rng_state
from vm3ac_modules.learning.sources import SourceSizes
from vm3ac_modules.runs import state as run_state
from vm3ac_modules.runs.directory import RunLock, check_run_directory, open_run_directory
from vm3ac_modules.runs.logs import MetricsLog, SeedFiles
from vm3ac_modules.runs.pictures import draw_all, observer
from vm3ac_modules.runs.progress import ProgressBar
from vm3ac_modules.runs.record import to_yaml
from vm3ac_modules.runs.report import evaluation_row, information, joined_summary, summary
from vm3ac_modules.runs.segments import ReplayFiles
from vm3ac_modules.runs.settings import Settings

__all__ = ["Run", "train"]

LOG = logging.getLogger("vm3ac_modules")


def train(config: Mapping[str, Any] | Settings) -> dict[str, Any]:
    """Train as a configuration says.

    Args:
        config: see :meth:`~vm3ac_modules.runs.Settings.of`, or what it gives.

    Returns:
        The summary, as ``summary.json`` holds it.

    Raises:
        OptionsError: for an unknown option or a value that is not allowed.
        RunDirectoryError: if the directory cannot be used as asked.
        CheckpointError: if there is nothing to resume, or it does not fit.
        NonFiniteError: if a loss or a reward became infinite or NaN.

    Example:
        >>> import pytest, tempfile
        >>> _ = pytest.importorskip("vmas"), pytest.importorskip("tensorboard")
        >>> with tempfile.TemporaryDirectory() as root:
        ...     found = train({
        ...         "algorithm": {"name": "vm3ac", "hidden": [8]},
        ...         "task": {"name": "predator_prey_2", "max_steps": 5},
        ...         "frames": 16, "num_envs": 4, "batch_size": 4, "init_random_frames": 4,
        ...         "eval_episodes": 2, "information_rows": 0, "draw": False, "run_dir": root})
        >>> found["frames"], found["updates"]
        (16, 6)
    """
    settings = config if isinstance(config, Settings) else Settings.of(config)
    with Run(settings) as run:
        for collected in run.collect():
            run.store(collected)
            for batch in run.batches(collected):
                run.learned(run.agent.update(batch, run.training.max_grad_norm))
            run.after(collected)
        return run.finish()


class Run:
    """A run that goes on inside a ``with`` block.

    Args:
        settings: all that it is told.

    Raises:
        RunDirectoryError: if its directory holds another run, or another process works there.

    Example:
        See :func:`train`, whose body is the loop.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.training, self.task = settings, settings.training, settings.task
        training = self.training
        check_run_directory(training.run_dir, resume=training.resume, overwrite=training.overwrite)
        set_threads(training.threads, 2 if self.task.plays == "steps" else 1)
        self.frames = self.updates = self.episodes = 0
        self.lost_before = 0
        self.started, self.seconds_before = time.monotonic(), 0.0
        self.notes: list[str] = []
        self.last_checkpoint: Path | None = None
        self.saved_frame = -1
        self.template: dict[str, Any] | None = None
        self.streams: dict[str, Any] | None = None
        self.settings_of_seeds = [settings.of_seed(index) for index in range(training.seeds)]
        self.replay_files: list[ReplayFiles | None] = [None] * training.seeds
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
        self.random_frames = -(-wanted // rows) * rows

    def _build(self) -> None:
        training, task = self.training, self.task
        seed_everything(training.seed)
        rows = training.seeds * training.num_envs
        # Battles are simulated, and their replay lies, on the CPU.
        device = training.device if task.plays == "steps" else "cpu"
        env = task.make(rows, device=training.device, seed=training.seed)
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
        self.source = self.agent.source(self._source_sizes(device))
        self.replay_transforms = list(self.agent.replay_transforms())
        self.metrics = MetricsLog(self.agent, training.device)
        self.guard = FiniteGuard(0)
        self.files: list[SeedFiles] = []
        self._check_source()

    def _source_sizes(self, device: str) -> SourceSizes:
        training = self.training
        episodes = self.task.plays == "episodes"
        updates = "updates_per_episode" if episodes else "updates_per_step"
        # Updates begin with the step after the last random one.
        start = self.random_frames // training.num_envs + 1
        return SourceSizes(
            training.buffer_size,
            training.batch_size,
            updates=getattr(training, updates),
            start=getattr(training, "start_episodes", start),
            episodes=episodes,
            seeds=training.seeds,
            device=device,
            keys=self.agent.keys,
        )

    def _check_source(self) -> None:
        training = self.training
        once = self.task.plays == "episodes" and not self.source.keeps_replay
        if once and training.num_envs % training.batch_size:
            raise ValueError(
                f"{self.agent.algorithm} uses every episode once: num_envs must be a multiple of "
                f"batch_size, got {training.num_envs} and {training.batch_size}."
            )

    def __enter__(self) -> Run:
        training = self.training
        self.lock = RunLock(training.run_dir)
        try:
            self._open()
        except BaseException:
            self.lock.release()
            raise
        return self

    def _open(self) -> None:
        training = self.training
        open_run_directory(training.run_dir, resume=training.resume, overwrite=training.overwrite)
        rows = training.seeds * training.eval_episodes
        if self.task.row_is_process:
            # No more of them than in training, in several rounds.
            rows = min(rows, training.num_envs)
        # Battles of evaluations are seeded when they begin.
        seed = evaluation_seed(training.seed) if self.task.plays == "steps" else training.seed
        test = self.task.make(rows, device=training.device, seed=seed)
        self.test_env = self.agent.wrap(test)
        resumed = run_state.restore(self) if training.resume else None
        self.source.append_transforms(self.replay_transforms)
        frame = None if resumed is None else self.frames
        kept = (0, 0) if resumed is None else tuple(resumed["log_rows"])
        self.files = [SeedFiles(own, frame, kept) for own in self.settings_of_seeds]
        if training.seeds > 1:
            write_text(Path(training.run_dir) / "config.yaml", to_yaml(self.settings.to_dict()))
        self.metrics.start(self.frames, self.updates)
        self.guard = FiniteGuard(self.frames)
        self.saved_frame = self.frames if resumed is not None else -1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for files in self.files:
            files.close()
        self.lock.release()
        if isinstance(error, Exception):
            # A simulator that is handed NaN fails in words of its own; the guard knows whence.
            self.check()

    @property
    def wall_seconds(self) -> float:
        """Seconds of this run, what was done before a resume included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def lost_episodes(self) -> int:
        """Episodes that crashes of a simulator cut short, those before a resume included."""
        now = lost_episodes(self.env) if self.task.plays == "episodes" else 0
        return self.lost_before + now

    def note(self, text: str) -> None:
        """Say something that whoever reads the results should know; ``summary.json`` has it too."""
        LOG.warning("%s: %s.", self.training.run_dir, text)
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
        }

    def load_counters(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`counters` gave."""
        self.frames, self.updates = state["frames"], state["updates"]
        self.episodes, self.lost_before = state["episodes"], state["lost_episodes"]
        self.seconds_before, self.notes = state["wall_seconds"], list(state["notes"])

    def collect(self) -> Iterator[Collected]:
        """Collect until the frames are done; the first evaluation comes before."""
        steps = collecting(
            self.agent,
            self.env,
            episodes=self.task.plays == "episodes",
            max_steps=self.max_steps,
            random_frames=max(0, self.random_frames - self.frames),
        )
        if self.streams is not None:
            # Last of all, since building draws.
            set_rng_state(self.streams)
        try:
            if self.frames == 0:
                self.evaluate()
            with ProgressBar(self.frames_total, self.frames) as self.bar:
                turns = iter(steps)
                while self.frames < self.frames_total:
                    for hook in self.agent.hooks:
                        hook.before_collect(self.frames)
                    collected = next(turns)
                    self.frames += collected.frames
                    yield collected
        finally:
            steps.close()
        if self.saved_frame != self.frames:
            self.save()

    def store(self, collected: Collected) -> None:
        """Give what was collected to the source of batches and to the hooks."""
        self.source.add(collected.data)
        self.guard.watch("rewards", collected.rewards)
        if collected.played is not None:
            self.episodes += len(collected.played.lengths)
            self.metrics.add_round(collected.played)
        if self.frames > self.random_frames:
            for hook in self.agent.hooks:
                hook.after_step(collected.steps, self.frames)

    def batches(self, collected: Collected) -> Iterator[TensorDictBase]:
        """The batches of the updates that are due."""
        waits = getattr(self.training, "update_at_episode_end", False)
        if waits and not bool(collected.ended.any()):
            return
        for batch in self.source.batches():
            yield batch if self.task.plays == "steps" else batch.to(self.training.device)

    def learned(self, losses: Mapping[str, Tensor]) -> None:
        """Count an update and what it returned; write a row of metrics at fixed updates."""
        self.updates += 1
        self.metrics.add(losses)
        if self.updates % self.training.log_every_updates == 0:
            self.check()
            self._write_metrics()

    def after(self, collected: Collected) -> None:
        """Evaluate and save when a multiple of so many frames was passed."""
        self.bar.update(collected.frames)
        if self._crossed(collected.frames, self.training.eval_every_frames):
            self.bar.say(self.evaluate())
        if self._crossed(collected.frames, self.training.checkpoint_every_frames):
            self.save()

    def _crossed(self, new: int, every: int) -> bool:
        return self.frames // every != (self.frames - new) // every

    def check(self) -> None:
        """Stop with a clear error if a reward or loss since the last check was not finite."""
        self.guard.watch("losses", self.metrics.sums)
        self.guard.check(self.frames, self.last_checkpoint)

    def save(self) -> None:
        """Write a checkpoint of every seed."""
        self.check()
        run_state.save(self)
        self.saved_frame = self.frames

    def _write_metrics(self) -> None:
        counts: dict[str, Any] = {"episode": self.episodes} if self.episodes else {}
        counts["wall_seconds"] = round(self.wall_seconds, 2)
        rows = self.metrics.rows(self.frames, self.updates, counts)
        for files, row in zip(self.files, rows, strict=True):
            files.write_metrics(row)

    def play(self, **options: Any) -> list[EvaluationResult]:
        """Evaluate with the protocol's fixed starts; one result per seed."""
        policy = options.pop("policy", self.agent.policy.greedy())
        [rows] = self.test_env.batch_size
        episodes = self.training.seeds * self.training.eval_episodes
        from vm3ac_modules.evaluation.battles import evaluate_battles

        f = evaluate
        more = {}
        if self.task.plays == "episodes":
            f = evaluate_battles
            more = {"rounds": -(-episodes // rows)}
        result = f(
            policy,
            self.test_env,
            max_steps=self.max_steps,
            seed=evaluation_seed(self.training.seed),
            **more,
            keys=self.agent.keys,
            **options,
        )
        return result.split(self.training.seeds)

    def evaluate(self) -> str:
        """Evaluate, write a row of every eval.csv, and say the result in a few words."""
        battles = self.task.plays == "episodes"
        lost = lost_episodes(self.test_env) if battles else 0
        results = self.play()
        found = information(self)
        if battles:
            # They count as battles that were not won.
            extra = {"lost_episodes": lost_episodes(self.test_env) - lost}
            found = [{**extra, **one} for one in found]
        rows = []
        for files, result, more in zip(self.files, results, found, strict=True):
            counts = {"frame": self.frames, "update": self.updates}
            rows.append({**counts, **evaluation_row(result, battles), **more})
            files.write_evaluation(rows[-1])
        if len(rows) > 1:
            return "returns " + " ".join(f"{row['return_mean']:.0f}" for row in rows)
        [row] = rows
        won = f"win rate {row['win_rate']:.2f}, " if "win_rate" in row else ""
        return f"{won}return {row['return_mean']:.1f} +- {row['return_ci95']:.1f}"

    def finish(self) -> dict[str, Any]:
        """Evaluate a last time, draw, write every summary.json; return the run's."""
        if self.updates == 0:
            self.note(self._why_no_update())
        watched = observer(self.task, self.test_env) if self.training.draw else None
        results = self.play(observer=watched)
        if self.metrics.count:
            self._write_metrics()
        if self.files[0].last_evaluation != self.frames:
            self.evaluate()
        randoms = self.play(policy=None)
        summaries = []
        for files, result, random in zip(self.files, results, randoms, strict=True):
            found = summary(self, files.settings, result, random)
            write_json(files.run_dir / "summary.json", found)
            summaries.append(found)
            if self.training.draw:
                draw_all(self, files, result, random.mean)
        if len(summaries) == 1:
            return summaries[0]
        together = joined_summary(summaries, self.training.seed)
        write_json(Path(self.training.run_dir) / "summary.json", together)
        return together

    def _why_no_update(self) -> str:
        """Why a run ended before its first update."""
        start = self.source.sizes.start
        if self.task.plays == "episodes":
            return (
                f"no update was made: {self.episodes} episodes were played, and the first update "
                f"needs {max(start, self.training.batch_size)} (start_episodes, batch_size); give "
                "more frames"
            )
        return "no update was made: all frames were random ones (init_random_frames)"


def set_threads(threads: int | None, default: int) -> None:
    """Set torch's intra-op threads, unless the environment says how many.

    Args:
        threads: the number asked for; None leaves it to ``OMP_NUM_THREADS``.
        default: where neither says.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(default)
