from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
pytest.importorskip("hydra")

from vm3ac_modules.algorithms import DISCRETE_ALGORITHMS, DISCRETE_COMMON
from vm3ac_modules.runs import (
    CheckpointError,
    RunDirectoryError,
    load_agent,
    load_checkpoint,
    read_csv_log,
)

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "curve.png", "rollout.gif")
SUMMARY = {
    *("algorithm", "task", "seed", "frames", "updates", "wall_seconds", "eval_return_mean"),
    *("eval_return_ci95", "eval_episodes", "latent_mode", "random_return_mean", "versions"),
    *("git_commit", "win_rate", "backend", "map", "reward"),
}
TINY = {
    "map": "3m",
    "frames": 120,
    "num_envs": 4,
    "batch_size": 4,
    "updates_per_episode": 0.5,
    "start_episodes": 4,
    "buffer_size": 16,
    "hidden_size": 8,
    "eval_episodes": 4,
    "eval_every_frames": 60,
    "checkpoint_every_frames": 60,
    "log_every_updates": 1,
    "+env.max_steps": 12,
}


@pytest.fixture
def recipe():
    import train_smac

    return train_smac


@pytest.fixture
def compose(tmp_path):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    def make(*overrides, **knobs):
        values = {**TINY, "run_dir": str(tmp_path / "run"), **knobs}
        arguments = [f"{key}={value}" for key, value in values.items()]
        with initialize_config_dir(str(RECIPES / "config_smac"), version_base="1.3"):
            return hydra_compose("train_smac", overrides=[*overrides, *arguments])

    return make


@pytest.mark.parametrize("algorithm", list(DISCRETE_ALGORITHMS))
def test_every_algorithm_trains_and_resumes(recipe, compose, tmp_path, algorithm, monkeypatch):
    first = {}
    original = recipe.build_agent

    def remember(cfg, env):
        agent = original(cfg, env)
        first.update({k: v.clone() for k, v in agent.loss.state_dict().items()} | first)
        return agent

    monkeypatch.setattr(recipe, "build_agent", remember)
    summary = recipe.train(compose(f"algorithm={algorithm}"))
    run = tmp_path / "run"
    assert all((run / name).stat().st_size > 0 for name in FILES)
    assert not SUMMARY - set(json.loads((run / "summary.json").read_text()))
    assert summary["frames"] >= 120
    assert summary["updates"] > 0
    metrics = read_csv_log(run / "metrics.csv")
    losses = [name for name in metrics if name.startswith("loss_") and "latent" not in name]
    assert all(math.isfinite(value) for name in losses for value in metrics[name])
    evaluations = read_csv_log(run / "eval.csv")
    assert evaluations["frame"][0] == 0.0
    assert evaluations["frame"][-1] == summary["frames"]
    assert all(0.0 <= rate <= 1.0 for rate in evaluations["win_rate"])
    last = load_checkpoint(run).state["loss"]
    trained = [k for k in first if "target" not in k and k.endswith("weight")]
    frozen = [k for k in trained if torch.equal(first[k], last[k])]
    # The prior of MAVEN's latent learns from groups of eight episodes.
    assert not frozen, frozen

    more = recipe.train(compose(f"algorithm={algorithm}", frames=200, resume="true"))
    assert more["frames"] >= 200
    assert more["updates"] > summary["updates"]
    assert read_csv_log(run / "metrics.csv")["update"][-1] == more["updates"]


@pytest.mark.parametrize("name", ["3s_vs_3z", "8m_vs_9m"])
def test_other_maps_train(recipe, compose, name):
    summary = recipe.train(compose("algorithm=vm3ac", map=name, draw="false"))
    assert summary["map"] == name
    assert summary["updates"] > 0
    assert math.isfinite(summary["eval_return_mean"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["3s_vs_3z", "8m_vs_9m"])
@pytest.mark.parametrize("algorithm", list(DISCRETE_ALGORITHMS))
def test_every_pair_of_algorithm_and_map(recipe, compose, algorithm, name):
    summary = recipe.train(compose(f"algorithm={algorithm}", map=name, draw="false"))
    assert summary["updates"] > 0
    assert math.isfinite(summary["eval_return_mean"])


def test_interrupted_and_resumed_is_the_same_as_uninterrupted(recipe, compose, tmp_path):
    whole = recipe.train(compose("algorithm=fop", frames=160, run_dir=tmp_path / "whole"))
    recipe.train(compose("algorithm=fop", frames=100, checkpoint_every_frames=1000))
    recipe.train(compose("algorithm=fop", frames=160, resume="true"))
    runs = [load_checkpoint(path).state for path in (tmp_path / "whole", tmp_path / "run")]
    assert runs[0]["frames"] == runs[1]["frames"] == whole["frames"]
    for key, value in runs[0]["loss"].items():
        torch.testing.assert_close(runs[1]["loss"][key], value, rtol=0, atol=0)


def test_a_trained_run_is_evaluated_with_every_latent(recipe, compose, tmp_path, monkeypatch):
    import evaluate

    recipe.train(compose("algorithm=vm3ac", draw="false"))
    trained = load_agent(tmp_path / "run")
    assert trained.task == "3m"
    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"run_dir={tmp_path / 'run'}", "episodes=4"])
    evaluate.main()
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    found, coordination = written["results"], written["coordination"]
    assert list(found) == ["sample", "constant", "synchronized", "independent", "random"]
    assert coordination["exact"]
    assert coordination["mi_lower_bound"] == coordination["mi_upper_bound"]
    assert (tmp_path / "run" / "evaluation.png").stat().st_size > 0
    assert all(0.0 <= row["battle_won"] <= 1.0 for row in found.values())


