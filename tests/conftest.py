"""Hypothesis profiles, and threads; the root conftest.py seeds the random numbers of every test."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# `too_slow` measures the first call into torch, not the strategy.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("ci", derandomize=True, database=None, max_examples=50, **_COMMON)
settings.register_profile("nightly", derandomize=False, max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
