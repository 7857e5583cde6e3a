"""``loss_predictor`` closes the bound on a game whose mutual information is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded
from torchrl.modules import ProbabilisticActor, TanhNormal

import vm3ac_modules as vm
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.testing import LinearGaussianGame

NUM_AGENTS, ACTION_DIM, LATENT_DIM = 2, 2, 3
NUM_LATENTS = 64
ROWS, CHUNKS = 10_000, 20
NOISE = 0.08
WEIGHTS = [[[0.28, 0.0, 0.02], [0.02, 0.05, 0.0]], [[-0.26, 0.02, 0.0], [0.04, 0.06, 0.02]]]


class LinearPolicy(nn.Module):
    """Fixed policies that are linear in the latent, in the terms of a network."""

    def __init__(self, game):
        super().__init__()
        self.register_buffer("weights", game.weights.float())
        self.register_buffer("offset", game.offset.float())
        self.register_buffer("std", game.noise.diagonal(dim1=-2, dim2=-1).sqrt().float())

    def forward(self, latent):
        loc = torch.einsum("naz,...z->...na", self.weights, latent) + self.offset
        return loc, self.std.expand_as(loc)


@pytest.fixture(scope="module")
def game():
    """Pre-squash actions within the nearly linear part of tanh; their information survives it."""
    eye = torch.eye(ACTION_DIM, dtype=torch.float64)
    return LinearGaussianGame(
        weights=torch.tensor(WEIGHTS, dtype=torch.float64),
        offset=torch.tensor([[0.1, -0.1], [0.0, 0.1]], dtype=torch.float64),
        noise=(NOISE**2 * eye).expand(NUM_AGENTS, -1, -1),
        latent=torch.eye(LATENT_DIM, dtype=torch.float64),
    )


def observations(rows):
    agents = {
        "observation": torch.zeros(rows, NUM_AGENTS, 1),
        "action": torch.zeros(rows, NUM_AGENTS, ACTION_DIM),
    }
    return TensorDict({"agents": agents}, [rows])


def make_loss(game, **predictor_options):
    keys, spec = vm.Keys(), Bounded(-1.0, 1.0, (NUM_AGENTS, ACTION_DIM))
    actor = ProbabilisticActor(
        NetworkModule(LinearPolicy(game), {"latent": keys.latent}, [keys.loc, keys.scale]),
        in_keys={"loc": keys.loc, "scale": keys.scale},
        out_keys=[keys.action],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(LATENT_DIM)), actor)
    predictor = vm.VariationalPredictor(1, spec, hidden=(64, 64), **predictor_options)
    return vm.MutualInformationLoss(policy, predictor)


def train(loss, updates=800, batch_size=512):
    batch = observations(batch_size)
    parameters = loss.parameter_groups()["loss_predictor"]
    optimizer = torch.optim.Adam(parameters, lr=5e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        loss(batch)["loss_predictor"].backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def measure(loss, chunks=CHUNKS):
    """Mean and standard error of the bound (H_64) and of the form of K = 0, over 2e5 draws."""
    batch = observations(ROWS)
    found = [loss.diagnose(batch, NUM_LATENTS) for _ in range(chunks)]
    values = torch.stack([torch.stack((f.lower[0, 1], f.surrogate[0, 1])) for f in found]).double()
    return values.mean(0).tolist(), (values.std(0) / math.sqrt(chunks)).tolist()


def test_a_trained_predictor_closes_the_bound(game, record_property):
    exact = game.mutual_information(0, 1).item()
    # K = 0 with the best q: -I(a_j; z | a_i), the mean of both directions.
    price = sum(game.surrogate(i, 1 - i, game.conditional(1 - i, i)).item() for i in (0, 1)) / 2
    assert 0.9 < exact < 1.1
    loss = make_loss(game, scale="learned")
    (before, _), _ = measure(loss, chunks=2)
    train(loss)
    (bound, surrogate), (error, surrogate_error) = measure(loss)
    record_property("exact_nats", exact)
    record_property("bound_nats", bound)
    record_property("surrogate_nats", surrogate)
    assert before < 0.0
    assert 0.9 * exact <= bound <= exact + 6 * error
    assert 1.1 * price <= surrogate <= price + 6 * surrogate_error


def test_the_paper_form_is_no_information_however_well_trained(game, record_property):
    exact = game.mutual_information(0, 1).item()
    price = sum(game.surrogate(i, 1 - i, game.conditional(1 - i, i)).item() for i in (0, 1)) / 2
    loss = make_loss(game, scale=0.2, normalized=False)
    train(loss)
    (bound, surrogate), (error, surrogate_error) = measure(loss)
    record_property("exact_nats", exact)
    record_property("bound_nats", bound)
    record_property("surrogate_nats", surrogate)
    assert bound <= exact + 6 * error
    assert surrogate <= price + 6 * surrogate_error < 0.0
