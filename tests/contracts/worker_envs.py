"""Environments that fail in worker processes only."""

from __future__ import annotations

import multiprocessing
import os

from contracts.user_env import Meeting

HOME = "VM3AC_TESTS_PROCESS"
"""Names the process in which tests run: Ray's workers have no parent of multiprocessing's."""


def away():
    """Whether this is another process than the tests'."""
    return multiprocessing.parent_process() is not None or str(os.getpid()) != os.environ[HOME]


class Breaking(Meeting):
    """It breaks at its sixth step."""

    steps = 0

    def _step(self, tensordict):
        self.steps += 1
        if self.steps == 6 and away():
            raise RuntimeError("the simulator broke")
        return super()._step(tensordict)


def breaking(num_envs, device, seed):
    return Breaking(num_envs, device, seed)


def unimportable(num_envs, device, seed):
    if away():
        raise ImportError("No module named 'mine'")
    return Meeting(num_envs, device, seed)
