"""SMAC's adapter against a game made up for tests: ends, deaths, failures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import SMACEnv, make_smac_env
from vm3ac_modules.testing import SMACStub

ACTION, REWARD, MASK = ("agents", "action"), ("agents", "reward"), ("agents", "action_mask")
NO_OP, STOP, NORTH, SOUTH, EAST, FIRST_ATTACK = 0, 1, 2, 3, 4, 6
# 6 actions and one for each enemy
ACTIONS = 9


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def game(**options):
    return SMACEnv(partial(SMACStub, **options), seed=0)


def step(env, *actions):
    return env.step(TensorDict({ACTION: torch.tensor(actions)}, env.batch_size))["next"]


def attack(mask):
    """The first enemy in reach, else east, else what is left, ``[N]``."""
    order = torch.tensor([0, 1, 0, 0, 2, 0, 5, 4, 3])
    return (mask * order).argmax(-1)


def wait(mask):
    return torch.where(mask[..., NO_OP], NO_OP, STOP)


def episode(env, policy):
    """One episode, ``[T]``."""
    td, seen = env.reset(), []
    while not td["done"].any():
        full = env.step(td.set(ACTION, policy(td[MASK])))
        seen.append(full)
        td = full["next"].exclude(REWARD)
    return torch.stack(seen)


def end(td, name):
    return bool(td["next", name][-1])


@pytest.mark.parametrize("batch", [(), (1,)])
def test_specs_and_shapes(batch):
    env = SMACEnv(SMACStub, batch, seed=0)
    check_env_specs(env)
    td = env.rollout(2)
    sizes = {
        ("agents", "observation"): (3, 18),
        ACTION: (3,),
        MASK: (3, ACTIONS),
        ("agents", "alive"): (3,),
        "state": (18,),
        ("next", *REWARD): (3, 1),
        ("info", "battle_won"): (1,),
        ("info", "dead_allies"): (1,),
        "done": (1,),
        "truncated": (1,),
        "terminated": (1,),
    }
    for key, size in sizes.items():
        assert td[key].shape == (*batch, 2, *size), key
    assert td[ACTION].dtype == torch.int64
    assert td["state"].dtype == torch.float32
    assert td[MASK].dtype == td["agents", "alive"].dtype == torch.bool


def test_entries_are_the_games():
    env, twin = SMACEnv(SMACStub, [1], seed=5), SMACStub(seed=5)
    td = env.reset()
    twin.reset()
    for _ in range(6):
        assert (td["agents", "observation"][0] == torch.from_numpy(np.stack(twin.get_obs()))).all()
        assert (td["state"][0] == torch.from_numpy(twin.get_state())).all()
        assert (td[MASK][0] == torch.tensor(twin.get_avail_actions()).bool()).all()
        action = attack(td[MASK])
        _, ended, info = twin.step(action[0].tolist())
        td = env.step(td.set(ACTION, action))["next"]
        assert bool(td["done"]) == ended
        for name in ("battle_won", "dead_allies", "dead_enemies"):
            assert float(td["info", name]) == float(info[name])
        if ended:
            break


def test_victory_and_deaths_are_paid_once():
    td = episode(game(enemy_shoots=False), attack)
    after = td["next"]
    died = after["info", "dead_enemies"] - td["info", "dead_enemies"]
    assert died.sum() == 3
    won = torch.zeros(len(td), 1)
    won[-1] = 1
    assert (after["info", "battle_won"] == won).all()
    expected = (10 * died - 0.1 + 200 * won).unsqueeze(1).expand(-1, 3, -1)
    torch.testing.assert_close(after[REWARD], expected)
    assert end(td, "terminated")
    assert not end(td, "truncated")
    # the sum tells of deaths paid again in the steps after
    assert after[REWARD][:, 0].sum() == pytest.approx(230 - 0.1 * len(td), abs=1e-3)


def test_defeat_and_the_dead():
    env = game(hit_points=2, enemy_hit_points=50)
    td = episode(env, wait)
    after = td["next"]
    assert end(td, "terminated")
    assert not after["truncated"].any()
    assert not after["info", "battle_won"].any()
    assert after[REWARD][:, 0].sum() == pytest.approx(-3 - 0.1 * len(td), abs=1e-4)
    dead = ~after["agents", "alive"]
    assert (dead.sum(-1, keepdim=True) == after["info", "dead_allies"]).all()
    assert dead.any(-1).sum() > 1, "some must die before the last"
    no_op = torch.nn.functional.one_hot(torch.tensor(NO_OP), ACTIONS).bool()
    assert (after[MASK][dead] == no_op).all()
    assert not after[MASK][~dead][:, NO_OP].any()
    assert not after["agents", "observation"][dead].any()


def test_both_sides_may_fall():
    td = episode(game(hit_points=2), attack)
    assert (td["next", "info", "dead_allies"][-1] == 3) == (
        not td["next", "info", "battle_won"].any()
    )


@pytest.mark.parametrize("continuing", [False, True])
def test_the_time_limit_truncates(continuing):
    env = game(enemy_shoots=False, episode_limit=5, continuing_episode=continuing)
    td = episode(env, wait)
    assert len(td) == 5
    assert end(td, "truncated")
    assert not td["next", "terminated"].any()
    assert not td["next", "done"][:-1].any()


def test_a_victory_in_the_last_step_is_no_truncation():
    length = len(episode(game(enemy_shoots=False), attack))
    td = episode(game(enemy_shoots=False, episode_limit=length), attack)
    assert len(td) == length
    assert end(td, "terminated")
    assert not end(td, "truncated")


def test_shaped_reward_is_the_games():
    env = SMACEnv(partial(SMACStub, enemy_shoots=False), seed=0, reward="shaped")
    td = episode(env, attack)
    assert td["next"][REWARD][:, 0].sum() == 9
    assert td["next"][REWARD].min() >= 0


@pytest.mark.parametrize(("option", "restarts"), [("empty_at", 0), ("raise_at", 1)])
def test_a_lost_connection_cuts_the_episode_short(option, restarts):
    games = []

    def make(seed):
        # the first game fails in its third step, those after it never
        games.append(SMACStub(seed=seed, **({option: 3} if not games else {})))
        return games[-1]

    env = SMACEnv(make, [1], seed=0)
    td = env.reset()
    for _ in range(2):
        td = env.step(td.set(ACTION, wait(td[MASK])))["next"]
        assert not td["done"].any()
    last = td.clone()
    td = env.step(td.set(ACTION, wait(td[MASK])))["next"]
    assert td["truncated"].all()
    assert td["done"].all()
    assert not td["terminated"].any()
    assert not td[REWARD].any()
    for key in ("state", ("agents", "observation"), ("info", "dead_allies")):
        assert (td[key] == last[key]).all()
    assert env.lost_episodes == 1
    td = env.rollout(30, break_when_any_done=False)
    assert td["next", "done"].any()
    assert env.lost_episodes == 1
    assert len(games) == 1 + restarts
    assert games[0].closed == bool(restarts)


def test_a_game_that_always_fails_is_given_up():
    seeds = []

    class Broken(SMACStub):
        def reset(self):
            raise OSError("no display")

    class Silent(SMACStub):
        def step(self, actions):
            return 0.0, True, {}

    def make(seed):
        seeds.append(seed)
        return Broken(seed=seed)

    env = SMACEnv(make, seed=7, max_restarts=2)
    with pytest.raises(RuntimeError, match=r"failed 3 times in a row.*no display.*doctor"):
        env.reset()
    assert seeds[0] == 7
    assert len(set(seeds)) == 3, "another try with the same seed would fail alike"
    assert env.lost_episodes == 3
    # a connection that is lost in every first step would otherwise go on for ever
    env = SMACEnv(lambda seed: Silent(seed=seed), seed=0, max_restarts=2)
    with pytest.raises(RuntimeError, match=r"failed 3 times in a row.*empty info"):
        env.rollout(9, break_when_any_done=False)
    # failures in a row, not in all
    env = SMACEnv(partial(SMACStub, raise_at=2), seed=0, max_restarts=1)
    env.rollout(12, break_when_any_done=False)
    assert env.lost_episodes > 2


def test_illegal_actions_are_named():
    env = game()
    env.reset()
    with pytest.raises(ValueError, match=r"SMACEnv: illegal action 0 of agent 1; legal now: \[1, "):
        step(env, STOP, NO_OP, STOP)
    assert env.lost_episodes == 0


def test_random_actions_are_legal():
    td = game(hit_points=2).rollout(60, break_when_any_done=False)
    assert td[MASK].gather(-1, td[ACTION].unsqueeze(-1)).all()
    assert (td[ACTION] == NO_OP).any()
    assert (td[ACTION] >= FIRST_ATTACK).any()


def test_seeds_and_checkpoints():
    env = game()
    first = env.reset()["state"]
    env.set_seed(0)
    assert (env.reset()["state"] == first).all()
    env.set_seed(1)
    assert (env.reset()["state"] != first).any()
    env.set_seed(0)
    env.reset()
    env.set_rng_state(env.get_rng_state())
    resumed = env.reset()["state"]
    assert (resumed != first).any(), "a resumed run does not play its first battles again"
    with pytest.raises(ValueError, match="needs 'seed' and 'games'"):
        env.set_rng_state({"seed": torch.tensor(0)})


def test_several_games_at_once():
    env = make_smac_env("3m", partial(SMACStub, episode_limit=6), 2, seed=4)
    try:
        assert env.batch_size == (2,)
        check_env_specs(env)
        env.set_seed(4)
        td = env.rollout(14, break_when_any_done=False)
        assert td["next", "truncated"].any()
        assert (td["state"][0] != td["state"][1]).any()
        assert td[MASK].gather(-1, td[ACTION].unsqueeze(-1)).all()
    finally:
        env.close()


def test_one_game_has_a_row_and_the_maps_name():
    made = {}

    def make(**options):
        made.update(options)
        return SMACStub(seed=options["seed"])

    env = make_smac_env("3s_vs_3z", make, seed=9, difficulty="A")
    assert env.batch_size == (1,)
    assert made == {"map_name": "3s_vs_3z", "seed": 9, "difficulty": "A"}


def test_bad_input():
    with pytest.raises(ValueError, match="backend must be 'smac' or 'smacv2', got 'pysc2'"):
        make_smac_env("3m", "pysc2")
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        make_smac_env("3m", SMACStub, 0)
    with pytest.raises(ValueError, match="'sparse' or 'shaped', got 'x'"):
        SMACEnv(SMACStub, reward="x")
    with pytest.raises(ValueError, match=r"batch_size must be \[\] or \[1\], got \[2\]"):
        SMACEnv(SMACStub, [2])
    with pytest.raises(RuntimeError, match="reset before the first step"):
        game().rand_action()


def test_constants_of_the_reward_are_the_environment_s():
    env = make_smac_env("3m", backend=SMACStub, seed=0, step_cost=7.0)
    assert (env.rollout(1)["next", "agents", "reward"] == -7.0).all()


def test_a_time_limit_is_the_map_s():
    from vm3ac_modules.envs import make_battle_env

    with pytest.raises(ValueError, match="max_steps cannot be set with backend='smac'"):
        make_battle_env("3m", backend="smac", max_steps=10)
