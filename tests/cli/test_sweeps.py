"""Sweeps (``-m``), and resuming from the command line."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")

from vm3ac_modules.cli.training import prepared, resumed
from vm3ac_modules.runs import UntrustedError, read_yaml, to_yaml

# --- sweeps -----------------------------------------------------------------------------------


def places(said):
    found = [job.training.run_dir for job in said.jobs]
    assert len(set(found)) == len(found), "two jobs share a directory"
    assert all(Path(place, "config.yaml").exists() for place in found)
    return found


def test_a_sweep_of_an_option_has_a_directory_per_job(say):
    said = say("-m", "lr=1e-3,1e-4")
    assert said.code == 0
    assert [job.algorithm.lr for job in said.jobs] == [1e-3, 1e-4]
    for place in places(said):
        assert place.startswith("runs/predator_prey_2/vm3ac/seed_0/lr=")


def test_a_sweep_of_algorithms_and_seeds(say):
    said = say("-m", "algorithm=ma_ac,vm3ac", "seed=0,1")
    pairs = [(job.name, job.training.seed) for job in said.jobs]
    assert pairs == list(itertools.product(("ma_ac", "vm3ac"), (0, 1)))
    # What the default directory names already is not repeated.
    expected = [f"runs/predator_prey_2/{name}/seed_{seed}" for name, seed in pairs]
    assert places(said) == expected


def test_a_sweep_in_a_directory_that_was_given(say):
    said = say("-m", "algorithm=ma_ac,vm3ac", "seed=0,1", "run_dir=here")
    assert len(places(said)) == 4
    assert all(place.startswith("here/") for place in places(said))


def test_a_sweep_over_tasks_by_import_path(say):
    task = "python:contracts.user_env:make_env"
    said = say("-m", f"task=predator_prey_2,{task}", "algorithm=ma_ac")
    assert said.code == 0
    assert [job.task.name for job in said.jobs] == ["predator_prey_2", task]
    assert not any(":" in place for place in places(said))
    # What is tuned is looked up for every job.
    assert [job.training.num_envs for job in said.jobs] == [64, 16]


@pytest.mark.parametrize("sweep", ["seed=range(0,3)", "seed=choice(0,1,2)", "seed=0,1,2"])
def test_every_way_of_sweeping(say, sweep):
    said = say("--multirun", sweep, "run_dir=here")
    assert [job.training.seed for job in said.jobs] == [0, 1, 2]
    places(said)


def test_a_list_is_one_value_and_no_sweep(say):
    said = say("-m", "hidden=[8,8]", "seed=0,1")
    assert [job.algorithm.hidden for job in said.jobs] == [(8, 8), (8, 8)]
    places(said)
    said = say("-m", "hidden=[8],[8,8]", "seed=5")
    assert [job.algorithm.hidden for job in said.jobs] == [(8,), (8, 8)]
    places(said)


def test_a_sweep_of_a_key_that_moved(say):
    said = say("-m", "task.beta=0.1,0.2")
    assert [job.algorithm.beta for job in said.jobs] == [0.1, 0.2]
    assert all("algorithm.beta=" in place for place in places(said))


def test_a_failing_job_does_not_end_the_sweep(say):
    said = say("-m", "seed=0,1,2", fails=lambda settings: settings.training.seed == 1)
    assert [job.training.seed for job in said.jobs] == [0, 1, 2]
    assert said.code == 2
    assert said.err.count("RuntimeError: this job fails") == 1
    assert "Traceback" not in said.err
    assert said.out.count("->") == 2


def test_a_bad_value_in_a_sweep_is_that_job_s(say):
    said = say("-m", "algorithm.beta=0.1,-1", "run_dir=here")
    assert [job.algorithm.beta for job in said.jobs] == [0.1]
    assert said.code == 2
    assert "beta must be a list of numbers >= 0 or a number >= 0, got -1." in said.err


def test_a_sweep_resumes_every_job(say):
    options = ("lr=1e-3,1e-4", "frames=1000", "run_dir=here")
    first = places(say("-m", *options, "algorithm=ma_ac"))
    said = say("-m", "lr=1e-3,1e-4", "frames=2000", "run_dir=here", "resume=true")
    assert said.code == 0
    assert [job.training.run_dir for job in said.jobs] == first
    assert [job.algorithm.lr for job in said.jobs] == [1e-3, 1e-4]
    assert [job.name for job in said.jobs] == ["ma_ac", "ma_ac"]
    assert [job.training.frames for job in said.jobs] == [2000, 2000]


# --- launchers --------------------------------------------------------------------------------


def side_by_side(sweep, folder):
    """A sweep of tiny trainings in two processes of joblib's."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    pytest.importorskip("tensorboard")
    command = [sys.executable, "-m", "vm3ac_modules.cli.main", "train", "-m"]
    command += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", sweep]
    command += ["task=same_mode", "algorithm=ma_ac", "frames=64", "num_envs=4", "batch_size=8"]
    command += ["eval_episodes=3", "draw=false", "hidden=[8]"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_jobs_run_side_by_side(tmp_path):
    said = side_by_side("seed=range(0,2)", tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("->") == 2
    seeds = tmp_path / "runs" / "same_mode" / "ma_ac"
    assert sorted(p.parent.name for p in seeds.glob("*/summary.json")) == ["seed_0", "seed_1"]
    # What is tuned is looked up in the jobs' processes, too.
    assert read_yaml(seeds / "seed_1" / "config.yaml")["seed"] == 1


def test_a_failing_job_in_a_process_of_its_own_is_told(tmp_path):
    said = side_by_side("gamma=0.9,2", tmp_path)
    assert said.returncode == 1
    assert said.stdout.count("->") == 1
    assert said.stderr.count("OptionsError: gamma must be") == 1
    assert "a job failed; the others went on." in said.stderr
    assert "Traceback" not in said.stderr


# --- resume -----------------------------------------------------------------------------------


def test_resume_takes_the_configuration_of_the_run(say):
    say("algorithm=ma_sac", "frames=1000", "gamma=0.9", "run_dir=here", "draw=false", "seed=3")
    job = say("run_dir=here", "resume=true", "frames=2000").job
    assert (job.name, job.algorithm.gamma, job.training.frames) == ("ma_sac", 0.9, 2000)
    assert (job.training.seed, job.training.draw, job.training.resume) == (3, False, True)


def test_resume_keeps_the_loop_and_the_task(say):
    say("loop=paper", "task=vmas/balance", "task.max_steps=9", "run_dir=here", "hidden=[8]")
    job = say("run_dir=here", "resume=true").job
    assert (job.training.update_at_episode_end, job.training.num_envs) == (True, 1)
    assert (job.task.name, job.task.max_steps) == ("vmas/balance", 9)
    assert job.algorithm.hidden == (8,)


def test_resume_in_the_default_directory(say):
    say("algorithm=ma_ac", "seed=4", "frames=1000")
    job = say("algorithm=ma_ac", "seed=4", "resume=true", "frames=2000").job
    assert job.training.run_dir == "runs/predator_prey_2/ma_ac/seed_4"
    assert job.training.frames == 2000


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("algorithm=vm3ac", "here holds a run of algorithm=ma_sac, not vm3ac."),
        ("task=vmas/balance", "here holds a run of task=predator_prey_2, not vmas/balance."),
        ("seeds=3", "here holds 1 seeds, not 3."),
        ("loop=paper", "loop= cannot be given with resume=true: give its options by name."),
    ],
)
def test_another_run_is_no_resume(say, argument, said):
    say("algorithm=ma_sac", "run_dir=here")
    found = say("run_dir=here", "resume=true", argument)
    assert found.code == 2
    assert said in found.err
    assert found.jobs == []
    assert read_yaml("here/config.yaml")["algorithm"]["name"] == "ma_sac"


