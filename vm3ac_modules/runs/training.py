"""Train from a configuration: the loop around a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm3ac_modules.runs.run import Run
from vm3ac_modules.runs.settings import Settings

__all__ = ["train"]


def train(config: Mapping[str, Any] | Settings) -> dict[str, Any]:
    """Train from a configuration.

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