@pytest.mark.parametrize(("algorithm", "latent"), [("vm3ac", "constant"), ("maven", "given")])
def test_a_trained_run_s_agents_are_exported(recipe, compose, tmp_path, algorithm, latent):
    import export_agents

    recipe.train(compose(f"algorithm={algorithm}", draw="false"))
    export_agents.main([str(tmp_path / "run"), "--latent", latent])
    folder = tmp_path / "run" / "agents" / latent
    assert json.loads((folder / "parity_torch.json").read_text())["largest_difference"] <= 1e-5
    assert len(list(folder.glob("agent_*.pt2"))) == 3


def test_a_trained_run_is_executed_by_processes(recipe, compose, tmp_path, capsys):
    import run_decentralized

    recipe.train(compose("algorithm=fop", draw="false"))
    run = tmp_path / "run"
    run_decentralized.main([str(run), "--format", "torch", "--episodes", "3"])
    rows = json.loads((run / "decentralized.json").read_text())["results"]
    # Without a latent there is no clock that could be wrong.
    assert [row["latent"] for row in rows] == [
        *("centralized", "synchronized", "restarted", "dropped")
    ]
    assert rows[0]["difference"] == pytest.approx(0.0, abs=1e-3)
    assert all(0.0 <= row["win_rate"] <= 1.0 for row in rows)
    assert "win rate" in capsys.readouterr().out


@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_real_game_s_adapter_trains(recipe, compose, tmp_path, monkeypatch, num_envs):
    """The loop over StarCraft's interface, a stub in its place; two games are two processes."""
    from vm3ac_modules.envs import make_smac_env
    from vm3ac_modules.testing import SMACStub

    def make(cfg, rows, seed):
        # The second game in a row loses its connection in its third step.
        return make_smac_env("3m", SMACStub, rows, seed=seed, raise_at=3)

    monkeypatch.setattr(recipe, "make_env", make)
    tiny = {"batch_size": 2, "start_episodes": 2, "eval_episodes": 1, "frames": 60}
    choice = {**tiny, "num_envs": num_envs, "backend": "smac"}
    summary = recipe.train(compose("algorithm=vm3ac", **choice))
    assert summary["updates"] > 0
    assert summary["lost_episodes"] > 0
    assert summary["backend"] == "smac"
    more = recipe.train(compose("algorithm=vm3ac", **{**choice, "frames": 90, "resume": "true"}))
    assert more["frames"] >= 90


def test_presets_are_those_of_the_library(compose):
    of_the_recipe = ("num_envs", "batch_size", "updates_per_episode", "max_grad_norm", "name")
    top = ("gamma", "hidden_size", "share_params")
    for algorithm, preset in DISCRETE_ALGORITHMS.items():
        cfg = compose(f"algorithm={algorithm}", hidden_size=64)
        said = {k: v for k, v in cfg.algorithm.items() if k not in of_the_recipe}
        said |= {name: cfg[name] for name in top}
        expected = {**DISCRETE_COMMON, **preset}
        expected.pop("reward_scale")
        assert said == expected, algorithm


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"map": "3q"}, ValueError, "3s_vs_3z"),
        ({"map": "MMM"}, ValueError, "medivac"),
        ({"backend": "starcraft"}, ValueError, "unknown backend 'starcraft'"),
        ({"backend": "smac"}, ValueError, "limits of their own"),
        ({"reward": "dense"}, ValueError, "dense"),
        ({"frames": 0}, ValueError, "frames must be positive"),
        ({"batch_size": 64}, ValueError, "between 1 and the replay's capacity"),
        ({"algorithm.latent_dim": 0}, ValueError, "outcome"),
        ({"algorithm.temperature_schedule": "steep"}, ValueError, "'paper' or 'code'"),
    ],
)
def test_bad_input_is_said_before_anything_is_written(
    recipe, compose, tmp_path, overrides, error, message
):
    with pytest.raises(error, match=message):
        recipe.train(compose(**overrides))
    assert not (tmp_path / "run").exists()


def test_on_policy_batches_must_use_every_episode(recipe, compose, tmp_path):
    with pytest.raises(ValueError, match="num_envs must be a multiple of batch_size, got 4 and 3"):
        recipe.train(compose("algorithm=vdac", batch_size=3))
    assert not (tmp_path / "run").exists()


def test_a_run_is_neither_overwritten_nor_mixed(recipe, compose):
    recipe.train(compose("algorithm=fop", draw="false"))
    with pytest.raises(RunDirectoryError, match="overwrite=true"):
        recipe.train(compose("algorithm=fop"))
    with pytest.raises(CheckpointError, match="lam"):
        recipe.train(compose("algorithm=fop", resume="true", **{"algorithm.lam": 0.5}))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("algorithm=qmix", "unknown algorithm 'qmix'; valid: dop, fop, lica, maven, vdac, vm3ac"),
        ("algorithm.lamb=1", "Did you mean algorithm.lam"),
        ("map:3m", "not of the form key=value"),
    ],
)
def test_command_line_says_what_is_wrong(argument, message):
    program = [sys.executable, str(RECIPES / "train_smac.py"), argument]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
