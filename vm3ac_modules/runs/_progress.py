"""A progress bar over environment steps."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from vm3ac_modules.extras import require_extra


class ProgressBar:
    """A bar on standard error with the time that is left and the last evaluation."""

    def __init__(self, total: int, done: int) -> None:
        require_extra("tqdm", "recipes", "The progress bar")
        from tqdm import TqdmWarning, tqdm

        with warnings.catch_warnings():
            # In a notebook this import misses ipywidgets, which a plain bar does not use.
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.contrib.logging import logging_redirect_tqdm

        self._bar = tqdm(total=total, initial=done, unit="frame", mininterval=1.0)
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
