"""The synchronized latent."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.priors import priors

from vm3ac_modules.modules.latent import CategoricalPrior, GaussianPrior, UniformPrior, latent_at

WORD = 0xFFFFFFFF


def numpy_philox(counter, key):
    """Philox4x32-10 in uint64 arithmetic; ``counter [n, 4]``, ``key [2]``."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = (np.uint64(k) for k in key)
    mask, shift = np.uint64(WORD), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return np.stack([c0, c1, c2, c3], 1)


def numpy_normal_icdf(u):
    file = Path(resources.files("vm3ac_modules") / "functional" / "normal_icdf.f64")
    table = np.fromfile(file, dtype="<f8").reshape(-1, 11)
    tail = np.minimum(u, 1.0 - u)
    row = table[np.searchsorted(table[:, 0], tail, side="right") - 1]
    t = (tail - row[..., 1]) * row[..., 2]
    value = row[..., -1]
    for column in range(9, 2, -1):
        value = value * t + row[..., column]
    return np.where(u < 0.5, -value, value)


def numpy_latent_at(seed, episode, step, prior):
    """One latent per (episode, step), ``[n, Z]``, without torch."""
    episode = np.asarray(episode, dtype=np.uint64)
    step = np.asarray(step, dtype=np.uint64)
    low, high = episode & np.uint64(WORD), episode >> np.uint64(32)
    blocks = []
    for block in range(-(-prior.dim // 4)):
        counter = np.stack([np.full_like(step, block), step, low, high], 1)
        blocks.append(numpy_philox(counter, (seed & WORD, seed >> 32)))
    u = (np.concatenate(blocks, 1).astype(np.float64) + 0.5) * 2.0**-32
    if isinstance(prior, CategoricalPrior):
        edges = [math.fsum(prior.probs[: k + 1]) for k in range(prior.dim - 1)]
        return np.eye(prior.dim, dtype=np.float32)[(u[:, :1] >= edges).sum(1)]
    if isinstance(prior, UniformPrior):
        return (u[:, : prior.dim] * (prior.high - prior.low) + prior.low).astype(np.float32)
    return numpy_normal_icdf(u[:, : prior.dim]).astype(np.float32)


@pytest.mark.parametrize("prior", priors())
@pytest.mark.parametrize("seed", [0, 12345, (1 << 63) + 17, 2**64 - 1])
def test_latent_equals_numpy_bit_for_bit(prior, seed):
    generator = torch.Generator().manual_seed(seed % 1000)
    episode = torch.randint(0, 2**62, (5000,), generator=generator)
    step = torch.randint(0, 2**32, (5000,), generator=generator)
    z = latent_at(seed, episode, step, prior).numpy()
    expected = numpy_latent_at(seed, episode.numpy(), step.numpy(), prior)
    assert z.dtype == expected.dtype == np.float32
    assert np.array_equal(z.view(np.uint32), expected.view(np.uint32))


GOLDEN = {
    "origin": "be82fa50 3f96bb4f 3f2153b7 3e88fdeb",
    "gaussian": "3f51162b 3e36afdc bf8293a0 be20fc9e 3ebf1b9a bf16fb67",
    "uniform": "3e3a0303 bf452519 bf46e946",
    "categorical": [1, 0, 1, 2, 0, 1, 0, 1, 0, 0, 2, 1],
}


def test_latent_golden_values():
    # Bits of float32: a change here breaks every exported agent.
    def bits(z):
        return [f"{word:08x}" for word in z.numpy().view(np.uint32).tolist()]

    assert bits(latent_at(0, 0, 0, GaussianPrior(4))) == GOLDEN["origin"].split()
    assert bits(latent_at(2**63 + 5, 2**40 + 3, 99, GaussianPrior(6))) == GOLDEN["gaussian"].split()
    assert bits(latent_at(7, 1, 2, UniformPrior(3))) == GOLDEN["uniform"].split()
    outcomes = latent_at(7, 1, torch.arange(12), CategoricalPrior(3)).argmax(-1)
    assert outcomes.tolist() == GOLDEN["categorical"]


def test_latent_does_not_depend_on_which_steps_are_asked_for():
    prior = GaussianPrior(8)
    steps = torch.arange(50)
    every = latent_at(3, 4, steps, prior)
    assert torch.equal(latent_at(3, 4, steps[::7], prior), every[::7])
    assert torch.equal(latent_at(3, torch.tensor(4), 21, prior), every[21])
    grid = latent_at(3, torch.arange(6)[:, None], steps, prior)
    assert torch.equal(grid[4], every)


def test_no_part_of_a_latent_is_repeated_at_another_step_episode_or_seed():
    prior = GaussianPrior(9)
    grid = torch.stack(
        [latent_at(s, torch.arange(8)[:, None], torch.arange(40), prior) for s in (0, 1, 2**32)]
    )
    # 8640 float32 normals: a few collide by chance, a shared block of 4 would repeat thousands.
    assert grid.unique().numel() > grid.numel() - 20


def test_latent_moments_over_steps():
    z = latent_at(0, 0, torch.arange(20_000), GaussianPrior(8)).double()
    torch.testing.assert_close(z.mean(0), torch.zeros(8).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(z.T.cov(), torch.eye(8).double(), atol=0.06, rtol=0)
    successive = (z[1:] * z[:-1]).mean(0)
    torch.testing.assert_close(successive, torch.zeros(8).double(), atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", [np.int64, np.uint32, np.int8])
def test_numpys_integers_count_like_pythons(kind):
    expected = latent_at(3, 5, 7, GaussianPrior(4))
    assert torch.equal(latent_at(3, kind(5), kind(7), GaussianPrior(4)), expected)
    assert torch.equal(latent_at(kind(3), kind(5), torch.tensor(7), GaussianPrior(4)), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, 0, 0), ValueError, "0 <= seed < 2\\^64, got -1"),
        ((2**64, 0, 0), ValueError, "0 <= seed < 2\\^64"),
        ((0, -1, 0), ValueError, "0 <= episode < 2\\^63, got -1"),
        ((0, 2**63, 0), ValueError, "0 <= episode < 2\\^63"),
        ((0, 0, -3), ValueError, "0 <= step < 2\\^32, got -3"),
        ((0, 0, 2**32), ValueError, "0 <= step < 2\\^32"),
        ((0, torch.tensor([0, -1]), 0), ValueError, "0 <= episode < 2\\^63, got -1"),
        ((0, 0, torch.tensor([2**32])), ValueError, "0 <= step < 2\\^32, got 4294967296"),
        ((0, 0, torch.tensor([1.0])), TypeError, "step must be int64, got torch.float32"),
        ((0, torch.tensor([1], dtype=torch.int32), 0), TypeError, "episode must be int64"),
        ((0, 0.5, 0), TypeError, "episode must be an integer or int64, got float"),
        ((0, np.float64(1), 0), TypeError, "episode must be an integer or int64, got float64"),
        ((0, 0, np.arange(3)), TypeError, "step must be an integer or int64, got ndarray"),
        ((0, 0, np.int64(-3)), ValueError, "0 <= step < 2\\^32, got -3"),
    ],
)
def test_latent_refuses_bad_counters(arguments, error, message):
    with pytest.raises(error, match=message):
        latent_at(*arguments, GaussianPrior(2))
