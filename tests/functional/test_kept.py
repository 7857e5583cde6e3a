"""Constants that are kept: real ones only, and nobody can spoil them for others."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vm3ac_modules.functional import fill_diagonal_zero, gather_others, others_index, scatter_others
from vm3ac_modules.functional.kept import kept

FUNCTIONS = [gather_others, fill_diagonal_zero]


def test_a_constant_is_made_once_per_arguments():
    made = []
    ones = kept(lambda size: made.append(size) or torch.ones(size))
    assert ones(2) is ones(2)
    assert ones(3).shape == (3,)
    assert made == [2, 3]
    for size in range(100):
        ones(size)
    assert len(made) < 110


def test_what_a_caller_does_to_its_index_stays_with_the_caller():
    index = others_index(5)
    index.zero_()
    assert others_index(5)[0].tolist() == [1, 2, 3, 4]
    agents = torch.arange(5.0).unsqueeze(-1)
    assert gather_others(agents)[0].flatten().tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("first", ["real", "fake"])
def test_real_and_fake_tensors_in_either_order(function, first):
    # A number of agents that nobody else here has: whoever comes first would fill the cache.
    size = 21 + 2 * FUNCTIONS.index(function) + (first == "fake")
    if first == "real":
        function(torch.zeros(size, size))
    with FakeTensorMode():
        fake = function(torch.zeros(size, size))
    real = function(torch.zeros(size, size))
    assert type(real) is torch.Tensor
    assert real.shape == fake.shape


@pytest.mark.parametrize("function", FUNCTIONS)
def test_meta_tensors_and_a_default_device(function):
    with torch.device("meta"):
        assert function(torch.zeros(31, 31)).is_meta
        assert others_index(31).is_meta
    assert function(torch.zeros(31, 31)).device.type == "cpu"
    assert others_index(31).device.type == "cpu"


def test_a_constant_first_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        gather_others(torch.zeros(41, 1))
        fill_diagonal_zero(torch.zeros(41, 41))
    x = torch.zeros(41, 1, requires_grad=True)
    fill_diagonal_zero(scatter_others(gather_others(x).squeeze(-1))).sum().backward()
    assert x.grad.eq(40).all()
