from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")

from tensordict import TensorDict

from vm3ac_modules.algorithms import ALGORITHMS, registry
from vm3ac_modules.learning import NonFiniteError, interleave, make_replay
from vm3ac_modules.runs import (
    CheckpointError,
    RunDirectoryError,
    has_checkpoint,
    load_agent,
    load_checkpoint,
    read_csv_log,
)

FILES = ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "curve.png", "rollout.gif")
SUMMARY = {
    *("algorithm", "task", "seed", "frames", "updates", "wall_seconds", "eval_return_mean"),
    *("eval_return_ci95", "eval_episodes", "latent_mode", "random_return_mean", "versions"),
    "git_commit",
}


@pytest.fixture
def recipe():
    import train_continuous

    return train_continuous


def test_a_run_writes_its_directory_and_changes_every_group(recipe, compose, tmp_path, monkeypatch):
    first = {}
    original = recipe.build_agent

    def remember(cfg, env, seeds=None):
        agent = original(cfg, env, seeds)
        first.update({key: value.clone() for key, value in agent.loss.state_dict().items()})
        return agent

    monkeypatch.setattr(recipe, "build_agent", remember)
    summary = recipe.train(compose())
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
    "knob",
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
        "reward_scale=1.0",
    ],
)
def test_knobs_reach_the_training(recipe, compose, knob, tmp_path):
    recipe.train(compose(frames=32, draw="false", run_dir=tmp_path / "reference"))
    recipe.train(compose(knob, frames=32, draw="false"))
    reference = load_checkpoint(tmp_path / "reference").state["loss"]
    changed = load_checkpoint(tmp_path / "run").state["loss"]
    # Same seed and sizes: whatever the knob reaches leaves other parameters behind.
    same_shapes = [k for k in changed if k in reference and changed[k].shape == reference[k].shape]
    assert not all(torch.equal(changed[k], reference[k]) for k in same_shapes)


def test_a_resumed_run_goes_on_from_its_checkpoint(recipe, compose, tmp_path):
    recipe.train(compose(frames=32, draw="false"))
    before = load_checkpoint(tmp_path / "run")
    seen = {}
    original = recipe.Progress.restore

    def spy(self):
        original(self)
        agent, replay = self.agent, self.replay
        seen["loss"] = {k: v.clone() for k, v in agent.loss.state_dict().items()}
        seen["optimizers"] = {k: copy.deepcopy(v.state_dict()) for k, v in agent.optimizers.items()}
        seen["replay"] = replay.storage.get(range(len(replay))).flatten_keys(".").to_dict()
        seen["rng"] = torch.get_rng_state()

    recipe.Progress.restore = spy
    try:
        summary = recipe.train(compose(resume="true", draw="false"))
    finally:
        recipe.Progress.restore = original
    assert all(torch.equal(seen["loss"][k], v) for k, v in before.state["loss"].items())
    assert seen["loss"].keys() == before.state["loss"].keys()
    for name, state in before.state["optimizers"].items():
        for index, moments in state["state"].items():
            restored = seen["optimizers"][name]["state"][index]
            assert all(torch.equal(restored[k], moments[k]) for k in moments)
    assert all(torch.equal(seen["replay"][k], v) for k, v in before.replay.items())
    assert torch.equal(seen["rng"], before.state["rng"]["torch"])
    assert (summary["frames"], summary["updates"]) == (64, before.state["updates"] + 16)
    assert read_csv_log(tmp_path / "run" / "eval.csv")["frame"] == [0.0, 32.0, 64.0]


def test_rows_after_the_checkpoint_are_cut_on_resume(recipe, compose, tmp_path):
    recipe.train(compose(frames=32, draw="false"))
    metrics = tmp_path / "run" / "metrics.csv"
    kept = read_csv_log(metrics)["frame"]
    with metrics.open("a") as file:
        file.write(metrics.read_text().splitlines()[-1].replace("32,", "60,", 1) + "\n")
    recipe.train(compose(resume="true", draw="false"))
    frames = read_csv_log(metrics)["frame"]
    assert frames[: len(kept)] == kept
    assert frames == sorted(frames)
    assert frames.count(60.0) <= 1


def test_a_replay_too_large_for_the_checkpoint_is_collected_anew(recipe, compose, capsys):
    recipe.train(compose(frames=32, draw="false", replay_checkpoint_bytes=10))
    summary = recipe.train(
        compose(frames=64, draw="false", resume="true", replay_checkpoint_bytes=10)
    )
    assert "collected anew" in capsys.readouterr().out
    # The first run updates from frame 8 on (a quarter of 32). Then 32 frames are left, of which 16
    # (a quarter of 64) refill the replay: 4 steps with two updates each.
    assert summary["updates"] == 12 + 8


