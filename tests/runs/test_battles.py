"""Trainings on whole episodes: battles of the embedded simulator."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from contracts.training import watched

if find_spec("jaxmarl") is None:
    pytest.skip("needs the extra smax", allow_module_level=True)
pytest.importorskip("tensorboard")

from vm3ac_modules.algorithms import presets
from vm3ac_modules.algorithms.searched import SEARCHED
from vm3ac_modules.runs import (
    CheckpointError,
    Run,
    RunDirectoryError,
    Settings,
    load_agent,
    load_checkpoint,
    read_csv_log,
    train,
)

# What was searched for a CPU is the same classes with other numbers.
DISCRETE = sorted(presets("discrete").keys() - {f"{name}_cpu" for name in SEARCHED})
FILES = ("config.yaml", "metrics.csv", "eval.csv", "summary.json", "curve.png", "rollout.gif")
SUMMARY = {
    *("algorithm", "task", "seed", "frames", "updates", "wall_seconds", "eval_return_mean"),
    *("eval_return_ci95", "eval_episodes", "latent_mode", "random_return_mean", "versions"),
    *("git_commit", "win_rate", "backend", "map", "reward", "notes", "episodes"),
}


@pytest.mark.parametrize("algorithm", DISCRETE)
def test_every_algorithm_trains_and_resumes(battle, tmp_path, algorithm):
    # What a run begins with depends on its seed alone.
    with Run(Settings.of(battle(f"algorithm={algorithm}", run_dir=tmp_path / "first"))) as run:
        first = {k: v.clone() for k, v in run.agent.loss.state_dict().items()}
    # Drawing takes as long again and asks a policy for no more than an evaluation does.
    draw = algorithm in ("vm3ac", "maven")
    summary = train(battle(f"algorithm={algorithm}", draw=draw))
    run = tmp_path / "run"
    drawn = ("curve.png", "rollout.gif")
    files = [name for name in FILES if draw or name not in drawn]
    assert all((run / name).stat().st_size > 0 for name in files)
    assert not SUMMARY - set(json.loads((run / "summary.json").read_text()))
    assert summary["frames"] >= 120
    assert summary["updates"] > 0
    metrics = read_csv_log(run / "metrics.csv")
    losses = [name for name in metrics if name.startswith("loss_") and "latent" not in name]
    assert all(math.isfinite(value) for name in losses for value in metrics[name])
    evaluations = read_csv_log(run / "eval.csv")
    assert evaluations["frame"][0] == 0.0
    assert evaluations["frame"][-1] == summary["frames"]
    beside = ("greedy_win_rate", "greedy_return_mean", "policy_entropy", "logit_gap")
    for name in beside:
        # Nothing is drawn from MAVEN's utilities.
        assert (name in evaluations) == (name in summary) == (algorithm != "maven"), name
    assert summary["actions"] == ("mean" if algorithm == "maven" else "drawn")
    for name in ("win_rate", *(beside[:1] if algorithm != "maven" else ())):
        assert all(0.0 <= rate <= 1.0 for rate in evaluations[name])
    last = load_checkpoint(run).state["loss"]
    trained = [k for k in first if "target" not in k and k.endswith("weight")]
    frozen = [k for k in trained if torch.equal(first[k], last[k])]
    # The prior of MAVEN's latent learns from groups of eight episodes.
    assert not frozen, frozen

    more = train(battle(f"algorithm={algorithm}", frames=200, resume=True, draw=False))
    assert more["frames"] >= 200
    assert more["updates"] > summary["updates"]
    assert read_csv_log(run / "metrics.csv")["update"][-1] == more["updates"]


def test_a_map_of_unlike_sides_trains(battle):
    # The smallest one: compiling the simulator takes seconds that grow with the units.
    summary = train(battle("algorithm=vm3ac", map="2m_vs_1z", draw=False))
    assert summary["map"] == "2m_vs_1z"
    assert summary["updates"] > 0
    assert math.isfinite(summary["eval_return_mean"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["3s_vs_3z", "8m_vs_9m"])
@pytest.mark.parametrize("algorithm", DISCRETE)
def test_every_pair_of_algorithm_and_map(battle, algorithm, name):
    summary = train(battle(f"algorithm={algorithm}", map=name, draw=False))
    assert summary["updates"] > 0
    assert math.isfinite(summary["eval_return_mean"])


def test_interrupted_and_resumed_is_the_same_as_uninterrupted(battle, tmp_path):
    whole = train(battle("algorithm=fop", frames=160, run_dir=tmp_path / "whole"))
    train(battle("algorithm=fop", frames=100, checkpoint_every_frames=1000))
    train(battle("algorithm=fop", frames=160, resume=True))
    runs = [load_checkpoint(path).state for path in (tmp_path / "whole", tmp_path / "run")]
    frames = [state["counters"]["frames"] for state in runs]
    assert frames == [whole["frames"]] * 2
    for key, value in runs[0]["loss"].items():
        torch.testing.assert_close(runs[1]["loss"][key], value, rtol=0, atol=0)


def test_load_agent_knows_the_battle(battle, tmp_path):
    train(battle("algorithm=vm3ac", draw=False))
    trained = load_agent(tmp_path / "run")
    assert trained.task_name == "3m"
    assert trained.task.name == "battle/smax/sparse/3m"
    env = trained.make_env(2, seed=1)
    assert trained.policy(env.reset())["agents", "action"].shape == (2, 3)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_real_game_s_adapter_trains(battle, num_envs, monkeypatch):
    """The loop over StarCraft's interface, a stub in its place; two games are two processes."""
    from vm3ac_modules.envs import _processes, make_smac_env
    from vm3ac_modules.envs.battles import smac
    from vm3ac_modules.testing import SMACStub

    def quickly(*args, mp_start_method, **options):
        assert mp_start_method == "spawn"
        return WorkersEnv(*args, **options)

    WorkersEnv = _processes.WorkersEnv
    monkeypatch.setattr(smac, "WorkersEnv", quickly)

    def make(num_envs, device, seed, **options):
        # The second game in a row loses its connection in its third step.
        return make_smac_env("3m", SMACStub, num_envs, seed=seed, raise_at=3)

    def settings(**options):
        tiny = {"batch_size": 2, "start_episodes": 2, "eval_episodes": 1, "frames": 60}
        choice = {**tiny, "num_envs": num_envs, "backend": "smac", **options}
        found = Settings.of(battle("algorithm=vm3ac", **choice))
        return replace(found, task=replace(found.task, build=make))

    summary = train(settings())
    assert summary["updates"] > 0
    assert summary["lost_episodes"] > 0
    assert summary["backend"] == "smac"
    more = train(settings(frames=90, resume=True))
    assert more["frames"] >= 90
    # Those of before the resume are counted too.
    assert more["lost_episodes"] > summary["lost_episodes"]


