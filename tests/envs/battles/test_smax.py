"""SMAX: rewards recomputed from the dead, masks, ends, states and maps."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

# importorskip would import it, with its greetings and before the settings of JAX are made
if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)

from contracts.smax import (
    ACTION,
    ALIVE,
    MAP,
    MASK,
    REWARD,
    ROWS,
    SEEN,
    STOP,
    focus_fire_action,
    play,
    same,
    step,
)
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import SMAXEnv
from vm3ac_modules.envs.battles.smax_maps import NOT_IN_SMAX, SMAX_MAPS, smax_map


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def battles(shared):
    """Whole battles, half of them won, ``[B, T]``."""
    shared.set_seed(4)
    return play(shared, policy=focus_fire_action)


def test_specs(env):
    check_env_specs(env)


def test_shapes_and_types(env):
    td = env.rollout(2)
    sizes = {
        SEEN: (3, 75),
        ACTION: (3,),
        MASK: (3, 8),
        ALIVE: (3,),
        "state": (72,),
        ("next", *REWARD): (3, 1),
        ("info", "battle_won"): (1,),
        ("info", "dead_allies"): (1,),
        ("info", "dead_enemies"): (1,),
        "done": (1,),
        "terminated": (1,),
        "truncated": (1,),
    }
    for key, size in sizes.items():
        assert td[key].shape == (ROWS, 2, *size), key
    assert td[ACTION].dtype == torch.int64
    for key in (SEEN, "state", ("next", *REWARD), ("info", "battle_won")):
        assert td[key].dtype == torch.float32, key
    for key in (MASK, ALIVE, "done", "terminated", "truncated"):
        assert td[key].dtype == torch.bool, key


def test_sparse_reward_counts_the_dead(battles):
    before, after = battles, battles["next"]
    going = ~before["done"]
    died = {
        side: after["info", f"dead_{side}"] - before["info", f"dead_{side}"]
        for side in ("allies", "enemies")
    }
    won = after["info", "battle_won"] - before["info", "battle_won"]
    expected = 10 * died["enemies"] - died["allies"] - 0.1 + 200 * won
    expected = torch.where(going, expected, 0.0).unsqueeze(2).expand_as(after[REWARD])
    torch.testing.assert_close(after[REWARD], expected)
    # what the metrics say is what the observations show: the dead see and are nothing
    assert same(after["info", "dead_allies"][..., 0], (~after[ALIVE]).sum(-1))
    bodies = after["state"][..., :60].unflatten(-1, (6, 10))
    assert same(after["info", "dead_enemies"][..., 0], (bodies[:, :, 3:, 0] == 0).sum(-1))
    assert died["enemies"].sum() > 2
    assert died["allies"].sum() > 2


def test_victory(battles):
    end = battles["next"][:, -1]
    dead = {side: end["info", f"dead_{side}"] for side in ("allies", "enemies")}
    won = (dead["enemies"] == 3) & (dead["allies"] < 3)
    assert same(end["info", "battle_won"], won.float())
    assert 0 < won.sum() < ROWS, "choose a seed with victories and defeats"
    assert end["terminated"].all()
    assert not end["truncated"].any()


@pytest.fixture(scope="module")
def custom():
    """Other constants, a short time limit, and walls that do no harm."""
    constants = {"enemy_death": 7, "ally_death": 5, "step_cost": 3, "win": 11}
    return SMAXEnv(MAP, ROWS, seed=3, max_steps=9, walls_cause_death=False, **constants)


def test_the_time_limit_truncates(custom):
    custom.reset()
    stop = torch.full((ROWS, 3), STOP)
    for _ in range(8):
        assert not step(custom, stop)["done"].any()
    last = step(custom, stop)
    assert last["truncated"].all()
    assert last["done"].all()
    assert not last["terminated"].any()
    assert same(last[REWARD], torch.tensor(-3.0))
    # a row that is over waits, and costs nothing
    later = step(custom, stop)
    for key in (SEEN, "state", "truncated"):
        assert same(later[key], last[key])
    assert not later[REWARD].any()
    assert not custom.reset()["done"].any()


def test_constants_of_the_reward(custom):
    reward = custom._game.sparse(enemies_died=2, allies_died=1, won=True)
    assert reward == 2 * 7 - 5 - 3 + 11


def test_walls(env, custom):
    def go_west(env):
        env.set_seed(3)
        env.reset()
        for _ in range(9):
            td = step(env, torch.where(env.action_mask[..., 3], 3, STOP))
        return td

    assert go_west(env)["info", "dead_allies"].any()
    assert not go_west(custom)["info", "dead_allies"].any()


def test_shaped_reward_is_the_share_of_health_that_enemies_lost():
    env, lost = SMAXEnv(MAP, ROWS, seed=0, reward="shaped"), []
    health = {}

    def after(full):
        now = env.units.health[:, 3:]
        lost.append((health.get("was", torch.ones_like(now)) - now).sum(-1) / 3)
        health["was"] = now

    td = play(env, 25, focus_fire_action, after)
    bonus = td["next", "info", "battle_won"] - td["info", "battle_won"]
    expected = torch.stack(lost, 1).unsqueeze(-1) + bonus
    torch.testing.assert_close(td["next"][REWARD][:, :, 0], expected)
    assert expected.sum() > 0.5


def test_masks_of_the_living_and_the_dead(battles, env):
    seen = battles["next"]
    dead = ~seen[ALIVE]
    assert dead.any()
    only_stop = torch.nn.functional.one_hot(torch.tensor(STOP), 8).bool()
    assert same(seen[MASK][dead], only_stop)
    assert seen[MASK][~dead][:, :5].all()
    env.reset()
    assert not env.action_mask[..., 5:].any(), "armies start out of each other's reach"
    for _ in range(12):
        td = step(env, focus_fire_action(env))
        units = env.units
        reach = torch.cdist(units.positions[:, :3], units.positions[:, 3:])
        can = (reach < 6) & units.alive[:, :3, None] & units.alive[:, None, 3:]
        assert same(td[MASK][..., 5:], can)
    assert can.any()


def test_random_actions_are_legal_and_all_occur(env):
    td = env.reset()
    drawn = torch.stack([env.rand_action(td)[ACTION] for _ in range(60)])
    assert same(drawn.unique(), torch.arange(5))
    # an illegal one would raise
    rollout = env.rollout(150, break_when_any_done=False)
    chosen = rollout[MASK].gather(-1, rollout[ACTION].unsqueeze(-1))
    assert chosen.all()
    assert rollout["next", "done"].sum() > ROWS


@pytest.mark.parametrize("bad", [5, 8, -1])
def test_illegal_actions_are_named(env, bad):
    env.reset()
    action = torch.full((ROWS, 3), STOP)
    action[2, 1] = bad
    with pytest.raises(ValueError, match=rf"action {bad} of row 2, agent 1; legal now: \[0, 1, 2"):
        step(env, action)


def test_state_is_normalized_and_says_what_it_should(battles, env):
    state = battles["next", "state"]
    assert state.min() >= 0
    assert state.max() <= 1
    env.reset()
    for _ in range(14):
        td = step(env, focus_fire_action(env))
    units = env.units
    body = td["state"][:, :60].unflatten(-1, (6, 10))
    alive = units.alive.unsqueeze(-1)
    torch.testing.assert_close(body[..., 0], units.health * units.alive)
    torch.testing.assert_close(body[..., 1:3], units.positions / 32 * alive)
    assert same(body[..., 4:].argmax(-1)[units.alive], units.types[units.alive])
    assert (body[..., 3] > 0).any(), "someone has just shot"
    assert same(td["state"][:, 60:66], units.teams)
    torch.testing.assert_close(td["state"][:, 66:], units.types / 5)


def test_units_tell_whom_they_attack(env):
    env.reset()
    assert (env.units.targets == -1).all()
    attacked = torch.zeros(2, dtype=torch.bool)
    for _ in range(16):
        reach, action = env.action_mask, focus_fire_action(env)
        step(env, action)
        units = env.units
        own = torch.where((action >= 5) & units.alive[:, :3], action - 5 + 3, -1)
        assert same(units.targets[:, :3], own)
        enemies = units.targets[:, 3:]
        assert ((enemies == -1) | ((enemies >= 0) & (enemies < 3))).all()
        attacked |= torch.stack([(own >= 0).any(), (enemies >= 0).any()])
    assert attacked.all()
    # zealots strike at arm's length: those they say they attack are near
    j, target = (enemies >= 0).nonzero(as_tuple=True), enemies[enemies >= 0]
    way = units.positions[j[0], 3 + j[1]] - units.positions[j[0], target]
    assert (way.norm(dim=-1) < 4).all()
    assert reach.shape == (ROWS, 3, 8)


def test_focus_fire_beats_chance(battles, env):
    chance = play(env)
    assert battles["next", "info", "battle_won"][:, -1].mean() > 0.3
    assert chance["next", "info", "battle_won"][:, -1].sum() == 0
    returns = [td["next"][REWARD][:, :, 0].sum(1).mean() for td in (battles, chance)]
    assert returns[0] > 50 > 0 > returns[1]


def test_bad_input():
    with pytest.raises(ValueError, match="did you mean '3s_vs_3z'"):
        SMAXEnv("3s_vs_3zz")
    for name, why in (("2c_vs_64zg", "colossus"), ("MMM2", "medivac"), ("bane_vs_bane", "banel")):
        with pytest.raises(ValueError, match=f"{why}.*StarCraft II.*available: 3m, 8m"):
            SMAXEnv(name)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        SMAXEnv("3m", 0)
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        SMAXEnv("3m", max_steps=0)
    with pytest.raises(ValueError, match="'sparse' or 'shaped', got 'dense'"):
        SMAXEnv("3m", reward="dense")
    env = SMAXEnv("3m", 2)
    for use in (env.rand_action, lambda: env.units, lambda: step(env, torch.zeros(2, 3).long())):
        with pytest.raises(RuntimeError, match="reset every row"):
            use()


def test_every_map_of_jaxmarl_is_here_with_its_units():
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert MAP_NAME_TO_SCENARIO.keys() <= SMAX_MAPS.keys()
    for name, scenario in MAP_NAME_TO_SCENARIO.items():
        ours = SMAX_MAPS[name]
        assert ours.unit_ids == scenario.unit_types.tolist(), name
        assert (len(ours.allies), len(ours.enemies)) == (
            scenario.num_allies,
            scenario.num_enemies,
        )
        assert ours.random == scenario.smacv2_unit_type_generation
    assert {"3s_vs_3z", "8m_vs_9m", "3s_vs_4z"} <= SMAX_MAPS.keys()
    assert smax_map("8m_vs_9m").unit_ids == [0] * 17
    assert not SMAX_MAPS.keys() & NOT_IN_SMAX.keys()


def test_import_is_silent_and_on_the_cpu():
    code = (
        "import sys, io; out = sys.stdout = io.StringIO()\n"
        "err = sys.stderr = open(2, 'w', closefd=False)\n"
        "from vm3ac_modules.envs.battles._smax_game import load_jax\n"
        "assert 'jax' not in sys.modules\n"
        "jax, *_ = load_jax()\n"
        "assert sys.stdout is out and sys.stderr is err and out.getvalue() == ''\n"
        "found = [jax.default_backend(), jax.config.jax_compilation_cache_dir]\n"
        "sys.__stdout__.write(' '.join(found))"
    )
    # what this process has set would be inherited
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**inherited, "XDG_CACHE_HOME": "/tmp/elsewhere"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "cpu /tmp/elsewhere/vm3ac_modules/jax"
