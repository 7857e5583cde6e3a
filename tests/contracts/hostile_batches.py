"""Batches and specs that do not fit: what a loss and the builders of networks make of them."""

from __future__ import annotations

import contextlib
import warnings
from functools import cache

import torch
from hypothesis import strategies as st
from torchrl.data import Binary, Bounded, Categorical, Composite, OneHot, Unbounded

import vm3ac_modules as vm
from vm3ac_modules.algorithms import build, presets
from vm3ac_modules.envs import make_battle_env, make_env
from vm3ac_modules.learning import SourceSizes
from vm3ac_modules.learning._collecting import collecting

CHANGES = {
    "left out": None,
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "integer": lambda x: x.long(),
    "flag": lambda x: x.bool(),
    "complex": lambda x: x.to(torch.complex64),
    "a dimension less": lambda x: x[..., 0],
    "a dimension more": lambda x: x.unsqueeze(-1),
    "in the middle": lambda x: x.unsqueeze(1),
    "twice as wide": lambda x: torch.cat((x, x), -1),
    "twice the agents": lambda x: torch.cat((x, x), -2),
    "without width": lambda x: x[..., :0],
    "NaN": lambda x: torch.full_like(x.float(), torch.nan),
    "negative": lambda x: -1 - x.int(),
    "huge": lambda x: x.float() + 1e30,
}
KINDS = {
    "continuous": lambda: make_env("predator_prey_2", 4, seed=0, max_steps=6),
    "discrete": lambda: make_battle_env("climbing", 4, backend="games", seed=0),
}
SMALL = {"continuous": {"hidden": (8,)}, "discrete": {}}


@cache
def loss_and_batch(kind, algorithm):
    """A loss of a preset, and a batch that it takes."""
    torch.manual_seed(0)
    episodes = kind == "discrete"
    agent = build(algorithm, env := KINDS[kind](), **SMALL[kind])
    source = agent.source(SourceSizes(50, 4, episodes=episodes))
    source.append_transforms(list(agent.replay_transforms()))
    for collected in collecting(agent, agent.wrap(env), episodes=episodes, max_steps=6):
        source.add(collected.data)
        for batch in source.batches():
            return agent.loss, batch
    return None


def batches(kind):
    """Up to three entries of a batch changed; a loss says so by a documented error, or computes."""

    def check(data, folder):
        loss, batch = loss_and_batch(kind, data.draw(st.sampled_from(sorted(presets(kind)))))
        read = [key for key in loss.in_keys if batch.get(key, None) is not None]
        spoiled = batch.clone()
        for _ in range(data.draw(st.integers(1, 3))):
            key = data.draw(st.sampled_from(read))
            change = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))]
            value = spoiled.get(key, None)
            spoiled = spoiled.exclude(key)
            if change is not None and value is not None:
                # What a tensordict refuses by itself never comes to a loss.
                with (
                    contextlib.suppress(RuntimeError, IndexError, TypeError),
                    warnings.catch_warnings(action="ignore"),
                ):
                    spoiled.set(key, change(value))
        before = spoiled.clone()
        with contextlib.suppress(KeyError, ValueError), warnings.catch_warnings(action="ignore"):
            loss(spoiled)
        assert set(spoiled.keys(True, True)) == set(before.keys(True, True))

    return check


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
BOUNDS = st.sampled_from([-1.0, 0.0, 1.0, float("inf"), float("-inf"), float("nan"), 1e38])


@st.composite
def specs(draw):
    """Leaf specs of every kind, and some that are none."""
    shape, kind = draw(SHAPES), draw(st.sampled_from(["bounded", "unbounded", "discrete", "other"]))
    if kind == "bounded":
        return Bounded(draw(BOUNDS), draw(BOUNDS), shape)
    if kind == "unbounded":
        return Unbounded(shape)
    if kind == "discrete":
        return draw(st.sampled_from([Categorical(3, shape), OneHot(3), Binary(3)]))
    return draw(st.sampled_from([Composite(), None, 3, "spec", Composite(a=Unbounded((2, 1)))]))


def builders(data, folder):
    """Networks built for any spec and sizes."""
    # A spec that TorchRL refuses to make comes from nowhere.
    try:
        spec = data.draw(specs())
    except (RuntimeError, ValueError, AssertionError):
        return
    size = data.draw(st.sampled_from([4, 0, -1, 2.5, None, "4"]))
    for make in (
        lambda: vm.make_actor(size, 3, spec),
        lambda: vm.VariationalPredictor(size, spec),
        lambda: vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), vm.make_actor(4, 3, spec)),
    ):
        with contextlib.suppress(ValueError, TypeError):
            make()
