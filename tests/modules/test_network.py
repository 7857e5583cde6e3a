"""A plain network behind tensordict keys."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from vm3ac_modules.keys import MissingKeysError
from vm3ac_modules.modules.network import NetworkModule


class Halves(nn.Module):
    """Two outputs of two named inputs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, left, right):
        return tuple(self.linear(left - right).chunk(2, dim=-1))


def halves():
    return NetworkModule(Halves(), {"right": ("a", "r"), "left": "l"}, ["x", ("b", "y")])


def sides():
    return TensorDict({"l": torch.randn(5, 3), ("a", "r"): torch.randn(5, 3)}, [5])


def test_arguments_are_matched_by_name():
    module, td = halves(), sides()
    assert module.in_keys == [("a", "r"), "l"]
    assert module.out_keys == ["x", ("b", "y")]
    out = module(td)
    assert out is td
    x, y = module.net(td["l"], td["a", "r"])
    assert torch.equal(td["x"], x)
    assert torch.equal(td["b", "y"], y)


def test_single_output_of_a_single_input():
    module = NetworkModule(nn.Linear(3, 2), {"input": "l"}, ["x"])
    td = sides()
    assert torch.equal(module(td)["x"], module.net(td["l"]))


def test_network_with_another_number_of_outputs():
    module = NetworkModule(Halves(), {"left": "l", "right": ("a", "r")}, ["x"])
    with pytest.raises(ValueError, match="zip"):
        module(sides())


def test_module_names_the_network_and_what_it_lacks():
    with pytest.raises(MissingKeysError, match=r"Halves: .*lacks \[\('a', 'r'\)\]; present: l\."):
        halves()(sides().exclude("a"))


@pytest.mark.parametrize("copier", ["state_dict", "deepcopy", "pickle"])
def test_module_round_trips(copier):
    module = halves()
    if copier == "state_dict":
        other = halves()
        other.load_state_dict(module.state_dict())
    else:
        other = (
            copy.deepcopy(module) if copier == "deepcopy" else pickle.loads(pickle.dumps(module))
        )
    td = sides()
    assert torch.equal(other(td.clone())["x"], module(td.clone())["x"])
    assert other.in_keys == module.in_keys
