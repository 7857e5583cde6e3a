"""A progress bar over environment steps."""

from __future__ import annotations

from vm3ac_modules.extras import require_extra


class ProgressBar:
    """A bar on standard error with the time that is left and the last evaluation."""

    def __init__(self, total: int, done: int) -> None:
        require_extra("tqdm", "recipes", "The progress bar")
        from tqdm import tqdm

        self._bar = tqdm(total=total, initial=done, unit="frame", mininterval=1.0)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, frames: int) -> None:
        """Go on by so many steps."""
        self._bar.update(frames)

    def say(self, text: str) -> None:
        """Show a few words beside the bar."""
        self._bar.set_postfix_str(text)
