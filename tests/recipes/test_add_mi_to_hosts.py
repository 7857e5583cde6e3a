"""The loss of the information in TorchRL's own PPO and discrete SAC, cut down to seconds."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch

import vm3ac_modules as vm
from vm3ac_modules.envs import GuardEnv
from vm3ac_modules.evaluation import evaluate_guard

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))
NAMES = ("add_mi_to_mappo", "add_mi_to_discrete_sac")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("add_mi_to_mappo", ["actions=continuous", "steps=2"]),
        ("add_mi_to_mappo", ["actions=discrete", "steps=2"]),
        ("add_mi_to_discrete_sac", ["batch_size=16"]),
    ],
)
def test_it_trains_with_and_without(name, options, tmp_path, capsys):
    recipe = __import__(name)
    small = ["frames=64", "num_envs=8", "seeds=2", *options]
    last = recipe.main([f"run_dir={tmp_path / 'x'}", *small])
    assert all(0.0 <= value <= 0.75 for value in last.values())
    without, with_mi = last
    assert with_mi == f"{without} + MI"
    assert f"{with_mi}: " in capsys.readouterr().out
    with open(tmp_path / "x" / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(last)
    assert {row["seeds"] for row in rows} == {"2"}
    assert float(rows[-1]["frames"]) == 64.0
    assert (tmp_path / "x" / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short(name):
    assert len((RECIPES / f"{name}.py").read_text().splitlines()) < 150


@pytest.mark.parametrize("name", NAMES)
def test_unknown_key(name, capsys):
    with pytest.raises(SystemExit):
        __import__(name).main(["wieght=1"])
    assert f"unknown option 'wieght' of {name}.py" in capsys.readouterr().err


def test_a_latent_is_worth_what_it_makes_common():
    """A team that turns the outcome of z into a mode, by hand."""
    game = GuardEnv(1, num_modes=4, actions="discrete")
    actor = vm.make_categorical_actor(1, 4, game.full_action_spec["agents", "action"], hidden=(4,))
    net = actor[0].net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.latent_layer.weight.copy_(10.0 * torch.eye(4).expand_as(net.latent_layer.weight))
        net.trunk.layers[-1].weight.copy_(torch.eye(4).expand(2, 4, 4))
    policy = vm.make_policy(vm.LatentSampler(vm.CategoricalPrior(4)), actor)
    common = evaluate_guard(policy, game, draws=4096)
    apart = evaluate_guard(policy, game, latent="independent", draws=4096)
    assert common == pytest.approx(0.75, abs=0.03)
    # Each its own: met in 4 of 16 cases, and one of four modes is guarded.
    assert apart == pytest.approx(3 / 16, abs=0.03)
    assert evaluate_guard(policy, game, latent="constant", draws=64) == 0.0
    drawn = evaluate_guard(policy, game, actions="drawn", draws=4096)
    assert drawn == pytest.approx(0.75, abs=0.03)


def test_bad_evaluation():
    game = GuardEnv(1)
    actor = vm.make_actor(1, 0, game.full_action_spec["agents", "action"])
    policy = vm.make_policy(None, actor)
    with pytest.raises(ValueError, match="actions must be 'mean' or 'drawn'"):
        evaluate_guard(policy, game, actions="all")
    with pytest.raises(ValueError, match="draws at least 1"):
        evaluate_guard(policy, game, draws=0)
    with pytest.raises(ValueError, match="this game has no guard"):
        evaluate_guard(policy, GuardEnv(1, guard=False))
