"""A training run: one object that owns counters, logs, evaluations, pictures and checkpoints.

A loop around it is what is left: collect, store, update, ``run.after(...)``. It serves both ways of
collecting (steps, whole episodes), one seed or many.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.learning._collecting import (
    Collected,
    EpisodeCollecting,
    StepCollecting,
    collecting,
)
from vm3ac_modules.learning._spread import SpreadCollecting, WorkersError, spread_collecting
from vm3ac_modules.learning.guards import FiniteGuard, NonFiniteError
from vm3ac_modules.learning.seeding import set_rng_state
from vm3ac_modules.runs import _state as run_state
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs._evaluating import Evaluator
from vm3ac_modules.runs._logs import SeedFiles, as_done
from vm3ac_modules.runs._machine import cores_here
from vm3ac_modules.runs._progress import make_progress
from vm3ac_modules.runs._reading import read_json
from vm3ac_modules.runs._signals import Stopping
from vm3ac_modules.runs._spreading import crowded
from vm3ac_modules.runs.directory import RunLock, open_run_directory
from vm3ac_modules.runs.record import write_config

__all__ = ["Run"]

LOG = logging.getLogger("vm3ac_modules")


class Run(RunBase):
    """A run that goes on inside a ``with`` block.

    Args:
        settings: all that it is told.

    Raises:
        RunDirectoryError: if its directory holds another run, or another process works there.

    Example:
        See :func:`~vm3ac_modules.runs.train`, whose body is the loop.
    """

    def __enter__(self) -> Run:
        training = self.training
        run_state.check(self)
        self.locks = [RunLock(training.run_dir)]
        self.stopping = Stopping()
        try:
            self._open()
            self.stopping.__enter__()
        except BaseException:
            self._unlock()
            raise
        return self

    def _unlock(self) -> None:
        for lock in self.locks:
            lock.release()

    def _open(self) -> None:
        training = self.training
        open_run_directory(training.run_dir, resume=training.resume, overwrite=training.overwrite)
        if training.seeds > 1:
            for own in self.settings_of_seeds:
                # Each may also be trained alone.
                self.locks.append(RunLock(own.training.run_dir))
        self.evaluator = Evaluator(self)
        resumed = run_state.restore(self) if training.resume else None
        known = self.task.failures.get(self.settings.name)
        if known is not None and known not in self.notes:
            # Who asks for silence may train a control that is to fail.
            quiet = training.progress == "off"
            self.note(known, logging.INFO if quiet else logging.WARNING)
        self.finished = None if resumed is None else self._summary_of_nothing_left()
        self.source.append_transforms(self.replay_transforms)
        frame = None if resumed is None else self.frames
        kept = (0, 0) if resumed is None else tuple(resumed["log_rows"])
        over = self.finished is not None
        with self.writing("its configuration and logs"):
            self.files = [SeedFiles(own, frame, kept, over) for own in self.settings_of_seeds]
        if training.seeds > 1 and not over:
            write_config(Path(training.run_dir) / "config.yaml", as_done(self.settings, frame))
        self.metrics.start(self.frames, self.updates)
        self.guard = FiniteGuard(self.frames)
        self.workers: SpreadCollecting | None = None
        self.saved_frame = self.frames if resumed is not None else -1
        # Of the last evaluation, for whoever watches.
        self.said = ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.__exit__()
        for files in self.files:
            # What cannot be written any more was said already.
            with contextlib.suppress(OSError):
                files.close()
        if self.workers is not None:
            self.workers.close()
        if self.replay_folder is not None:
            shutil.rmtree(self.replay_folder, ignore_errors=True)
        for env in (self.env, self.evaluator.env):
            if not env.is_closed:
                env.close(raise_if_closed=False)
        self._unlock()
        if isinstance(error, Exception) and not isinstance(error, NonFiniteError):
            # A simulator that is handed NaN fails in words of its own; the guard knows whence.
            self.guard.watch("parameters", *self.agent.loss.parameters())
            self.check()

    def collect(self) -> Iterator[Collected]:
        """Collect until the frames are done; the first evaluation comes before."""
        if self.finished is not None:
            return
        steps = self._collecting()
        if self.streams is not None:
            # Last of all, since building draws.
            set_rng_state(self.streams)
        try:
            # A run that was stopped behind its first evaluation has it already.
            if self.frames == 0 and self.files[0].last_evaluation != 0:
                self.said = f"{self.evaluate()} at 0"
            total = max(self.frames_total, self.frames)
            progress = make_progress(self.training.progress, total, self.frames)
            with progress as self.bar:
                self.bar.say(self.said)
                turns = iter(steps)
                while self.frames < self.frames_total and self.stopping.asked is None:
                    for hook in self.agent.hooks:
                        hook.before_collect(self.frames)
                    try:
                        collected = next(turns)
                    except WorkersError:
                        self.save()
                        raise
                    self.frames += collected.frames
                    yield collected
        finally:
            steps.close()
        if self.saved_frame != self.frames:
            self.save()
        self.stopping.leave()
        # All that follows is made again by a resume: from here on signals end the program at once.
        self.stopping.__exit__()

    def _summary_of_nothing_left(self) -> dict[str, Any] | None:
        """The summary of a resumed run that has done its frames, and is evaluated; else None."""
        if self.frames < self.frames_total:
            return None
        asked = f"{self.frames:,} steps are done, frames={self.training.frames} asks for no more"
        place = Path(self.training.run_dir)
        try:
            found = read_json(place / "summary.json")
        except (OSError, ValueError):
            found = {}
        current = found.get("frames") == self.frames
        rest = "the summary stays as it is" if current else "it is evaluated as it is"
        LOG.warning(
            "%s: %s: nothing is left to train, %s; give more frames to go on.", place, asked, rest
        )
        return found if current else None

    def _collecting(self) -> StepCollecting | EpisodeCollecting | SpreadCollecting:
        if self.spread is None:
            return collecting(
                self.agent,
                self.env,
                episodes=self.task.plays == "episodes",
                max_steps=self.max_steps,
                random_frames=max(0, self.random_frames - self.frames),
            )
        if said := crowded(self.spread, cores_here()):
            self.note(said)
        self.workers = spread_collecting(
            self.agent,
            self.env,
            self.spread,
            frames=self.frames,
            random_frames=self.random_frames,
            restarted=self._restarted,
        )
        return self.workers

    def _restarted(self, what: str) -> None:
        self.note(what)
        for part in self.replay_transforms:
            if hasattr(part, "load_state"):
                # A step that waits for the next one of its episode would get another's.
                part.load_state({})

    def store(self, collected: Collected) -> None:
        """Store collected steps in the source of batches and pass them to the hooks."""
        self.source.add(collected.data)
        self.guard.watch("rewards", collected.rewards)
        self.guard.watch("observations", *self._observed(collected))
        if collected.played is not None:
            self.episodes += len(collected.played.lengths)
            self.metrics.add_round(collected.played)
            won = collected.played.info.get("battle_won")
            if won is not None and bool(won.any()):
                self.won = collected.data[won.bool()]
        if self.frames > self.random_frames:
            for hook in self.agent.hooks:
                hook.after_step(collected.steps, self.frames)

    def _observed(self, collected: Collected) -> list[Tensor]:
        """What agents saw after these steps; episodes hold it in the steps themselves."""
        keys = self.agent.keys
        key = keys.observation if collected.played is not None else ("next", *keys.observation)
        seen = collected.data.get(key, None)
        return [] if seen is None else [seen]

    def batches(self, collected: Collected) -> Iterator[TensorDictBase]:
        """The batches of the updates that are due."""
        waits = getattr(self.training, "update_at_episode_end", False)
        if waits and not bool(collected.ended.any()):
            return
        for batch in self.source.batches():
            self.threads.begin()
            yield batch if self.task.plays == "steps" else batch.to(self.training.device)

    def learned(self, losses: Mapping[str, Tensor]) -> None:
        """Count an update, log its losses, and write a row of metrics at fixed updates."""
        self.threads.end()
        self.updates += 1
        self.metrics.add(losses)
        if self.updates % self.training.log_every_updates == 0:
            self.check()
            self.write_metrics()

    def after(self, collected: Collected) -> None:
        """Evaluate and save when a multiple of so many frames was passed."""
        self.bar.update(collected.frames)
        if self._crossed(collected.frames, self.training.eval_every_frames):
            self.said = f"{self.evaluate()} at {self.frames:,}"
            self.bar.say(self.said)
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
        self.check_directory()
        with self.writing(f"the checkpoint of frame {self.frames}"):
            run_state.save(self)
        self.saved_frame = self.frames

    def evaluate(self) -> str:
        """Evaluate, write a row of every eval.csv, and say the result in a few words."""
        return self.evaluator.evaluate()

    def finish(self) -> dict[str, Any]:
        """Evaluate a last time, draw, write every summary.json; return the run's.

        A resumed run with nothing left to do returns the summary that it has.
        """
        return self.evaluator.finish() if self.finished is None else self.finished
