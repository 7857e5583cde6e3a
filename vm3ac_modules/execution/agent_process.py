"""The host's end of an agent's process: start it, ask it, notice that it is gone."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.execution.agent_file import AgentFileError
from vm3ac_modules.execution.frames import ACT, FAIL, READY, pack, unpack

__all__ = ["AgentLost", "AgentProcess"]


class AgentLost(RuntimeError):
    """An agent's process ended, or did not answer."""


class AgentProcess:
    """One agent in a process of the operating system.

    Args:
        path: the agent's file.
        agent: its number, for messages.
        timeout: seconds to wait for an answer.

    Raises:
        AgentLost: if it does not come up.
        AgentFileError: if its file cannot be run; the message is the process's own.
    """

    def __init__(self, path: Path | str, agent: int, *, timeout: float = 120.0) -> None:
        self.path, self.agent, self.timeout = Path(path), agent, timeout
        command = [sys.executable, "-m", "vm3ac_modules.execution.process", str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
        )

    def wait_ready(self) -> None:
        """Wait until the agent is loaded."""
        kind, content = self._read()
        if kind == FAIL:
            self.stop()
            raise AgentFileError(str(content))
        assert kind == READY

    def send(self, kind: bytes, content: Any) -> None:
        """Write a frame.

        Args:
            kind: of the frame.
            content: see :func:`~vm3ac_modules.execution.frames.pack`.

        Raises:
            AgentLost: if the process is gone.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(pack(kind, content))
            self.process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise AgentLost(self.how_it_ended()) from error

    def action(self) -> NDArray[Any]:
        """Read the action that answers the last step.

        Raises:
            AgentLost: if the process is gone, or silent for too long.
            ValueError: if the agent refused its input; the message is its own.
        """
        kind, content = self._read()
        if kind == FAIL:
            raise ValueError(f"agent {self.agent}: {content}")
        assert kind == ACT
        return np.asarray(content[0])

    def kill(self) -> None:
        """End the process at once, as a fault would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Let the process end, and wait until it has."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _read(self) -> tuple[bytes, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            raise AgentLost(
                f"agent {self.agent} (process {self.process.pid}, {self.path.name}) did not answer "
                f"within {self.timeout:g} seconds."
            )
        frame = unpack(self.process.stdout)
        if frame is None:
            raise AgentLost(self.how_it_ended())
        return frame.kind, frame.content

    def how_it_ended(self) -> str:
        """One sentence on a process that is gone."""
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
