"""Hypothesis profiles, processes, threads; the root conftest.py seeds every test."""

from __future__ import annotations

import multiprocessing
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

# A worker is pickled and started as by `spawn`, but in a fork of a process that has imported what
# every worker imports: that takes seconds of each. Users get TorchRL's default, `spawn`.
multiprocessing.set_start_method("forkserver", force=True)
multiprocessing.set_forkserver_preload(["torchrl.collectors", "torchrl.envs", "torchrl.objectives"])


@pytest.fixture(autouse=True, scope="session")
def _disk_in_the_background():
    """No test cuts the power: what it wrote it reads without waiting for the disk.

    A training waits for as long as it computes otherwise. Tests of the order of writes look at the
    calls themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
