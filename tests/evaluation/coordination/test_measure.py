"""Coordination of policies whose correlation and information are known."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec

import pytest
import torch
from contracts.linear_teams import NOISE, linear_policy, measure, seen
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, exploration_type, set_exploration_type

from vm3ac_modules.evaluation import (
    categorical_coordination,
    coordination_table,
    measure_coordination,
)
from vm3ac_modules.evaluation.coordination import measure as measuring
from vm3ac_modules.evaluation.coordination.measure import _visited_states
from vm3ac_modules.modules.actors import make_actor
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.testing import tabular_games


def within(found, expected, errors=5.0):
    """The matrix is the expected one within its own errors, and these are small."""
    assert float(found.error.max()) < 0.02
    assert ((found.matrix - expected).abs() <= errors * found.error + 1e-9).all()


@pytest.mark.parametrize("weights", [[0.03, 0.03], [0.02, -0.04], [0.05, 0.01, 0.03]])
def test_the_correlation_is_the_closed_form(weights):
    found = measure(linear_policy(weights), seen(len(weights)))
    w = torch.tensor(weights).double()
    covariance = torch.outer(w, w) + NOISE**2 * torch.eye(len(w)).double()
    scale = covariance.diagonal().sqrt()
    within(found.correlation, covariance / torch.outer(scale, scale), errors=4.0)
    within(found.independent, torch.eye(len(w)).double())
    torch.testing.assert_close(
        found.latent_share.double(), w**2 / (w**2 + NOISE**2), rtol=0.0, atol=0.06
    )


def test_actions_that_follow_the_state_are_not_correlated():
    found = measure(linear_policy([0.0, 0.0], slope=0.3), seen(spread=1.0))
    within(found.correlation, torch.eye(2).double())
    assert float(found.upper.abs().max()) < 1e-5


def test_without_a_latent_nothing_is_shared():
    torch.manual_seed(0)
    actor = make_actor(1, 0, Bounded(-1.0, 1.0, (2, 2)), hidden=(8,))
    found = measure(actor, seen(spread=1.0))
    apart = torch.arange(4)[:, None] // 2 != torch.arange(4) // 2
    assert found.independent is None
    assert found.lower is None
    assert (found.correlation.matrix[apart].abs() <= 5.0 * found.correlation.error[apart]).all()
    assert float(found.upper.abs().max()) < 1e-5
    assert float(found.latent_share.abs().max()) < 1e-5


def test_the_information_of_a_known_game_lies_between_the_estimates():
    weight = 0.03
    exact = -0.5 * math.log(1.0 - 0.5**2)  # correlation w^2 / (w^2 + sigma^2)
    predictor = VariationalPredictor(1, Bounded(-1.0, 1.0, (2, 1)), hidden=(8,), scale=0.05)
    found = measure(linear_policy([weight, weight]), seen(), predictor=predictor, num_latents=500)
    assert float(found.lower[0, 1]) <= exact + 4.0 * float(found.lower_error[0, 1])
    assert float(found.upper[0, 1]) >= exact
    information = 0.5 * math.log(2.0)
    error = 4.0 * float(found.upper_error.max())
    torch.testing.assert_close(
        found.latent_information, torch.full((2,), information), rtol=0.0, atol=error
    )
    assert error < 0.2
    assert found.lower.diagonal().tolist() == found.upper.diagonal().tolist() == [0.0, 0.0]


def test_a_pair_knows_no_more_than_the_agent_that_follows_the_latent_less():
    found = measure(linear_policy([0.06, 0.02]), seen(), num_latents=500)
    less = 0.5 * math.log(1.0 + (0.02 / NOISE) ** 2)
    error = 4.0 * float(found.upper_error.max())
    for value in (found.upper[0, 1], found.upper[1, 0], found.latent_information[1]):
        assert abs(float(value) - less) < error
    assert float(found.latent_information[0]) > less + error


@given(tabular_games(num_agents=3), st.permutations(range(3)))
def test_categorical_measures_are_the_games_and_follow_the_agents(game, order):
    width = max(table.shape[-1] for table in game.policies)
    padded = [torch.nn.functional.pad(t, (0, width - t.shape[-1])) for t in game.policies]
    outcomes = torch.stack(padded, 1).log().clamp_min(-1e9).unsqueeze(1).expand(-1, 2, -1, -1)
    found = categorical_coordination(outcomes, game.latent.log())
    other = categorical_coordination(outcomes[:, :, order], game.latent.log())
    legal = [table.shape[-1] > 1 for table in game.policies]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        exact = float(game.mutual_information(i, j)) if legal[i] and legal[j] else math.nan
        shown = found.lower[i, j].item()
        torch.testing.assert_close(shown, exact, equal_nan=True, rtol=1e-6, atol=1e-9)
    for mine, theirs in (
        (found.lower, other.lower),
        (found.correlation.matrix, other.correlation.matrix),
        (found.correlation.error, other.correlation.error),
    ):
        torch.testing.assert_close(mine[order][:, order], theirs, equal_nan=True, rtol=0, atol=1e-9)
    control = found.independent.matrix[[0, 0, 1], [1, 2, 2]]
    assert float(control.nan_to_num(0.0).abs().max()) < 1e-6


def test_two_agents_that_do_what_the_latent_says():
    outcomes = torch.eye(3).log().clamp_min(-1e9)[:, None, None].expand(3, 6, 2, 3).clone()
    # In half of the states the second agent is dead: one action is left to it.
    outcomes[:, 3:, 1] = torch.tensor([0.0, -1e9, -1e9])
    found = categorical_coordination(outcomes, torch.full((3,), 1 / 3).log())
    torch.testing.assert_close(found.lower[0, 1].item(), math.log(3))
    torch.testing.assert_close(found.upper, found.lower)
    torch.testing.assert_close(found.latent_information, torch.full((2,), math.log(3)))
    # Half of the first agent's entropy lies where there is no partner to share it with.
    torch.testing.assert_close(found.correlation.matrix[0, 1].item(), math.sqrt(0.5))
    assert found.summary()["components"] == ["agent 0", "agent 1"]


def test_the_error_of_the_information_is_that_of_a_mean_over_states():
    copies = torch.eye(3).log().clamp_min(-1e9)[:, None, None].expand(3, 1, 2, 3)
    apart = torch.full_like(copies, -math.log(3))
    both = torch.cat((copies, apart), dim=1)
    found = categorical_coordination(both, torch.full((3,), 1 / 3).log())
    # Of the numbers x and 0: mean x / 2, sample deviation x / sqrt 2, over sqrt 2.
    for value in (found.lower, found.lower_error):
        torch.testing.assert_close(value[0, 1].item(), math.log(3) / 2)


def test_nobody_has_a_choice_and_json_says_null():
    forced = torch.tensor([0.0, -1e9, -1e9]).expand(1, 1, 2, 3)
    summary = categorical_coordination(forced, torch.zeros(1)).summary()
    assert summary["mi_lower_bound"] == [[None, None], [None, None]]
    assert summary["common"]["action_correlation"] == [[None, None], [None, None]]
    assert summary["latent_information"] == [None, None]
    json.dumps(summary, allow_nan=False)
    row = next(line for line in coordination_table(summary).splitlines() if "0 and 1" in line)
    assert row.split()[3:] == ["-", "-", "-"]


class Played:
    """An environment that has been played: rows of unequal length, which go on after their end."""

    def __init__(self, lengths, steps):
        self.lengths, self.steps = torch.tensor(lengths), steps

    def rollout(self, max_steps, policy, break_when_any_done):
        assert not break_when_any_done
        assert exploration_type() is ExplorationType.RANDOM
        step = torch.arange(self.steps).expand(len(self.lengths), -1)
        done = (step + 1) % self.lengths.unsqueeze(-1) == 0
        values = {"step": step, "next": {"done": done.unsqueeze(-1)}}
        return TensorDict(values, done.shape)


def test_states_come_from_whole_episodes_and_from_the_first_of_each_row():
    env, policy = Played([3, 10], 10), Policy(linear_policy([0.0, 0.0]))

    def visited(rows):
        with set_exploration_type(ExplorationType.RANDOM):
            return _visited_states(policy, env, 10, rows, ["step"])["step"]

    assert sorted(visited(100).tolist()) == sorted([*range(3), *range(10)])
    assert len(visited(6)) == 6
    torch.manual_seed(0)
    few = torch.cat([visited(6) for _ in range(300)])
    # Late steps are as likely as early ones: 7 of the 13 are at step 3 or later.
    torch.testing.assert_close((few >= 3).double().mean().item(), 7 / 13, rtol=0.0, atol=0.04)


@pytest.fixture(scope="module")
def navigation():
    pytest.importorskip("vmas")
    from vm3ac_modules.envs import make_env

    return lambda: make_env("predator_prey_2", 4, seed=0, max_steps=5)


def test_actions_are_drawn_while_states_are_visited(navigation, monkeypatch):
    from vm3ac_modules.algorithms import build

    seen = []

    def visited(*arguments):
        seen.append(exploration_type())
        return _visited_states(*arguments)

    monkeypatch.setattr(measuring, "_visited_states", visited)
    env = navigation()
    agent = build("vm3ac", env, hidden=(8, 8))
    measure_coordination(agent, env, max_steps=5, seed=1, rows=4, num_latents=8, draws=2)
    assert seen == [ExplorationType.RANDOM]


def test_a_measurement_repeats_and_leaves_the_callers_generator_alone(navigation):
    from vm3ac_modules.algorithms import build

    env = navigation()
    agent = build("vm3ac", env, hidden=(8, 8))
    options = {"max_steps": 5, "rows": 12, "num_latents": 8, "draws": 16}
    before = torch.get_rng_state()
    first = measure_coordination(agent, env, seed=1, **options).summary()
    assert torch.equal(torch.get_rng_state(), before)
    assert first == measure_coordination(agent, env, seed=1, **options).summary()
    assert first != measure_coordination(agent, env, seed=2, **options).summary()
    assert first["states"] == 12
    assert first["components"][:3] == ["agent 0 action 0", "agent 0 action 1", "agent 1 action 0"]
    size = [len(first["common"][name]) for name in ("action_correlation", "agent_correlation")]
    assert size == [4, 2]
    json.dumps(first, allow_nan=False)


@pytest.mark.parametrize(
    ("algorithm", "said"), [("maddpg", "deterministic"), ("maven", "once per episode")]
)
def test_what_cannot_be_measured_is_said(navigation, algorithm, said):
    from vm3ac_modules.algorithms import build

    env = navigation()
    agent = build(algorithm, env, hidden=(8, 8))
    found = measure_coordination(agent, agent.wrap(env), max_steps=5, seed=1)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert said in summary["note"]
    assert summary["common"] is summary["mi_upper_bound"] is None
    assert coordination_table(summary) == f"coordination {summary['note']}"


@pytest.mark.parametrize("name", ["rows", "num_latents", "draws"])
def test_sizes_below_two_are_refused(navigation, name):
    from vm3ac_modules.algorithms import build

    env = navigation()
    with pytest.raises(ValueError, match=f"{name} must be at least 2, got 1"):
        measure_coordination(build("ma_ac", env), env, max_steps=5, seed=1, **{name: 1})


def test_several_seeds_at_once_are_refused(navigation):
    from vm3ac_modules.algorithms import build

    env = navigation()
    agent = build("vm3ac", env, hidden=(8, 8), seeds=2)
    with pytest.raises(ValueError, match="one seed at a time: this agent holds 2"):
        measure_coordination(agent, env, max_steps=5, seed=1)


@pytest.mark.skipif(find_spec("jaxmarl") is None, reason="needs the extra smax")
@pytest.mark.parametrize("algorithm", ["vm3ac", "fop", "maven"])
def test_battles_are_enumerated(algorithm):
    from vm3ac_modules.algorithms import build
    from vm3ac_modules.envs import make_battle_env

    battle = make_battle_env("3m", 4, seed=0, max_steps=8)
    agent = build(algorithm, battle, hidden_size=8)
    if algorithm == "vm3ac":
        # An untrained head sees next to nothing of z; this one does.
        with torch.no_grad():
            agent.policy.net.from_latent.weight.mul_(8.0)
    found = measure_coordination(agent, agent.wrap(battle), max_steps=8, seed=1, rows=10)
    if algorithm == "maven":
        assert "once per episode" in found.note
        return
    assert found.states == 10
    assert found.ceiling == (math.log(3) if algorithm == "vm3ac" else 0.0)
    between = found.lower[[0, 0, 1], [1, 2, 2]]
    smaller = torch.minimum(found.latent_information.unsqueeze(-1), found.latent_information)
    if algorithm == "vm3ac":
        assert (between > 1e-3).all()
        assert (found.lower <= smaller + 1e-6).all()
    else:
        assert (between.abs() < 1e-9).all()
