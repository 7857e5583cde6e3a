"""Any PettingZoo environment: MPE as it is, and a stub for what MPE does not do."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("pettingzoo")
pytest.importorskip("mpe2")

from gymnasium.spaces import Box, Dict, Discrete
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import BatchedPettingZooEnv, make_env
from vm3ac_modules.envs._rows import EpisodeSeeds

ACTION, REWARD, SEEN = ("agents", "action"), ("agents", "reward"), ("agents", "observation")
SPREAD = "mpe2.simple_spread_v3"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Stub:
    """A parallel environment whose agents leave when they are told to.

    An agent sees how many steps it has made and the episode's seed, and is paid its first action.
    """

    def __init__(self, leave=(), spaces=None, seen=None, joins=None):
        self.possible_agents = ["b", "a", "c"]
        self.leave, self.joins = dict(leave), joins
        default = Box(0.0, 0.1, (2,), np.float64)
        self.spaces = dict.fromkeys("abc", default) | (spaces or {})
        self.seen = {agent: Box(0, 2**31, (2,), np.int64) for agent in "abc"} | (seen or {})
        self.received = []

    def action_space(self, agent):
        return self.spaces[agent]

    def observation_space(self, agent):
        return self.seen[agent]

    def reset(self, seed=None, options=None):
        self.t, self.seed = 0, seed
        self.agents = [agent for agent in self.possible_agents if agent != self.joins]
        return self._seen(), {agent: {} for agent in self.agents}

    def _seen(self):
        return {agent: np.array([self.t, self.seed % 1000]) for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.received.append(actions)
        self.t += 1
        ends = {
            agent: self.leave.get(agent, (0, ""))[1]
            for agent in self.agents
            if self.leave.get(agent, (0, ""))[0] == self.t
        }
        flags = [{a: kind in ends.get(a, "") for a in self.agents} for kind in ("term", "trunc")]
        seen = self._seen()
        reward = {agent: float(action[0]) for agent, action in actions.items()}
        self.agents = [agent for agent in self.agents if agent not in ends]
        if self.joins:
            self.agents.append(self.joins)
        return seen, reward, *flags, {agent: {} for agent in seen}


@pytest.fixture
def stub(monkeypatch):
    """Makes a module ``stub_env`` whose environments have these options."""
    module = ModuleType("stub_env")
    module.parallel_env = Stub
    monkeypatch.setitem(sys.modules, "stub_env", module)
    return lambda num_envs=2, **options: BatchedPettingZooEnv(
        "stub_env", num_envs, seed=0, **options
    )


def step(env, value=0.05):
    action = torch.full(env.full_action_spec[ACTION].shape, value)
    return env.step(TensorDict({ACTION: action}, env.batch_size))["next"]


def test_mpe_as_it_is():
    from mpe2 import simple_spread_v3

    seeds, env = EpisodeSeeds(4, num_envs=3), BatchedPettingZooEnv(SPREAD, 3, seed=4)
    check_env_specs(env)
    action = env.full_action_spec[ACTION]
    assert action.shape == (3, 3, 5)  # continuous_actions=True was found out
    assert (action.space.low == 0).all()
    assert (action.space.high == 1).all()
    env.set_seed(4)
    ours = env.rollout(25)
    theirs = simple_spread_v3.parallel_env(continuous_actions=True)
    for row in range(3):
        seen, _ = theirs.reset(seed=seeds.draw(row))
        for t in range(25):
            for i, name in enumerate(theirs.possible_agents):
                assert np.array_equal(ours[SEEN][row, t, i], seen[name])
            joint = dict(zip(theirs.agents, ours[ACTION][row, t].numpy(), strict=True))
            seen, reward, *_ = theirs.step(joint)
            assert np.array_equal(ours["next", "state"][row, t], theirs.state())
            expected = torch.tensor([reward[name] for name in theirs.possible_agents]).float()
            assert torch.equal(ours["next", *REWARD][row, t, :, 0], expected)
    # its own limit of 25 steps is a truncation
    assert ours["next", "truncated"][:, :, 0].sum(1).tolist() == [1, 1, 1]
    assert ours["next", "truncated"][:, -1].all()
    assert not ours["next", "terminated"].any()


@pytest.mark.parametrize(("own", "ours", "length"), [(7, 50, 7), (50, 6, 6)])
def test_the_lower_limit_truncates(own, ours, length):
    name = f"pettingzoo/{SPREAD}"
    env = make_env(name, 2, seed=0, max_steps=ours, max_cycles=own, N=2)
    td = env.rollout(30)["next"]
    assert td.shape == (2, length)
    assert td["truncated"][:, -1].all()
    assert not td["terminated"].any()


def test_observations_rewards_and_seeds(stub):
    env = stub(num_envs=2)
    check_env_specs(env)
    env.set_seed(0)
    seeds = EpisodeSeeds(0, 2)
    start, td = env.reset(), step(env)
    drawn = torch.tensor([seeds.draw(row) % 1000 for row in range(2)]).float()
    assert torch.equal(start[SEEN][..., 1], drawn.unsqueeze(1).expand(2, 3))
    assert (start[SEEN][..., 0] == 0).all()
    assert (td[SEEN][..., 0] == 1).all()
    torch.testing.assert_close(td[REWARD], torch.full((2, 3, 1), 0.05))
    assert td.get("state", None) is None
    assert td.get("info", None) is None
    again = env.reset(td.set("_reset", torch.tensor([[False], [True]])))
    assert again[SEEN][:, 0, 0].tolist() == [1, 0]
    assert seeds.draw(0) != seeds.draw(1)
    assert env.get_rng_state()["episodes"].tolist() == [1, 2]


def test_actions_are_cast_and_clipped_to_each_agents_space(stub):
    env = stub(num_envs=1, spaces={"a": Box(-3.0, 3.0, (2,), np.float32)})
    assert env.full_action_spec[ACTION].space.high[0, :, 0].tolist() == pytest.approx([0.1, 3, 0.1])
    env.reset()
    # float32's 0.1 lies above float64's
    step(env, float(np.float32(0.1)))
    step(env, -5.0)
    simulator = env.simulators[0].env
    for joint in simulator.received:
        assert all(simulator.spaces[agent].contains(action) for agent, action in joint.items())


@pytest.mark.parametrize(
    ("leave", "flags"),
    [
        ({"a": (2, "term"), "b": (4, "term"), "c": (4, "term")}, (True, False)),
        ({"a": (4, "trunc"), "b": (4, "trunc"), "c": (4, "trunc")}, (False, True)),
        ({"a": (2, "term"), "b": (4, "trunc"), "c": (4, "trunc")}, (False, True)),
        ({"a": (4, "term"), "b": (4, "trunc"), "c": (4, "term")}, (False, True)),
        ({"a": (2, "trunc"), "b": (4, "term"), "c": (4, "term")}, (True, False)),
        # of an agent that is both, the termination counts
        (dict.fromkeys("abc", (4, "term trunc")), (True, False)),
    ],
)
def test_ends_and_agents_that_leave_early(stub, leave, flags):
    env = stub(leave=leave)
    env.reset()
    steps = torch.stack([step(env) for _ in range(4)], dim=1)
    assert not steps["done"][:, :3].any()
    assert steps["done"][:, 3].all()
    assert (bool(steps["terminated"][0, 3]), bool(steps["truncated"][0, 3])) == flags
    leaves = torch.tensor([leave[agent][0] for agent in ("b", "a", "c")])
    alive = torch.arange(1, 5).unsqueeze(1) <= leaves
    torch.testing.assert_close(steps[REWARD][0, :, :, 0], 0.05 * alive)
    # what the agent saw on its last step is there, and zeros from the next one on
    times = torch.arange(1.0, 5.0).unsqueeze(1)
    assert torch.equal(steps[SEEN][0, :, :, 0], times * alive)
    # a new episode has all agents again
    assert env.reset()[SEEN][..., 1].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spaces": {"a": Discrete(5)}}, "a: Discrete.*needs continuous actions"),
        ({"spaces": {"a": Box(0, 4, (2,), np.int64)}}, "needs continuous actions"),
        ({"spaces": {"a": Box(0.0, 1.0, (3,))}}, "action spaces .*of one size for all agents"),
        ({"spaces": {a: Box(0.0, np.inf, (2,)) for a in "abc"}}, "infinite bound"),
        ({"seen": {"a": Box(0.0, 1.0, (3,))}}, "observation spaces .*of one size"),
        ({"seen": {a: Box(0, 255, (8, 8, 3), np.uint8) for a in "abc"}}, "flat vectors"),
        ({"seen": {"a": Dict(x=Discrete(2))}}, "observation spaces .*needs boxes"),
        ({"typo": 3}, "stub_env.parallel_env refuses .*typo"),
    ],
)
def test_refused(stub, options, message):
    with pytest.raises(ValueError, match=message):
        stub(**options)


def test_refused_without_a_list_of_agents(stub, monkeypatch):
    monkeypatch.setattr(Stub, "possible_agents", [], raising=False)
    monkeypatch.setattr(Stub, "__init__", lambda self: None)
    with pytest.raises(ValueError, match="possible_agents"):
        stub()


def test_agents_that_join_are_reported(stub):
    env = stub(joins="c")
    env.reset()
    with pytest.raises(ValueError, match=r"\['c'\] that joined in mid-episode"):
        step(env)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pettingzoo/mpe2.chess", "No module named 'mpe2.chess'"),
        ("pettingzoo/nowhere.at_all", "No module named 'nowhere'"),
        ("pettingzoo/json", "no attribute 'parallel_env'"),
        ("pettingzoo/mpe2.simple_tag_v3", "observation spaces .*adversary_0"),
    ],
)
def test_unknown_modules_and_unlike_agents(name, message):
    with pytest.raises(ValueError, match=message):
        make_env(name, num_envs=1)


def test_discrete_actions_can_be_asked_for_but_are_refused():
    with pytest.raises(ValueError, match="needs continuous actions"):
        make_env(f"pettingzoo/{SPREAD}", num_envs=1, continuous_actions=False)


def test_missing_pettingzoo_names_the_extra(monkeypatch):
    monkeypatch.setattr("vm3ac_modules.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"vm3ac-modules\[pettingzoo\]"):
        make_env(f"pettingzoo/{SPREAD}", num_envs=1)
