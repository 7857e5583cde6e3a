"""Tiny trainings in a directory of their own."""

from __future__ import annotations

import pytest
from contracts.training import BATTLES, STEPS, configuration


@pytest.fixture
def compose(tmp_path):
    """A tiny training on transitions, in the words of the command line, as ``train`` takes it."""

    def make(*overrides: str, **options):
        return configuration(
            *overrides, tiny={**STEPS, "run_dir": str(tmp_path / "run")}, **options
        )

    return make


@pytest.fixture
def battle(tmp_path):
    """The same for battles."""

    def make(*overrides: str, **options):
        return configuration(
            *overrides, tiny={**BATTLES, "run_dir": str(tmp_path / "run")}, **options
        )

    return make
