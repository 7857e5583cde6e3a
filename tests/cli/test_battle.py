"""``vm3ac battle``: what reaches a job, and what is answered to what cannot be meant."""

from __future__ import annotations

from functools import partial

import pytest
from contracts.programs import run_recipe

pytest.importorskip("hydra")

from vm3ac_modules.algorithms import presets, tuned
from vm3ac_modules.cli.training import battle_main
from vm3ac_modules.runs import BattleTraining

DISCRETE = presets("discrete")


@pytest.fixture
def battle(say):
    return partial(say, main=battle_main)


@pytest.mark.parametrize("algorithm", sorted(DISCRETE))
def test_every_algorithm_has_its_own_options_and_what_is_tuned(battle, algorithm):
    job = battle(f"algorithm={algorithm}").job
    chosen = tuned(algorithm, "battle/smax/sparse/3s_vs_3z")
    options = DISCRETE[algorithm].options
    own = {key: value for key, value in chosen.items() if key in options.names()}
    assert job.algorithm == options.changed(own)
    place = f"runs/3s_vs_3z/{algorithm}/seed_0"
    run = {key: value for key, value in chosen.items() if key in BattleTraining.names()}
    assert job.training == BattleTraining().changed({"run_dir": place, **run})
    assert job.task.name == "battle/smax/sparse/3s_vs_3z"


def test_map_reward_and_environment(battle):
    job = battle("map=3m", "reward=shaped", "+env.max_steps=9", "hidden_size=8").job
    assert job.task.about == {"map": "3m", "backend": "smax", "reward": "shaped"}
    assert dict(job.task.options) == {"max_steps": 9}
    assert (job.algorithm.hidden_size, job.algorithm.reward_scale) == (8, 10.0)


@pytest.mark.parametrize("key", ["num_envs", "batch_size", "updates_per_episode", "max_grad_norm"])
def test_keys_that_moved_are_understood_and_said(battle, key):
    said = battle(f"algorithm.{key}=2")
    assert getattr(said.job.training, key) == 2
    assert f"algorithm.{key} is {key} now." in said.err


def test_a_sweep_of_maps(battle):
    said = battle("-m", "map=3m,2s3z", "seed=0,1", "algorithm=fop")
    found = [job.training.run_dir for job in said.jobs]
    assert found == [f"runs/{name}/fop/seed_{seed}" for name in ("3m", "2s3z") for seed in (0, 1)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "algorithm=qmix",
            "unknown algorithm 'qmix'; valid for discrete actions: dop, dop_cpu, fop, ",
        ),
        ("algorithm=ma_sac", "ma_sac is for continuous actions; valid for discrete actions: dop"),
        ("algorithm.lamb=1", "unknown option 'lamb' of vm3ac (did you mean 'lam'"),
        ("frames=0", "frames must be an integer >= 1, got 0."),
        ("seeds=2", "battles are trained one seed at a time, got seeds=2."),
        ("map:3m", "not of the form key=value"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(battle, argument, message):
    said = battle(argument)
    assert said.code == 2
    assert message in said.err
    assert said.jobs == []


def test_help_lists_every_option(battle):
    said = battle("--help", "algorithm=dop")
    for name in (*BattleTraining.names(), *DISCRETE["dop"].options.names()):
        assert f"  {name}=" in said.out, name
    for word in (*DISCRETE, "3s_vs_3z", "smacv2", "sparse"):
        assert word in said.out


def test_the_recipe_says_what_is_wrong(tmp_path):
    done = run_recipe("train_smac.py", "algorithm=qmix", place=tmp_path)
    assert done.returncode == 2
    assert "unknown algorithm 'qmix'" in done.stderr
    assert "Traceback" not in done.stderr
