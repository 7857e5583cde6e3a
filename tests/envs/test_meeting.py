"""The half plane where two agents should meet: its arithmetic, its ends and its rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchrl.envs import Compose, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import EpisodeCounter, MeetingEnv, make_env
from vm3ac_modules.modules.latent import LatentSampler, UniformPrior, latent_at

PLACES = ("agents", "observation")
REWARD = ("next", "agents", "reward")


def step(env, action, td=None):
    """One step from the start, or from ``td``, with one action ``[2, 2]`` or ``[B, 2, 2]``."""
    td = env.reset() if td is None else td
    td["agents", "action"] = torch.as_tensor(action).expand(*env.batch_size, 2, 2)
    return env.step(td)


def ends(td):
    return [td["next", name].flatten().tolist() for name in ("done", "terminated", "truncated")]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_keeps_its_specs(num_envs):
    env = MeetingEnv(num_envs, seed=0)
    check_env_specs(env)
    assert env.batch_size == (num_envs,)
    assert env.rollout(4)["state"].shape == (num_envs, 4, 4)


def test_a_step_by_hand():
    td = step(MeetingEnv(2), [[0.5, 0.25], [-0.75, 0.0]])
    assert td[PLACES][0].tolist() == [[-1.0, 1.0], [1.0, 1.0]]
    assert td["next"][PLACES][0].tolist() == [[-0.5, 1.25], [0.25, 1.0]]
    assert td["next", "state"][1].tolist() == [-0.5, 1.25, 0.25, 1.0]
    distance = (0.75**2 + 0.25**2) ** 0.5
    assert td[REWARD].flatten().tolist() == pytest.approx([-distance] * 4)
    assert td["next", "info", "distance"].flatten().tolist() == pytest.approx([distance] * 2)
    assert td["info", "distance"].flatten().tolist() == [2.0, 2.0]
    assert ends(td) == [[False] * 2] * 3


def test_nobody_leaves_the_half_plane():
    td = step(MeetingEnv(1), [[0.0, -5.0], [0.0, -1.0]])
    assert td["next"][PLACES][0].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert td[REWARD].flatten().tolist() == [-2.0, -2.0]


@pytest.mark.parametrize(("gap", "met"), [(0.25, False), (0.2421875, True), (0.0, True)])
def test_nearer_than_the_meeting_distance_is_met(gap, met):
    # The last step that time allows: a meeting is a termination even then.
    env = MeetingEnv(1, meeting_distance=0.25, max_steps=1)
    td = step(env, [[1.0, 0.0], [-1.0, gap]])
    assert ends(td) == [[True], [met], [not met]]
    assert td["next", "info", "met"].item() == float(met)


def test_default_distance_and_time_limit():
    assert ends(step(MeetingEnv(1), [[1.0, 0.0], [-0.90625, 0.0]]))[1] == [True]
    assert ends(step(MeetingEnv(1), [[1.0, 0.0], [-0.875, 0.0]]))[1] == [False]
    steps = MeetingEnv(2).rollout(80, lambda td: td.set(("agents", "action"), torch.zeros(2, 2, 2)))
    assert steps.shape == (2, 50)
    assert steps["next", "truncated"].squeeze(-1).sum(-1).tolist() == [1, 1]
    assert not steps["next", "terminated"].any()


def test_a_partial_reset_leaves_the_other_rows_their_place_and_time():
    env, move = MeetingEnv(3, max_steps=3), [[0.125, 0.0], [0.0, 0.0]]
    first = step(env, move)["next"]
    mask = torch.tensor([[False], [True], [False]])
    td = env.reset(first.clone().set("_reset", mask))
    expected = first[PLACES].clone()
    expected[1] = torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    assert torch.equal(td[PLACES], expected)
    assert td["info", "distance"].flatten().tolist() == [1.875, 2.0, 1.875]
    second = step(env, move, td)
    assert second["next"][PLACES][:, 0, 0].tolist() == [-0.75, -0.875, -0.75]
    assert ends(second)[2] == [False] * 3
    third = step(env, move, second["next"])
    assert ends(third)[2] == [True, False, True]


moves = st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4)


@given(moves, moves)
def test_reward_is_the_negative_distance_of_places_that_never_leave(first, second):
    env = MeetingEnv(1, meeting_distance=1e-6)
    places = torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    td = None
    for action in (first, second):
        action = torch.tensor(action).reshape(2, 2)
        td = step(env, action, None if td is None else td["next"])
        places = places + action
        places[:, 1] = places[:, 1].clamp(min=0)
        torch.testing.assert_close(td["next"][PLACES][0], places)
        distance = (places[0] - places[1]).norm()
        torch.testing.assert_close(td[REWARD].flatten(), -distance.expand(2))
        assert bool(td["next", "terminated"]) == bool(distance < 1e-6)


def test_reward_has_the_gradient_of_its_own_step_only():
    env = MeetingEnv(1)
    earlier, action = torch.zeros(2, 1, 2, 2).unbind(0)
    earlier.requires_grad_()
    action.requires_grad_()
    td = step(env, earlier)
    td = step(env, action, td["next"])
    td[REWARD][0, 0].sum().backward()
    # Toward each other along x is uphill.
    assert action.grad.tolist() == [[[1.0, 0.0], [-1.0, 0.0]]]
    assert earlier.grad is None
    assert not td["next"][PLACES].requires_grad


def test_rows_do_not_influence_each_other():
    env, action = MeetingEnv(2), torch.zeros(2, 2, 2)
    before = step(env, action)["next"][1].clone()
    action[0] = 0.5
    assert bool((step(env, action)["next"][1] == before).all())


def test_synchronized_latents_follow_the_clock_of_the_counters():
    base = MeetingEnv(3, max_steps=4)
    env = TransformedEnv(base, Compose(StepCounter(), EpisodeCounter(base.batch_size)))
    check_env_specs(env)
    prior = UniformPrior(2, low=0.0, high=0.1)
    sampler = LatentSampler(prior, mode="synchronized", seed=5)

    def policy(td):
        return sampler(td).set(("agents", "action"), torch.zeros(3, 2, 2))

    steps = env.rollout(6, policy, break_when_any_done=False)
    episode, count = steps["episode"].squeeze(-1), steps["step_count"].squeeze(-1)
    assert count[0].tolist() == [0, 1, 2, 3, 0, 1]
    assert (episode[:, 4] - episode[:, 0]).tolist() == [3, 3, 3]
    assert torch.equal(steps["latent"], latent_at(5, episode, count, prior))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": 1, "max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"num_envs": 1, "meeting_distance": 0.0}, "between 0 and 2, .* got 0.0"),
        ({"num_envs": 1, "meeting_distance": 2.0}, "between 0 and 2, .* got 2.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MeetingEnv(**options)


def test_make_env_refuses_its_unbounded_actions():
    with pytest.raises(ValueError, match="not a bounded continuous action"):
        make_env("python:vm3ac_modules.envs.meeting:MeetingEnv", 2)
