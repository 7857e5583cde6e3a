"""Environments of SMAX, shared where a test resets them: compiling one takes seconds."""

from __future__ import annotations

import pytest
from contracts.smax import MAP, ROWS


@pytest.fixture(scope="module")
def shared():
    from vm3ac_modules.envs import SMAXEnv

    return SMAXEnv(MAP, ROWS, seed=0)


@pytest.fixture
def env(shared):
    shared.set_seed(3)
    return shared