def test_the_replay_is_restored_oldest_first():
    from progress import replay_state, tensordict_of

    replay = make_replay(4, 2)
    replay.extend(TensorDict({"a": {"x": torch.arange(6.0)}}, [6])[:4])
    replay.extend(TensorDict({"a": {"x": torch.arange(6.0)}}, [6])[4:])
    saved = replay_state(replay, 1000, 0, 1)
    assert saved["a.x"].tolist() == [2.0, 3.0, 4.0, 5.0]
    other = make_replay(4, 2)
    other.extend(tensordict_of(saved))
    other.extend(TensorDict({"a": {"x": torch.tensor([6.0])}}, [1]))
    assert sorted(other.storage.get(range(4))["a", "x"].tolist()) == [3.0, 4.0, 5.0, 6.0]


def test_every_seeds_replay_is_restored_oldest_first():
    from progress import fill, replay_state, tensordict_of

    replay = make_replay(3, 2, seeds=2)
    # Four steps of one row per seed, room for three: seed 0 sees 0, 1, .., seed 1 sees 10, 11, ..
    for step in range(4):
        rows = TensorDict({"x": torch.tensor([step, 10 + step])}, [2])
        replay.extend(interleave(rows, 2))
    saved = [replay_state(replay, 1000, seed, 2) for seed in range(2)]
    assert [part["x"].tolist() for part in saved] == [[1, 2, 3], [11, 12, 13]]
    other = make_replay(3, 2, seeds=2)
    fill(other, [tensordict_of(part) for part in saved])
    assert other.storage.get(range(6))["x"].tolist() == [1, 11, 2, 12, 3, 13]


