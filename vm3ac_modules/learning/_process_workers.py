"""Workers on this machine, by TorchRL's collectors of several processes.

TorchRL's cannot go on without one of its processes, so all are started anew if one is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.collectors import MultiAsyncCollector, MultiSyncCollector

from vm3ac_modules.envs._processes import end_by_killing, same_threads
from vm3ac_modules.learning._collecting import OWN_TRANSFORMS
from vm3ac_modules.learning._spread import WorkerCollector, Workers, WorkersError, joined

TRIES = 3
"""How often a round is begun anew before the run ends."""
ENDING = 10.0
"""Seconds that a process has to end by itself."""


class ProcessWorkers(Workers):
    """Processes of this machine, which wait for each other's rounds or do not."""

    collector: Any = None
    started: Sequence[Any] = ()
    turns: Iterator[TensorDictBase]

    def start(self, frames: int, random_frames: int) -> None:
        """Start all processes."""
        spread, waits = self.spread, self.spread.kind == "multi_sync"
        per_worker = spread.frames // spread.workers
        if not waits:
            # When the last random round is asked for, those of the other workers are on their way.
            random_frames = max(0, random_frames - (spread.workers - 1) * per_worker)
        self.take_weights()
        kind: Any = MultiSyncCollector if waits else MultiAsyncCollector
        options: dict[str, Any] = {"cat_results": 0} if waits else {}
        others = multiprocessing.active_children()
        try:
            with same_threads():
                self.collector = kind(
                    self.makers(frames, range(spread.workers)),
                    self.sent,
                    frames_per_batch=spread.frames if waits else per_worker,
                    total_frames=-1,
                    init_random_frames=random_frames,
                    device="cpu",
                    collector_class=WorkerCollector,
                    num_threads=torch.get_num_threads(),
                    **OWN_TRANSFORMS,
                    **options,
                )
        except Exception as error:
            # Those that did start would wait for this process for ever, and what TorchRL has half
            # built would start a thread when the interpreter ends, which never returns.
            traceback.clear_frames(error.__traceback__)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            said = str(error).partition("\n\nWorker traceback")[0]
            raise WorkersError(f"a worker process could not start: {said}") from error
        self.started = [p for p in multiprocessing.active_children() if p not in others]
        end_by_killing(self, self.started)
        self.turns = iter(self.collector)

    def play(self, frames: int, random_frames: int) -> TensorDictBase:
        """Collect a batch of steps; restart all processes if one was killed."""
        for _ in range(TRIES):
            try:
                self._send_weights()
                return joined([next(self.turns) for _ in range(self._turns_of_a_round)])
            except RuntimeError as error:
                ended = self._ended()
                if not any(code < 0 for code in ended.values()):
                    raise self._failed(ended) from error
            worker, code = min(ended.items(), key=lambda item: item[1])
            self.close()
            self.start(frames, random_frames)
            self.restarted(
                f"worker {worker} was killed (signal {-code}) after frame {frames}: all "
                f"{self.spread.workers} workers began new episodes"
            )
        raise WorkersError(
            f"worker processes were killed {TRIES} times after frame {frames} (out of memory?); "
            "take fewer collector_workers or num_envs, and go on with resume=true."
        )

    @property
    def _turns_of_a_round(self) -> int:
        """What the asynchronous collector brings is one worker's."""
        return 1 if self.spread.kind == "multi_sync" else self.spread.workers

    def _send_weights(self) -> None:
        self.take_weights()
        # TorchRL waits for every worker's answer, and forever for one that is gone.
        failures: list[Exception] = []
        sending = threading.Thread(target=_call, args=(self._update, failures), daemon=True)
        sending.start()
        while sending.is_alive():
            sending.join(1.0)
            if sending.is_alive() and self._ended():
                raise RuntimeError("a worker ended")
        if failures:
            raise failures[0]

    def _update(self) -> None:
        self.collector.update_policy_weights_()

    def _ended(self) -> dict[int, int]:
        """Exit codes of the workers that ended by themselves."""
        found = {}
        for worker, process in enumerate(self.collector.procs):
            # Those that TorchRL ended after them are closed.
            with contextlib.suppress(ValueError):
                if process.exitcode is not None:
                    found[worker] = process.exitcode
        return found

    def _failed(self, ended: dict[int, int]) -> WorkersError:
        who = ", ".join(f"worker {worker} (exit code {code})" for worker, code in ended.items())
        return WorkersError(
            f"{who or 'a worker'} failed; what it printed stands above. Correct it, and go on with "
            "resume=true."
        )

    def close(self) -> None:
        """End all processes."""
        if self.collector is not None:
            with same_threads():
                self.collector.shutdown(raise_on_error=False)
        for process in self.started:
            # TorchRL has closed those that it waited for.
            with contextlib.suppress(ValueError):
                process.join(ENDING)
                if process.is_alive():
                    process.kill()
                    process.join()


def _call(function: Callable[[], None], failures: list[Exception]) -> None:
    try:
        function()
    except Exception as error:
        failures.append(error)
