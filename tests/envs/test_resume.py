"""Environments that go on in mid-episode, and those that start new episodes instead."""

from __future__ import annotations

import pytest
import torch
from contracts.training import equal, leaves
from contracts.user_env import Meeting

pytest.importorskip("vmas")

from torchrl.envs import Compose, StepCounter, TransformedEnv

from vm3ac_modules.baselines import EpisodeLatentPolicy
from vm3ac_modules.envs import EpisodeCounter, EpisodeLatent, VMASEnv, make_env
from vm3ac_modules.envs.resume import (
    ResumableEpisodes,
    ResumableScenario,
    find_resumable,
    goes_on,
)

ROWS = 3
FAMILIES = ("predator_prey_2", "treasure_collection_4", "cooperative_navigation_3")


def make(name, seed=0, **options):
    env = make_env(name, num_envs=ROWS, seed=seed, max_steps=7, **options)
    find_resumable(env)
    return env


def actions(env, count, seed=3):
    """Actions that come from a stream of their own."""
    spec = env.full_action_spec["agents", "action"]
    unit = torch.rand(count, *spec.shape, generator=torch.Generator().manual_seed(seed))
    return spec.space.low + unit * (spec.space.high - spec.space.low)


def play(env, td, chosen):
    """Steps, with resets of the rows that ended; what was shown, and where it came to."""
    shown = []
    for action in chosen:
        td.set(("agents", "action"), action)
        full, td = env.step_and_maybe_reset(td)
        shown.append(full.clone())
    return torch.stack(shown), td


def saved(env):
    return find_resumable(env).save(env)


def same(one, other):
    found = dict(leaves(one.flatten_keys(".").to_dict()))
    again = dict(leaves(other.flatten_keys(".").to_dict()))
    assert found.keys() == again.keys()
    return [name for name, value in found.items() if not equal(value, again[name])]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("steps", [1, 4, 7, 9])
def test_an_episode_goes_on_where_it_was(name, steps):
    env = make(name)
    assert goes_on(env)
    chosen = actions(env, steps + 12)
    _, td = play(env, env.reset(), chosen[:steps])
    state = saved(env)
    expected, _ = play(env, td, chosen[steps:])
    other = make(name, seed=9)
    torch.manual_seed(99)
    assert find_resumable(other).load(other, state)
    # Over the end of the episode and into the next: its start is the one that would have been.
    found, _ = play(other, other.reset(), chosen[steps:])
    assert expected["next", "done"].any()
    assert same(expected, found) == []
    assert torch.equal(found[0]["step_count"], expected[0]["step_count"])


@pytest.mark.parametrize("name", FAMILIES)
def test_after_a_partial_reset(name):
    env = make(name)
    chosen = actions(env, 14)
    _, td = play(env, env.reset(), chosen[:3])
    rows = torch.tensor([[False], [True], [False]])
    td = env.reset(td.set("_reset", rows))
    assert td["step_count"].flatten().tolist() == [3, 0, 3]
    state = saved(env)
    expected, _ = play(env, td.exclude("_reset"), chosen[3:])
    other = make(name, seed=9)
    find_resumable(other).load(other, state)
    td = other.reset()
    assert td["step_count"].flatten().tolist() == [3, 0, 3]
    found, _ = play(other, td, chosen[3:])
    # Rows end at different steps from here on.
    assert expected["next", "done"].any(1).sum() > 1
    assert same(expected, found) == []


def test_an_episode_s_latent_goes_on():
    def with_latent(seed):
        env = make_env("predator_prey_2", num_envs=ROWS, seed=seed, max_steps=7)
        size = 2 * env.observation_spec["agents", "observation"].shape[-1]
        torch.manual_seed(1)
        prior = EpisodeLatentPolicy(size, 5, hidden=(4,))
        env.append_transform(EpisodeLatent(prior))
        find_resumable(env)
        return env

    env, other = with_latent(0), with_latent(9)
    chosen = actions(env, 12)
    torch.manual_seed(5)
    _, td = play(env, env.reset(), chosen[:4])
    state, stream, latent = saved(env), torch.get_rng_state(), td["latent"].clone()
    expected, _ = play(env, td, chosen[4:])
    torch.manual_seed(77)
    find_resumable(other).load(other, state)
    td = other.reset()
    assert torch.equal(td["latent"], latent)
    torch.set_rng_state(stream)
    found, _ = play(other, td, chosen[4:])
    assert same(expected, found) == []
    # Of one episode and the next.
    assert torch.equal(found["latent"][0], latent)
    assert (found["latent"][:3] == latent).all()


