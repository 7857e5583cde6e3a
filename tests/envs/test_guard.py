"""The guard game: its arithmetic by hand, its values against all policies, its adversary."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import GuardEnv, find_task, make_battle_env, make_env
from vm3ac_modules.options import OptionsError
from vm3ac_modules.testing import correlated_guard_value, guard_value, independent_guard_value

ACTION = ("agents", "action")
REWARD = ("next", "agents", "reward")
ROWS = 8


def played(env, action):
    td = env.reset()
    td[ACTION] = action.expand(*env.batch_size, *action.shape[-2:]).clone()
    return env.step(td)


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("num_agents", [1, 2, 4])
def test_keeps_its_specs(actions, num_agents):
    env = GuardEnv(3, num_agents=num_agents, num_modes=3, actions=actions)
    check_env_specs(env)
    assert env.rollout(5).shape == (3, 1)


def test_reward_by_hand():
    env = GuardEnv(2, num_modes=2, width=0.5)
    # Modes at (0.6, 0) and (-0.6, 0); both agents at the first one, off by 0.1 and 0.2.
    td = played(env, torch.tensor([[0.7, 0.0], [0.6, 0.2]]))
    near = math.exp(-(0.01 + 0.04) / 0.5)
    far = math.exp(-(1.69 + 1.44 + 0.04) / 0.5)
    expected = 0.5 * near + 0.5 * far  # at first the guard shares itself equally
    torch.testing.assert_close(td[REWARD], torch.full((2, 2, 1), expected))
    assert td["next", "info", "mode_0"].tolist() == [[1.0], [1.0]]
    assert td["next", "info", "mode_1"].tolist() == [[0.0], [0.0]]
    assert td["next", "info", "guarded"].tolist() == [[0.5], [0.5]]
    assert bool(td["next", "terminated"].all())


def test_penalty_of_missing_by_hand():
    env = GuardEnv(1, num_modes=3, guard=False, penalty=2.0, actions="discrete")
    both, mixed = torch.eye(3)[[1, 1]], torch.eye(3)[[1, 2]]
    assert played(env, both)[REWARD].flatten().tolist() == [1.0, 1.0]
    assert played(env, mixed)[REWARD].flatten().tolist() == [-2.0, -2.0]


def test_the_guard_follows_what_the_team_does_most():
    env = GuardEnv(ROWS, num_modes=4, actions="discrete")
    rewards = [played(env, torch.eye(4)[[2, 2]])[REWARD][0, 0, 0].item() for _ in range(300)]
    assert rewards[0] == pytest.approx(0.75)
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[-1] < 0.01
    assert env.guard().argmax() == 2
    # What it stopped guarding pays again.
    assert played(env, torch.eye(4)[[0, 0]])[REWARD][0, 0, 0] > 0.99


def test_the_guard_s_mean_by_hand():
    env = GuardEnv(2, num_modes=2, rate=0.5, sharpness=2.0, actions="discrete")
    td = env.reset()
    td[ACTION] = torch.stack((torch.eye(2)[[0, 0]], torch.eye(2)[[0, 1]]))
    env.step(td)  # mode 0 in half of the rows, nothing in the others
    assert env.adversary.frequency.tolist() == [[0.5, 0.25]]
    expected = torch.softmax(2.0 * torch.tensor([[2 / 3, 1 / 3]]), -1)
    torch.testing.assert_close(env.guard(), expected)


def test_teams_side_by_side_face_a_guard_each():
    env = GuardEnv(2 * ROWS, num_teams=2, actions="discrete")
    alone = GuardEnv(ROWS, actions="discrete")
    for _ in range(50):
        td = env.reset()
        first, second = torch.eye(4)[[1, 1]], torch.eye(4)[[3, 3]]
        td[ACTION] = torch.stack((first, second)).repeat_interleave(ROWS, 0)
        td = env.step(td)
        expected = played(alone, first)
    assert env.guard().argmax(-1).tolist() == [1, 3]
    torch.testing.assert_close(td[REWARD][:ROWS], expected[REWARD])
    torch.testing.assert_close(td[REWARD][ROWS:], td[REWARD][:ROWS])
    other = GuardEnv(4, num_teams=2, actions="discrete")
    other.load_simulator_state(env.simulator_state())
    assert torch.equal(other.guard(), env.guard())
    with pytest.raises(ValueError, match="do not divide among 3 teams"):
        GuardEnv(ROWS, num_teams=3)


def test_an_action_that_is_no_number_does_not_stay_with_the_guard():
    env = GuardEnv(2)
    action = torch.zeros(2, 2)
    action[0, 0] = float("nan")
    assert bool(played(env, action)[REWARD].isnan().all())
    assert bool(env.guard().isfinite().all())


def test_best_response_of_metrics_is_that_of_choices():
    torch.manual_seed(0)
    env = GuardEnv(500, num_modes=3, num_agents=2, actions="discrete")
    td = env.rollout(1)
    metrics = {f"mode_{m}": td["next", "info", f"mode_{m}"].flatten() for m in range(3)}
    task = find_task("guard")
    value = guard_value(env.choices(td[ACTION]).flatten(0, 1), 3)
    assert value > 0.1
    assert task.judge(metrics) == {"best_response_value": pytest.approx(value)}
    assert find_task("same_mode").judge(metrics) == {}


def test_without_a_guard_a_fixed_choice_pays_for_ever():
    env = make_env("same_mode", ROWS, actions="continuous", num_agents=3)
    best = env.base_env.modes[0].expand(3, 2)
    assert min(played(env, best)[REWARD].min() for _ in range(200)) == pytest.approx(1.0, abs=1e-4)


@given(st.integers(2, 5), st.integers(1, 4), st.data())
@settings(max_examples=60)
def test_no_independent_policies_exceed_their_value(num_modes, num_agents, data):
    size = st.floats(0.0, 1.0).map(lambda x: x**3)
    weights = st.lists(size, min_size=num_modes, max_size=num_modes).filter(lambda w: sum(w) > 0)
    drawn = [data.draw(weights) for _ in range(num_agents)]
    policies = torch.tensor(drawn, dtype=torch.float64)
    policies = policies / policies.sum(-1, keepdim=True)
    together = policies.prod(0)
    value = float(together.sum() - together.max())
    assert value <= independent_guard_value(num_agents, num_modes) + 1e-12


@pytest.mark.parametrize(("num_agents", "num_modes"), [(1, 4), (2, 2), (2, 4), (3, 8), (6, 4)])
def test_the_value_of_independent_policies_is_attained(num_agents, num_modes):
    used = num_modes if num_agents == 1 else 2
    together = torch.zeros(num_modes, dtype=torch.float64)
    together[:used] = (1.0 / used) ** num_agents
    value = independent_guard_value(num_agents, num_modes)
    assert float(together.sum() - together.max()) == pytest.approx(value)
    assert value <= correlated_guard_value(num_modes) + 1e-12


@pytest.mark.parametrize("num_modes", [2, 3, 4])
def test_best_response_is_the_best_of_all_guards(num_modes):
    """Enumerated: the guard who stands at one mode and knows how often the team meets at each."""
    choices = torch.tensor(list(itertools.product(range(num_modes), repeat=2)) + [(1, 1)] * 3)
    met = [int(((choices == m).all(-1)).sum()) for m in range(num_modes)]
    worst = min(sum(met) - met[m] for m in range(num_modes))
    assert guard_value(choices, num_modes) == pytest.approx(worst / len(choices))


def test_uniform_common_choices_are_worth_the_correlated_value():
    common = torch.arange(4).repeat(100).unsqueeze(-1).expand(-1, 3)
    assert guard_value(common, 4) == correlated_guard_value(4)
    assert guard_value(torch.zeros(100, 3, dtype=torch.int64), 4) == 0.0


def test_the_guard_is_saved_and_put_back():
    env = GuardEnv(ROWS, actions="discrete")
    for _ in range(5):
        played(env, torch.eye(4)[[1, 1]])
    other = GuardEnv(3, actions="discrete")
    other.load_simulator_state(env.simulator_state())
    assert torch.equal(other.guard(), env.guard())
    played(env, torch.eye(4)[[1, 1]])
    assert not torch.equal(other.guard(), env.guard())
    other.set_seed(0)
    assert torch.equal(other.guard(), GuardEnv(3).guard())
    with pytest.raises(ValueError, match="it is that of another game"):
        GuardEnv(3, num_modes=5).load_simulator_state(env.simulator_state())
    with pytest.raises(ValueError, match="it is that of another game"):
        GuardEnv(3).load_simulator_state({})


@pytest.mark.parametrize("name", ["guard", "same_mode", "penalty"])
def test_tasks_by_name(name):
    task = find_task(name, num_agents=3)
    assert task.max_steps == 1
    env = make_env(name, 4, num_agents=3)
    td = env.rollout(3, break_when_any_done=False)
    assert td.shape == (4, 3)
    assert bool(td["next", "terminated"].all())
    assert env.base_env.num_agents == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"num_agents": 0}, "num_agents must be at least 1"),
        ({"num_modes": 1}, "num_modes must be at least 2"),
        ({"width": 0.0}, "width must be positive"),
        ({"width": float("nan")}, "width must be positive"),
        ({"sharpness": float("inf")}, "sharpness must be positive"),
        ({"rate": 0.0}, "rate must lie in"),
        ({"penalty": -1.0}, "penalty must not be negative"),
        ({"actions": "both"}, "actions must be continuous or discrete"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GuardEnv(**{"num_envs": 2, **options})


def test_bad_choices():
    with pytest.raises(ValueError, match=r"choices must be \[D, N\]"):
        guard_value(torch.zeros(0, 2, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match=r"choices must lie in 0\.\.3"):
        guard_value(torch.tensor([[0, 4]]), 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_env("guard", 2, num_mode=3),
        lambda: make_battle_env("guard", 2, backend="games", num_mode=3),
    ],
)
def test_a_misspelt_option_is_answered_with_what_was_meant(make):
    with pytest.raises(OptionsError, match=r"unknown option 'num_mode' \(did you mean 'num_modes'"):
        make()
