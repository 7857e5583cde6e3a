"""The pretended device refuses what a GPU refuses, and computes what the CPU computes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from vm3ac_modules.testing import pretended_device

MIXED = "expected all tensors to be on the same device"


@pytest.fixture
def device():
    with pretended_device() as device:
        yield device


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: torch.stack((there, here)),
        lambda there, here: torch.cat((there, here)),
        lambda there, here: there @ here.T,
        lambda there, here: torch.where(here > 0, there, there),
        lambda there, here: torch.stack((there.sum(), torch.tensor(1.0))),
        lambda there, here: there.lerp_(here, 0.5),
        lambda there, here: nn.functional.linear(there, here),
        lambda there, here: here[(there > 0).nonzero(as_tuple=True)],
        lambda there, here: there.masked_fill(here > 0, 1.0),
        lambda there, here: torch._foreach_add([there], [here]),
        lambda there, here: torch.vmap(torch.add, in_dims=(0, None))(there, here[0]),
        lambda there, here: torch.cdist(there, here),
    ],
)
def test_tensors_of_both_sides_do_not_mix(device, mix):
    here = torch.ones(2, 3)
    there = here.to(device)
    with pytest.raises(RuntimeError, match=MIXED):
        mix(there, here)
    assert mix(here.clone(), here) is not None


def test_a_backward_pass_meets_what_the_forward_pass_left_behind(device):
    weight = torch.ones(3, device=device, requires_grad=True)
    (2 * weight).sum().backward()
    assert weight.grad.device == device
    weight.grad = None
    left = torch.ones(3)
    weight.register_hook(lambda gradient: gradient * left)
    with pytest.raises(RuntimeError, match=MIXED):
        (2 * weight).sum().backward()


def test_what_a_gpu_allows_passes(device):
    x = torch.zeros(4, device=device)
    x += torch.tensor(2.0)
    x[torch.tensor([0])] = torch.tensor(5.0)
    x.fill_(torch.tensor(3.0)).masked_fill_(x > 10, torch.tensor(0.0))
    x[1:2].copy_(torch.ones(1))
    assert x.tolist() == [3.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.zeros(2, device=device),
        lambda device: torch.zeros(2, device="cuda"),
        lambda device: torch.tensor([1, 2], device=device),
        lambda device: torch.as_tensor([1.0], device=device),
        lambda device: torch.zeros(2).to(device),
        lambda device: torch.zeros(2).to(device, torch.float64),
        lambda device: torch.zeros(2).to(torch.zeros(1, device=device)),
        lambda device: torch.zeros(2).cuda(),
        lambda device: torch.zeros(2, device=device).new_ones(3),
        lambda device: torch.zeros_like(torch.zeros(2), device=device),
        lambda device: torch.randn(2, device=device, generator=torch.Generator(device=device)),
        lambda device: nn.functional.one_hot(torch.tensor([1], device=device)),
        lambda device: TensorDict({"x": torch.zeros(2)}, [2], device=device)["x"],
        lambda device: TensorDict({"x": torch.zeros(2)}, [2]).to(device)["x"],
        lambda device: nn.Linear(2, 2).to(device).weight,
        lambda device: copy.deepcopy(nn.Linear(2, 2).to(device)).weight,
    ],
)
def test_ways_to_the_device(device, make):
    made = make(device)
    assert made.device == device
    assert made.is_cuda
    assert made.cpu().device.type == made.to("cpu").device.type == "cpu"
    with pytest.raises(TypeError, match="copy it to the host first"):
        made.detach().numpy()


def test_parameters_stay_the_same_objects(device):
    net = nn.Linear(2, 2)
    before = list(net.parameters())
    net.to(device)
    assert all(old is new for old, new in zip(before, net.parameters(), strict=True))
    assert isinstance(net.weight, nn.Parameter)
    assert net.weight.device == device


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD])
def test_training_is_that_of_the_cpu(make):
    def trained(device):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).to(device)
        optimizer = make(net.parameters(), lr=0.1)
        x = torch.randn(5, 3, device=device)
        for _ in range(3):
            net(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.detach().cpu() for p in net.parameters()]

    expected = trained("cpu")
    with pretended_device() as device:
        found = trained(device)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_saved_tensor_is_read_on_the_host(device):
    file = io.BytesIO()
    torch.save({"x": torch.arange(3, device=device)}, file)
    file.seek(0)
    assert torch.load(file, map_location="cpu", weights_only=True)["x"].tolist() == [0, 1, 2]


def test_nothing_is_left_behind():
    kept = torch.Generator, torch.cuda.is_available, torch.cuda.synchronize
    with pretended_device(), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018
    assert kept == (torch.Generator, torch.cuda.is_available, torch.cuda.synchronize)
    assert type(torch.zeros(2)) is torch.Tensor
