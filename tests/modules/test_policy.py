"""A policy that is asked: what it holds, other modes of its latent, play without exploration."""

from __future__ import annotations

import pytest
import torch
from contracts.teams import gaussian_team, plain_team, recurrent_team, utility_team
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import AdditiveGaussianModule

import vm3ac_modules as vm
from vm3ac_modules.functional.categorical import ILLEGAL
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules import NetworkModule, PerSeed, Policy, Sizes
from vm3ac_modules.modules.policy import policy_leaves
from vm3ac_modules.modules.recurrent_actor import RecurrentActor, make_recurrent_policy
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor, make_utility_policy
from vm3ac_modules.nn import LatentUtilityNet, RecurrentPolicyNet

SPEC = Bounded(-1.0, 1.0, (2, 1))
ROWS = 6


def maven_team():
    """A continuous policy under a latent that the environment draws."""
    return vm.make_actor(4, 3, SPEC, hidden=(8,))


def noisy_team():
    """MADDPG's policy with its exploration noise."""
    noise = AdditiveGaussianModule(
        spec=Bounded(-1.0, 3.0, (2, 2)), action_key=("agents", "action"), safe=False
    )
    return TensorDictSequential(plain_team(), noise)


def exploring_team(kind):
    """A policy over discrete actions that explores half of the time."""
    torch.manual_seed(0)
    if kind == "recurrent":
        actor = RecurrentActor(RecurrentPolicyNet(4, 5, 2, hidden_size=8))
        policy = make_recurrent_policy(actor)
    else:
        actor = EpsilonGreedyActor(LatentUtilityNet(4, 5, 2, latent_dim=3, hidden_size=8))
        policy = make_utility_policy(actor)
    actor.epsilon.fill_(0.5)
    return policy


def inputs(seed=0, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    legal = torch.rand(rows, 2, 5, generator=generator) < 0.7
    legal[..., 0] = True
    agents = {
        "observation": torch.randn(rows, 2, 4, generator=generator),
        "action_mask": legal,
        "hidden": torch.randn(rows, 2, 8, generator=generator),
        "last_action": torch.randint(5, (rows, 2), generator=generator),
    }
    clock = {"episode": torch.arange(rows)[:, None], "step_count": torch.full((rows, 1), 3)}
    latent = torch.eye(3)[torch.arange(rows) % 3]
    return TensorDict({"agents": agents, "latent": latent, **clock}, [rows])


def play(policy, kind=ExplorationType.DETERMINISTIC):
    torch.manual_seed(0)
    with torch.no_grad(), set_exploration_type(kind):
        return policy(inputs())


CONTINUOUS, DISCRETE = Sizes(2, 4, 2), Sizes(2, 4, 5, discrete=True)
# name -> policy, its sizes, size of the latent, whether it draws one, reads one, remembers.
TEAMS = {
    "gaussian": (gaussian_team, CONTINUOUS, 5, True, True, False),
    "no latent": (lambda: vm.make_actor(4, 0, SPEC), Sizes(2, 4, 1), 0, False, False, False),
    "deterministic": (plain_team, CONTINUOUS, 0, False, False, False),
    "noisy": (noisy_team, CONTINUOUS, 0, False, False, False),
    "latent per episode": (maven_team, Sizes(2, 4, 1), 3, False, True, False),
    "recurrent": (recurrent_team, DISCRETE, 3, True, True, True),
    "recurrent, no latent": (lambda: recurrent_team(latent=False), DISCRETE, 0, *[False] * 2, True),
    "utilities": (utility_team, DISCRETE, 3, False, True, True),
}


@pytest.mark.parametrize("name", TEAMS)
def test_every_kind_of_policy_says_what_it_is(name):
    make, sizes, latent_dim, draws, reads, recurrent = TEAMS[name]
    sequence = make()
    policy = Policy(sequence)
    assert policy.sizes == sizes
    assert policy.latent_dim == latent_dim
    assert policy.net is policy.actor.net
    assert (policy.sampler is not None) == (policy.prior is not None) == draws
    assert policy.reads_latent == reads
    assert policy.latent_per_episode == (reads and not draws)
    assert policy.recurrent == recurrent
    assert (policy.bounds is None) == sizes.discrete
    assert bool(policy.latent_modes) == draws
    assert set(policy.in_keys) == set(sequence.in_keys)
    assert set(policy.out_keys) == set(sequence.out_keys)
    assert {id(p) for p in policy.parameters()} == {id(p) for p in sequence.parameters()}


@pytest.mark.parametrize("name", TEAMS)
def test_a_policy_runs_as_the_sequence_that_it_holds(name):
    sequence = TEAMS[name][0]()
    for kind in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM):
        expected, found = play(sequence, kind), play(Policy(sequence), kind)
        for key in sequence.out_keys:
            assert torch.equal(found[key], expected[key])


