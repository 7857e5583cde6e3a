"""Steps of our VMAS scenarios can be replayed: a tape stands in for the CUDA graph."""

from __future__ import annotations

import logging

import pytest
import torch
from contracts.tape import tape
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

pytest.importorskip("vmas")

from vm3ac_modules.envs import PredatorPrey, VMASEnv, find_task, make_env
from vm3ac_modules.learning._captured_step import base_of, capture_step
from vm3ac_modules.learning.capture import CapturedPolicy

JOINT = {
    "predator_prey_2": {},
    "predator_prey_4": {"growth": "double"},
    "cooperative_navigation_3": {},
    "treasure_collection_4": {},
    "guarded_rendezvous": {},
    "learning_prey": {},
}


def actions(env, steps):
    generator = torch.Generator().manual_seed(3)
    shape = env.full_action_spec["agents", "action"].shape
    drawn = [torch.rand(shape, generator=generator) * 2 - 1 for _ in range(steps)]
    return [action.to(env.device) for action in drawn]


def played(env, steps=9):
    """All entries of a few steps, across the time limit."""
    at, found = env.reset(), []
    for action in actions(env, steps):
        stepped, at = env.step_and_maybe_reset(at.set(("agents", "action"), action))
        found.append(stepped.clone())
    return torch.stack(found)


def both(name, rows=5, record=tape, **options):
    options = {"seed": 1, **options}
    options |= {"horizon": 6} if "adversary" in find_task(name).options else {"max_steps": 6}
    plain, captured = make_env(name, rows, **options), make_env(name, rows, **options)
    assert capture_step(captured, record)
    return plain, captured


def state(env):
    base = base_of(env)
    return {**base.simulator_state(), **base.get_rng_state()}


def step_of(env):
    return base_of(env).joint_step


@pytest.mark.parametrize("name", JOINT)
def test_a_replayed_step_is_a_step(name):
    plain, captured = both(name, **JOINT[name])
    assert (played(plain) == played(captured)).all()
    assert step_of(captured).against is None
    assert step_of(captured).graph is not None
    one, other = state(plain), state(captured)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=0, equal_nan=True)


def test_what_is_loaded_reaches_a_replayed_step():
    plain, captured = both("predator_prey_2", max_steps=50)
    for env in (plain, captured):
        played(env)
        base = base_of(env)
        saved = {key: value.roll(1, 0) for key, value in base.simulator_state().items()}
        base.load_simulator_state(saved)
        base.set_seed(7)
    assert (played(plain) == played(captured)).all()


def test_a_team_each_is_recorded_anew():
    plain, captured = both("learning_prey", rows=4)
    for env in (plain, captured):
        played(env)
        base_of(env).set_teams(2)
    first = step_of(captured).graph
    assert (played(plain) == played(captured)).all()
    assert step_of(captured).graph is not first


class Counting(PredatorPrey):
    """Every third step pays nothing, and the host counts."""

    turns = 0

    def post_step(self):
        super().post_step()
        self.turns += 1
        if self.turns % 3 == 0:
            self._team_reward = self._team_reward * 0


class Looking(PredatorPrey):
    """Asks the device whether something was caught."""

    def post_step(self):
        super().post_step()
        if self._team_reward.sum() > 0:
            self.level = self.level + 1


class Straying(PredatorPrey):
    """Draws from a generator that no checkpoint knows, and no graph."""

    def post_step(self):
        super().post_step()
        self.level = self.level + torch.rand(self.level.shape, generator=self.stray)

    def make_world(self, *args, **options):
        self.stray = torch.Generator().manual_seed(0)
        return super().make_world(*args, **options)


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (Counting, "counts on the host"),
        (Looking, "cannot read a value"),
        (Straying, "a recorded step is not the step"),
    ],
)
def test_what_cannot_be_replayed_goes_on_as_it_was(scenario, reason, caplog):
    plain, captured = VMASEnv(scenario(), 5, seed=1), VMASEnv(scenario(), 5, seed=1)
    assert capture_step(captured, tape)
    with caplog.at_level(logging.WARNING, "vm3ac_modules"):
        found = played(captured)
    assert reason in caplog.text
    # What the host counts, or draws where nobody sees it, has gone on while it was recorded.
    assert scenario is not Looking or (played(plain) == found).all()


def test_other_environments_are_left_alone():
    assert not capture_step(VMASEnv("balance", 2, seed=0))
    assert not capture_step(make_env("guard", 2))


def test_a_policy_that_cannot_goes_on_as_it_was(caplog):
    policy = TensorDictModule(lambda x: x * (2 if x.sum() > 0 else 3), ["x"], ["y"])
    captured = CapturedPolicy(policy, tape)
    for turn in range(5):
        given = TensorDict({"x": torch.full((2,), float(turn - 2))}, [2])
        assert captured(given.clone())["y"].equal(policy(given.clone())["y"])
    assert "cannot read a value" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", JOINT)
def test_a_cuda_graph_is_a_step(name):
    plain, captured = both(name, device="cuda", record=None, **JOINT[name])
    expected, found = played(plain), played(captured)
    assert step_of(captured).against is None
    for key in expected.keys(True, True):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-6)
