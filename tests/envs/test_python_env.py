"""``python:`` environments, and random streams of environments that are not ours."""

from __future__ import annotations

import importlib
import sys
import types
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import (
    EnvBase,
    InitTracker,
    ParallelEnv,
    RewardSum,
    StepCounter,
    TransformedEnv,
)
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import EpisodeCounter, env_rng_state, make_env, set_env_rng_state

NAME = "python:my_pack.envs:make"


class Walk(EnvBase):
    """Two agents walk on a line; a walker beyond 1 ends the episode."""

    def __init__(self, num_envs, device, seed, speed=0.1, batch=None, spec=None):
        batch = [num_envs] if batch is None else batch
        super().__init__(device=device, batch_size=batch)
        self.speed, group = speed, (*batch, 2)
        names = {"shape": batch, "device": device}

        def agents(**specs):
            return Composite(agents=Composite(**specs, shape=group, device=device), **names)

        self.action_spec = agents(action=Bounded(-2.0, 2.0, (*group, 1), device=device))
        self.observation_spec = agents(observation=Unbounded((*group, 1), device=device))
        self.reward_spec = agents(reward=Unbounded((*group, 1), device=device))
        end = Categorical(2, shape=(*batch, 1), dtype=torch.bool, device=device)
        self.done_spec = Composite(done=end, terminated=end.clone(), **names)
        if spec is not None:
            spec(self, group)
        self._set_seed(0 if seed is None else seed)

    def _set_seed(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def _entries(self, **extra):
        agents = TensorDict({"observation": self.x.clone(), **extra}, [*self.batch_size, 2])
        over = (self.x.abs() > 1).any(-2)
        return TensorDict({"agents": agents, "done": over, "terminated": over}, self.batch_size)

    def _reset(self, tensordict=None):
        fresh = torch.rand(*self.batch_size, 2, 1, generator=self.generator) - 0.5
        mask = None if tensordict is None else tensordict.get("_reset", None)
        self.x = fresh if mask is None else torch.where(mask.unsqueeze(-1), fresh, self.x)
        return self._entries()

    def _step(self, tensordict):
        self.x = self.x + self.speed * tensordict["agents", "action"]
        return self._entries(reward=-self.x.abs())


class StreamWalk(Walk):
    """The same, with a stream that a checkpoint can hold."""

    def get_rng_state(self):
        return {"generator": self.generator.get_state()}

    def set_rng_state(self, state):
        self.generator.set_state(state["generator"])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes ``my_pack.envs``, whose ``make`` is what the returned function is given."""
    (tmp_path / "my_pack").mkdir()
    (tmp_path / "my_pack" / "envs.py").write_text("make = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda make: setattr(importlib.import_module("my_pack.envs"), "make", make)
    for name in ("my_pack.envs", "my_pack"):
        sys.modules.pop(name, None)


def test_the_users_environment(package):
    seen = {}

    def make(**options):
        seen.update(options)
        return Walk(**options)

    package(make)
    env = make_env(NAME, 3, seed=5, max_steps=4, speed=0.01)
    assert seen == {"num_envs": 3, "device": "cpu", "seed": 5, "speed": 0.01}
    check_env_specs(env)
    td = make_env(NAME, 3, seed=5, max_steps=4, speed=0.01).rollout(9, break_when_any_done=False)
    assert td["next", "step_count"].flatten(1)[0].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert td["episode"][1].flatten().tolist() == [1] * 4 + [4] * 4 + [7]
    assert torch.equal(td["next", "truncated"], td["next", "step_count"] == 4)
    assert not td["next", "terminated"].any()
    # its own ends terminate
    ended = make_env(NAME, 3, seed=5, speed=1.0).rollout(50, break_when_any_done=True)["next"]
    assert ended["terminated"].any()
    assert not ended["truncated"].any()


def test_transforms_of_the_users_come_first(package):
    package(lambda **options: TransformedEnv(Walk(**options), InitTracker()))
    env = make_env(NAME, 3, seed=0, max_steps=4)
    check_env_specs(env)
    assert type(env.base_env) is Walk
    td = env.rollout(6, break_when_any_done=False)
    assert td["is_init"][0].flatten().tolist() == [True, False, False, False, True, False]
    assert td["step_count"][0].flatten().tolist() == [0, 1, 2, 3, 0, 1]


def no_reward_per_agent(env, group):
    env.reward_spec = Composite(reward=Unbounded((*group[:1], 1)), shape=group[:1])


def ends_per_agent(env, group):
    end = Categorical(2, shape=(*group, 1), dtype=torch.bool)
    agents = Composite(done=end, terminated=end.clone(), shape=group)
    env.done_spec = Composite(agents=agents, shape=group[:1])


def discrete(env, group):
    action = Composite(action=Categorical(3, shape=group), shape=group)
    env.action_spec = Composite(agents=action, shape=group[:1])


def two_groups(env, group):
    action = Composite(action=Bounded(-1.0, 1.0, (*group, 1)), shape=group)
    env.action_spec = Composite(agents=action, others=action.clone(), shape=group[:1])


def other_group(env, group):
    action = Composite(action=Bounded(-1.0, 1.0, (*group, 1)), shape=group)
    env.action_spec = Composite(walkers=action, shape=group[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda **options: "an environment", r"gave str, not a torchrl.envs.EnvBase"),
        (lambda **o: Walk(**o, batch=[4]), r"batch size \[4\], not \[2\]"),
        (lambda **o: Walk(**o, batch=[]), r"batch size \[\], not \[2\]"),
        (lambda **o: Walk(**o, spec=discrete), "not a bounded continuous action"),
        (lambda **o: Walk(**o, spec=two_groups), r"groups \['agents', 'others'\]"),
        (lambda **o: Walk(**o, spec=other_group), "no group 'agents'"),
        (lambda **o: Walk(**o, spec=no_reward_per_agent), r"'reward'\) of shape \[2, 2, 1\]"),
        (lambda **o: Walk(**o, spec=ends_per_agent), r"needs done of shape \[2, 1\]"),
        (lambda **o: Walk(**(o | {"device": None})), "is on None, not cpu"),
        (lambda **o: TransformedEnv(Walk(**o), StepCounter(9)), r"writes \['step_count'\] itself"),
        (lambda **o: TransformedEnv(Walk(**o), EpisodeCounter([2])), r"writes \['episode'\]"),
    ],
)
def test_refused(package, make, message):
    package(make)
    with pytest.raises(ValueError, match=f"{NAME}: .*{message}"):
        make_env(NAME, num_envs=2)


def test_a_function_that_takes_other_arguments(monkeypatch):
    module = types.ModuleType("plain_pack")
    module.make = lambda: None
    monkeypatch.setitem(sys.modules, "plain_pack", module)
    said = r"plain_pack:make: is called as make\(num_envs=..., device=..., seed=...\): got an unex"
    with pytest.raises(ValueError, match=said):
        make_env("python:plain_pack:make", num_envs=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:nowhere.envs:make", "No module named 'nowhere'.*PYTHONPATH"),
        ("python:my_pack.envs:other", "no attribute 'other'"),
        ("python:my_pack.envs", "of the form python:package.module:function"),
        ("python::make", "of the form"),
        ("python:my_pack.envs:", "of the form"),
    ],
)
def test_names_that_lead_nowhere(package, name, message):
    package(Walk)
    with pytest.raises(ValueError, match=message):
        make_env(name, num_envs=1)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ZeroDivisionError])
def test_an_error_of_the_user_s_code_is_told_with_its_place(package, error):
    def make(**options):
        raise error("I am broken")

    package(make)
    told = rf"{NAME}: {error.__name__}: '?I am broken'? \(.*test_python_env\.py:\d+\)"
    with pytest.raises(ValueError, match=told) as caught:
        make_env(NAME, num_envs=1)
    assert type(caught.value.__cause__) is error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("make = (\n", r"SyntaxError: '\(' was never closed \(.*broken\.py:1\)"),
        ("\nmake = 1 / 0\n", r"ZeroDivisionError: division by zero \(.*broken\.py:2\)"),
    ],
)
def test_a_module_that_cannot_be_run_is_told_with_its_line(package, tmp_path, text, told):
    (tmp_path / "my_pack" / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=rf"python:my_pack\.broken:make: {told}"):
        make_env("python:my_pack.broken:make", num_envs=1)


def test_streams_of_foreign_environments(package):
    package(Walk)
    plain = make_env(NAME, 2, seed=0)
    assert env_rng_state(plain) == {}
    set_env_rng_state(plain, {})
    inner = TransformedEnv(StreamWalk(2, "cpu", 0), InitTracker())
    env = TransformedEnv(inner, RewardSum(), auto_unwrap=False)
    state, first = env_rng_state(env), env.reset()["agents", "observation"]
    assert not torch.equal(env.reset()["agents", "observation"], first)
    set_env_rng_state(env, state)
    assert torch.equal(env.reset()["agents", "observation"], first)
    with pytest.raises(ValueError, match=r"\['generator'\], but Walk has no set_rng_state"):
        set_env_rng_state(plain, state)


def test_streams_of_workers_are_not_asked_for():
    env = ParallelEnv(2, partial(Walk, 2, "cpu", 0), daemon=True)  # not started
    assert env_rng_state(env) == {}
    env.close(raise_if_closed=False)


def test_streams_of_ours():
    pytest.importorskip("vmas")
    env = make_env("predator_prey_2", num_envs=2, seed=0)
    state, first = env_rng_state(env), env.reset()["state"]
    set_env_rng_state(env, state)
    assert torch.equal(env.reset()["state"], first)