def test_what_is_saved_is_a_copy():
    env = make("predator_prey_2")
    chosen = actions(env, 9)
    _, td = play(env, env.reset(), chosen[:3])
    state = saved(env)
    before = {name: value.clone() for name, value in leaves(state) if torch.is_tensor(value)}
    play(env, td, chosen[3:])
    after = dict(leaves(state))
    assert all(equal(value, after[name]) for name, value in before.items())


def test_the_state_is_used_once():
    env = make("predator_prey_2")
    play(env, env.reset(), actions(env, 4))
    other = make("predator_prey_2", seed=9)
    find_resumable(other).load(other, saved(env))
    assert other.reset()["step_count"].flatten().tolist() == [4] * ROWS
    # The second reset starts episodes.
    assert other.reset()["step_count"].flatten().tolist() == [0] * ROWS


def test_a_state_before_the_first_reset_starts_episodes():
    env, other = make("predator_prey_2"), make("predator_prey_2", seed=9)
    assert not find_resumable(other).load(other, saved(env))
    assert torch.equal(env.reset()["state"], other.reset()["state"])


class Counted(Meeting):
    """An environment of a user's own, whose stream can be saved but whose episodes cannot go on."""

    def get_rng_state(self):
        return {"generator": self.generator.get_state()}

    def set_rng_state(self, state):
        self.generator.set_state(state["generator"])


def users_own(seed):
    env = TransformedEnv(
        Counted(ROWS, "cpu", seed), Compose(StepCounter(5), EpisodeCounter(torch.Size([ROWS])))
    )
    find_resumable(env)
    return env


def test_an_environment_that_cannot_go_on_starts_new_episodes_with_counters_and_streams():
    env = users_own(0)
    assert not goes_on(env)
    chosen = actions(env, 8)
    _, td = play(env, env.reset(), chosen)
    state = saved(env)
    assert (state["shown"], state["simulator"]) == ({}, {})
    assert td["step_count"].flatten().tolist() == [3] * ROWS
    expected = env.reset()
    other = users_own(9)
    assert not find_resumable(other).load(other, state)
    found = other.reset()
    # As if the old one had been reset at that moment: the next episode, from the same stream.
    assert found["step_count"].flatten().tolist() == [0] * ROWS
    assert same(expected, found) == []


def test_multiwalker_starts_new_episodes_with_counters_and_streams():
    pytest.importorskip("pettingzoo")
    pytest.importorskip("Box2D")
    env, other = make("multiwalker_2"), make("multiwalker_2", seed=9)
    assert not goes_on(env)
    chosen = actions(env, 9)
    play(env, env.reset(), chosen)
    state = saved(env)
    assert not find_resumable(other).load(other, state)
    expected, found = env.reset(), other.reset()
    assert same(expected, found) == []
    one, two = play(env, expected, chosen)[0], play(other, found, chosen)[0]
    assert same(one, two) == []


def test_a_scenario_of_vmas_starts_new_episodes():
    env, other = make("vmas/balance"), make("vmas/balance", seed=9)
    assert not goes_on(env)
    chosen = actions(env, 9)
    play(env, env.reset(), chosen)
    assert not find_resumable(other).load(other, saved(env))
    # Its info tells of the step before, which only the old one has made.
    expected, found = env.reset().exclude("info"), other.reset().exclude("info")
    assert same(expected, found) == []


def test_a_scenario_of_ones_own_can_be_resumable():
    from vm3ac_modules.envs import PredatorPrey

    class Mine(PredatorPrey):
        """Nothing more is needed than to be one of these."""

    assert issubclass(Mine, ResumableScenario)
    assert goes_on(VMASEnv(Mine(), num_envs=2, seed=0))
    with pytest.raises(TypeError, match="abstract"):
        type("Empty", (ResumableScenario,), {})()


def test_the_transform_is_found_or_appended_once():
    env = make_env("predator_prey_2", num_envs=2, seed=0)
    part = find_resumable(env)
    assert find_resumable(env) is part
    assert sum(isinstance(t, ResumableEpisodes) for t in env.transform) == 1


def test_a_state_of_other_rows_is_refused():
    env = make("predator_prey_2")
    play(env, env.reset(), actions(env, 2))
    other = make_env("predator_prey_2", num_envs=ROWS + 1, seed=0, max_steps=7)
    state = saved(env)
    with pytest.raises(RuntimeError, match="size mismatch"):
        find_resumable(other).load(other, state)
