"""Every algorithm and every task through the recipe, in process and tiny."""

from __future__ import annotations

import itertools
import json
import math
from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")

from vm3ac_modules.algorithms import ALGORITHMS
from vm3ac_modules.runs import load_agent, load_checkpoint, read_csv_log

ALGORITHMS_OF_THE_PAPER = (
    *("vm3ac", "vm3ac_tight", "vm3ac_no_latent", "ma_sac"),
    *("ma_ac", "maddpg", "maven", "si_moa"),
)
TASKS = (
    *("predator_prey_2", "predator_prey_3", "predator_prey_4"),
    *("treasure_collection_4", "treasure_collection_5", "cooperative_navigation_3"),
    *("multiwalker_2", "multiwalker_3", "multiwalker_4"),
)
STOCK = ("vmas/balance", "vmas/navigation", "vmas/dispersion", "vmas/simple_spread")
FOREIGN = ("pettingzoo/mpe2.simple_spread_v3", "python:contracts.user_env:make_env")
LATENT = {name for name in ALGORITHMS if name.startswith("vm3ac")} - {"vm3ac_no_latent"} | {"maven"}


@pytest.fixture
def recipe():
    import train_continuous

    return train_continuous


def needs(task):
    if task.startswith(("multiwalker", "pettingzoo")) and find_spec("pettingzoo") is None:
        pytest.skip("pettingzoo is not installed")


def weights_of(state):
    """Names of weights that hold anything: a latent of size 0 has none."""
    names = [name for name in state if "_network_params" in name and name.endswith("weight")]
    return [name for name in names if state[name].numel()]


def train_and_resume(recipe, compose, tmp_path, *overrides, **knobs):
    """A short run and its continuation; finite metrics, changed parameters, complete files."""
    run = tmp_path / "run"
    recipe.train(compose(*overrides, frames=32, draw="false", **knobs))
    before = load_checkpoint(run).state["loss"]
    summary = recipe.train(compose(*overrides, frames=64, resume="true", **knobs))
    assert (summary["frames"], summary["updates"]) == (64, 28)
    after = load_checkpoint(run).state["loss"]
    stuck = {name for name in weights_of(before) if torch.equal(before[name], after[name])}
    # The prior of an episode's latent waits for eight episodes; attention to one partner is 1.
    untrained = ("latent_policy", "net.query", "net.key")
    assert all(any(part in name for part in untrained) for name in stuck), stuck
    metrics = read_csv_log(run / "metrics.csv")
    for name, values in metrics.items():
        if name not in ("loss_latent_policy", "latent_policy_entropy"):
            assert all(map(math.isfinite, values)), name
    assert read_csv_log(run / "eval.csv")["frame"] == [0.0, 32.0, 64.0]
    for name in ("config.yaml", "summary.json", "curve.png"):
        assert (run / name).stat().st_size > 0
    return summary


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_and_resumes(recipe, compose, tmp_path, algorithm):
    # Two random steps of all rows at most, so that updates begin early.
    summary = train_and_resume(recipe, compose, tmp_path, f"algorithm={algorithm}")
    assert summary["algorithm"] == algorithm
    assert math.isfinite(summary["eval_return_mean"])
    assert summary["latent_mode"] == ("sample" if algorithm in LATENT else "none")
    loaded = load_agent(tmp_path / "run")
    env = loaded.make_env(3, seed=5)
    assert loaded.agent.policy(env.reset())["agents", "action"].shape == (3, 2, 2)


@pytest.mark.parametrize("task", [*TASKS, *STOCK, *FOREIGN])
def test_every_task_trains_and_resumes(recipe, compose, tmp_path, task):
    needs(task)
    summary = train_and_resume(recipe, compose, tmp_path, f"task={task}")
    assert summary["task"] == task
    drawn = (tmp_path / "run" / "rollout.gif").exists()
    assert drawn == (not task.startswith(("pettingzoo", "python")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        *itertools.product(ALGORITHMS_OF_THE_PAPER, TASKS),
        *itertools.product(("vm3ac", "ma_sac"), STOCK),
    ],
)
def test_every_pair(recipe, compose, tmp_path, algorithm, task):
    needs(task)
    summary = recipe.train(compose(f"algorithm={algorithm}", f"task={task}", draw="false"))
    assert math.isfinite(summary["eval_return_mean"])


