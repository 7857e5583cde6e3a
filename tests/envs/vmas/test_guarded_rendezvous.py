"""The rendezvous: its arithmetic by hand, its adversaries, its value against all policies."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("vmas")

from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import GuardedRendezvous, VMASEnv, find_task, make_env
from vm3ac_modules.envs.resume import find_resumable
from vm3ac_modules.testing import (
    correlated_guard_value,
    correlated_prey_value,
    guard_value,
    independent_guard_value,
    independent_prey_value,
)

ACTION = ("agents", "action")
REWARD = ("next", "agents", "reward")
OBSERVATION = ("agents", "observation")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def toward(env, targets):
    """Actions that lead agents to points ``[B, N, 2]`` as fast as they can, and keep them there."""
    gap = targets - env.base_env.scenario.positions
    return (gap / 0.1).clamp(-1.0, 1.0)


def walk(env, choices, td=None):
    """An episode in which agents go to the shelters ``[B, N]``: its last step."""
    targets = env.base_env.scenario.shelters[choices]
    td = env.reset() if td is None else td
    for _ in range(env.base_env.scenario.horizon):
        td[ACTION] = toward(env, targets)
        last, td = env.step_and_maybe_reset(td)
    return last


def choose(rows, *choices):
    return torch.tensor(choices).expand(rows, -1)


@pytest.mark.parametrize("options", [{}, {"num_agents": 3, "num_modes": 5, "sees_others": True}])
def test_specs_and_shapes(options):
    env = make_env("guarded_rendezvous", 3, seed=0, **options)
    check_env_specs(env)
    n, m = options.get("num_agents", 2), options.get("num_modes", 4)
    seen = 2 * m + 3 + (2 * n - 2 if options else 0)
    td = env.rollout(25, break_when_any_done=False)
    assert td[OBSERVATION].shape == (3, 25, n, seen)
    assert td["state"].shape == (3, 25, 2 * n + 1 + m)
    names = {"guarded", *(f"mode_{k}" for k in range(m))}
    assert set(td["next", "info"].keys()) == names
    # An episode terminates at its horizon, and only there.
    ends = td["next", "terminated"].flatten(1).nonzero()
    assert ends.tolist() == [[row, 19] for row in range(3)]


@pytest.mark.parametrize("kind", ["guard", "prey", "none"])
def test_the_state_says_what_each_place_pays(kind):
    env = VMASEnv(GuardedRendezvous(), 2, seed=0, adversary=kind, horizon=1)
    env.scenario.adversary.watch(torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4))
    state, seen = (env.reset()[key] for key in ("state", OBSERVATION))
    assert state.shape == (2, 5 if kind == "none" else 9)
    if kind != "none":
        shares = env.scenario.adversary.shares().expand(2, 4)
        assert torch.allclose(state[:, 5:], shares if kind == "prey" else 1 - shares)
    # Policies do not see it.
    env.scenario.adversary.forget()
    assert torch.equal(env.scenario.observations(), seen)


def test_a_score_by_hand():
    env = VMASEnv(GuardedRendezvous(), 2, seed=0, num_modes=2, horizon=1, width=0.5, rate=0.1)
    env.reset()
    state = env.simulator_state()
    # Shelters at (0.6, 0) and (-0.6, 0); off by 0.1 and 0.2 after a step of 0.1 to the right.
    state["positions"][:] = torch.tensor([[0.6, 0.0], [0.5, 0.2]])
    env.load_simulator_state(state)
    td = env.reset().exclude(OBSERVATION)
    env.load_simulator_state(state)
    td[ACTION] = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(2, 2, 2)
    td = env.step(td)
    near = math.exp(-(0.01 + 0.04) / 0.5)
    far = math.exp(-(1.69 + 1.44 + 0.04) / 0.5)
    expected = 0.5 * near + 0.5 * far  # at first the guard shares itself equally
    torch.testing.assert_close(td[REWARD], torch.full((2, 2, 1), expected))
    info = td["next", "agents", "info"][:, 0]
    assert [info[f"mode_{m}"].flatten().tolist() for m in (0, 1)] == [[1.0, 1.0], [0.0, 0.0]]
    assert info["guarded"].flatten().tolist() == [0.5, 0.5]
    # f moves from 1/2 by the rate 0.1 towards w.
    frequency = env.scenario.adversary.frequency
    torch.testing.assert_close(frequency, torch.tensor([[0.45 + 0.1 * near, 0.45 + 0.1 * far]]))
    assert bool(td["next", "terminated"].all())


def test_an_agent_is_inside_within_the_width_of_the_nearest_shelter():
    env = make_env("rendezvous", 3, seed=0, horizon=1, width=0.3, num_modes=2, start=0.0)
    env.reset()
    scenario = env.base_env.scenario
    inside, outside = [0.6, 0.29], [0.6, 0.31]
    rows = [[inside, inside], [inside, outside], [[-0.6, 0.0], inside]]
    state = env.base_env.simulator_state()
    td = env.reset()
    state["positions"] = torch.tensor(rows)
    env.base_env.load_simulator_state(state)
    td[ACTION] = torch.zeros(3, 2, 2)
    info = env.step(td)["next", "info"]
    assert info["mode_0"].flatten().tolist() == [1.0, 0.0, 0.0]
    assert info["mode_1"].flatten().tolist() == [0.0, 0.0, 0.0]
    assert scenario.met.sum() == 1.0


@pytest.mark.parametrize("paid_steps", [1, 5, None])
def test_the_score_is_spread_over_the_paid_steps(paid_steps):
    said = {} if paid_steps is None else {"paid_steps": paid_steps}
    env = make_env("rendezvous", 4, seed=0, **said)
    paid_steps = paid_steps or 10
    td, choices = env.reset(), choose(4, 1, 1)
    rewards = []
    for _ in range(20):
        td[ACTION] = toward(env, env.base_env.scenario.shelters[choices])
        last, td = env.step_and_maybe_reset(td)
        rewards.append(last[REWARD][:, 0, 0])
    rewards = torch.stack(rewards)
    assert not rewards[: 20 - paid_steps].any()
    # At one shelter: 1, and what two agents are at the other three, 0.6 sqrt(2) and 1.2 away.
    expected = 1 + 2 * math.exp(-8) + math.exp(-16)
    torch.testing.assert_close(rewards.sum(0), torch.full((4,), expected))


def test_every_shelter_is_reached_in_half_the_time():
    env = make_env("rendezvous", 64, seed=0, horizon=10)
    for m in range(4):
        assert bool((walk(env, choose(64, m, m))["next", "info", f"mode_{m}"] == 1.0).all())


def test_the_guard_closes_what_the_team_uses_and_a_prey_avoids_it():
    found = {}
    for name in ("guarded_rendezvous", "learning_prey", "rendezvous"):
        env = make_env(name, 8, seed=0, paid_steps=1)
        td, rewards = env.reset(), []
        for _ in range(40):
            last = walk(env, choose(8, 2, 2), td)
            rewards.append(last[REWARD][0, 0, 0].item())
            td = env.reset()
        found[name] = rewards, walk(env, choose(8, 0, 0))[REWARD][0, 0, 0].item()
    guarded, elsewhere = found["guarded_rendezvous"]
    assert guarded[0] == pytest.approx(0.75, abs=1e-3)
    assert guarded == sorted(guarded, reverse=True)
    assert guarded[-1] < 0.01
    assert elsewhere > 0.99
    caught, waiting = found["learning_prey"]
    assert caught[0] == pytest.approx(0.25, abs=1e-3)
    assert caught == sorted(caught, reverse=True)
    assert caught[-1] < 0.01
    assert waiting > 0.3
    assert min(found["rendezvous"][0]) == pytest.approx(1.0, abs=1e-3)


def test_rows_that_go_on_tell_the_adversary_nothing():
    env = make_env("guarded_rendezvous", 4, seed=0, horizon=3, rate=0.1)
    scenario, td = env.base_env.scenario, env.reset()

    def stand(td):
        td[ACTION] = torch.zeros(4, 2, 2)
        return env.step_and_maybe_reset(td)

    _, td = stand(td)
    assert scenario.adversary.frequency.tolist() == [[0.25] * 4]
    # Two rows start anew, so the others end alone: half a round moves the table half as far.
    td = env.reset(td.set("_reset", torch.tensor([[True], [True], [False], [False]])))
    _, td = stand(td.exclude("_reset"))
    ending = scenario.positions[2:].unsqueeze(2) - scenario.shelters
    together = (-ending.square().sum(-1) / (2 * 0.3**2)).sum(1).exp().mean(0)
    last, _ = stand(td)
    assert last["next", "done"].flatten().tolist() == [False, False, True, True]
    expected = 0.25 + 0.05 * (together - 0.25)
    torch.testing.assert_close(scenario.adversary.frequency, expected.unsqueeze(0))


def test_teams_side_by_side_face_an_adversary_each():
    env = make_env("guarded_rendezvous", 8, seed=0, num_teams=2)
    for _ in range(30):
        first, second = choose(4, 1, 1), choose(4, 3, 3)
        walk(env, torch.cat((first, second)))
    shares = env.base_env.scenario.adversary.shares()
    assert shares.argmax(-1).tolist() == [1, 3]
    with pytest.raises(ValueError, match="8 rows do not divide among 3 teams"):
        make_env("guarded_rendezvous", 8, num_teams=3)


def test_agents_do_not_see_each_other_unless_asked():
    for sees in (False, True):
        env = make_env("guarded_rendezvous", 2, seed=0, sees_others=sees)
        td, base = env.reset(), env.base_env
        before = td[OBSERVATION][:, 0].clone()
        state = base.simulator_state()
        state["positions"][:, 1] += 0.2
        base.load_simulator_state(state)
        after = base.scenario.observation(base.scenario.world.agents[0])
        assert torch.equal(before, after) is not sees


def test_the_best_response_is_that_of_the_choices():
    env = make_env("guarded_rendezvous", 256, seed=0, num_modes=3)
    choices = torch.randint(3, (256, 2), generator=torch.Generator().manual_seed(0))
    info = walk(env, choices)["next", "info"]
    metrics = {name: values.flatten() for name, values in info.items()}
    value = guard_value(choices, 3)
    assert value > 0.1
    task = find_task("guarded_rendezvous")
    assert task.judge(metrics) == {"best_response_value": pytest.approx(value)}
    prey = find_task("learning_prey")
    met = [(choices == m).all(-1).float().mean().item() for m in range(3)]
    assert prey.judge(metrics) == {"best_response_value": pytest.approx(min(met))}
    assert find_task("rendezvous").judge(metrics) == {}
    assert find_task("guarded_rendezvous", adversary="none").judge(metrics) == {}


@given(st.integers(2, 5), st.integers(2, 4), st.data())
@settings(max_examples=60)
def test_no_independent_predators_exceed_their_value(num_modes, num_agents, data):
    weights = st.lists(st.floats(0.01, 1.0), min_size=num_modes, max_size=num_modes)
    drawn = [data.draw(weights) for _ in range(num_agents)]
    policies = torch.tensor(drawn, dtype=torch.float64)
    caught = (policies / policies.sum(-1, keepdim=True)).prod(0)
    assert float(caught.min()) <= independent_prey_value(num_agents, num_modes) + 1e-12
    uniform = torch.full((num_agents, num_modes), 1.0 / num_modes, dtype=torch.float64).prod(0)
    assert float(uniform.min()) == pytest.approx(independent_prey_value(num_agents, num_modes))


def test_closed_forms():
    assert (correlated_guard_value(4), independent_guard_value(2, 4)) == (0.75, 0.25)
    assert (correlated_prey_value(4), independent_prey_value(2, 4)) == (0.25, 0.0625)


@pytest.mark.parametrize("steps", [7, 20, 33])
def test_a_game_goes_on_where_it_was(steps):
    def make(seed):
        env = make_env("guarded_rendezvous", 4, seed=seed, num_teams=2)
        find_resumable(env)
        return env

    def play(env, td, chosen):
        shown = []
        for action in chosen:
            td.set(ACTION, action)
            full, td = env.step_and_maybe_reset(td)
            shown.append(full.clone())
        return torch.stack(shown), td

    env, other = make(0), make(9)
    chosen = 2 * torch.rand(steps + 25, 4, 2, 2, generator=torch.Generator().manual_seed(3)) - 1
    _, td = play(env, env.reset(), chosen[:steps])
    saved = find_resumable(env).save(env)
    expected, _ = play(env, td, chosen[steps:])
    assert find_resumable(other).load(other, saved)
    found, _ = play(other, other.reset(), chosen[steps:])
    assert bool((expected == found).all())
    guards = [e.base_env.scenario.adversary.frequency for e in (env, other)]
    assert torch.equal(*guards)
    assert not torch.equal(guards[0], torch.full((2, 4), 0.25))


def test_the_adversary_of_another_game_is_refused():
    four, five = (VMASEnv(GuardedRendezvous(), 2, seed=0, num_modes=m) for m in (4, 5))
    with pytest.raises(ValueError, match=r"'met' has shape \(2, 4\), this environment needs"):
        five.load_simulator_state(four.simulator_state())
    with pytest.raises(ValueError, match="it is that of another game"):
        five.scenario.adversary.load(four.scenario.adversary.state())
    # Two teams' tables are not one team's.
    apart = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="it is that of another game"):
        four.scenario.adversary.load(apart)


def test_a_new_seed_meets_an_adversary_that_knows_nothing():
    env = make_env("guarded_rendezvous", 4, seed=0)
    for _ in range(5):
        walk(env, choose(4, 1, 1))
    frequency = env.base_env.scenario.adversary.frequency
    assert not torch.equal(frequency, torch.full((1, 4), 0.25))
    env.set_seed(1)
    frequency = env.base_env.scenario.adversary.frequency
    assert torch.equal(frequency, torch.full((1, 4), 0.25))


def test_without_an_adversary_nothing_is_guarded():
    env = make_env("rendezvous", 4, seed=0)
    for _ in range(2):
        info = walk(env, choose(4, 1, 1))["next", "info"]
    assert bool((info["mode_1"] == 1).all())
    assert bool((info["guarded"] == 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_agents": 1}, "num_agents must be at least 2"),
        ({"num_modes": 1}, "num_modes must be at least 2"),
        ({"num_teams": 0}, "num_teams must be at least 1"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"paid_steps": 21}, "paid_steps must be in 1..horizon=20"),
        ({"width": 0.0}, "width must be positive"),
        ({"width": float("nan")}, "width must be positive"),
        ({"start": 2.0}, r"start must be in \[0, 1\]"),
        ({"sees_others": "yes"}, "sees_others is true or false"),
        ({"adversary": "fox"}, "adversary must be one of"),
        ({"sharpness": float("inf")}, "sharpness must be positive"),
        ({"rate": 0.0}, "rate must lie in"),
        ({"speed": 1.0}, "speed"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ValueError, AssertionError), match=message):
        VMASEnv(GuardedRendezvous(), 2, seed=0, **options)
