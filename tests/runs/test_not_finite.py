"""Whose number was not finite: the environment's observation or reward, or the loss."""

from __future__ import annotations

import pytest
from contracts.user_env import Meeting

pytest.importorskip("tensorboard")

from vm3ac_modules.learning.guards import NonFiniteError
from vm3ac_modules.runs import train


class Spoiled(Meeting):
    """Gives a bad number in one row, once, after some steps of training."""

    def __init__(self, num_envs, device, seed, *, entry, value, at=5):
        self.entry, self.value, self.at, self.steps = entry, float(value), at, 0
        super().__init__(num_envs, device, seed)

    def _step(self, tensordict):
        out = super()._step(tensordict)
        self.steps += 1
        if self.batch_size[0] == 4 and self.steps == self.at:
            out["agents", self.entry][2, 1] = self.value
        return out


def make_env(num_envs, device, seed, **options):
    return Spoiled(num_envs, device, seed, **options)


@pytest.mark.parametrize("at", [2, 9])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("entry", ["observation", "reward"])
def test_the_environments_numbers_are_named(compose, tmp_path, entry, value, at):
    options = {"entry": entry, "value": value, "at": at}
    task = "python:runs.test_not_finite:make_env"
    with pytest.raises(NonFiniteError, match=rf"{entry}s.* became infinite or NaN between frames"):
        train(compose(task=task, task__env=options, draw=False, log_every_updates=1))


def test_a_run_whose_numbers_are_finite_is_left_alone(compose):
    task = "python:runs.test_not_finite:make_env"
    options = {"entry": "reward", "value": "1e6", "at": 2}
    assert train(compose(task=task, task__env=options, draw=False))["frames"] == 64


def test_parameters_that_are_not_finite_are_the_losses(compose):
    with pytest.raises(NonFiniteError, match="losses became infinite or NaN"):
        train(compose(lr=1e30, draw=False, log_every_updates=1))