def test_a_resumed_run_notes_what_it_would_have_noted(battle, tmp_path):
    """The last victories, and how often gradients were cut, are those of before the resume."""
    from vm3ac_modules.envs.battles import smaclite
    from vm3ac_modules.testing import SMACliteStub

    health = {"enemies": 1}

    def stub(**options):
        class Battle(SMACliteStub):
            def reset(self, seed=None, options=None):
                self.enemy_hit_points = health["enemies"]
                return super().reset(seed, options)

        return Battle(num_enemies=1, enemy_shoots=False, **options)

    def make(**options):
        return smaclite.SMACliteEnv("2s3z", make_battle=stub, **options)

    def look(run):
        # From here on nothing is won.
        health["enemies"] = 1000 if run.frames >= 100 else 1

    def notes(place, *frames):
        health["enemies"] = 1
        for count in frames:
            choice = {"backend": "smaclite", "map": "2s3z", "max_grad_norm": 1e-6, "draw": False}
            choice |= {"frames": count, "resume": count != frames[0], "env.max_steps": 20}
            config = battle("algorithm=fop", run_dir=tmp_path / place, **choice)
            settings = Settings.of(config)
            found = watched(replace(settings, task=replace(settings.task, build=make)), look)
        return found["notes"]

    whole = notes("whole", 200)
    assert any("the critic says" in note for note in whole)
    assert any("cut the gradient" in note for note in whole)
    assert notes("run", 100, 200) == whole


