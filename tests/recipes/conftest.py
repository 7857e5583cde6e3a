"""Recipes are scripts: their directory goes on the path as it does when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from contracts.training import STEPS, configuration

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def compose(tmp_path):
    """A tiny training on transitions, in the words of the command line, as ``train`` takes it."""

    def make(*overrides: str, **options):
        return configuration(
            *overrides, tiny={**STEPS, "run_dir": str(tmp_path / "run")}, **options
        )

    return make
