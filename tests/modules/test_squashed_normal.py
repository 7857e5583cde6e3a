"""The law of actions and the noise on them are TorchRL's, to the bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import AdditiveGaussianModule, TanhNormal

from vm3ac_modules.modules.exploration import GaussianNoise
from vm3ac_modules.modules.squashed_normal import SquashedNormal

ranges = st.tuples(st.floats(-3.0, 0.0), st.floats(0.5, 4.0))


def law(kind, seed, low, width):
    generator = torch.Generator().manual_seed(seed)
    loc = 3.0 * torch.randn(4, 2, 3, generator=generator)
    scale = torch.rand(4, 2, 3, generator=generator) + 0.01
    bounds = torch.full((2, 3), low), torch.full((2, 3), low + width)
    return kind(loc.requires_grad_(), scale, low=bounds[0], high=bounds[1])


@given(ranges, st.integers(0, 1000))
def test_the_law_is_torchrls(bounds, seed):
    ours, theirs = (law(kind, seed, *bounds) for kind in (SquashedNormal, TanhNormal))
    found = []
    for one in (ours, theirs):
        torch.manual_seed(seed)
        action = one.rsample()
        action.sum().backward()
        middle = one.deterministic_sample
        found.append([action, one.log_prob(action.detach()), middle, one.loc.grad])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)


def test_new_parameters_take_the_place_of_the_old():
    one = law(SquashedNormal, 0, -1.0, 2.0)
    one.update(torch.zeros(5, 2, 3), torch.ones(5, 2, 3))
    assert one.sample().shape == (5, 2, 3)
    assert torch.equal(one.deterministic_sample, torch.zeros(5, 2, 3))


@given(ranges, st.floats(0.01, 2.0), st.integers(0, 1000))
def test_the_noise_is_torchrls(bounds, sigma, seed):
    low = torch.full((2, 3), bounds[0])
    high = low + bounds[1]
    key = ("agents", "action")
    theirs = AdditiveGaussianModule(
        Bounded(low, high, low.shape), sigma_init=sigma, sigma_end=sigma, action_key=key
    )
    theirs.register_buffer("std", 0.5 * (high - low))
    found = []
    for module in (GaussianNoise(low, high, sigma, key), theirs):
        torch.manual_seed(seed)
        td = TensorDict({"agents": {"action": low + torch.rand(4, 2, 3) * (high - low)}}, [4])
        found.append(module(td)[key])
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", [ExplorationType.DETERMINISTIC, ExplorationType.MEAN])
def test_no_noise_without_exploration(kind):
    td = TensorDict({"action": torch.zeros(3, 2, 1)}, [3])
    with set_exploration_type(kind):
        noise = GaussianNoise(-torch.ones(2, 1), torch.ones(2, 1), 0.5, "action")
        assert (noise(td)["action"] == 0).all()
