"""The sampler that opens a policy."""

from __future__ import annotations

import pytest
import torch
from contracts.priors import priors
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

MODES = ["sample", "mean", "constant", "synchronized", "independent"]


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


def test_a_held_latent_is_that_of_the_episode():
    prior, td = GaussianPrior(2), clock_td(6)
    td["latent"] = torch.randn(6, 2)
    held = LatentSampler(prior, held=True, num_agents=3, seed=9)
    assert (held.in_keys, held.out_sizes) == (["latent"], (2,))
    assert torch.equal(held(td.clone())["latent"], td["latent"])
    with pytest.raises(MissingKeysError, match=r"lacks \['latent'\]"):
        held(td.exclude("latent"))
    episode = td["episode"][:, 0]
    together = held.with_mode("synchronized")
    assert (together.in_keys, together.held) == (["episode"], True)
    assert torch.equal(together(td.clone())["latent"], latent_at(9, episode, 0, prior))
    apart = held.with_mode("independent")
    assert apart.in_keys == ["episode"]
    expected = torch.stack([latent_at(9, episode, agent, prior) for agent in range(3)], 1)
    assert torch.equal(apart(td.exclude("latent", "step_count"))["latent"], expected)
    assert not bool(held.with_mode("mean")(td)["latent"].any())


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
