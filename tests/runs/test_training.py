"""Trainings on transitions: what is written, what options reach, what is refused."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.algorithms import presets
from vm3ac_modules.learning import NonFiniteError
from vm3ac_modules.runs import (
    LOOPS,
    CheckpointError,
    Run,
    RunDirectoryError,
    Settings,
    StepTraining,
    load_agent,
    load_checkpoint,
    read_csv_log,
    train,
)

FILES = ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "curve.png", "rollout.gif")
SUMMARY = {
    *("algorithm", "task", "seed", "frames", "updates", "wall_seconds", "eval_return_mean"),
    *("eval_return_ci95", "eval_episodes", "latent_mode", "random_return_mean", "versions"),
    *("git_commit", "notes"),
}
NAMED = {"algorithm": {"name": "vm3ac"}, "task": {"name": "predator_prey_2"}}
CONTINUOUS = sorted(presets("continuous"))
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
LATENT = {name for name in CONTINUOUS if name.startswith("vm3ac")} - {"vm3ac_no_latent"}
LATENT |= {"maven", "ma_sac_latent"}


def needs(task):
    if task.startswith(("multiwalker", "pettingzoo")) and find_spec("pettingzoo") is None:
        pytest.skip("pettingzoo is not installed")


def weights_of(state):
    """Names of weights that hold anything: a latent of size 0 has none."""
    names = [name for name in state if "_network_params" in name and name.endswith("weight")]
    return [name for name in names if state[name].numel()]


def test_a_run_writes_its_directory_and_changes_every_group(compose, tmp_path):
    settings = Settings.of(compose())
    with Run(settings) as started:
        first = {k: v.clone() for k, v in started.agent.loss.state_dict().items()}
    # Opened and left again before the first step, the directory holds a run.
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        train(settings)
    summary = train(compose(overwrite=True))
    run = tmp_path / "run"
    assert all((run / name).stat().st_size > 0 for name in FILES)
    assert not SUMMARY - set(json.loads((run / "summary.json").read_text()))
    # 64 frames, 16 of them random; two updates for each of the 12 steps after those.
    assert (summary["frames"], summary["updates"]) == (64, 24)
    metrics, evaluations = read_csv_log(run / "metrics.csv"), read_csv_log(run / "eval.csv")
    assert metrics["update"] == [4.0 * k for k in range(1, 7)]
    assert all(map(math.isfinite, metrics["loss_predictor"]))
    assert evaluations["frame"] == [0.0, 32.0, 64.0]
    last = load_checkpoint(run).state["loss"]
    for group in ("actor_network", "qvalue_network", "value_network", "predictor_network"):
        weights = [k for k in first if k.startswith(f"{group}_params") and k.endswith("weight")]
        assert weights, group
        assert all(not torch.equal(first[k], last[k]) for k in weights), group


@pytest.mark.parametrize(
    "option",
    [
        "loop=paper",
        "max_grad_norm=0.5",
        "critic=plain",
        "critic_input=state",
        "algorithm.share_params=true",
        "algorithm.prior=categorical",
        "algorithm.prior=uniform",
        "algorithm.predictor_share_params=true",
        "algorithm.log_std=paper",
        "algorithm.reverse_model=partner",
        "algorithm.pair_weight=mean",
        "reward_scale=2.0",
    ],
)
def test_options_reach_the_training(compose, option, tmp_path, trained):
    train(compose(option, frames=32, draw=False))
    reference = load_checkpoint(trained).state["loss"]
    changed = load_checkpoint(tmp_path / "run").state["loss"]
    # Same seed and sizes: whatever the option reaches leaves other parameters behind.
    same_shapes = [k for k in changed if k in reference and changed[k].shape == reference[k].shape]
    assert not all(torch.equal(changed[k], reference[k]) for k in same_shapes)


def train_and_resume(compose, tmp_path, *overrides, draw=True, **options):
    """A short run and its continuation; finite metrics, changed parameters, complete files."""
    run = tmp_path / "run"
    train(compose(*overrides, frames=32, draw=False, **options))
    before = load_checkpoint(run).state["loss"]
    summary = train(compose(*overrides, frames=64, resume=True, draw=draw, **options))
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
    for name in ("config.yaml", "summary.json", *(["curve.png"] if draw else [])):
        assert (run / name).stat().st_size > 0
    return summary


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_every_algorithm_trains_and_resumes(compose, tmp_path, algorithm):
    # Two random steps of all rows at most, so that updates begin early. Drawing takes as long again
    # and asks a policy for no more than an evaluation does.
    draw = algorithm in ("maven", "maddpg")
    summary = train_and_resume(compose, tmp_path, f"algorithm={algorithm}", draw=draw)
    assert summary["algorithm"] == algorithm
    assert math.isfinite(summary["eval_return_mean"])
    assert summary["latent_mode"] == ("sample" if algorithm in LATENT else "none")
    loaded = load_agent(tmp_path / "run")
    env = loaded.make_env(3, seed=5)
    assert loaded.agent.policy(env.reset())["agents", "action"].shape == (3, 2, 2)


@pytest.mark.parametrize("task", [*TASKS, *STOCK, *FOREIGN])
def test_every_task_trains_and_resumes(compose, tmp_path, task):
    needs(task)
    summary = train_and_resume(compose, tmp_path, f"task={task}")
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
def test_every_pair(compose, algorithm, task):
    needs(task)
    summary = train(compose(f"algorithm={algorithm}", f"task={task}", draw=False))
    assert math.isfinite(summary["eval_return_mean"])


def test_every_logged_column_is_explained(trained):
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name in ("metrics.csv", "eval.csv"):
        columns = read_csv_log(trained / name)
        assert columns
        assert [column for column in columns if f"`{column}`" not in text] == []


@pytest.mark.parametrize("name", ["frames", "num_envs", "log_every_updates", "eval_every_frames"])
def test_options_that_must_be_positive(compose, name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        train(compose(**{name: 0}))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("used")
def test_a_used_run_directory_is_refused(compose):
    with pytest.raises(RunDirectoryError, match="resume=true"):
        train(compose(frames=32, draw=False))


@pytest.mark.usefixtures("used")
def test_a_checkpoint_of_another_configuration_is_refused(compose):
    with pytest.raises(CheckpointError, match="gamma"):
        train(compose(frames=64, draw=False, resume=True, gamma=0.5))


def test_a_truncated_checkpoint_is_refused(compose, used):
    [state] = (used / "checkpoint").glob("step_32/state.pt")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        train(compose(frames=64, draw=False, resume=True))


def test_nan_in_rewards_stops_and_keeps_the_last_good_checkpoint(compose, tmp_path):
    settings = Settings.of(compose(draw=False, log_every_updates=100))
    original = settings.task.build

    def poisoned(**options):
        env = original(**options)
        calls, rewards = [], env.scenario.rewards

        def nan_later():
            calls.append(1)
            # From the 11th step on, after the checkpoint at 32.
            return rewards() * float("nan") if len(calls) > 10 else rewards()

        env.scenario.rewards = nan_later
        return env

    task = replace(settings.task, build=poisoned)
    with pytest.raises(NonFiniteError, match="rewards"):
        train(replace(settings, task=task))
    assert load_checkpoint(tmp_path / "run").frame == 32


@pytest.mark.parametrize(
    ("task", "beta", "latent"),
    [
        ("multiwalker_3", 0.05, 8),
        ("multiwalker_4", 0.1, 8),
        ("predator_prey_2", 0.15, 8),
        ("predator_prey_3", 0.1, 8),
        ("predator_prey_4", 0.2, 8),
        ("treasure_collection_4", 0.05, 10),
        ("treasure_collection_5", 0.05, 10),
        ("cooperative_navigation_3", 0.1, 8),
    ],
)
def test_table_2(task, beta, latent):
    settings = Settings.of({"algorithm": {"name": "vm3ac"}, "task": {"name": task}})
    assert (settings.algorithm.beta, settings.algorithm.latent_dim) == (beta, latent)
    horizons = {"multiwalker": 500, "cooperative_navigation": 50}
    assert settings.task.max_steps == horizons.get(task[:-2], 100)


def test_table_1():
    training, algorithm = StepTraining(), presets("continuous")["vm3ac"].options
    assert training.buffer_size == 500_000
    assert (algorithm.gamma, algorithm.lr, algorithm.tau) == (0.99, 3e-4, 0.005)
    assert algorithm.hidden == (128, 128)
    assert LOOPS["paper"][1]["batch_size"] == 128


def test_load_agent_gives_the_trained_policy(trained):
    agent = load_agent(trained)
    env = agent.make_env(3, seed=5)
    saved = load_checkpoint(trained).state["loss"]
    loaded = agent.agent.loss.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())
    assert agent.agent.policy(env.reset())["agents", "action"].shape == (3, 2, 2)
    assert (agent.frame, agent.task_name, agent.seed) == (32, "predator_prey_2", 0)
    assert agent.settings.to_dict()["algorithm"]["name"] == "vm3ac"


def test_no_random_frames_with_a_replay_that_lags(compose):
    summary = train(compose("algorithm=si_moa", init_random_frames=0, draw=False))
    # The first step is stored with the second, so only fifteen steps bring updates.
    assert summary["updates"] == 2 * 15


def test_a_run_without_an_update_says_why(compose, tmp_path):
    # A quarter of the frames is random at most; the last step is the first that may learn.
    train(compose(frames=4, num_envs=4, draw=False))
    [note] = json.loads((tmp_path / "run" / "summary.json").read_text())["notes"]
    assert note.startswith("no update was made")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**NAMED, "env": {"growth": "double"}}, "env is an option of battles: give task.env"),
        ({**NAMED, "backend": "smac"}, "backend is an option of battles: give map"),
        ({**NAMED, "map": "3m"}, "give a task or the map of a battle, not both"),
        ({**NAMED, "task": "predator_prey_2"}, "task must be a mapping of options, got 'pred"),
        ({**NAMED, "algorithm": "vm3ac"}, "algorithm must be a mapping of options, got 'vm3ac'"),
        (
            {**NAMED, "task": {"name": "vmas/balance", "env": ["a"]}},
            "task.env must be a mapping of options, got ['a']",
        ),
        (
            {**NAMED, "task": {"name": "vmas/balance", "max_steps": 0}},
            "task.max_steps must be an integer >= 1 or null, got 0",
        ),
        (
            {"task": {"name": "predator_prey_2", "agent_index": 1}},
            "task.agent_index must be true or false, got 1",
        ),
        ({"algorithm": {"name": "vm3ac"}, "map": "3m", "backend": "x"}, "unknown backend 'x'"),
        ({"algorithm": {"name": "vm3ac"}, "map": "3m", "reward": "x"}, "unknown reward 'x'"),
        ({"task": {"name": "predator_prey_2"}}, "say which algorithm: algorithm: {name: vm3ac}"),
        ({"algorithm": {"gamma": 0.9}, "map": "3m"}, "say which algorithm"),
        ({"algorithm": {"name": "vm3ac"}}, "say on which task: task: {name: predator_prey_2}"),
        ({"algorithm": {"name": "vm3ac"}, "task": {"max_steps": 5}}, "say on which task"),
    ],
)
def test_a_configuration_that_cannot_be_meant(config, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Settings.of(config)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (NAMED, {**NAMED, "task": {"name": "predator_prey_2", "max_steps": None, "env": {}}}),
        (
            {"algorithm": {"name": "vm3ac"}, "map": "3m"},
            {"algorithm": {"name": "vm3ac"}, "map": "3m", "backend": "smax", "reward": "sparse"},
        ),
        ({**NAMED, "max_grad_norm": 10}, {**NAMED, "max_grad_norm": 10.0}),
    ],
)
def test_defaults_that_are_said_are_the_same_configuration(short, long):
    one, other = (yaml.safe_dump(Settings.of(config).to_dict()) for config in (short, long))
    assert one == other


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "device must be cpu or cuda, got 'gpu'"),
        ("meta", "device must be cpu or cuda, got 'meta'"),
        ("cuda", "device=cuda: torch finds no GPU here; give device=cpu."),
    ],
)
def test_a_device_that_is_not_here(compose, monkeypatch, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=said):
        train(compose(device=device))
