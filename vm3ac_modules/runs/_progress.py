"""How a training is watched: a bar over environment steps, a line a minute, or nothing."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from vm3ac_modules.extras import require_extra

EVERY = 60.0
"""Seconds between two lines."""


class Progress:
    """Says nothing; the others derive from it."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, frames: int) -> None:
        """Go on by so many steps."""

    def say(self, text: str) -> None:
        """Keep a few words on the last evaluation in sight."""


class ProgressBar(Progress):
    """A bar on standard error with the time that is left and the last evaluation."""

    def __init__(self, total: int, done: int) -> None:
        require_extra("tqdm", "recipes", "The progress bar")
        from tqdm import TqdmWarning, tqdm

        with warnings.catch_warnings():
            # In a notebook this import misses ipywidgets, which a plain bar does not use.
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.contrib.logging import logging_redirect_tqdm

        self._bar = tqdm(
            total=total,
            initial=done,
            unit="frame",
            unit_scale=True,
            mininterval=1.0,
            dynamic_ncols=True,
        )
        # What is logged meanwhile goes on lines of its own, above the bar.
        self._lines = logging_redirect_tqdm()

    def __enter__(self) -> ProgressBar:
        self._lines.__enter__()
        self._warn = warnings.showwarning
        # Whoever listens to warnings already goes on doing so.
        if getattr(warnings, "_showwarning_orig", None) is self._warn:
            warnings.showwarning = self._show
        return self

    def __exit__(self, *error: object) -> None:
        warnings.showwarning = self._warn
        self._lines.__exit__(None, None, None)
        self._bar.close()

    def _show(self, message: Any, category: Any, *rest: Any, **more: Any) -> None:
        """A warning on a line of its own, once, without the line of code that gave it."""
        self._bar.write(f"{category.__name__}: {message}", file=sys.stderr)

    def update(self, frames: int) -> None:
        """Go on by so many steps."""
        self._bar.update(frames)

    def say(self, text: str) -> None:
        """Show a few words beside the bar."""
        self._bar.set_postfix_str(text)


class ProgressLines(Progress):
    """A line a minute on standard error, for logs of batch systems; the first and the last too.

    Args:
        total: environment steps in all.
        done: steps that were done before.
        clock: tells seconds.
    """

    def __init__(self, total: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._start, self._done, self._clock = total, done, done, clock
        self._began = self._said = clock()
        self._text = ""

    def __enter__(self) -> ProgressLines:
        self._write()
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def update(self, frames: int) -> None:
        """Go on by so many steps."""
        self._done += frames
        if self._clock() - self._said >= EVERY:
            self._write()

    def say(self, text: str) -> None:
        """Put a few words into the lines from now on."""
        self._text = text

    def _write(self) -> None:
        now = self._said = self._clock()
        seconds, steps = now - self._began, self._done - self._start
        parts = [f"{self._done:,} of {self._total:,} steps"]
        if steps and seconds > 0:
            left = (self._total - self._done) * seconds / steps
            parts += [f"{steps / seconds:,.0f} per second", f"{duration(left)} left"]
        parts += [self._text] if self._text else []
        sys.stderr.write(", ".join(parts) + "\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 3725 is 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def make_progress(kind: str, total: int, done: int) -> Progress:
    """What ``progress=kind`` asks for; ``auto`` looks whether somebody watches a terminal."""
    if kind == "off":
        return Progress()
    lines = kind == "lines" or (kind == "auto" and not sys.stderr.isatty())
    return ProgressLines(total, done) if lines else ProgressBar(total, done)
