"""Actors over the observation and the latent, and the policy that draws the latent."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, OneHot, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from vm3ac_modules.functional import sample_squashed_gaussian
from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules import CategoricalPredictor, Policy, Sizes
from vm3ac_modules.modules.actors import (
    action_bounds,
    make_actor,
    make_categorical_actor,
    make_policy,
)
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.objectives import MutualInformationLoss

# Every agent and every action has its own range.
LOW = torch.tensor([[-1.0, 0.0], [2.0, -3.0], [-0.1, -10.0]])
HIGH = torch.tensor([[1.0, 0.5], [5.0, -2.0], [0.0, 30.0]])


def uneven_spec(*batch):
    return Bounded(LOW.expand(*batch, 3, 2).clone(), HIGH.expand(*batch, 3, 2).clone())


def observations(*batch, group="agents", latent_dim=None):
    td = TensorDict({(group, "observation"): torch.randn(*batch, 3, 4)}, batch)
    return td if latent_dim is None else td.set("latent", torch.randn(*batch, latent_dim))


def small_actor(latent_dim=2, **options):
    return make_actor(4, latent_dim, uneven_spec(), **{"hidden": (8,), **options})


@pytest.mark.parametrize("batch", [(), (7,), (2, 7)])
def test_bounds_are_those_of_one_row(batch):
    low, high = action_bounds(uneven_spec(*batch))
    torch.testing.assert_close(low, LOW)
    torch.testing.assert_close(high, HIGH)


def test_bounds_are_a_copy():
    spec = uneven_spec()
    action_bounds(spec)[0].fill_(100.0)
    torch.testing.assert_close(spec.space.low, LOW)


@pytest.mark.parametrize("initial_log_std", [-2.0, 2.0])
def test_actions_stay_within_every_agents_own_bounds(initial_log_std):
    actor = small_actor(initial_log_std=initial_log_std)
    with set_exploration_type(ExplorationType.RANDOM):
        action = actor(observations(500, latent_dim=2))["agents", "action"]
    assert ((action >= LOW) & (action <= HIGH)).all()
    # The wide policy reaches most of the range of each agent, the narrow one less.
    reach = (action.amax(0) - action.amin(0)) / (HIGH - LOW)
    assert (reach > (0.95 if initial_log_std > 0 else 0.1)).all()


def test_deterministic_action_is_the_squashed_mean():
    actor = small_actor()
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        td = actor(observations(50, latent_dim=2))
    center, half_range = (HIGH + LOW) / 2, (HIGH - LOW) / 2
    expected = center + half_range * td["agents", "loc"].tanh()
    torch.testing.assert_close(td["agents", "action"], expected)


def test_log_prob_equals_that_of_the_functional_at_the_same_sample():
    actor = small_actor().double()
    td = observations(200, latent_dim=2).double()
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        td = actor(td)
    loc, scale = td["agents", "loc"], td["agents", "scale"]
    center, half_range = (HIGH + LOW).double() / 2, (HIGH - LOW).double() / 2
    u = ((td["agents", "action"] - center) / half_range).atanh()
    draw = sample_squashed_gaussian(loc, scale, (u - loc) / scale, center, half_range)
    # Far out the way back by atanh is what is inexact, not the density.
    inside = (u.abs() < 3).all(-1)
    assert inside.float().mean() > 0.9
    assert td["agents", "action_log_prob"].shape == (200, 3)
    torch.testing.assert_close(
        td["agents", "action_log_prob"][inside], draw.log_prob[inside], rtol=1e-5, atol=1e-5
    )


def test_actor_writes_all_that_a_loss_may_read():
    keys = Keys("walkers", latent=("shared", "z"))
    actor = small_actor(keys=keys)
    td = observations(5, group="walkers").set(("shared", "z"), torch.randn(5, 2))
    td = actor(td)
    for name in ("loc", "scale", "action"):
        assert td["walkers", name].shape == (5, 3, 2)
    assert td["walkers", "action_log_prob"].shape == (5, 3)
    assert actor.in_keys == [("walkers", "observation"), ("shared", "z")]


def test_actor_without_latent_reads_none():
    actor = small_actor(latent_dim=0)
    assert actor.in_keys == [("agents", "observation")]
    assert actor(observations(5))["agents", "action"].shape == (5, 3, 2)


def test_policy_opens_with_the_sampler():
    sampler = LatentSampler(GaussianPrior(2))
    policy = make_policy(sampler, small_actor())
    assert policy[0] is sampler
    assert policy.in_keys == [("agents", "observation")]


@pytest.mark.parametrize("exploration", [ExplorationType.RANDOM, ExplorationType.DETERMINISTIC])
def test_policy_draws_a_fresh_latent_on_each_call(exploration):
    policy = make_policy(LatentSampler(GaussianPrior(2)), small_actor())
    td = observations(5, latent_dim=2)
    stored = td["latent"].clone()
    with set_exploration_type(exploration):
        first = policy(td.clone())
        second = policy(first.clone())
    assert (first["latent"] != stored).all()
    assert (first["latent"] != second["latent"]).all()
    assert (first["agents", "loc"] != second["agents", "loc"]).any()


def test_policy_reads_the_latent_that_it_writes():
    policy = make_policy(LatentSampler(GaussianPrior(2)), small_actor())
    td = policy(observations(5))
    loc, scale = policy[1].net(td["agents", "observation"], td["latent"])
    torch.testing.assert_close(td["agents", "loc"], loc)
    torch.testing.assert_close(td["agents", "scale"], scale)


def test_policy_without_sampler_is_the_actor():
    actor, td = small_actor(latent_dim=0), observations(5)
    policy = make_policy(None, actor)
    assert [*policy] == [*actor]
    assert policy.state_dict().keys() == actor.state_dict().keys()
    for same in (policy, policy.fresh(), policy.replaying()):
        torch.testing.assert_close(same.get_dist(td).loc, actor.get_dist(td).loc)


# What older versions of TorchRL say of themselves.
@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("spec", [OneHot(5, (3, 5)), Categorical(5, (3,))])
def test_categorical_actor_writes_what_its_spec_has(spec, masked):
    torch.manual_seed(0)
    actor = make_categorical_actor(4, 2, spec, masked=masked, hidden=(8,))
    td = observations(200, latent_dim=2)
    legal = torch.rand(200, 3, 5) < 0.5
    legal[..., 0] = True
    td["agents", "action_mask"] = legal
    td = actor(td)
    action = td["agents", "action"]
    assert action.shape == (200, *spec.shape)
    assert spec.expand(200, *spec.shape).is_in(action.to(spec.dtype))
    index = action.to(torch.int64).argmax(-1) if isinstance(spec, OneHot) else action
    taken = legal.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    assert bool(taken.all()) == masked
    logits = td["agents", "logits"]
    kept = logits.masked_fill(~legal, -torch.inf) if masked else logits
    expected = kept.log_softmax(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(td["agents", "action_log_prob"], expected)


def test_categorical_actor_composes_with_the_information():
    torch.manual_seed(0)
    actor = make_categorical_actor(4, 2, OneHot(5, (3, 5)), hidden=(8,), latent_gain=3.0)
    policy = make_policy(LatentSampler(GaussianPrior(2)), actor)
    assert Policy.of(policy).sizes == Sizes(3, 4, 5, discrete=True)
    predictor = CategoricalPredictor(4, 3, 5, situation="observations")
    loss = MutualInformationLoss(policy, predictor)
    assert loss.diagnose(observations(16), 128).latent_information.min() > 0.01


def test_categorical_actor_refuses_other_specs():
    with pytest.raises(ValueError, match=r"got Bounded.*: use make_actor"):
        make_categorical_actor(4, 2, uneven_spec())
    with pytest.raises(ValueError, match="must be of a group of agents"):
        make_categorical_actor(4, 2, OneHot(5))


@pytest.mark.parametrize("copier", ["state_dict", "deepcopy", "pickle"])
def test_policy_round_trips(copier):
    policy = make_policy(LatentSampler(GaussianPrior(2)), small_actor())
    if copier == "state_dict":
        other = make_policy(LatentSampler(GaussianPrior(2)), small_actor())
        other.load_state_dict(policy.state_dict())
    elif copier == "deepcopy":
        other = copy.deepcopy(policy)
    else:
        other = pickle.loads(pickle.dumps(policy))
    td = observations(5)
    with set_exploration_type(ExplorationType.RANDOM):
        torch.manual_seed(1)
        expected = policy(td.clone())
        torch.manual_seed(1)
        actual = other(td.clone())
    for key in (("agents", "action"), ("agents", "action_log_prob"), "latent"):
        assert torch.equal(actual[key], expected[key])


def test_policy_from_an_instance_is_not_shared_with_its_deepcopy():
    policy = make_policy(LatentSampler(GaussianPrior(2)), small_actor())
    other = copy.deepcopy(policy)
    with torch.no_grad():
        next(other.parameters()).fill_(7.0)
    assert not (next(policy.parameters()) == 7.0).any()


@pytest.mark.parametrize(
    "spec",
    [
        Categorical(5, (3,)),
        OneHot(5, (3, 5)),
        Unbounded((3, 2)),
        Bounded(0, 4, (3, 2), dtype=torch.int64),
    ],
)
def test_spec_that_is_discrete_or_unbounded(spec):
    with pytest.raises(ValueError, match=f"got {type(spec).__name__} of dtype {spec.dtype}"):
        action_bounds(spec)
    with pytest.raises(ValueError, match="needs a bounded continuous action spec"):
        make_actor(4, 2, spec)


def test_spec_without_a_dimension_for_agents():
    with pytest.raises(ValueError, match=r"must be \[\*B, N, A\], .*got shape \(2,\)"):
        action_bounds(Bounded(-1.0, 1.0, (2,)))


@pytest.mark.parametrize("high", [-1.0, float("inf")])
def test_spec_with_an_empty_or_infinite_range(high):
    spec = Bounded(-torch.ones(3, 2), torch.full((3, 2), high))
    with pytest.raises(ValueError, match="finite bounds with low < high"):
        action_bounds(spec)


def test_actor_names_what_is_missing():
    with pytest.raises(MissingKeysError, match=r"LatentGaussianNet.*lacks \['latent'\]; present"):
        small_actor()(observations(5))
