"""Recipes are scripts: their directory goes on the path as it does when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def compose(tmp_path):
    """Compose a tiny training configuration as the command line would."""
    from command_line import register_stock_tasks
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    tiny = {
        "frames": 64,
        "num_envs": 4,
        "batch_size": 8,
        "init_random_frames": 16,
        "hidden": "[8,8]",
        "threads": 1,
        "task.max_steps": 6,
        "eval_episodes": 3,
        "eval_every_frames": 32,
        "checkpoint_every_frames": 32,
        "log_every_updates": 4,
        "information_rows": 4,
        "information_latents": 8,
        "buffer_size": 48,
        "run_dir": str(tmp_path / "run"),
    }

    def make(*overrides: str, **knobs):
        knobs = {**tiny, **{key.replace("__", "."): value for key, value in knobs.items()}}
        arguments = [f"{key}={value}" for key, value in knobs.items()]
        register_stock_tasks(overrides)
        with initialize_config_dir(str(RECIPES / "config"), version_base="1.3"):
            return hydra_compose("train_continuous", overrides=[*overrides, *arguments])

    return make
