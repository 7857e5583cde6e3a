"""The host's end of an agent's process: starts it, sends frames, notices when it ends."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.execution.runtime.agent_file import AgentFileError
from vm3ac_modules.execution.team._frames import ACT, FAIL, READY, Frame, pack, unpack

__all__ = ["AgentLost"]


class AgentLost(RuntimeError):
    """An agent's process ended, or did not answer."""


class AgentLate(RuntimeError):
    """An agent did not answer before the step's deadline; its process goes on."""


class AgentProcess:
    """Run one agent in a process of the operating system.

    An AgentLost is raised if it does not come up, an AgentFileError if its file cannot be run.
    """

    def __init__(
        self, path: Path | str, agent: int, *, timeout: float = 120.0, trust: bool = False
    ) -> None:
        self.path, self.agent, self.timeout = Path(path), agent, timeout
        command = [sys.executable, "-m", "vm3ac_modules.execution.team.server", str(path)]
        command += ["--trust"] if trust else []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Agents side by side, each on one thread.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # An interrupt is the host's, which then lets its agents end.
            start_new_session=True,
        )
        # Threads read and write: pipes cannot be waited for with a time limit everywhere, and a
        # frame larger than a pipe's buffer would hold up the host while the agent sleeps.
        self._number = self._answered = 0
        self._heard = time.monotonic()
        self._answers: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._listen, self._write)
        ]
        for thread in self._threads:
            thread.start()

    def wait_ready(self) -> None:
        """Wait until the agent is loaded, or has applied its last settings."""
        frame = self._read()
        if frame.kind == FAIL:
            raise AgentFileError(str(frame.content))
        assert frame.kind == READY

    def send(self, kind: bytes, content: Any) -> None:
        """Send a frame, without waiting until it is read."""
        if self._answered == self._number % 2**32:
            # It owes nothing: silence begins with this frame, however long the host was idle.
            self._heard = time.monotonic()
        self._number += 1
        self._outbox.put(pack(kind, content, self._number))

    def action(self, until: float | None = None) -> NDArray[Any]:
        """Read the action that answers the last step; a refusal is raised in the agent's words.

        An AgentLate is raised if none came by then, a moment of ``time.monotonic``.
        """
        frame = self._read(until)
        if frame.kind == FAIL:
            raise ValueError(f"agent {self.agent}: {frame.content}")
        assert frame.kind == ACT
        return np.asarray(frame.content[0])

    def kill(self) -> None:
        """End the process at once, as a fault would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Close the process's input and wait until it ends."""
        self._outbox.put(None)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            try:
                while (frame := unpack(stream)) is not None:
                    self._answers.put(frame)
            except (ValueError, RecursionError, MemoryError, struct.error):
                # What is no frame ends the conversation.
                self.process.kill()
            finally:
                self._answers.put(None)

    def _write(self) -> None:
        assert self.process.stdin is not None
        # The agent may be gone; whoever reads its answers will notice.
        with contextlib.suppress(OSError), self.process.stdin as stream:
            while (data := self._outbox.get()) is not None:
                stream.write(data)
                stream.flush()

    def owes(self) -> bool:
        """Whether the answer to the last frame is still not there; what came late is dropped."""
        while not self._answers.empty():
            frame = self._answers.get()
            if frame is None:
                self._answers.put(None)
                raise AgentLost(self.how_it_ended())
            self._heard, self._answered = time.monotonic(), frame.number
        if self._answered != self._number % 2**32 and self.silent_for >= self.timeout:
            raise AgentLost(self._silence())
        return self._answered != self._number % 2**32

    def _silence(self) -> str:
        return (
            f"agent {self.agent} (process {self.process.pid}, {self.path.name}) did not answer "
            f"within {self.timeout:g} seconds."
        )

    @property
    def silent_for(self) -> float:
        """Seconds since the agent answered last, or was asked first."""
        return time.monotonic() - self._heard

    def _read(self, deadline: float | None = None) -> Frame:
        """The answer to the last frame; late answers to earlier frames are skipped."""
        until = time.monotonic() + self.timeout if deadline is None else deadline
        while True:
            try:
                frame = self._answers.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty as error:
                if deadline is not None and self.silent_for < self.timeout:
                    raise AgentLate(self.agent) from None
                raise AgentLost(self._silence()) from error
            if frame is None:
                # Whoever asks again is told again.
                self._answers.put(None)
                raise AgentLost(self.how_it_ended())
            self._heard, self._answered = time.monotonic(), frame.number
            if frame.number == self._number % 2**32:
                return frame

    def how_it_ended(self) -> str:
        """Say in one sentence how the process ended."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        how = "closed its pipe"
        if code is not None:
            how = f"ended with exit status {code}" if code >= 0 else _killed(-code)
        return f"agent {self.agent} (process {self.process.pid}, {self.path.name}) {how}."


def _killed(number: int) -> str:
    try:
        return f"was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"was ended by signal {number}"
