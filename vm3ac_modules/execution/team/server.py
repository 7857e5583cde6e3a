"""The agent's end of its process: reads observation and time, answers with the action.

    python -m vm3ac_modules.execution.team.server agent_0.onnx [--trust]

It speaks frames (``_frames.py``) over its standard input and output and ends when its input does.
:class:`~vm3ac_modules.execution.team.team.DecentralizedTeam` starts it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vm3ac_modules.execution.runtime.agent import DeployedAgent
from vm3ac_modules.execution.runtime.agent_file import AgentFileError
from vm3ac_modules.execution.team._frames import ACT, FAIL, READY, SET, STEP, pack, unpack

__all__ = ["ClockReading"]

ClockReading = Literal["reference", "late", "own_count"]
"""How an agent reads the step: from the reference, one step late, or by counting."""

Steps = NDArray[np.int64]


class PerceivedClock:
    """Read the step as an agent does, with or without a fault of its clock.

    ``"late"`` is one step behind the reference; ``"own_count"`` counts steps since the episode
    began, or since the agent's process did.
    """

    def __init__(self, reading: ClockReading = "reference") -> None:
        if reading not in get_args(ClockReading):
            raise ValueError(
                f"unknown clock {reading!r}; valid: {', '.join(get_args(ClockReading))}."
            )
        self.reading = reading
        self._count: Steps | None = None

    def read(self, step: Steps) -> Steps:
        """The step ``[R]`` that the agent computes its latent from, given the reference."""
        if self.reading == "late":
            return np.maximum(step - 1, 0)
        if self.reading == "own_count":
            before = np.full_like(step, -1) if self._count is None else self._count
            self._count = np.where(step == 0, 0, before + 1)
            return self._count
        return step


class AgentServer:
    """Answer frames with an agent's actions."""

    def __init__(self, agent: DeployedAgent) -> None:
        self.agent, self.clock = agent, PerceivedClock()
        self.delay, self.delayed, self.late = 0.0, 1.0, np.random.default_rng(0)
        self.seen: NDArray[Any] | None = None
        inputs = [entry["name"] for entry in agent.record["inputs"]]
        self.more = [name for name in ("action_mask", "latent") if name in inputs]

    def set(self, choice: dict[str, Any]) -> None:
        """Set the team's seed and the clock's reading; clear memory and last observation."""
        self.agent.seed = int(choice["seed"])
        self.delay = float(choice.get("delay", 0.0))
        self.delayed = float(choice.get("delayed", 1.0))
        self.late = np.random.default_rng(self.agent.seed)
        self.agent.reset()
        self.clock, self.seen = PerceivedClock(choice["clock"]), None

    def step(self, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """Act on what was observed; where the observation was lost, on the last one.

        Arrays with a row per episode: episode, step, whether the observation arrived, observation,
        and what else the program reads.
        """
        episode, step, received, observation, *more = arrays
        if self.delay and self.late.random() < self.delayed:
            time.sleep(self.delay)
        if self.seen is not None and self.seen.shape == observation.shape:
            # In place of what is lost zeros arrive: what an agent acts on that never saw anything.
            observation = np.where(received[:, None], observation, self.seen)
        self.seen = observation
        return self.agent.act(
            observation,
            episode=episode,
            step=self.clock.read(step),
            # The fault is in the latent's clock: an episode's beginning is noticed.
            first=step == 0,
            **dict(zip(self.more, more, strict=True)),
        )


def serve(path: str, incoming: IO[bytes], outgoing: IO[bytes], *, trust: bool = False) -> None:
    """Load an agent and answer every frame of the input, ``SET`` or ``STEP``, until it ends."""

    def answer(kind: bytes, content: Any, number: int = 0) -> None:
        outgoing.write(pack(kind, content, number))
        outgoing.flush()

    try:
        server = AgentServer(DeployedAgent(path, trust=trust))
    except (AgentFileError, ImportError, ValueError) as error:
        answer(FAIL, str(error))
        return
    ready = {"agent": server.agent.record["agent"], "pid": os.getpid()}
    answer(READY, ready)
    while (frame := unpack(incoming)) is not None:
        try:
            if frame.kind == SET:
                server.set(frame.content)
                answer(READY, ready, frame.number)
            elif frame.kind == STEP:
                answer(ACT, [server.step(frame.content)], frame.number)
        except (ValueError, TypeError, KeyError) as error:
            answer(FAIL, str(error), frame.number)


def main() -> None:
    """Serve the agent of the file that the command line names."""
    words = [word for word in sys.argv[1:] if word != "--trust"]
    if len(words) != 1 or words[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}\n")
        sys.exit(0 if len(words) == 1 else 2)
    # What a library prints must not get among the frames.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(words[0], sys.stdin.buffer, outgoing, trust="--trust" in sys.argv)
    except (BrokenPipeError, KeyboardInterrupt):
        # The host is gone, or whoever started both wants to end.
        sys.exit(0)


if __name__ == "__main__":
    main()
