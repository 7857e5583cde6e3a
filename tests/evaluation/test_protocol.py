"""One evaluation in two ways of playing: fixed starts, stated latents, nobody else's generator."""

from __future__ import annotations

import math

import pytest
import torch
from torchrl.data import Bounded
from torchrl.envs import StepCounter, TransformedEnv

import vm3ac_modules as vm
from vm3ac_modules.baselines import EpisodeLatentPolicy
from vm3ac_modules.envs import EpisodeCounter, EpisodeLatent, MeetingEnv
from vm3ac_modules.evaluation import EvaluationResult, evaluate
from vm3ac_modules.evaluation.protocol import _UniformPlay
from vm3ac_modules.modules import PerSeed, Policy

ROWS, STEPS = 8, 12
PLAYS = ["steps", "episodes"]


def make_env(rows=ROWS):
    """Rows meet, and end, at different steps."""
    env = TransformedEnv(MeetingEnv(rows, max_steps=STEPS, meeting_distance=1.6), StepCounter())
    env.append_transform(EpisodeCounter(env.batch_size))
    return env


def team(**options):
    torch.manual_seed(0)
    actor = vm.make_actor(2, 2, Bounded(-1.0, 1.0, (2, 2)), hidden=(8,), latent_gain=9.0, **options)
    return vm.make_policy(vm.LatentSampler(vm.GaussianPrior(2)), actor)


def play(policy, env=None, **options):
    options = {"max_steps": STEPS, "seed": 3, "latent": "synchronized", **options}
    return evaluate(policy, make_env() if env is None else env, **options)


def same(first, second):
    return torch.equal(first.returns, second.returns) and torch.equal(first.lengths, second.lengths)


def test_both_ways_of_playing_find_the_same_episodes():
    steps, episodes = (play(team(), plays=plays) for plays in PLAYS)
    assert len(set(steps.lengths.tolist())) > 2
    assert torch.equal(steps.lengths, episodes.lengths)
    torch.testing.assert_close(steps.returns, episodes.returns)
    assert set(steps.info) == set(episodes.info) == {"distance", "met"}
    for name, value in steps.info.items():
        torch.testing.assert_close(value, episodes.info[name])
    assert torch.equal(steps.info["met"] == 1, steps.lengths < STEPS)


@pytest.mark.parametrize("plays", PLAYS)
@pytest.mark.parametrize("latent", ["sample", "mean", "constant", "synchronized", "independent"])
def test_an_evaluation_repeats_and_leaves_the_callers_generator_alone(plays, latent):
    env, policy = make_env(), team()
    before = torch.get_rng_state()
    first = play(policy, env, plays=plays, latent=latent)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, play(Policy(policy), env, plays=plays, latent=latent))
    moves = latent not in ("mean", "constant")
    assert same(first, play(policy, env, plays=plays, latent=latent, seed=4)) != moves


@pytest.mark.parametrize("plays", PLAYS)
def test_rounds_go_on_after_the_first(plays):
    one, two = (play(team(), plays=plays, episodes=n) for n in (None, 2 * ROWS - 1))
    assert two.returns.shape == two.lengths.shape == two.info["met"].shape == (2 * ROWS - 1,)
    assert torch.equal(two.returns[:ROWS], one.returns)
    assert not torch.equal(two.returns[ROWS:], one.returns[: ROWS - 1])


@pytest.mark.parametrize("plays", PLAYS)
def test_the_observer_sees_the_first_round(plays):
    watched = {"latent": "mean", "observer": lambda env: env.base_env._places}
    seen = play(team(), plays=plays, episodes=2 * ROWS, **watched).trace
    assert seen.shape[0] == ROWS
    assert seen[0, 0].tolist() == [[-1.0, 1.0], [1.0, 1.0]]
    assert play(team(), plays=plays).trace is None


@pytest.mark.parametrize("plays", PLAYS)
def test_nobody_and_functions_play_too(plays):
    assert play(None, plays=plays).returns.shape == (ROWS,)

    def still(td):
        return td.set(("agents", "action"), torch.zeros(ROWS, 2, 2))

    found = play(still, plays=plays)
    assert found.lengths.tolist() == [STEPS] * ROWS
    torch.testing.assert_close(found.returns, torch.full((ROWS,), -2.0 * STEPS))


def test_several_seeds_play_in_the_rows_of_one_environment():
    policy = team(stack_shape=(2,))
    together = play(PerSeed(policy, 2), make_env(2 * ROWS), latent="constant")
    for seed, part in enumerate(together.split(2)):
        alone = team()
        with torch.no_grad():
            for own, stacked in zip(alone.parameters(), policy.parameters(), strict=True):
                own.copy_(stacked[seed])
        torch.testing.assert_close(part.returns, play(alone, latent="constant").returns)


def test_ways_of_playing_that_there_are_not():
    with pytest.raises(ValueError, match="plays must be one of steps, episodes, got 'battles'"):
        play(None, plays="battles")


def test_an_interval_needs_two_episodes():
    pair = EvaluationResult(torch.tensor([1.0, 3.0]), torch.tensor([5, 5]), {})
    assert pair.mean == 2.0
    assert pair.ci95 == pytest.approx(1.959964 * math.sqrt(2) / math.sqrt(2))
    assert math.isnan(EvaluationResult(torch.ones(1), torch.ones(1), {}).ci95)


@pytest.mark.parametrize("plays", PLAYS)
def test_random_play_is_not_moved_by_what_an_algorithm_adds(plays):
    """MAVEN's environment draws a latent at every reset, here in the middle of others' episodes."""
    prior = EpisodeLatentPolicy(4, 3, uniform=True)
    env = make_env().append_transform(EpisodeLatent(prior))
    alone, beside = play(None, plays=plays), play(None, env, plays=plays)
    assert alone.returns.std() > 0
    assert same(alone, beside)
    assert not same(alone, play(None, plays=plays, seed=4))


def test_random_play_draws_anew_at_every_step_and_from_a_stream_of_its_own():
    env = make_env()
    uniform = _UniformPlay(env, 3)
    before = torch.random.get_rng_state()
    [first, second] = [uniform(env.reset())["agents", "action"].clone() for _ in range(2)]
    after = torch.random.get_rng_state()
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    again = _UniformPlay(env, 3)
    assert torch.equal(again(env.reset())["agents", "action"], first)
    assert torch.equal(before, after)