def test_a_killed_run_goes_on(compose, tmp_path):
    run = tmp_path / "run"
    script = Path(__file__).parents[2] / "recipes" / "train_continuous.py"
    # The tiny configuration, with more frames than could be done before the kill.
    knobs = ["frames=100000", "num_envs=4", "batch_size=8", "init_random_frames=16", "threads=1"]
    knobs += ["task.max_steps=6", "eval_episodes=2", "eval_every_frames=50000", "hidden=[8,8]"]
    knobs += ["checkpoint_every_frames=40", "information_rows=4", "information_latents=8"]
    command = [sys.executable, str(script), *knobs, f"run_dir={run}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        for _ in range(600):
            if len(list((run / "checkpoint").glob("step_*"))) == 2:
                break
            time.sleep(0.1)
        child.kill()
    assert has_checkpoint(run)
    frame = load_checkpoint(run).frame
    assert 40 <= frame < 100000
    goal = frame + 40
    resumed = [argument.replace("frames=100000", f"frames={goal}", 1) for argument in command]
    subprocess.run([*resumed, "resume=true", "draw=false"], check=True, capture_output=True)
    assert json.loads((run / "summary.json").read_text())["frames"] == goal
    frames = read_csv_log(run / "metrics.csv")["frame"]
    assert frames == sorted(set(frames))


def test_every_logged_column_is_explained(recipe, compose, tmp_path):
    recipe.train(compose(frames=64, draw="false"))
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name in ("metrics.csv", "eval.csv"):
        columns = read_csv_log(tmp_path / "run" / name)
        assert columns
        assert [column for column in columns if f"`{column}`" not in text] == []


def test_resume_takes_the_configuration_of_the_run(recipe, compose, tmp_path):
    recipe.train(compose("algorithm=ma_sac", frames=32, draw="false", gamma=0.9))
    command = [f"run_dir={tmp_path / 'run'}", "resume=true", "frames=64", "draw=false"]
    resumed = recipe.resumed_config(compose(frames=64, draw="false", resume="true"), command)
    assert (resumed.algorithm.name, resumed.gamma, resumed.frames) == ("ma_sac", 0.9, 64)
    assert recipe.train(resumed)["frames"] == 64
    with pytest.raises(ValueError, match="algorithm=ma_sac, not vm3ac"):
        recipe.resumed_config(compose(), ["algorithm=vm3ac"])


def test_a_run_killed_among_its_random_frames_goes_on_with_them(recipe, compose):
    # The first run's own plan: a quarter of 8 frames, rounded up to a step of all rows; one step of
    # two updates. As part of 64 frames those 8 belong to the 16 random ones: none before frame 17.
    recipe.train(compose(frames=8, draw="false", init_random_frames=16, checkpoint_every_frames=8))
    summary = recipe.train(compose(frames=64, draw="false", resume="true"))
    assert summary["updates"] == 2 + 12 * 2


@pytest.mark.parametrize("name", ["frames", "num_envs", "log_every_updates", "eval_every_frames"])
def test_knobs_that_must_be_positive(recipe, compose, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        recipe.train(compose(**{name: 0}))


def test_a_failure_is_one_sentence(tmp_path):
    script = Path(__file__).parents[2] / "recipes" / "train_continuous.py"
    command = [sys.executable, str(script), "resume=true", f"run_dir={tmp_path / 'none'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nothing to resume" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_used_run_directory_is_refused(recipe, compose):
    recipe.train(compose(frames=32, draw="false"))
    with pytest.raises(RunDirectoryError, match="resume=true"):
        recipe.train(compose(frames=32, draw="false"))


def test_a_checkpoint_of_another_configuration_is_refused(recipe, compose):
    recipe.train(compose(frames=32, draw="false"))
    with pytest.raises(CheckpointError, match="gamma"):
        recipe.train(compose(frames=64, draw="false", resume="true", gamma=0.5))


def test_a_truncated_checkpoint_is_refused(recipe, compose, tmp_path):
    recipe.train(compose(frames=32, draw="false"))
    [state] = (tmp_path / "run" / "checkpoint").glob("step_32/state.pt")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        recipe.train(compose(frames=64, draw="false", resume="true"))


def test_nan_in_rewards_stops_and_keeps_the_last_good_checkpoint(
    recipe, compose, tmp_path, monkeypatch
):
    original = recipe.make_env

    def poisoned(*args, **kwargs):
        env = original(*args, **kwargs)
        scenario, calls = env.base_env.scenario, []
        reward = scenario.reward

        def nan_later(agent):
            calls.append(1)
            value = reward(agent)
            # Two agents are asked per step: from the 11th step on, after the checkpoint at 32.
            return value * float("nan") if len(calls) > 20 else value

        scenario.reward = nan_later
        return env

    monkeypatch.setattr(recipe, "make_env", poisoned)
    with pytest.raises(NonFiniteError, match="rewards"):
        recipe.train(compose(draw="false", log_every_updates=100))
    assert load_checkpoint(tmp_path / "run").frame == 32


def test_presets_are_written_once(compose):
    for algorithm in ALGORITHMS:
        cfg = compose(f"algorithm={algorithm}")
        written = {key: value for key, value in cfg.algorithm.items() if key != "name"}
        preset = registry.resolve_knobs(algorithm, {})
        assert cfg.algorithm.name == algorithm
        assert set(written) >= set(ALGORITHMS[algorithm])
        assert {key: preset[key] for key in written} == written
        assert cfg.critic == preset["critic"]
    for key in ("lr", "gamma", "tau", "critic", "critic_input"):
        assert compose()[key] == registry.COMMON[key]


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
def test_table_2(compose, task, beta, latent):
    from omegaconf import OmegaConf

    config = Path(__file__).parents[2] / "recipes" / "config" / "task" / f"{task}.yaml"
    written, cfg = OmegaConf.load(config), compose(f"task={task}")
    assert (cfg.task.beta, cfg.task.latent_dim) == (beta, latent)
    horizons = {"multiwalker": 500, "cooperative_navigation": 50}
    assert written.max_steps == horizons.get(task[:-2], 100)


def test_table_1():
    from omegaconf import OmegaConf

    config = Path(__file__).parents[2] / "recipes" / "config"
    main = OmegaConf.load(config / "train_continuous.yaml")
    assert (main.buffer_size, main.gamma, main.lr, main.tau) == (500_000, 0.99, 3e-4, 0.005)
    assert main.hidden == [128, 128]
    assert OmegaConf.load(config / "loop" / "paper.yaml").batch_size == 128


def test_load_agent_gives_the_trained_policy(recipe, compose, tmp_path):
    recipe.train(compose(frames=32, draw="false"))
    trained = load_agent(tmp_path / "run")
    env = trained.make_env(3, seed=5)
    saved = load_checkpoint(tmp_path / "run").state["loss"]
    loaded = trained.agent.loss.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())
    assert trained.agent.policy(env.reset())["agents", "action"].shape == (3, 2, 2)