def test_a_run_on_smaclite_s_adapter(battle, tmp_path):
    """A stub in its place: trained, evaluated, drawn, resumed and loaded."""
    from vm3ac_modules.envs.battles import smaclite
    from vm3ac_modules.testing import SMACliteStub

    def make(**options):
        return smaclite.SMACliteEnv("2s3z", make_battle=SMACliteStub, **options)

    def settings(**options):
        choice = {"backend": "smaclite", "map": "2s3z", **options}
        found = Settings.of(battle("algorithm=vm3ac_cpu", **choice))
        return replace(found, task=replace(found.task, build=make))

    summary = train(settings())
    assert (summary["backend"], summary["map"]) == ("smaclite", "2s3z")
    assert summary["updates"] > 0
    assert summary["lost_episodes"] == 0
    assert (tmp_path / "run" / "rollout.gif").stat().st_size > 0
    more = train(settings(frames=200, resume=True))
    assert more["frames"] >= 200


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"map": "3q"}, ValueError, "3s_vs_3z"),
        ({"map": "MMM"}, ValueError, "medivac.*backend='smaclite'"),
        ({"map": "6h_vs_8z", "backend": "smaclite"}, ValueError, "backend='smax' or .* has it"),
        ({"map": "terran_4_vs_4", "backend": "smacv2", "env": {}}, ValueError, "terran_5_vs_5"),
        ({"backend": "starcraft"}, ValueError, "unknown backend 'starcraft'"),
        ({"backend": "smac"}, ValueError, "limits of their own"),
        ({"reward": "dense"}, ValueError, "dense"),
        ({"frames": 0}, ValueError, "frames must be an integer >= 1, got 0"),
        ({"batch_size": 64}, ValueError, "between 1 and the replay's capacity"),
        ({"algorithm.latent_dim": 0}, ValueError, "latent_dim must be .* >= [12], got 0"),
        (
            {"algorithm.temperature_schedule": "steep"},
            ValueError,
            "temperature_schedule must be paper or code, got 'steep'",
        ),
        ({"seeds": 2}, ValueError, "battles are trained one seed at a time, got seeds=2"),
    ],
)
def test_bad_input_is_said_before_anything_is_written(battle, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        train(battle(**overrides))
    assert not (tmp_path / "run").exists()


def test_on_policy_batches_must_use_every_episode(battle, tmp_path):
    with pytest.raises(ValueError, match="num_envs must be a multiple of batch_size, got 4 and 3"):
        train(battle("algorithm=vdac", batch_size=3))
    assert not (tmp_path / "run").exists()


def test_a_run_is_neither_overwritten_nor_mixed(battle):
    train(battle("algorithm=fop", draw=False))
    with pytest.raises(RunDirectoryError, match="overwrite=true"):
        train(battle("algorithm=fop"))
    with pytest.raises(CheckpointError, match="lam"):
        train(battle("algorithm=fop", resume=True, **{"algorithm.lam": 0.5}))


def test_another_algorithm_s_checkpoint_is_refused(battle):
    train(battle("algorithm=fop", draw=False))
    with pytest.raises(CheckpointError, match=r"algorithm.name: checkpoint has \"fop\""):
        train(battle("algorithm=dop", resume=True))


def test_a_run_without_an_update_says_what_it_needs(battle):
    summary = train(battle("algorithm=fop", start_episodes=16, frames=40, draw=False))
    assert summary["updates"] == 0
    [note] = summary["notes"]
    assert "the first update needs 16 (start_episodes, batch_size)" in note
