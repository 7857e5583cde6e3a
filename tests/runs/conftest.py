"""Tiny trainings in a directory of their own."""

from __future__ import annotations

import shutil

import pytest
from contracts.training import BATTLES, STEPS, configuration

from vm3ac_modules.runs import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The directory of a run of 32 frames, to be read."""
    place = tmp_path_factory.mktemp("trained") / "run"
    pytest.importorskip("vmas")
    pytest.importorskip("tensorboard")
    train(configuration(tiny={**STEPS, "frames": 32, "draw": False, "run_dir": str(place)}))
    return place


@pytest.fixture
def used(trained, tmp_path):
    """A copy of it where the test's own run is."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


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
