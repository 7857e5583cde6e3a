"""Whoever does what a message advises comes further: every advice of the door, followed."""

from __future__ import annotations

import pytest
import torch
from contracts.typed import Typed
from contracts.user_env import Meeting
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import (
    CatTensors,
    Compose,
    DTypeCastTransform,
    FlattenObservation,
    RenameTransform,
    StepCounter,
    TransformedEnv,
    UnsqueezeTransform,
)

from vm3ac_modules.algorithms.registry import build
from vm3ac_modules.envs import VMASEnv, make_env
from vm3ac_modules.envs.checks import check_homogeneous_continuous, check_layout

SEEN, PARTS = ("agents", "observation"), ("agents", "parts")


class Shaped(Meeting):
    """Observations of another name, number or shape."""

    names = ("observation",)
    tail: tuple[int, ...] = (1,)

    def __init__(self, num_envs, device, seed):
        super().__init__(num_envs, device, seed)
        batch = (num_envs,)
        seen = {name: Unbounded((*batch, 2, *self.tail)) for name in self.names}
        agents = Composite(seen, shape=(*batch, 2) if self.tail else batch)
        self.observation_spec = Composite(agents=agents, shape=batch)

    def _step_data(self):
        data = super()._step_data()
        place = data["agents"].pop("observation").reshape(-1, 2, *(1,) * len(self.tail))
        for name in self.names:
            data["agents"][name] = place.expand(-1, 2, *self.tail).clone()
        return data


class Renamed(Shaped):
    names = ("obs",)


class Several(Shaped):
    names = ("own", "others")


class Nested(Shaped):
    """Observations that are dictionaries, as those of simulators with several sensors."""

    def __init__(self, num_envs, device, seed):
        super().__init__(num_envs, device, seed)
        batch = (num_envs,)
        parts = {name: Unbounded((*batch, 2, 1)) for name in ("own", "others")}
        seen = Composite(observation=Composite(parts, shape=(*batch, 2)), shape=(*batch, 2))
        self.observation_spec = Composite(agents=seen, shape=batch)

    def _step_data(self):
        data = super()._step_data()
        place = data["agents"]["observation"]
        data["agents"]["observation"] = {"own": place, "others": place.flip(1)}
        return data


class Image(Shaped):
    tail = (2, 3)


class Scalar(Shaped):
    tail = ()


class Endless(Meeting):
    """Actions without bounds."""

    def __init__(self, num_envs, device, seed):
        super().__init__(num_envs, device, seed)
        action = Composite(action=Unbounded((num_envs, 2, 1)), shape=(num_envs,))
        self.action_spec = Composite(agents=action, shape=(num_envs,))


class Infinite(Endless):
    """Bounds that are infinite."""

    def __init__(self, num_envs, device, seed):
        super().__init__(num_envs, device, seed)
        bounds = Bounded(-torch.inf, torch.inf, (num_envs, 2, 1))
        self.action_spec = Composite(
            agents=Composite(action=bounds, shape=(num_envs,)), shape=(num_envs,)
        )


class Counting(Meeting):
    """Counts its steps by itself."""


def counting():
    return TransformedEnv(Counting(3, "cpu", 0), StepCounter())


def clipped(env):
    """The advice on bounds: a space of its own, behind which actions are what they were."""
    shape = env.full_action_spec["agents", "action"].shape
    env.action_spec = Composite(
        agents=Composite(action=Bounded(-2.0, 2.0, shape), shape=shape[:1]), shape=shape[:1]
    )
    return env


def enter(env):
    check_homogeneous_continuous(env)
    check_layout(env, 3)


FLAT = FlattenObservation(-2, -1, in_keys=[SEEN])
CASES = {
    "renamed": (
        lambda: Renamed(3, "cpu", 0),
        "rename its entry with RenameTransform",
        lambda env: TransformedEnv(env, RenameTransform([("agents", "obs")], [SEEN])),
    ),
    "several": (
        lambda: Several(3, "cpu", 0),
        r"join several into one tensor under that name \(CatTensors\)",
        lambda env: TransformedEnv(
            env, CatTensors([("agents", "own"), ("agents", "others")], out_key=SEEN)
        ),
    ),
    "nested": (
        lambda: Nested(3, "cpu", 0),
        r"rename it \(RenameTransform\), then join its entries",
        lambda env: TransformedEnv(
            env,
            Compose(
                RenameTransform([SEEN], [("agents", "parts")]),
                CatTensors([(*PARTS, "own"), (*PARTS, "others")], out_key=SEEN),
            ),
        ),
    ),
    "image": (
        lambda: Image(3, "cpu", 0),
        "FlattenObservation",
        lambda env: TransformedEnv(env, FLAT),
    ),
    "scalar": (
        lambda: Scalar(3, "cpu", 0),
        "UnsqueezeTransform",
        lambda env: TransformedEnv(env, UnsqueezeTransform(-1, in_keys=[SEEN])),
    ),
    "float64": (
        lambda: Typed(3, "cpu", 0, entry="observation", dtype="float64"),
        "DTypeCastTransform",
        lambda env: TransformedEnv(
            env, DTypeCastTransform(torch.float64, torch.float32, in_keys=[SEEN])
        ),
    ),
    "unbounded": (
        lambda: Endless(3, "cpu", 0),
        "Bounded action_spec",
        clipped,
    ),
    "infinite": (
        lambda: Infinite(3, "cpu", 0),
        "finite action_spec of its own",
        clipped,
    ),
    "discrete": (
        lambda: VMASEnv("balance", 3, seed=0, continuous_actions=False),
        "continuous_actions=True",
        lambda env: VMASEnv("balance", 3, seed=0, continuous_actions=True),
    ),
    "counting": (
        counting,
        "writes .'step_count'. itself",
        lambda env: env.base_env,
    ),
    "rows": (
        lambda: Meeting(1, "cpu", 0),
        r"simulate num_envs rows",
        lambda env: Meeting(3, "cpu", 0),
    ),
}


@pytest.mark.filterwarnings("ignore:Force limits")
@pytest.mark.parametrize("case", CASES)
def test_every_advice_on_an_environment_leads_to_an_agent_that_acts(case):
    if case == "discrete":
        pytest.importorskip("vmas")
    make, advice, follow = CASES[case]
    with pytest.raises(ValueError, match=advice):
        enter(make())
    env = follow(make())
    enter(env)
    agent = build("ma_sac", env, hidden=(4,))
    assert (
        agent.policy(env.reset())["agents", "action"].shape
        == env.full_action_spec["agents", "action"].shape
    )
    assert env.rollout(2, agent.policy).shape == (3, 2)


def test_unlike_agents_are_not_sent_into_groups_that_nobody_plays():
    pytest.importorskip("vmas")
    with pytest.raises(ValueError, match="differ in the size of their observation") as found:
        make_env("vmas/simple_tag", 2, seed=0)
    assert "group_map" not in str(found.value)
    assert "pad" in str(found.value)
