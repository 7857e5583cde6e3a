"""Matrix games: optima by hand and by enumeration, rewards, stages, and what is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import MATRIX_GAMES, MatrixGame, MatrixGameEnv, make_battle_env

ACTION = ("agents", "action")
REWARD = ("next", "agents", "reward")
SHAPES = {"coordination": (2, 2, 1), "climbing": (2, 3, 1), "penalty": (2, 3, 1)}
SHAPES |= {"non_monotonic": (2, 3, 1), "two_step": (2, 2, 2)}


@pytest.mark.parametrize("name", MATRIX_GAMES)
def test_keeps_its_specs(name):
    env = MatrixGameEnv(name, 3)
    check_env_specs(env)
    assert (env.game.num_agents, env.game.num_actions, env.max_steps) == SHAPES[name]
    assert env.game.source


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("coordination", 10),
        ("climbing", 11),
        ("penalty", 10),
        ("non_monotonic", 8),
        ("two_step", 8),
    ],
)
def test_optima_by_hand(name, best):
    assert MATRIX_GAMES[name].optimum() == best


@pytest.mark.parametrize(
    ("name", "joint", "paid"),
    [
        ("coordination", (0, 1), 0),
        ("climbing", (0, 0), 11),
        ("climbing", (1, 0), -30),
        ("climbing", (1, 2), 6),
        ("climbing", (2, 1), 0),
        ("penalty", (0, 2), -100),
        ("penalty", (1, 1), 2),
        ("penalty", (2, 2), 10),
        ("non_monotonic", (0, 2), -12),
    ],
)
def test_rewards_by_hand(name, joint, paid):
    env = MatrixGameEnv(name, 2)
    td = env.reset()
    td[ACTION] = torch.tensor([joint, joint])
    td = env.step(td)
    assert td[REWARD].flatten().tolist() == [paid] * 4
    assert bool(td["next", "terminated"].all())
    won = float(paid == env.optimum)
    assert td["next", "info", "battle_won"].flatten().tolist() == [won, won]


def test_agent_0_chooses_the_second_matrix():
    env = MatrixGameEnv("two_step", 3)
    td = env.reset()
    assert td["state"].tolist() == [[1, 0, 0]] * 3
    td[ACTION] = torch.tensor([[0, 1], [1, 0], [1, 1]])
    td = env.step(td)
    assert not bool(td["next", "done"].any())
    assert td["next", "state"].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert td["next", "agents", "observation"][0].tolist() == [[0, 1, 0]] * 2
    td = td["next"]
    td[ACTION] = torch.tensor([[1, 0], [1, 1], [0, 1]])
    td = env.step(td)
    assert td[REWARD][:, 0, 0].tolist() == [7, 8, 1]
    assert td["next", "info", "battle_won"].flatten().tolist() == [0, 1, 0]
    # A game that is over waits for its reset, pays nothing, and stays as it is.
    after = td["next"]
    after[ACTION] = torch.ones(3, 2, dtype=torch.int64)
    again = env.step(after)
    assert again[REWARD].abs().sum() == 0
    assert again["next", "info", "battle_won"].flatten().tolist() == [0, 1, 0]
    assert bool(again["next", "done"].all())


def test_rows_are_reset_alone():
    env = MatrixGameEnv("two_step", 2)
    td = env.reset()
    td[ACTION] = torch.ones(2, 2, dtype=torch.int64)
    td = env.step(td)["next"]
    td["_reset"] = torch.tensor([[True], [False]])
    assert env.reset(td)["state"].tolist() == [[1, 0, 0], [0, 0, 1]]


@st.composite
def games(draw):
    agents, actions, stages = draw(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
    )
    shape = (stages, *(actions,) * agents)
    numbers = st.integers(-20, 20)
    rewards = draw(st.lists(numbers, min_size=math.prod(shape), max_size=math.prod(shape)))
    following = torch.full(shape, -1)
    for stage in range(stages):
        for place in itertools.product(range(actions), repeat=agents):
            if draw(st.booleans()) and stage + 1 < stages:
                following[(stage, *place)] = draw(st.integers(stage + 1, stages - 1))
    return MatrixGame(torch.tensor(rewards).reshape(shape).tolist(), following.tolist())


@given(games())
@settings(max_examples=30, deadline=None)
def test_the_optimum_is_the_best_of_all_deterministic_policies(game):
    """Played by the environment, all rows at once: one row per joint policy."""
    joint = list(itertools.product(range(game.num_actions), repeat=game.num_agents))
    policies = torch.tensor(list(itertools.product(joint, repeat=len(game.rewards))))
    policies = policies[torch.randperm(len(policies))[:2000]] if len(policies) > 2000 else policies
    whole = len(joint) ** len(game.rewards) <= 2000
    env = MatrixGameEnv(game, len(policies))
    rows = torch.arange(len(policies))
    td, total = env.reset(), torch.zeros(len(policies))
    for _ in range(env.max_steps):
        td[ACTION] = policies[rows, td["state"].argmax(-1)]
        td = env.step(td)
        total, td = total + td[REWARD][:, 0, 0], td["next"]
    assert bool(td["done"].all())
    assert float(total.max()) <= game.optimum() + 1e-4
    if whole:
        assert float(total.max()) == pytest.approx(game.optimum(), abs=1e-4)
    assert torch.equal(td["info", "battle_won"].flatten() > 0, total >= game.optimum() - 1e-4)


@pytest.mark.parametrize(
    ("payoffs", "following", "message"),
    [
        ([1.0], None, r"payoffs must be \[S, A, \.\., A\], got \[1\]"),
        ([[[1, 2, 3], [1, 2, 3]]], None, r"got \[1, 2, 3\]"),
        ([[[float("nan")]]], None, "payoffs must be finite"),
        ([[[1, 2], [3, 4]]], [[[-1]]], r"following must be \[1, 2, 2\]"),
        ([[[1]], [[1]]], [[[1]], [[0]]], "stage 1 must lead to -1 or to a later stage"),
        ([[[1]]], [[[1]]], "stage 0 must lead to"),
    ],
)
def test_games_that_are_none(payoffs, following, message):
    with pytest.raises(ValueError, match=message):
        MatrixGame(payoffs, following)


def test_bad_options():
    with pytest.raises(ValueError, match="unknown game 'chess'; valid: coordination, climbing"):
        MatrixGameEnv("chess")
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        MatrixGameEnv("climbing", 0)


def test_a_game_is_not_won_before_it_is_over():
    env = MatrixGameEnv(MatrixGame([[[-1.0, -2.0], [-2.0, -3.0]]]), 1)
    td = env.reset()
    assert float(td["info", "battle_won"]) == 0.0
    td["agents", "action"] = torch.zeros(1, 2, dtype=torch.int64)
    assert float(env.step(td)["next", "info", "battle_won"]) == 1.0


@pytest.mark.parametrize("action", [-1, 3])
@pytest.mark.parametrize("name", ["climbing", "guard"])
def test_numbers_that_are_no_actions_are_refused(name, action):
    most = 2 if name == "climbing" else 3
    env = make_battle_env(name, 2, backend="games")
    td = env.reset()
    td["agents", "action"] = torch.full((2, 2), action if action < 0 else most + 1)
    with pytest.raises(ValueError, match=f"actions are numbers from 0 to {most}"):
        env.step(td)


@pytest.mark.parametrize("options", [{"max_steps": 3}, {"actions": "continuous"}])
def test_what_is_fixed_of_small_games(options):
    with pytest.raises(ValueError, match="of guard is fixed"):
        make_battle_env("guard", 2, backend="games", **options)
