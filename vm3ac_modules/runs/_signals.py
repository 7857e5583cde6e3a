"""Being asked to stop: the step is finished, a checkpoint written, and the program ends.

SIGTERM (a scheduler's, a container's) ends with exit status 143, Ctrl-C as an interrupt does. A
third Ctrl-C stops at once, with what the last checkpoint holds.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

PATIENCE = 2
"""Interrupts that wait for the end of the step."""


class Stopping:
    """Notes signals inside a ``with`` block; only where nobody else has taken them."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is not threading.main_thread():
            return self
        usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        for number, handler in usual.items():
            if signal.getsignal(number) == handler:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > PATIENCE:
                raise KeyboardInterrupt
        if self.asked is None:
            self.asked = signal.Signals(number)
            sys.stderr.write(
                f"\n{self.asked.name}: stopping behind this step, with a checkpoint (a third "
                "Ctrl-C stops at once).\n"
            )

    def leave(self) -> None:
        """End as the signal asks, if one came."""
        if self.asked == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        if self.asked is not None:
            raise KeyboardInterrupt