@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        *itertools.product(["vm3ac", "maven", "si_moa", "vm3ac_auto_entropy"], [TASKS[0]]),
        ("vm3ac", "multiwalker_2"),
    ],
)
def test_seeds_have_complete_directories_and_resume(recipe, compose, tmp_path, algorithm, task):
    needs(task)
    chosen, knobs = (f"algorithm={algorithm}", f"task={task}"), {"seeds": 2, "seed": 3}
    recipe.train(compose(*chosen, frames=32, draw="false", **knobs))
    summary = recipe.train(compose(*chosen, frames=64, resume="true", draw="false", **knobs))
    run = tmp_path / "run"
    returns = [one["eval_return_mean"] for one in summary["seeds"]]
    assert [one["seed"] for one in summary["seeds"]] == [3, 4]
    assert summary["eval_return_mean"] == pytest.approx(sum(returns) / 2)
    assert json.loads((run / "summary.json").read_text())["seeds"] == summary["seeds"]
    rewards = []
    for seed in (3, 4):
        folder = run / f"seed_{seed}"
        assert read_csv_log(folder / "eval.csv")["frame"] == [0.0, 32.0, 64.0]
        saved = load_checkpoint(folder)
        assert (saved.frame, saved.state["updates"]) == (64, 28)
        assert saved.replay is not None
        rewards.append(saved.replay["next.agents.reward"])
        assert saved.config["seed"] == seed
        # One of them goes on alone.
        load_agent(folder)
    first, second = (load_checkpoint(run / f"seed_{s}").state["loss"] for s in (3, 4))
    assert all(not torch.equal(first[key], second[key]) for key in weights_of(first))
    alone = compose(
        *chosen,
        seed=4,
        frames=96,
        resume="true",
        draw="false",
        run_dir=str(run / "seed_4"),
    )
    assert recipe.train(alone)["frames"] == 96


def test_a_run_killed_between_two_seeds_goes_on_from_what_all_have(recipe, compose, tmp_path):
    recipe.train(compose(seeds=2, frames=64, draw="false"))
    folder = tmp_path / "run" / "seed_1" / "checkpoint"
    # As if seed 0's last checkpoint had been written and seed 1's had not.
    for file in (folder / "step_64").iterdir():
        file.unlink()
    (folder / "step_64").rmdir()
    (folder / "latest").write_text("step_32")
    state = {}
    original = recipe.Progress.restore

    def watched(progress):
        original(progress)
        state["frames"] = progress.frames

    recipe.Progress.restore = watched
    try:
        summary = recipe.train(compose(seeds=2, frames=64, resume="true", draw="false"))
    finally:
        recipe.Progress.restore = original
    assert state["frames"] == 32
    assert summary["frames"] == 64
    assert read_csv_log(tmp_path / "run" / "seed_0" / "eval.csv")["frame"] == [0.0, 32.0, 64.0]


def test_another_number_of_seeds_is_no_resume(compose, tmp_path):
    from progress import resumed_config

    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seeds: 2\nrun_dir: x\n")
    cfg = compose(seeds=3)
    with pytest.raises(ValueError, match="holds 2 seeds, not 3"):
        resumed_config(cfg, ["seeds=3"])


def test_seeds_below_one(recipe, compose):
    with pytest.raises(ValueError, match="seeds must be at least 1"):
        recipe.train(compose(seeds=0))


def test_one_of_several_seeds_goes_on_with_streams_of_its_own(recipe, compose, tmp_path, capsys):
    recipe.train(compose(seeds=2, frames=32, draw="false"))
    draws = []
    for seed in (0, 1):
        alone = compose(seed=seed, frames=64, resume="true", draw="false")
        alone.run_dir = str(tmp_path / "run" / f"seed_{seed}")
        recipe.train(alone)
        replay = load_checkpoint(alone.run_dir).replay
        draws.append(replay["latent"][-8:])
    assert "goes on alone" in capsys.readouterr().out
    assert not torch.allclose(*draws)


def test_updates_at_the_end_of_episodes_take_one_seed(recipe, compose):
    with pytest.raises(ValueError, match="use seeds=1"):
        recipe.train(compose("loop=paper", seeds=2))


def test_no_random_frames_with_a_replay_that_lags(recipe, compose):
    summary = recipe.train(compose("algorithm=si_moa", init_random_frames=0, draw="false"))
    # The first step is stored with the second, so only fifteen steps bring updates.
    assert summary["updates"] == 2 * 15


def test_the_configuration_of_an_earlier_version_resumes(compose, tmp_path):
    from omegaconf import OmegaConf
    from progress import resumed_config

    cfg = compose()
    old = {k: v for k, v in OmegaConf.to_container(cfg, resolve=True).items() if k != "seeds"}
    (tmp_path / "run").mkdir()
    OmegaConf.save(OmegaConf.create(old), tmp_path / "run" / "config.yaml")
    assert resumed_config(cfg, []).seeds == 1