@pytest.mark.parametrize("name", TEAMS)
def test_a_policy_without_a_sampler_is_itself_in_every_mode(name):
    policy = Policy(TEAMS[name][0]())
    if policy.sampler is None:
        assert policy.with_latent("constant", seed=3) is policy


@pytest.mark.parametrize("name", TEAMS)
def test_a_policy_says_whether_its_actions_are_drawn(name):
    policy = Policy(TEAMS[name][0]())
    kinds = (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM)
    mean, drawn = (play(policy, kind)["agents", "action"] for kind in kinds)
    # The latent is drawn under both, from the same numbers.
    assert policy.draws_actions == (not torch.equal(mean, drawn))
    assert Policy(PerSeed(policy.module, 1).module).draws_actions == policy.draws_actions


@pytest.mark.parametrize("kind", ["recurrent", "utilities"])
def test_exploration_draws_and_utilities_without_it_do_not(kind):
    policy = Policy(exploring_team(kind))
    assert policy.draws_actions
    assert policy.greedy().draws_actions == (kind == "recurrent")


def test_a_user_s_own_sequence_counts_as_drawing():
    own = TensorDictModule(torch.nn.Linear(4, 2), [("agents", "observation")], ["action"])
    assert Policy.of(own).draws_actions


# --- bounds -----------------------------------------------------------------------------------


def test_bounds_are_those_of_the_actions():
    low, high = Policy(gaussian_team()).bounds
    assert low.tolist() == [[-1.0, -2.0], [-3.0, -4.0]]
    assert high.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    low, high = Policy(noisy_team()).bounds
    assert low.tolist() == [[-1.0, -1.0]] * 2
    assert high.tolist() == [[3.0, 3.0]] * 2


def test_a_gaussian_network_without_its_distribution_has_no_bounds():
    with pytest.raises(ValueError, match="holds no distribution"):
        _ = Policy(gaussian_team()[1]).bounds


# --- users' own sequences ---------------------------------------------------------------------


def test_a_policy_is_made_around_a_sequence_once():
    policy = Policy.of(gaussian_team())
    assert Policy.of(policy) is policy
    assert len(list(policy_leaves(policy))) == 3
    with pytest.raises(ValueError, match="must be a tensordict module, got function"):
        Policy.of(lambda td: td)


def test_a_sequence_under_other_names():
    keys = Keys("walkers", latent="z")
    actor = vm.make_actor(4, 3, SPEC, keys=keys)
    assert Policy.of(actor, keys).latent_per_episode
    assert not Policy.of(actor).reads_latent


def test_a_network_of_a_users_own_has_no_sizes():
    names = {"input": ("agents", "observation")}
    policy = Policy.of(NetworkModule(torch.nn.Linear(4, 2), names, [("agents", "action")]))
    with pytest.raises(ValueError, match="holds no network of vm3ac_modules"):
        _ = policy.sizes
    assert policy.greedy().module is policy.module


def test_nested_sequences_and_torchrls_own_actor_are_looked_into():
    sampler, actor = vm.LatentSampler(vm.GaussianPrior(3)), maven_team()
    policy = Policy(TensorDictSequential(sampler, actor))
    assert policy.sampler is sampler
    fixed = policy.with_latent("mean")
    assert fixed.sampler.mode == "mean"
    flat = Policy(vm.make_policy(sampler, actor)).with_latent("mean")
    assert torch.equal(play(fixed)["agents", "action"], play(flat)["agents", "action"])


# --- modes of the latent ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian_team, recurrent_team])
@pytest.mark.parametrize("mode", ["sample", "constant", "synchronized", "independent"])
def test_another_mode_keeps_networks_and_prior(make, mode):
    policy = Policy(make())
    other = policy.with_latent(mode, seed=7)
    assert (other.sampler.mode, other.sampler.seed) == (mode, 7)
    assert policy.sampler.mode == "sample"
    assert other.prior is policy.prior
    assert other.net is policy.net
    latent = play(other)["latent"]
    assert latent.shape == (ROWS, *[2] * (mode == "independent"), policy.latent_dim)
    if mode == "synchronized":
        assert {"episode", "step_count"} <= set(other.in_keys)
        expected = vm.latent_at(7, torch.arange(ROWS), torch.full((ROWS,), 3), policy.prior)
        assert torch.equal(latent, expected)


