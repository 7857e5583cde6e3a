"""What SMAC, SMACv2 and SMAClite promise, where they are installed; no game is started.

``pytest -m real_game`` in an environment of their own; elsewhere each is skipped.
"""

from __future__ import annotations

import importlib
import inspect
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import SMACliteEnv, make_battle_env
from vm3ac_modules.envs.battles._smac_game import SeededTeams, SMACGame, starcraft
from vm3ac_modules.envs.battles._smaclite_game import SCENARIOS, smaclite_battle
from vm3ac_modules.envs.battles.scripted import focus_fire
from vm3ac_modules.envs.battles.smac import SMACEnv
from vm3ac_modules.envs.battles.smaclite_maps import OWN_SCENARIOS, SMACLITE_MAPS
from vm3ac_modules.envs.battles.smacv2_maps import PROTOCOL, SMACV2_MAPS, smacv2_options
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.testing import SMACliteStub, SMACStub, SMACv2Stub

# Old protocol buffers and PySC2 warn of themselves.
pytestmark = [pytest.mark.real_game, pytest.mark.filterwarnings("ignore")]
ACTION, REWARD, MASK = ("agents", "action"), ("agents", "reward"), ("agents", "action_mask")
METHODS = [name for name in vars(SMACGame) if not name.startswith("_")]


def has(package, folder):
    """Whether a package is there, and is the one that is meant; without importing it."""
    spec = find_spec(package)
    places = [] if spec is None else spec.submodule_search_locations or []
    return any((Path(place) / folder).is_dir() for place in places)


smac = pytest.mark.skipif(not has("smac", "env/starcraft2"), reason="needs SMAC")
smacv2 = pytest.mark.skipif(not has("smacv2", "env/starcraft2"), reason="needs SMACv2")
smaclite = pytest.mark.skipif(not has("smaclite", "env"), reason="needs SMAClite")


def source_of(game, method):
    return inspect.getsource(getattr(type(game), method))


@smac
def test_smac_is_what_its_stub_imitates():
    game = starcraft("smac", map_name="3s_vs_3z", seed=1)
    info = game.get_env_info()
    assert set(info) >= set(SMACStub().get_env_info())
    assert (info["n_agents"], info["n_actions"], info["episode_limit"]) == (3, 9, 150)
    assert all(callable(getattr(game, name)) for name in METHODS)
    for key in ("battle_won", "dead_allies", "dead_enemies"):
        assert f'"{key}"' in source_of(game, "step"), key
    # SMAC says nothing of a battle whose connection is lost.
    assert "return 0, True, {}" in source_of(game, "step")


@smac
def test_smacs_sizes_become_specs():
    env = make_battle_env("3s_vs_3z", backend="smac", seed=0)
    assert isinstance(env, SMACEnv)
    assert env.full_action_spec[ACTION].space.n == 9
    assert env.episode_limit == 150


@smacv2
@pytest.mark.parametrize("name", SMACV2_MAPS)
def test_smacv2_takes_every_configuration(name):
    game = starcraft("smacv2", seed=1, **smacv2_options(name, {}))
    info, known = game.get_env_info(), SMACV2_MAPS[name]
    assert set(info) >= set(SMACv2Stub(**smacv2_options(name, {})).get_env_info())
    assert info["n_agents"] == known.num_agents
    assert info["n_actions"] == 6 + known.num_enemies
    assert all(callable(getattr(game, method)) for method in METHODS)


@smacv2
def test_smacv2_is_what_its_stub_imitates():
    wrapper = importlib.import_module("smacv2.env").StarCraftCapabilityEnvWrapper
    inner = importlib.import_module("smacv2.env").StarCraft2Env
    assert set(PROTOCOL) <= set(inspect.signature(inner.__init__).parameters)
    config = smacv2_options("terran_5_vs_5", {})["capability_config"]
    with pytest.raises(KeyError, match="capability_config"):
        wrapper(map_name="10gen_terran")
    game = wrapper(map_name="10gen_terran", capability_config=config, **PROTOCOL)
    assert config["team_gen"]["env_key"] == "team_gen", "it writes in what it is given"
    assert set(game.env_key_to_distribution_map) == {"team_gen", "start_positions"}
    step = inspect.getsource(inner.step)
    for key in ("battle_won", "dead_allies", "dead_enemies"):
        assert f'"{key}"' in step, key


