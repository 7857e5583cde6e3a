"""SMAClite's adapter against a battle made up for tests."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import sys
from functools import partial

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import SMACliteEnv, lost_episodes, make_battle_env, time_limit
from vm3ac_modules.envs.battles import _smaclite_game
from vm3ac_modules.envs.battles._smaclite_game import SCENARIOS
from vm3ac_modules.envs.battles.smaclite_maps import OWN_SCENARIOS, SMACLITE_MAPS
from vm3ac_modules.envs.tasks import battle_task
from vm3ac_modules.evaluation import unit_trace
from vm3ac_modules.testing import SMACliteStub

ACTION, REWARD, MASK = ("agents", "action"), ("agents", "reward"), ("agents", "action_mask")
ALIVE, SEEN = ("agents", "alive"), ("agents", "observation")
NO_OP, STOP, EAST, FIRST_ATTACK = 0, 1, 4, 6
ROWS = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make(rows=ROWS, *, seed=0, limit=None, workers=1, **options):
    own = {name: options.pop(name) for name in ("reward", "win", "step_cost") if name in options}
    battle = partial(SMACliteStub, **options)
    return SMACliteEnv(
        *("2s3z", rows), seed=seed, make_battle=battle, max_steps=limit, num_workers=workers, **own
    )


def attack(mask):
    """The first enemy in reach, else east, else what is left, ``[B, N]``."""
    order = torch.tensor([0, 1, 0, 0, 2, 0, 5, 4, 3])
    return (mask * order).argmax(-1)


def wait(mask):
    return torch.where(mask[..., NO_OP], NO_OP, STOP)


def play(env, policy, steps=60):
    """Until every row is over, ``[B, T]``."""
    td, seen = env.reset(), []
    while not td["done"].all() and len(seen) < steps:
        full = env.step(td.set(ACTION, policy(td[MASK])))
        seen.append(full)
        td = full["next"].exclude(REWARD)
    assert td["done"].all()
    return torch.stack(seen, 1)


def test_specs_and_shapes():
    env = make()
    check_env_specs(env)
    td = env.rollout(2)
    sizes = {
        SEEN: (3, 18),
        ACTION: (3,),
        MASK: (3, 9),
        ALIVE: (3,),
        "state": (18 + 27,),
        ("next", *REWARD): (3, 1),
        ("info", "battle_won"): (1,),
        ("info", "dead_enemies"): (1,),
        "done": (1,),
        "truncated": (1,),
    }
    for key, size in sizes.items():
        assert td[key].shape == (ROWS, 2, *size), key
    assert td[ACTION].dtype == torch.int64
    assert td[MASK].dtype == td[ALIVE].dtype == torch.bool


def test_entries_are_the_battles_own():
    env = make(1)
    td, twin = env.reset(), SMACliteStub()
    # The row's first seed, drawn as the environment drew it.
    again = make(1)
    twin.reset(seed=again._seeds.draw(0))
    while not td["done"].all():
        assert (td[SEEN][0] == torch.from_numpy(np.stack(twin.get_obs()))).all()
        assert (td["state"][0] == torch.from_numpy(twin.get_state())).all()
        assert (td[MASK][0] == torch.from_numpy(np.stack(twin.get_avail_actions())).bool()).all()
        assert td[ALIVE][0].tolist() == [i in twin.agents for i in range(3)]
        assert float(td["info", "dead_enemies"]) == 3 - len(twin.enemies)
        action = attack(td[MASK])
        twin.step(action[0].tolist())
        td = env.step(td.set(ACTION, action))["next"]


def test_victory_and_deaths_are_paid_once_and_rows_wait():
    td = play(make(enemy_shoots=False), attack)
    after = td["next"]
    died = after["info", "dead_enemies"] - td["info", "dead_enemies"]
    assert (died.sum(1) == 3).all()
    waits = td["done"]
    won = after["info", "battle_won"] - td["info", "battle_won"]
    assert (won.sum(1) == 1).all()
    expected = (10 * died + 200 * won - 0.1).masked_fill(waits, 0.0)
    torch.testing.assert_close(after[REWARD], expected.unsqueeze(2).expand_as(after[REWARD]))
    assert len({int(n) for n in (~waits).sum(1)}) > 1, "some row must wait for the others"
    assert after["terminated"][:, -1].all()
    assert not after["truncated"].any()


def test_defeat_and_the_dead():
    td = play(make(hit_points=2, enemy_hit_points=50), wait)
    after = td["next"]
    assert after["terminated"][:, -1].all()
    assert not after["info", "battle_won"].any()
    total = after[REWARD][:, :, 0].sum(1).squeeze(-1)
    lengths = (~td["done"]).sum(1).squeeze(-1)
    torch.testing.assert_close(total, -3 - 0.1 * lengths)
    dead = ~after[ALIVE]
    only = torch.nn.functional.one_hot(torch.tensor(NO_OP), 9).bool()
    assert (after[MASK][dead] == only).all()
    assert not after[MASK][~dead][:, NO_OP].any()
    assert not after[SEEN][dead].any()


def test_a_victory_in_which_both_fall_is_none():
    """SMAClite calls it won; no ally lives to see it."""

    class Both(SMACliteStub):
        def step(self, actions):
            self.health[:] = 0
            self._update()
            return tuple(self.get_obs()), 1.0, True, False, {"battle_won": True}

    env = SMACliteEnv("2s3z", 1, seed=0, make_battle=Both)
    td = env.reset()
    after = env.step(td.set(ACTION, wait(td[MASK])))["next"]
    assert after["terminated"].all()
    assert not after["info", "battle_won"].any()
    assert float(after[REWARD][0, 0]) == pytest.approx(30 - 3 - 0.1)


@pytest.mark.parametrize("limit", [1, 5])
def test_the_time_limit_truncates(limit):
    env = make(enemy_shoots=False, limit=limit)
    td = play(env, wait)
    assert td.shape == (ROWS, limit)
    assert td["next", "truncated"][:, -1].all()
    assert not td["next", "terminated"].any()
    assert time_limit(env) == limit
    assert lost_episodes(env) == 0


def test_a_victory_in_the_last_step_is_no_truncation():
    length = play(make(1, enemy_shoots=False), attack).shape[1]
    td = play(make(1, enemy_shoots=False, limit=length), attack)
    assert td["next", "terminated"][0, -1]
    assert not td["next", "truncated"].any()


def test_rewards():
    td = play(make(enemy_shoots=False, reward="shaped"), attack)
    assert (td["next"][REWARD][:, :, 0].sum(1) == 9).all()
    env = make(1, step_cost=7.0)
    assert (env.rollout(1)["next"][REWARD] == -7.0).all()


def test_workers_play_what_one_process_plays():
    env, shared = make(seed=3), make(seed=3, workers=2)
    try:
        shared.reset()
        shared.set_seed(3)
        workers = shared._rows.env._workers
        for process in workers:
            # As a scheduler does, whose signal reaches the whole group.
            os.kill(process.pid, signal.SIGTERM)
        one, two = (play(e, attack) for e in (env, shared))
        for key in (SEEN, MASK, ALIVE, "state", ("next", *REWARD), ("next", "done")):
            assert torch.equal(one[key], two[key]), key
        assert torch.equal(unit_trace(env), unit_trace(shared))
        workers[1].kill()
        workers[1].join()
        said = r"a process of the environment's 2 ended: it was killed.*resume=true"
        with pytest.raises(RuntimeError, match=said):
            play(shared, attack)
    finally:
        shared.close()
    assert not set(workers) & set(multiprocessing.active_children())


def test_seeds_and_checkpoints():
    env = make()
    first = env.reset()["state"]
    state = {name: value.clone() for name, value in env.get_rng_state().items()}
    second = env.reset()["state"]
    assert (first != second).any()
    env.rollout(2)
    # Nothing of the episode before is left, its last actions in the state neither.
    env.set_seed(0)
    assert torch.equal(env.reset()["state"], first)
    assert not first[:, 18:].any()
    env.set_rng_state(state)
    assert torch.equal(env.reset()["state"], second)
    assert len({tuple(row.tolist()) for row in first}) == ROWS


def test_units_for_a_picture():
    env = make(2, enemy_shoots=False)
    td = env.reset()
    while not td["done"].any():
        action = attack(td[MASK])
        td = env.step(td.set(ACTION, action))["next"]
        units = env.units
        for row in range(2):
            for i in range(3):
                aim = int(action[row, i]) - FIRST_ATTACK
                if aim >= 0 and units.alive[row, 3 + aim]:
                    assert units.targets[row, i] == 3 + aim
    assert units.positions.shape == (2, 6, 2)
    assert units.teams[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert ((units.health > 0) == units.alive).all()
    assert (units.alive[:, 3:].sum(1) == 3 - td["info", "dead_enemies"].squeeze(-1)).all()
    # The dead stay where they fell.
    assert (units.positions.abs().sum(-1) > 0).all()
    assert unit_trace(env).shape == (2, 6, 7)


def test_illegal_actions_are_named_before_the_battle_sees_them():
    env = make(2)
    env.reset()
    action = torch.tensor([[STOP, STOP, STOP], [STOP, NO_OP, STOP]])
    with pytest.raises(ValueError, match="SMACliteEnv: illegal action 0 of row 1, agent 1"):
        env.step(TensorDict({ACTION: action}, [2]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "max_steps must be at least 1, got 0"),
        ({"workers": 3}, "num_workers must be at least 1 and divide num_envs=4, got 3"),
        ({"reward": "dense"}, "'sparse' or 'shaped', got 'dense'"),
        ({"reward": "shaped", "win": 1.0}, "win is a constant of reward='sparse'"),
        ({"win": "x"}, "SMACliteEnv: win must be a finite number, got 'x'"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ally_deth": 3.0}, r"SMACliteEnv: unknown option 'ally_deth' \(did you mean 'ally_deat"),
        ({"difficulty": "7"}, "unknown option 'difficulty'; valid besides: .*use_cpp_rvo2.*win"),
        ({"map_file": "m.json", "win": 1.0}, "unknown option 'map_file'"),
        ({"use_cpp_rvo2": "yes"}, "use_cpp_rvo2 must be true or false, got 'yes'"),
    ],
)
def test_options_that_smaclite_would_ignore(options, said):
    with pytest.raises(ValueError, match=said):
        make_battle_env("2s3z", backend="smaclite", make_battle=SMACliteStub, **options)


def test_the_compiled_avoidance_of_collisions(monkeypatch):
    made = []

    def battle(**options):
        made.append(options)
        return SMACliteStub(**options)

    SMACliteEnv("2s3z", make_battle=battle, use_cpp_rvo2=True)
    assert made[0] == {"map_name": "2s3z", "use_cpp_rvo2": True}
    there = importlib.util.find_spec("math")
    found = {"smaclite": there, "rvo2": None}
    monkeypatch.setattr(_smaclite_game, "find_spec", found.__getitem__)
    said = r"use_cpp_rvo2=true needs the package rvo2.*micadam/SMAClite-Python-RVO2\.git"
    with pytest.raises(ImportError, match=said):
        SMACliteEnv("2s3z", use_cpp_rvo2=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2s3x", r"unknown map '2s3x' \(did you mean '2s3z'\?\); available: 2s3z, 3s5z"),
        ("6h_vs_8z", r"'6h_vs_8z': backend='smax' or backend='smac' \(StarCraft II\) has it; av"),
        ("so_many_baneling", r"backend='smac' \(StarCraft II\) has it; available: 2s3z"),
        ("terran_5_vs_5", r"'terran_5_vs_5': backend='smacv2' \(StarCraft II\) has it"),
    ],
)
def test_maps_that_it_does_not_have(name, said):
    with pytest.raises(ValueError, match=said):
        make_battle_env(name, backend="smaclite", make_battle=SMACliteStub)


def test_a_map_that_smax_lacks_says_who_has_it():
    with pytest.raises(ValueError, match="play it with backend='smaclite' or backend='smac'"):
        make_battle_env("MMM2")
    with pytest.raises(ValueError, match=r"play it with backend='smac' \(StarCraft II\)"):
        make_battle_env("so_many_baneling")
    with pytest.raises(ValueError, match=r"'zerg_5_vs_5': backend='smacv2' .* has it"):
        make_battle_env("zerg_5_vs_5")
    with pytest.raises(ValueError, match="'climbing': backend='games' has it"):
        make_battle_env("climbing")


def test_without_smaclite_there_is_a_way_to_get_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    monkeypatch.delitem(sys.modules, "smaclite", raising=False)
    said = r"SMAClite is not installed, and PyPI does not have it.*uoe-agents/smaclite\.git"
    with pytest.raises(ImportError, match=said):
        make_battle_env("2s3z", backend="smaclite")


def test_own_scenarios_have_their_files():
    assert set(SMACLITE_MAPS) >= OWN_SCENARIOS
    assert {path.stem for path in SCENARIOS.glob("*.json")} == OWN_SCENARIOS
    for name in OWN_SCENARIOS:
        about = json.loads((SCENARIOS / f"{name}.json").read_text())
        sides = {
            side: sum(sum(g["units"].values()) for g in about["groups"] if g["faction"] == side)
            for side in ("ALLY", "ENEMY")
        }
        assert sides == {"ALLY": about["num_allied_units"], "ENEMY": about["num_enemy_units"]}


def test_it_is_a_task_whose_rows_are_no_processes():
    task = battle_task("2s3z", "smaclite")
    assert task.name == "battle/smaclite/sparse/2s3z"
    assert not task.row_is_process
    env = battle_task("2s3z", "smaclite", make_battle=SMACliteStub).make(2, seed=0)
    assert task.limit(env) == 120
