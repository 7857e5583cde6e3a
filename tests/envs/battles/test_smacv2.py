"""SMACv2: random teams by name, drawn at every reset, from the game's seed alone."""

from __future__ import annotations

import random
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from vm3ac_modules.envs import make_battle_env, make_smac_env
from vm3ac_modules.envs.battles.smacv2_maps import PROTOCOL, RACES, SMACV2_MAPS, smacv2_options
from vm3ac_modules.testing import SMACv2Stub

PACKAGE = """
from vm3ac_modules.testing import SMACv2Stub

made = []

class StarCraft2Env:
    def __init__(self, **options):
        raise AssertionError("StarCraft2Env was built without its wrapper")

class StarCraftCapabilityEnvWrapper(SMACv2Stub):
    def __init__(self, **options):
        made.append((self, dict(options)))
        options.pop("difficulty", None)
        super().__init__(**options)
"""


@pytest.fixture
def games(tmp_path, monkeypatch):
    """A package ``smacv2`` of the real one's form; the games that were built, and their options."""
    folder = tmp_path / "smacv2" / "env" / "starcraft2"
    folder.mkdir(parents=True)
    (tmp_path / "smacv2" / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").write_text(PACKAGE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = {name for name in sys.modules if name.partition(".")[0] == "smacv2"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    import smacv2.env

    yield smacv2.env.made
    for name in [name for name in sys.modules if name.partition(".")[0] == "smacv2"]:
        del sys.modules[name]


def teams(env, game, episodes=6):
    """The teams of some episodes, in the order of the agents."""
    found = []
    for _ in range(episodes):
        env.reset()
        found.append(tuple(game.team))
    return found


@pytest.mark.parametrize("name", SMACV2_MAPS)
def test_every_race_and_size_has_its_configuration(name):
    options = smacv2_options(name, {})
    config, units = options["capability_config"], RACES[name.partition("_")[0]][0]
    # The stub refuses what SMACv2 cannot draw from.
    game = SMACv2Stub(**options)
    game.reset()
    assert (len(game.team), len(game.enemy_team)) == (config["n_units"], config["n_enemies"])
    assert config["start_positions"]["p"] == 0.5
    assert f"{name.partition('_')[0]}_{config['n_units']}_vs_{config['n_enemies']}" == name
    assert config["n_enemies"] >= config["n_units"]
    team = config["team_gen"]
    assert dict(zip(team["unit_types"], team["weights"], strict=True)) == units
    assert sum(units.values()) == pytest.approx(1.0)
    assert set(config["team_gen"].get("exception_unit_types", ())) <= set(units)
    assert options["map_name"] == f"10gen_{name.partition('_')[0]}"
    assert not options["conic_fov"]


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        ("start_positions", {"dist_type": "surrounded_and_reflekt"}, KeyError),
        ("start_positions", {"p": 5.0}, ValueError),
        ("start_positions", {"map_x": 3, "map_y": 3}, ValueError),
        ("team_gen", {"dist_type": "weighted_team"}, KeyError),
        ("team_gen", {"weights": [0.5, 0.5, 0.5]}, ValueError),
        ("team_gen", {"weights": [0.5, 0.5]}, ValueError),
        ("team_gen", {"unit_types": ["marine", "marauder", "zealot"]}, ValueError),
        ("team_gen", {"exception_unit_types": ["medivak"]}, ValueError),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_by_the_stub(part, change, error):
    options = smacv2_options("terran_5_vs_5", {})
    options["capability_config"][part] |= change
    with pytest.raises(error):
        SMACv2Stub(**options)


def test_sizes_are_those_of_the_benchmark():
    sizes = {name.partition("_")[2] for name in SMACV2_MAPS}
    assert sizes == {"5_vs_5", "10_vs_10", "20_vs_20", "10_vs_11", "20_vs_23"}
    assert len(SMACV2_MAPS) == 15


def test_the_wrapper_is_built_and_told_what_to_draw(games):
    env = make_battle_env("protoss_10_vs_11", backend="smacv2", seed=7, difficulty="A")
    [(game, options)] = games
    assert options["map_name"] == "10gen_protoss"
    assert options["difficulty"] == "A"
    assert options["seed"] == 7
    assert {key: options[key] for key in PROTOCOL} == dict(PROTOCOL)
    assert (env.reset()["agents", "observation"].shape[1], len(game.team)) == (10, 10)
    assert game.enemy_team[:10] == game.team
    assert len(game.enemy_team) == 11
    # The wrapper has written in its configuration; the one of the next game is as it was.
    again = smacv2_options("protoss_10_vs_11", {})["capability_config"]
    assert "env_key" in options["capability_config"]["team_gen"]
    assert "env_key" not in again["team_gen"]


def test_teams_are_mixed_and_new_at_every_reset(games):
    env = make_smac_env("terran_5_vs_5", "smacv2", seed=0)
    check_env_specs(env)
    found = teams(env, games[-1][0], 40)
    assert len(set(found)) > 20
    assert all(set(team) != {"medivac"} for team in found)
    count = Counter(unit for team in found for unit in team)
    assert 0.02 < count["medivac"] / 200 < 0.2
    types = env.reset()["agents", "observation"][0, :, -3:]
    names = [list(RACES["terran"][0])[k] for k in types.argmax(-1)]
    assert names == games[-1][0].team
    assert (types.sum(-1) == 1).all()


def test_teams_come_from_the_seed_alone(games):
    env = make_smac_env("zerg_5_vs_5", "smacv2", seed=3)
    first = teams(env, games[-1][0])
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    outside, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    env.set_seed(3)
    env.rollout(2)
    assert random.getstate() == outside
    after = np.random.get_state()  # noqa: NPY002
    assert (after[1] == numbers[1]).all()
    assert after[2] == numbers[2]
    game = games[-1][0]
    assert tuple(game.team) == first[0]
    # However long the episode before was.
    env.reset()
    assert tuple(game.team) == first[1]
    env.set_seed(3)
    again = [env.reset() is not None and tuple(games[-1][0].team) for _ in range(6)]
    assert again == first
    env.set_seed(4)
    other = [env.reset() is not None and tuple(games[-1][0].team) for _ in range(6)]
    assert other != first


def test_two_games_draw_teams_of_their_own():
    """In processes of their own, with the stub in place of the wrapper."""
    options = smacv2_options("terran_5_vs_5", {})
    env = make_smac_env(
        options["map_name"],
        SMACv2Stub,
        2,
        seed=0,
        capability_config=options["capability_config"],
        step_cost=0.0,
    )
    try:
        check_env_specs(env)
        types = torch.stack([env.reset()["agents", "observation"][..., -3:] for _ in range(4)])
        assert (types[:, 0] != types[:, 1]).any()
    finally:
        env.close()


def test_a_configuration_of_one_s_own(games):
    config = smacv2_options("terran_5_vs_5", {})["capability_config"]
    config["n_units"] = config["n_enemies"] = 3
    env = make_smac_env("10gen_terran", "smacv2", seed=0, capability_config=config, conic_fov=True)
    assert env.reset()["agents", "observation"].shape[1] == 3
    assert games[-1][1]["conic_fov"]
    assert "env_key" not in config["team_gen"], "what the user gave is not written in"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "terran_6_vs_6",
            r"'terran_6_vs_6' \(did you mean 'terran_\d+_vs_\d+'\?\); available: ter",
        ),
        ("10gen_terran", r"a field: say the size of the teams, too.*terran_5_vs_5"),
        ("3m", r"'3m': backend='smax' or backend='smaclite' or backend='smac' .StarCraft II. has"),
        ("vespene_5_vs_5", r"available: terran_5_vs_5"),
    ],
)
def test_teams_without_a_configuration(name, said):
    with pytest.raises(ValueError, match=said):
        make_battle_env(name, backend="smacv2")


def test_the_game_itself_refuses_to_be_without_one(games):
    from vm3ac_modules.envs.battles._smac_game import starcraft

    with pytest.raises(ValueError, match="as a capability_config says, and none was given"):
        starcraft("smacv2", map_name="10gen_terran", seed=0)
    with pytest.raises(KeyError, match="capability_config"):
        SMACv2Stub(map_name="10gen_terran", seed=0)
    assert games == []
