"""A tiny training that is disturbed, and what it would have been undisturbed."""

from __future__ import annotations

import pytest
from contracts.training import STEPS, configuration

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.runs import train

TINY = {**STEPS, "draw": False, "checkpoint_every_frames": 16, "log_every_updates": 2}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The directory of a run that was left alone."""
    place = tmp_path_factory.mktemp("undisturbed") / "run"
    train(configuration(tiny={**TINY, "run_dir": str(place)}))
    return place


@pytest.fixture
def config(tmp_path):
    """The same training in a directory of its own."""
    return configuration(tiny={**TINY, "run_dir": str(tmp_path / "run")})
