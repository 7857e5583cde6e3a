"""The synchronized latent and the sampler that opens a policy."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.latent import (
    CategoricalPrior,
    GaussianPrior,
    LatentSampler,
    UniformPrior,
    latent_at,
)

WORD = 0xFFFFFFFF
MODES = ["sample", "mean", "constant", "synchronized", "independent"]


def priors():
    return [
        pytest.param(GaussianPrior(6), id="gaussian"),
        pytest.param(UniformPrior(6, low=-2.0, high=3.0), id="uniform"),
        pytest.param(CategoricalPrior(3, probs=[0.2, 0.5, 0.3]), id="categorical"),
    ]


# --- latent_at ------------------------------------------------------------------------------


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
    ],
)
def test_latent_refuses_bad_counters(arguments, error, message):
    with pytest.raises(error, match=message):
        latent_at(*arguments, GaussianPrior(2))


# --- the sampler ----------------------------------------------------------------------------


def clock_td(*batch):
    return TensorDict(
        {
            ("agents", "observation"): torch.randn(*batch, 3, 5),
            "episode": torch.randint(0, 100, (*batch, 1)),
            "step_count": torch.randint(0, 100, (*batch, 1)),
        },
        batch_size=batch,
    )


@pytest.mark.parametrize("prior", priors())
@pytest.mark.parametrize("batch", [(), (4,), (4, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_writes_at_the_root(prior, batch, mode):
    sampler = LatentSampler(prior, mode=mode, num_agents=3, force_mean=True)
    td = sampler(clock_td(*batch))
    agents = (3,) if mode == "independent" else ()
    assert td["latent"].shape == (*batch, *agents, prior.dim)
    assert td["latent"].dtype == torch.float32
    assert td["latent"].is_contiguous()
    assert sampler.out_keys == ["latent"]


@pytest.mark.parametrize("prior", [GaussianPrior(0), UniformPrior(0)])
@pytest.mark.parametrize("mode", MODES)
def test_latent_of_dimension_zero(prior, mode):
    assert latent_at(0, 0, torch.arange(4), prior).shape == (4, 0)
    td = LatentSampler(prior, mode=mode, num_agents=2)(clock_td(4))
    assert td["latent"].shape == ((4, 2, 0) if mode == "independent" else (4, 0))


def test_modes_write_what_they_say():
    prior = UniformPrior(4, low=0.0, high=2.0)
    td = clock_td(6)
    assert bool((LatentSampler(prior, mode="mean")(td)["latent"] == 1).all())
    assert bool((LatentSampler(prior, mode="constant")(td)["latent"] == 1).all())
    z = LatentSampler(prior, mode="synchronized", seed=9)(td)["latent"]
    assert torch.equal(z, latent_at(9, td["episode"][:, 0], td["step_count"][:, 0], prior))
    z = LatentSampler(prior, mode="independent", num_agents=3)(td)["latent"]
    assert not torch.equal(z[:, 0], z[:, 1])
    z = LatentSampler(prior)(td)["latent"]
    assert not torch.equal(z[0], z[1])


@pytest.mark.parametrize("mode", MODES)
def test_a_stored_latent_is_replaced(mode):
    td = clock_td(4).set("latent", torch.full((4, 2), 77.0))
    z = LatentSampler(GaussianPrior(2), mode=mode, num_agents=3)(td)["latent"]
    assert not bool((z == 77).any())


@pytest.mark.parametrize("kind", list(ExplorationType))
def test_mode_does_not_follow_the_exploration_type(kind):
    sampler = LatentSampler(GaussianPrior(3))
    with set_exploration_type(kind):
        first = sampler(TensorDict(batch_size=[5]))["latent"]
        second = sampler(TensorDict(batch_size=[5]))["latent"]
    assert not torch.equal(first, second)
    assert bool(first.any())


def test_with_mode_shares_the_prior_and_keeps_the_rest():
    keys = Keys("walkers", latent="z")
    sampler = LatentSampler(
        GaussianPrior(3), num_agents=2, batch_from=keys.observation, keys=keys, seed=4
    )
    other = sampler.with_mode("synchronized")
    assert other is not sampler
    assert other.prior is sampler.prior
    assert (sampler.mode, other.mode) == ("sample", "synchronized")
    assert (other.seed, other.num_agents, other.out_keys) == (4, 2, ["z"])
    assert other.in_keys == [("walkers", "observation"), "episode", "step_count"]
    assert sampler.with_mode("independent").num_agents == 2
    forced = LatentSampler(CategoricalPrior(3)).with_mode("mean", force_mean=True)
    assert forced.with_mode("sample").with_mode("mean").force_mean


def test_keys_of_each_mode():
    prior = GaussianPrior(2)
    assert LatentSampler(prior).in_keys == []
    assert LatentSampler(prior, out_key=("a", "z")).out_keys == [("a", "z")]
    assert LatentSampler(prior, mode="synchronized").in_keys == ["episode", "step_count"]


def test_missing_clock_is_named():
    sampler = LatentSampler(GaussianPrior(2), mode="synchronized")
    td = clock_td(4).exclude("episode")
    with pytest.raises(MissingKeysError, match=r"mode='synchronized'.*lacks \['episode'\]"):
        sampler(td)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "median"}, "unknown mode 'median'; choose one of sample, mean, constant"),
        ({"mode": "independent"}, "needs num_agents >= 1, got None"),
        ({"mode": "independent", "num_agents": 0}, "needs num_agents >= 1, got 0"),
        ({"mode": "mean"}, "outside the support"),
        ({"seed": -1}, "0 <= seed < 2\\^64, got -1"),
    ],
)
def test_bad_samplers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LatentSampler(CategoricalPrior(3), **options)


def test_device_is_the_tensordicts():
    td = TensorDict(batch_size=[4], device="meta")
    assert LatentSampler(GaussianPrior(2))(td)["latent"].device.type == "meta"
    td = TensorDict(observation=torch.zeros(4, 3, device="meta"), batch_size=[4])
    sampler = LatentSampler(GaussianPrior(2), batch_from="observation")
    assert sampler(td)["latent"].device.type == "meta"
    assert not hasattr(sampler, "device")


def test_sampler_compiles_and_vectorizes():
    sampler = LatentSampler(GaussianPrior(2))
    compiled = torch.compile(sampler, fullgraph=True, backend="eager")
    assert compiled(TensorDict(batch_size=[4]))["latent"].shape == (4, 2)
    draw = torch.vmap(sampler, randomness="different")
    z = draw(TensorDict(x=torch.zeros(3, 4, 1), batch_size=[3, 4]))["latent"]
    assert z.shape == (3, 4, 2)
    assert not torch.equal(z[0], z[1])


class Head(nn.Module):
    def __init__(self, *, split):
        super().__init__()
        self.linear = nn.Linear(5, 4 if split else 1)
        self.split = split

    def forward(self, *inputs):
        out = self.linear(torch.cat(inputs, -1))
        return (out[..., :2], out[..., 2:].exp()) if self.split else out


def stock_actor(prior, **options):
    heads = TensorDictModule(
        Head(split=True), in_keys=["observation", "latent"], out_keys=["loc", "scale"]
    )
    return ProbabilisticActor(
        TensorDictSequential(LatentSampler(prior, **options), heads),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        spec=Bounded(-1, 1, (2,)),
    )


def test_sampler_opens_a_stock_policy():
    actor = stock_actor(GaussianPrior(2))
    assert actor.in_keys == ["observation"]
    td = actor(TensorDict(observation=torch.randn(7, 3), batch_size=[7]))
    assert td["latent"].shape == (7, 2)
    assert td["action"].shape == (7, 2)


def test_keyword_call_takes_the_batch_from_an_entry():
    actor = stock_actor(GaussianPrior(2), batch_from="observation")
    latent, *_ = actor.module[0](observation=torch.randn(7, 3))
    assert latent.shape == (7, 2)
    grouped = LatentSampler(GaussianPrior(2), batch_from=Keys().observation)
    td = TensorDict(agents=TensorDict(observation=torch.zeros(7, 3, 5)))
    assert grouped(td)["latent"].shape == (7, 2)


def test_stock_sac_draws_its_own_latent_at_every_call():
    actor = stock_actor(GaussianPrior(2))
    value = ValueOperator(Head(split=False), in_keys=["observation", "action"])
    loss = SACLoss(actor, value, action_spec=Bounded(-1, 1, (2,)))
    loss.make_value_estimator(gamma=0.9)
    SoftUpdate(loss, tau=0.005)
    flags = torch.zeros(6, 1, dtype=torch.bool)
    next_td = TensorDict(
        observation=torch.randn(6, 3),
        reward=torch.randn(6, 1),
        done=flags,
        terminated=flags,
        batch_size=[6],
    )
    td = TensorDict(
        observation=torch.randn(6, 3),
        action=torch.rand(6, 2),
        latent=torch.full((6, 2), 77.0),
        next=next_td,
        batch_size=[6],
    )
    drawn = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        batch = td.clone()
        losses = loss(batch)
        assert bool(losses["loss_actor"].isfinite().all())
        drawn.append(batch["latent"])
    assert not bool((drawn[0] == 77).any())
    assert not torch.equal(drawn[0], drawn[1])