@pytest.mark.parametrize("argument", ["algorithm=ma_sac", "task=predator_prey_2", "seeds=1"])
def test_the_same_run_may_be_named(say, argument):
    say("algorithm=ma_sac", "run_dir=here")
    assert say("run_dir=here", "resume=true", argument).code == 0


def test_another_number_of_seeds_is_no_resume(tmp_path):
    saved = {"seeds": 2, "run_dir": "x"}
    config = {
        "run_dir": str(tmp_path),
        "seeds": 3,
        "resume": True,
        "overwrite": False,
        "trust": False,
    }
    with pytest.raises(ValueError, match="holds 2 seeds, not 3"):
        resumed(config, saved, {"seeds": "3"})


def test_a_configuration_without_seeds_resumes(tmp_path):
    config = {
        "run_dir": str(tmp_path),
        "seeds": 1,
        "resume": True,
        "overwrite": False,
        "trust": False,
        "lr": 0.1,
    }
    (tmp_path / "config.yaml").write_text(to_yaml({"run_dir": "x", "lr": 0.2}))
    found = prepared(dict(config), [])
    assert found.get("seeds", 1) == 1
    assert (found["lr"], found["resume"], found["run_dir"]) == (0.2, True, str(tmp_path))


def test_options_of_the_algorithm_can_be_changed_on_resume(say):
    """They are handed on; the checkpoint then refuses what the training depends on."""
    say("algorithm=ma_sac", "run_dir=here", "algorithm.beta=0.3")
    job = say("run_dir=here", "resume=true", "algorithm.beta=0.4").job
    assert job.algorithm.beta == 0.4
    job = say("run_dir=here", "resume=true", "eval_episodes=7").job
    assert (job.training.eval_episodes, job.algorithm.beta) == (7, 0.4)


def test_a_module_that_a_run_names_is_imported_on_request_only(tmp_path):
    saved = {"run_dir": "x", "task": {"name": "python:somebody:make"}}
    (tmp_path / "config.yaml").write_text(to_yaml(saved))
    config = {"run_dir": str(tmp_path), "seeds": 1, "resume": True, "overwrite": False}
    with pytest.raises(UntrustedError, match="give trust=true"):
        prepared({**config, "trust": False}, [])
    for trust, words in ((True, []), (False, ["task=python:somebody:make"])):
        found = prepared({**config, "trust": trust}, words)
        assert found["task"]["name"] == "python:somebody:make"


def test_a_configuration_that_unfolds_without_end_is_refused(tmp_path):
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 12)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="holds no mapping"):
        read_yaml(tmp_path / "config.yaml")
    same = [16, 16]
    (tmp_path / "config.yaml").write_text(to_yaml({"hidden": same, "critic_hidden": same}))
    assert read_yaml(tmp_path / "config.yaml")["critic_hidden"] == same
