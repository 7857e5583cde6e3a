"""Names that a scenario or environment of the user's own may use for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vmas")

from contracts.training import STEPS, configuration
from contracts.user_env import Meeting
from envs.vmas.test_info import Numbered

from vm3ac_modules.envs import VMASEnv, env_rng_state, make_env, set_env_rng_state
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import Settings, train


class NumpyStream(Numbered):
    """Draws starts from a stream of NumPy's."""

    def make_world(self, batch_dim, device, **kwargs):
        self.generator = np.random.default_rng(0)
        return super().make_world(batch_dim, device, **kwargs)


class StateOfAgent(Numbered):
    def state(self, agent):
        return agent.state.pos


class StateIsData(Numbered):
    state = "ready"


class SeedsItsWorld(Numbered):
    def set_seed(self, seed):
        self.world.agents[0].set_vel(torch.zeros(2), batch_index=None)


class SeedsTwo(Numbered):
    def set_seed(self, seed, more):
        raise AssertionError("nobody but its owner may call this")


class Streams(Numbered):
    generator = "diesel"
    resumable = True
    positions = velocities = row_state = simulator_state = None
    index = place = uniform = rows_at = None


OWN = [NumpyStream, StateOfAgent, StateIsData, SeedsItsWorld, SeedsTwo, Streams]


def own(num_envs, device, seed, name):
    return VMASEnv({kind.__name__: kind for kind in OWN}[name](), num_envs, device, seed)


@pytest.mark.parametrize("kind", OWN)
def test_a_scenario_of_ones_own_may_use_any_name(tmp_path, kind):
    task = "python:envs.vmas.test_names:own"
    env = make_env(task, 2, seed=0, name=kind.__name__)
    saved = env_rng_state(env)
    set_env_rng_state(env, saved)
    assert "state" not in env.observation_spec.keys(True)
    assert env.rollout(3).shape == (2, 3)
    pytest.importorskip("tensorboard")
    tiny = {**STEPS, "run_dir": str(tmp_path / "run"), "draw": False}
    config = configuration(tiny=tiny, task=task, task__env={"name": kind.__name__})
    train({**config, "frames": 32})
    assert train({**config, "resume": True})["frames"] == 64


class SavesItself(Meeting):
    """The name is taken by something that is no state of ours."""

    def get_rng_state(self):
        return self.generator

    def set_rng_state(self, state):
        self.generator = state


class SavesArrays(Meeting):
    def get_rng_state(self):
        return {"numpy": np.zeros(3)}


def saves_itself(num_envs, device, seed):
    return SavesItself(num_envs, device, seed)


def saves_arrays(num_envs, device, seed):
    return SavesArrays(num_envs, device, seed)


@pytest.mark.parametrize(
    ("name", "held"),
    [("saves_itself", "gave Generator"), ("saves_arrays", "gave a dictionary of ndarray")],
)
def test_what_no_checkpoint_can_hold_is_refused_before_the_first_step(tmp_path, name, held):
    pytest.importorskip("tensorboard")
    tiny = {**STEPS, "run_dir": str(tmp_path / "run"), "draw": False}
    with pytest.raises(ValueError, match=rf"Saves\w+.get_rng_state\(\) {held}"):
        train(configuration(tiny=tiny, task=f"python:envs.vmas.test_names:{name}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["num_envs", "device", "seed", "max_steps"])
def test_what_the_run_sets_is_no_option_of_the_environment(tmp_path, name):
    tiny = {**STEPS, "run_dir": str(tmp_path / "run"), "draw": False}
    with pytest.raises(OptionsError, match=rf"task.env.{name} is set by the run: give"):
        Settings.of(configuration(tiny=tiny, task__env={name: 3}))