@smacv2
def test_smacv2s_teams_come_from_the_seed(monkeypatch):
    """Their place in a battle aside: no game is started."""
    inner = importlib.import_module("smacv2.env").StarCraft2Env
    monkeypatch.setattr(inner, "reset", lambda self, config: config)

    def teams(seed, name="zerg_5_vs_5"):
        game = starcraft("smacv2", seed=seed, **smacv2_options(name, {}))
        assert isinstance(game, SeededTeams)
        return [game.reset() for _ in range(5)]

    def drawn(episodes):
        return [
            ([str(unit) for unit in one["team_gen"]["ally_team"]], one["ally_start_positions"])
            for one in episodes
        ]

    first, again, other = (drawn(teams(seed)) for seed in (3, 3, 4))
    assert [team for team, _ in first] == [team for team, _ in again]
    assert all(
        np.array_equal(a["item"], b["item"]) for (_, a), (_, b) in zip(first, again, strict=True)
    )
    assert [team for team, _ in first] != [team for team, _ in other]
    assert len({tuple(team) for team, _ in first}) > 1
    for episode in teams(5, "terran_10_vs_11"):
        enemies = episode["enemy_start_positions"]["item"]
        assert enemies.shape == (11, 2)


@smaclite
def test_smaclite_is_what_its_stub_imitates():
    battle, stub = smaclite_battle("3s_vs_3z"), SMACliteStub()
    seen, info = battle.reset(seed=0)
    assert info == stub.reset(seed=0)[1]
    assert np.stack(seen).shape == (battle.n_agents, battle.obs_size)
    for name in vars(stub):
        if name in (
            "n_agents",
            "n_enemies",
            "n_actions",
            "obs_size",
            "state_size",
            "map_info",
            "last_actions",
        ):
            assert hasattr(battle, name), name
    assert set(battle.agents) == set(range(3))
    unit = battle.enemies[0]
    for name in vars(SMACliteStub._unit(0, 1)):
        assert hasattr(unit, name), name
    found = battle.step([1, 1, 1])
    assert len(found) == len(stub.step([1, 1, 1]))
    assert set(found[-1]) == {"battle_won"}
    with pytest.raises(ValueError, match="Invalid action"):
        battle.step([0, 1, 1])
    with pytest.raises(AssertionError):
        battle.step(np.array([1, 1, 1]))


@smaclite
@pytest.mark.parametrize("name", SMACLITE_MAPS)
def test_every_map_of_smaclite_plays(name):
    torch.manual_seed(0)
    env = SMACliteEnv(name, 1, seed=0, max_steps=3)
    td = env.rollout(3)
    assert td[MASK].gather(-1, td[ACTION].unsqueeze(-1)).all()
    assert td["next", "agents", "observation"].isfinite().all()
    assert env.units.positions.shape[1] == env.num_agents + env._rows.simulators[0].num_enemies
    if name in OWN_SCENARIOS:
        about = json.loads((SCENARIOS / f"{name}.json").read_text())
        assert env.num_agents == about["num_allied_units"]


@smaclite
def test_smaclites_specs_seeds_and_workers():
    env = SMACliteEnv("2s3z", 2, seed=3)
    check_env_specs(env)
    env.set_seed(3)
    workers = SMACliteEnv("2s3z", 2, seed=3, num_workers=2)
    try:
        one, two = (fight(e, 25) for e in (env, workers))
        for key in one.keys(True, True):
            assert torch.equal(one[key], two[key]), key
    finally:
        workers.close()


def fight(env, steps):
    td, seen = env.reset(), []
    for _ in range(steps):
        full = env.step(td.set(ACTION, focus_fire(env)))
        seen.append(full)
        td = full["next"].exclude(REWARD)
    return torch.stack(seen, 1)


@smaclite
def test_a_script_that_fights_beats_chance_on_2s3z():
    env = SMACliteEnv("2s3z", 4, seed=0)

    def script(td):
        return td.set(ACTION, focus_fire(env))

    played = {
        name: evaluate(policy, env, max_steps=120, seed=5, plays="episodes")
        for name, policy in (("script", script), ("random", None))
    }
    assert played["random"].info["battle_won"].sum() == 0
    assert played["script"].returns.mean() > played["random"].returns.mean()
    assert played["script"].info["dead_enemies"].mean() > 1.0
    for result in played.values():
        won, dead = result.info["battle_won"], result.info["dead_enemies"]
        expected = 10 * dead - result.info["dead_allies"] + 200 * won - 0.1 * result.lengths
        torch.testing.assert_close(result.returns, expected, rtol=0, atol=1e-3)