def test_the_mean_of_a_categorical_latent_is_not_offered():
    every = ("sample", "mean", "constant", "synchronized", "independent")
    assert Policy(gaussian_team()).latent_modes == every
    assert Policy(recurrent_team()).latent_modes == tuple(m for m in every if m != "mean")
    with pytest.raises(ValueError, match="outside the support"):
        Policy(recurrent_team()).with_latent("mean")


# --- without exploration ----------------------------------------------------------------------


def test_greedy_play_is_without_noise_even_where_actions_are_drawn():
    policy = Policy(noisy_team())
    exact = play(policy)["agents", "action"]
    assert not torch.equal(play(policy, ExplorationType.RANDOM)["agents", "action"], exact)
    greedy = policy.greedy()
    assert torch.equal(play(greedy, ExplorationType.RANDOM)["agents", "action"], exact)
    assert greedy.net is policy.net


@pytest.mark.parametrize("kind", ["recurrent", "utilities"])
def test_greedy_play_is_without_the_floor(kind):
    policy = Policy(exploring_team(kind))
    greedy = policy.greedy()
    assert greedy.net is policy.net
    legal = inputs()["agents", "action_mask"]
    floor, without = (play(p)["agents", "logits"].exp() for p in (policy, greedy))
    assert (floor[legal] > 0.09).all()
    assert (without.sum(-1) - 1).abs().max() < 1e-5
    assert float(without[legal].min()) < float(floor[legal].min())
    actions = [play(p)["agents", "action"] for p in (policy, greedy)]
    assert torch.equal(*actions)
    assert greedy.greedy().net is policy.net


def test_a_policy_that_does_not_explore_is_greedy_already():
    policy = Policy(gaussian_team())
    assert policy.greedy().module is policy.module


@pytest.mark.parametrize("kind", ["recurrent", "utilities"])
def test_scores_are_of_all_legal_actions_and_without_exploration(kind):
    policy, td = Policy(exploring_team(kind)), inputs()
    before = td.clone()
    scores = policy.scores(td)
    assert (td == before).all()
    assert set(td.keys(True, True)) == set(before.keys(True, True))
    legal = td["agents", "action_mask"]
    assert (scores[~legal] <= 0.5 * ILLEGAL).all()
    assert (scores[legal] > -20.0).all()
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(ROWS, 2))
    assert torch.equal(scores.argmax(-1), play(policy.greedy())["agents", "action"])
    if kind == "recurrent":
        assert torch.equal(scores, play(policy.greedy())["agents", "logits"])


# --- several seeds ----------------------------------------------------------------------------


def test_seeds_together_play_as_each_seed_alone():
    torch.manual_seed(0)
    sampler = vm.LatentSampler(vm.GaussianPrior(3))
    together = vm.make_policy(sampler, vm.make_actor(4, 3, SPEC, stack_shape=(2,)))
    policy = Policy(together, seeds=2).with_latent("constant")
    rows = play(policy)["agents", "action"]
    for seed in range(2):
        alone = vm.make_policy(sampler, vm.make_actor(4, 3, SPEC))
        with torch.no_grad():
            for own, stacked in zip(alone.parameters(), together.parameters(), strict=True):
                own.copy_(stacked[seed])
        own = play(Policy(alone).with_latent("constant"))["agents", "action"]
        mine = slice(seed * ROWS // 2, (seed + 1) * ROWS // 2)
        torch.testing.assert_close(rows[mine], own[mine])
    assert policy.greedy().seeds == policy.with_latent("mean").seeds == 2
    unwrapped = Policy.of(PerSeed(together, 2)).with_latent("constant")
    assert unwrapped.seeds == 2
    assert torch.equal(play(unwrapped)["agents", "action"], rows)


def test_a_function_in_a_module_is_a_policy():
    script = TensorDictModule(lambda x: x[..., :2], [("agents", "observation")], ["action"])
    assert Policy.of(script)(inputs())["action"].shape == (ROWS, 2, 2)
