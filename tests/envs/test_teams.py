"""Teams that play side by side start where each would start alone."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("vmas")

from vm3ac_modules.envs import env_rng_state, set_env_rng_state
from vm3ac_modules.envs.tasks import battle_task, find_task
from vm3ac_modules.learning import evaluation_seed

TASKS = (
    *("predator_prey_2", "predator_prey_4", "cooperative_navigation_3", "treasure_collection_4"),
    "guarded_rendezvous",
)
ROWS = 3
OBSERVATION = ("agents", "observation")


def named(name):
    if name.startswith("multiwalker") and find_spec("pettingzoo") is None:
        pytest.skip("pettingzoo is not installed")
    return find_task(name, max_steps=None if name == "guarded_rendezvous" else 2)


@pytest.mark.parametrize("name", [*TASKS, "multiwalker_2"])
def test_a_team_starts_where_it_would_alone(name):
    task = named(name)
    together = task.make(3 * ROWS, seed=5, teams=3)
    alone = [task.make(ROWS, seed=seed) for seed in (5, 6, 7)]
    for first in (None, 40):
        if first is not None:
            together.set_seed(first, static_seed=True)
            for team, env in enumerate(alone):
                env.set_seed(first + team, static_seed=True)
        # The second episode too, whatever was played in the first.
        for _ in range(2):
            starts = together.reset()[OBSERVATION].chunk(3)
            for start, env in zip(starts, alone, strict=True):
                assert torch.equal(start, env.reset()[OBSERVATION])
            together.rollout(1, auto_reset=True) if name == "multiwalker_2" else None
            for env in alone if name == "multiwalker_2" else ():
                env.rollout(1, auto_reset=True)
    assert not torch.equal(starts[0], starts[1])


@pytest.mark.parametrize("name", TASKS)
def test_one_row_draws_from_its_team(name):
    task = find_task(name)
    together, alone = task.make(4, seed=0, teams=2), task.make(2, seed=1)
    both, own = together.base_env.scenario, alone.base_env.scenario
    for scenario, row in ((both, 3), (own, 1)):
        scenario.reset_world_at(row)
    assert torch.equal(both.positions[3], own.positions[1])
    if name == "treasure_collection_4":
        assert torch.equal(both.treasures[3], own.treasures[1])


@pytest.mark.parametrize("name", ["predator_prey_2", "multiwalker_2"])
def test_streams_of_teams_go_through_a_checkpoint(name):
    task = named(name)
    env, other = task.make(6, seed=0, teams=2), task.make(6, seed=9, teams=2)
    env.reset()
    state = env_rng_state(env)
    expected = env.reset()[OBSERVATION]
    set_env_rng_state(other, state)
    assert torch.equal(other.reset()[OBSERVATION], expected)


@pytest.mark.parametrize("name", ["predator_prey_2", "multiwalker_2"])
def test_rows_divide_among_teams(name):
    with pytest.raises(ValueError, match="5 rows do not divide among 2 teams"):
        named(name).make(5, seed=0, teams=2)


@pytest.mark.parametrize("name", TASKS)
def test_evaluations_start_where_no_training_does(name):
    task = named(name)

    def starts(seed, rounds):
        env = task.make(20, seed=seed)
        seen = [env.reset()[OBSERVATION].flatten(1) for _ in range(rounds)]
        return set(map(tuple, torch.cat(seen).tolist()))

    trained = set().union(*(starts(seed, 10) for seed in (0, 1, 2, 100)))
    evaluated = set().union(*(starts(evaluation_seed(seed), 1) for seed in (0, 1, 2, 100)))
    assert trained.isdisjoint(evaluated)
    # The comparison can fail: the same seed gives the same starts.
    assert starts(0, 1) <= trained


@pytest.mark.parametrize(
    ("name", "options", "judged"),
    [
        ("guard", {}, True),
        ("guard", {"guard": False}, False),
        ("same_mode", {}, False),
        ("same_mode", {"guard": True}, True),
        ("guarded_rendezvous", {}, True),
        ("learning_prey", {}, True),
        ("rendezvous", {}, False),
    ],
)
def test_an_adversary_is_each_team_s_own_and_judges(name, options, judged):
    task = find_task(name, **options)
    assert (task.best_response is not None) is judged
    env = task.make(4, seed=0, teams=2).base_env
    adversary = getattr(env, "scenario", env).adversary
    assert adversary.frequency.shape == (2 if judged else 1, 4)


def test_small_games_are_judged_by_their_options():
    assert battle_task("guard", "games").best_response is not None
    assert battle_task("guard", "games", guard=False).best_response is None
    assert battle_task("same_mode", "games", guard=True).best_response is not None
    assert battle_task("climbing", "games").best_response is None


def test_a_game_that_would_never_be_scored_is_refused():
    assert find_task("guarded_rendezvous", horizon=6).max_steps == 6
    assert find_task("guarded_rendezvous", max_steps=30).max_steps == 30
    with pytest.raises(ValueError, match="scored at step 20, which max_steps=5 cuts off"):
        find_task("guarded_rendezvous", max_steps=5)
