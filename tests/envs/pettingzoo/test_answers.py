"""What PettingZoo environments answer: forms that work, and refusals that name the culprit."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("pettingzoo")

from contracts.training import STEPS, configuration
from gymnasium.spaces import Box
from tensordict import TensorDict

from vm3ac_modules.envs import BatchedPettingZooEnv, make_env
from vm3ac_modules.runs import train

ACTION, REWARD, SEEN = ("agents", "action"), ("agents", "reward"), ("agents", "observation")


class Plain:
    """No __init__ of its own, as little as the parallel API asks for."""

    possible_agents = ("a", "b")
    limit = 4

    def action_space(self, agent):
        return Box(-1.0, 1.0, (1,), np.float32)

    def observation_space(self, agent):
        return Box(-9.0, 9.0, (2,), np.float32)

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self.seen(), {agent: {} for agent in self.agents}

    def seen(self):
        return {agent: np.array([self.t, 1.0], np.float32) for agent in self.agents}

    def paid(self):
        return dict.fromkeys(self.agents, 1.0)

    def ends(self):
        return dict.fromkeys(self.agents, self.t >= self.limit)

    def step(self, actions):
        self.actions = actions
        self.t += 1
        found = self.seen(), self.paid(), self.ends(), dict.fromkeys(self.agents, False)
        self.agents = self.left()
        return *found, {agent: {} for agent in found[0]}

    def left(self):
        return [] if self.t >= self.limit else self.agents


class ArrayReward(Plain):
    def paid(self):
        return {"a": np.array([1.0]), "b": np.float64(2.0)}


class TensorReward(Plain):
    def paid(self):
        return {"a": torch.tensor(1.0), "b": True}


class StateOfAgent(Plain):
    def state(self, agent):
        raise AssertionError


class StateIsData(Plain):
    state = "ready"


class ListedOn(Plain):
    """``a`` ends in step 2 and stays listed, as terminated, with all its entries."""

    def ends(self):
        return {"a": self.t >= 2, "b": self.t >= self.limit}


class OnceToldOf(ListedOn):
    """``a`` stays listed, but nothing is told of it any more."""

    def ends(self):
        return {"b": self.t >= 4} if self.t > 2 else super().ends()

    def paid(self):
        return {"b": 1.0} if self.t > 2 else super().paid()

    def seen(self):
        found = super().seen()
        return {"b": found["b"]} if self.t > 2 else found


class LeavesSilently(Plain):
    """``a`` is in no answer from step 2 on, without an end."""

    def step(self, actions):
        if self.t == 1:
            self.agents = ["b"]
        return super().step(actions)


WORKS = [
    Plain,
    ArrayReward,
    TensorReward,
    StateOfAgent,
    StateIsData,
    ListedOn,
    OnceToldOf,
    LeavesSilently,
]


@pytest.fixture
def answering(monkeypatch):
    """Makes a module ``answers_env`` of a class."""

    def make(kind, rows=2):
        module = ModuleType("answers_env")
        module.parallel_env = kind
        monkeypatch.setitem(sys.modules, "answers_env", module)
        return BatchedPettingZooEnv("answers_env", rows, seed=0)

    return make


def play(env, steps):
    td, found = env.reset(), []
    for _ in range(steps):
        td = env.step(TensorDict({ACTION: torch.zeros(*env.batch_size, 2, 1)}, env.batch_size))
        found.append(td["next"])
    return torch.stack(found, 1)


@pytest.mark.parametrize("kind", WORKS)
def test_forms_that_work(answering, kind):
    steps = play(answering(kind), 4)
    assert steps["done"][:, :, 0].tolist() == [[False, False, False, True]] * 2
    assert steps["terminated"][:, -1].all()
    assert steps.get("state", None) is None
    paid = steps[REWARD][0, :, 0, 0].tolist()
    alone = {"ListedOn": [1, 1, 0, 0], "OnceToldOf": [1, 1, 0, 0], "LeavesSilently": [1, 0, 0, 0]}
    assert paid == alone.get(kind.__name__, [1, 1, 1, 1])
    if kind is ArrayReward:
        assert steps[REWARD][0, :, 1, 0].tolist() == [2.0] * 4


def test_agents_that_left_see_zeros_after_their_last_observation(answering):
    seen = play(answering(ListedOn), 4)[SEEN][0, :, 0, 0].tolist()
    assert seen == [1.0, 2.0, 0.0, 0.0]


def test_a_training_on_a_class_without_an_init(answering, tmp_path):
    pytest.importorskip("tensorboard")
    answering(Plain)
    tiny = {**STEPS, "run_dir": str(tmp_path), "draw": False}
    assert train(configuration(tiny=tiny, task="pettingzoo/answers_env"))["frames"] == 64


class NaNSeen(Plain):
    def seen(self):
        found = super().seen()
        if self.t == 3:
            found["b"][1] = np.nan
        return found


class InfinitePay(Plain):
    def paid(self):
        return {"a": 1.0, "b": np.inf if self.t == 2 else 0.0}


class VectorPay(Plain):
    def paid(self):
        return {"a": np.array([1.0, 2.0]), "b": 1.0}


class WordPay(Plain):
    def paid(self):
        return {"a": 1.0, "b": "much"}


class NoPay(Plain):
    def paid(self):
        return {"a": 1.0}


class ListPay(Plain):
    def paid(self):
        return [1.0, 1.0]


class FlatCuts(Plain):
    def step(self, actions):
        *found, _, infos = super().step(actions)
        return *found, False, infos


class Unseen(Plain):
    def seen(self):
        return {"a": np.zeros(2)} if self.t == 1 else super().seen()


class Misshapen(Plain):
    def seen(self):
        return {**super().seen(), **({"b": np.zeros(3)} if self.t else {})}


class ScalarSeen(Plain):
    def seen(self):
        return {**super().seen(), **({"b": 0.0} if self.t else {})}


class NaNState(Plain):
    def state(self):
        return np.array([0.0, np.nan if self.t == 2 else 0.0], np.float32)


class ComesBack(ListedOn):
    def ends(self):
        return {"a": self.t == 2, "b": self.t >= self.limit}


class Joins(Plain):
    def reset(self, seed=None, options=None):
        found = super().reset()
        self.agents = ["a"]
        return found

    def left(self):
        return ["a", "b"]


class OldReset(Plain):
    def reset(self, seed=None, options=None):
        return super().reset()[0]


class OldStep(Plain):
    def step(self, actions):
        return super().step(actions)[:4]


class Nobody(Plain):
    def reset(self, seed=None, options=None):
        found = super().reset()
        self.agents = []
        return found


REFUSED = {
    NaNSeen: r"observations of agent 'b' is nan in component 1 of 2 \(in step 3 of the episode of",
    InfinitePay: r"rewards of agent 'b' is inf \(in step 2",
    VectorPay: r"rewards of agent 'a' is ndarray of shape \[2\], not a number \(in step 1",
    WordPay: r"rewards of agent 'b' is str, not a number",
    NoPay: r"rewards of agent 'b' has no entry, though the agent is listed \(in step 1",
    ListPay: r"rewards are list, not a dictionary by agent",
    FlatCuts: r"truncations are bool, not a dictionary by agent \(in step 1",
    Unseen: r"observations of agent 'b' has no entry, though the agent is listed \(in step 1",
    Misshapen: r"observations of agent 'b' has shape \[3\], its space says \[2\] \(in step 1",
    ScalarSeen: r"observations of agent 'b' has shape \[\], its space says \[2\] \(in step 1",
    NaNState: r"state is nan in component 1 of 2 \(in step 2",
    ComesBack: r"terminations of agent 'a' is False again after its end: agents that come back",
    Joins: r"agents has \['b'\] that joined in mid-episode",
    OldReset: r"reset gave dict, not \(observations, infos\)",
    OldStep: r"step gave a tuple of 4, not \(observations, rewards, terminations, truncations",
    Nobody: r"agents is empty after a reset",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_name_environment_agent_step_and_entry(answering, kind):
    with pytest.raises(ValueError, match=f"answers_env: {REFUSED[kind]}"):
        play(answering(kind), 4)


class Breaks(Plain):
    def step(self, actions):
        raise ZeroDivisionError("of its own")


def test_an_error_of_the_environments_own_says_where_it_was(answering):
    with pytest.raises(ZeroDivisionError, match="of its own") as found:
        play(answering(Breaks), 1)
    assert (
        "answers_env: raised by step in step 1 of the episode of seed" in found.value.__notes__[0]
    )


class Refuses(Plain):
    def __init__(self, size):
        self.size = size


def test_options_that_are_missing_are_still_named(answering):
    with pytest.raises(ValueError, match=r"answers_env.parallel_env refuses .*'size'"):
        answering(Refuses)
    assert make_env("pettingzoo/answers_env", 1, size=3).batch_size == (1,)
