"""``VMASEnv`` reads VMAS's lists itself; TorchRL's adapter says what must come out."""

from __future__ import annotations

import contextlib

import pytest
import torch
from tensordict import TensorDictBase

pytest.importorskip("vmas")

from torchrl.envs import MarlGroupMapType
from torchrl.envs.libs.vmas import VmasEnv
from vmas.simulator.environment import Environment

from vm3ac_modules.envs import (
    CooperativeNavigation,
    GuardedRendezvous,
    PredatorPrey,
    TreasureCollection,
    VMASEnv,
)
from vm3ac_modules.envs.vmas._streams import RandomStreams
from vm3ac_modules.envs.vmas.scenarios._common import DiscWorld, SeededScenario

# Ours tell of all agents at once; their single agents, as VMAS asks for them, must say the same.
OURS = {
    "predator_prey": (PredatorPrey, {"num_agents": 3}),
    "cooperative_navigation": (CooperativeNavigation, {"num_agents": 4}),
    "treasure_collection": (TreasureCollection, {"num_agents": 5}),
    "guarded_rendezvous": (GuardedRendezvous, {"num_agents": 3, "sees_others": True}),
}
# A logarithm of another place in memory has another last digit.
CONTACTS = {"cooperative_navigation": 1e-5, "treasure_collection": 1e-5}
SCENARIOS = {
    **{name: options for name, (_, options) in OURS.items()},
    "navigation": {"n_agents": 3},
    "balance": {"n_agents": 2},
    "simple_tag": {},  # agents that see vectors of several sizes
    "football": {},  # draws in its steps
    "road_traffic": {"n_agents": 4},  # reports much
}


class TorchRLs(VMASEnv):
    """The same simulator, read by TorchRL and swapped by VMAS."""

    def _step(self, tensordict):
        with self.streams_of_vmas():
            return self.completed(VmasEnv._step(self, tensordict))

    def _reset(self, tensordict=None, **kwargs):
        with self.streams_of_vmas():
            return self.completed(VmasEnv._reset(self, tensordict, **kwargs))

    @contextlib.contextmanager
    def streams_of_vmas(self):
        shared, own = Environment.vmas_random_state, self._stream
        shared[:] = [own.torch_state, own.numpy_state, own.python_state]
        yield
        self._stream = RandomStreams(*shared)

    def completed(self, tensordict):
        if isinstance(self.scenario, SeededScenario):
            tensordict.set("state", self.scenario.state())
        return tensordict


def make(kind, name, group_map=None):
    scenario = OURS[name][0]() if name in OURS else name
    return kind(scenario, num_envs=4, seed=3, group_map=group_map, **SCENARIOS[name])


def parts(td):
    """The root's entries, and every agent's, whose sizes may differ."""
    groups = [key for key in set(td.keys()) if isinstance(td.get(key), TensorDictBase)]
    agents = [agent.flatten_keys() for key in groups for agent in td.get(key).unbind(1)]
    return [td.exclude(*groups), *agents]


def assert_same(found, expected, tolerance=0.0):
    for ours, theirs in zip(parts(found), parts(expected), strict=True):
        assert set(ours.keys()) == set(theirs.keys())
        for key in set(theirs.keys()):
            pair = ours.get(key), theirs.get(key)
            torch.testing.assert_close(*pair, rtol=0, atol=tolerance, equal_nan=True)


def stepped(env, seed):
    td = env.reset()
    torch.manual_seed(seed)
    td = env.rand_action(td)
    return env.step(td)["next"]


@pytest.mark.parametrize("group_map", [None, MarlGroupMapType.ONE_GROUP_PER_AGENT])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_entry_is_that_of_torchrl(name, group_map):
    ours, theirs = (make(kind, name, group_map) for kind in (VMASEnv, TorchRLs))
    for seed in range(3):
        assert_same(ours.reset(), theirs.reset())
        assert_same(stepped(ours, seed), stepped(theirs, seed), CONTACTS.get(name, 0.0))


@pytest.mark.parametrize("name", ["predator_prey", "navigation"])
def test_some_rows_start_anew_and_the_others_go_on(name):
    ours, theirs = (make(kind, name) for kind in (VMASEnv, TorchRLs))
    before = stepped(ours, 0), stepped(theirs, 0)
    asked = torch.tensor([[True], [False], [True], [False]])
    found, expected = (
        env.reset(td.clone().set("_reset", asked.clone()))
        for env, td in zip((ours, theirs), before, strict=True)
    )
    assert_same(found, expected)
    seen, then = found["agents", "observation"], before[0]["agents", "observation"]
    assert torch.equal(seen[1], then[1])
    assert not torch.equal(seen[0], then[0])


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_discs_move_as_vmas_moves_them(name, crowded):
    ours, theirs = (make(kind, name) for kind in (VMASEnv, TorchRLs))
    found, expected = ours.reset(), theirs.reset()
    if crowded:
        # Within each other's reach, two at the same point, and some at a wall.
        state = ours.simulator_state()
        state["positions"] = state["positions"] * 0.05 + torch.tensor([0.45, 0.0])
        state["positions"][:, 1] = state["positions"][:, 0]
        for env in (ours, theirs):
            env.load_simulator_state(state)
    generator = torch.Generator().manual_seed(5)
    for _ in range(12):
        action = 2 * torch.rand(4, ours.n_agents, 2, generator=generator) - 1
        found, expected = (
            env.step(td.set(("agents", "action"), action))["next"]
            for env, td in ((ours, found), (theirs, expected))
        )
        assert_same(found, expected, CONTACTS.get(name, 0.0))


def test_a_world_of_discs_takes_what_it_computes_with():
    for options in ({"substeps": 2}, {"gravity": (0.0, -1.0)}, {"x_semidim": 1.0}):
        with pytest.raises(TypeError, match=next(iter(options))):
            DiscWorld(2, torch.device("cpu"), **options)
    with pytest.raises(TypeError, match="drag"):
        DiscWorld(2, torch.device("cpu")).add_discs([(0.1, 1.0)], drag=0.5)


def test_a_joint_scenario_is_not_asked_agent_by_agent():
    with pytest.raises(TypeError, match=r"Turned.process_action would not be called"):

        class Turned(PredatorPrey):
            def process_action(self, agent):
                agent.action.u = -agent.action.u


def test_what_a_scenario_keeps_is_not_what_is_recorded():
    class Counting(PredatorPrey):
        def observations(self):
            self.kept = getattr(self, "kept", torch.zeros(4, 2, 1)).add_(1.0)
            return self.kept

        def pre_step(self):
            self.began = getattr(self, "began", 0) + 1

    env = VMASEnv(Counting(), num_envs=4, seed=0)
    first = env.reset()["agents", "observation"]
    before = first.clone()
    td = env.rand_step(env.reset())
    assert torch.equal(first, before)
    assert not torch.equal(td["next", "agents", "observation"], before)
    assert env.scenario.began == 1
