"""``vm3ac train``: what reaches a job, and what is answered to what cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from contracts.programs import run_recipe

pytest.importorskip("vmas")
pytest.importorskip("hydra")

from vm3ac_modules.algorithms import presets, tuned
from vm3ac_modules.cli import training
from vm3ac_modules.cli.training import help_text
from vm3ac_modules.runs import LOOPS, Settings, StepTraining, read_yaml, save_checkpoint

CONTINUOUS = presets("continuous")


# --- what reaches a job -----------------------------------------------------------------------


def test_defaults(say):
    said = say()
    assert said.code == 0
    job = said.job
    assert (job.name, job.task.name, job.training.seed) == ("vm3ac", "predator_prey_2", 0)
    assert job.training.run_dir == "runs/predator_prey_2/vm3ac/seed_0"
    chosen = CONTINUOUS["vm3ac"].options
    assert job.algorithm == chosen.changed(tuned("vm3ac", "predator_prey_2", chosen.names()))
    assert said.out.endswith("2 updates, 3 s -> runs/predator_prey_2/vm3ac/seed_0\n")


@pytest.mark.parametrize("algorithm", sorted(CONTINUOUS))
def test_every_algorithm_has_its_own_options(say, algorithm):
    job = say(f"algorithm={algorithm}", "task=vmas/balance").job
    chosen = CONTINUOUS[algorithm].options
    assert job.name == algorithm
    assert job.algorithm == chosen
    # The command line says the same as Python.
    assert job.to_dict()["algorithm"] == {"name": algorithm, **chosen.to_dict()}


def test_defaults_are_those_of_the_dataclass(say):
    job = say("task=vmas/balance").job
    expected = StepTraining().changed({"run_dir": "runs/vmas_balance/vm3ac/seed_0"})
    assert job.training == expected


@pytest.mark.parametrize(
    ("argument", "place", "value"),
    [
        ("seed=3", "training.seed", 3),
        ("frames=1_000", "training.frames", 1000),
        ("max_grad_norm=0.5", "training.max_grad_norm", 0.5),
        ("draw=false", "training.draw", False),
        ("device=cpu", "training.device", "cpu"),
        ("threads=null", "training.threads", None),
        ("lr=1e-4", "algorithm.lr", 1e-4),
        ("algorithm.lr=1e-4", "algorithm.lr", 1e-4),
        ("hidden=[8,8]", "algorithm.hidden", (8, 8)),
        ("algorithm.num_latents=64", "algorithm.num_latents", 64),
        ("algorithm.beta=[0.1,0.2]", "algorithm.beta", (0.1, 0.2)),
        ("algorithm.beta=0", "algorithm.beta", 0.0),
        ("algorithm.prior=null", "algorithm.prior", None),
        ("task.max_steps=7", "task.max_steps", 7),
        ("+task.env.growth=double", "task.options", {"num_agents": 2, "growth": "double"}),
        ("task=vmas/balance", "task.name", "vmas/balance"),
        ("loop=paper", "training.batch_size", 128),
    ],
)
def test_an_argument_reaches_the_job(say, argument, place, value):
    job = say(argument).job
    group, name = place.split(".")
    found = getattr(getattr(job, group), name)
    if isinstance(value, dict):
        assert dict(found).items() >= {"growth": "double"}.items()
    else:
        assert found == value
        assert type(found) is type(value)


def test_a_loop_gives_way_to_what_is_said(say):
    job = say("loop=paper", "frames=10", "num_envs=2").job
    assert (job.training.frames, job.training.num_envs) == (10, 2)
    rest = {k: v for k, v in LOOPS["paper"][1].items() if k not in ("frames", "num_envs")}
    assert rest.items() <= job.training.to_dict().items()


@pytest.mark.parametrize("loop", sorted(LOOPS))
def test_every_loop(say, loop):
    job = say(f"loop={loop}").job
    values = job.training.to_dict() | job.algorithm.to_dict()
    assert LOOPS[loop][1].items() <= values.items()


@pytest.mark.parametrize(
    ("task", "beta", "latent", "rows", "critic_input"),
    [
        ("multiwalker_3", 0.05, 8, 16, "state"),
        ("multiwalker_4", 0.1, 8, 16, "state"),
        ("predator_prey_2", 0.15, 8, 64, "observations"),
        ("predator_prey_4", 0.2, 8, 64, "observations"),
        ("treasure_collection_5", 0.05, 10, 64, "observations"),
        ("cooperative_navigation_3", 0.1, 8, 64, "observations"),
        ("python:contracts.user_env:make_env", 0.1, 8, 16, "observations"),
    ],
)
def test_what_is_tuned_for_a_task_is_chosen_unless_said(
    say, task, beta, latent, rows, critic_input
):
    job = say(f"task={task}").job
    assert (job.algorithm.beta, job.algorithm.latent_dim) == (beta, latent)
    assert (job.training.num_envs, job.algorithm.critic_input) == (rows, critic_input)
    job = say(f"task={task}", "algorithm.beta=0.7", "num_envs=3", "overwrite=true").job
    assert (job.algorithm.beta, job.training.num_envs) == (0.7, 3)


@pytest.mark.parametrize(
    ("old", "new", "place", "value"),
    [
        ("task.beta=0.7", "algorithm.beta", "algorithm.beta", 0.7),
        ("task.latent_dim=5", "algorithm.latent_dim", "algorithm.latent_dim", 5),
        ("task.reward_scale=2.0", "reward_scale", "algorithm.reward_scale", 2.0),
        ("task.num_envs=3", "num_envs", "training.num_envs", 3),
        ("task.critic_input=state", "critic_input", "algorithm.critic_input", "state"),
    ],
)
def test_keys_that_moved_are_understood_and_said(say, old, new, place, value):
    said = say(old)
    group, name = place.split(".")
    assert getattr(getattr(said.job, group), name) == value
    assert f"{old.partition('=')[0]} is {new} now." in said.err
    assert said.code == 0


def test_default_directories_hold_no_character_that_a_system_refuses(say):
    job = say("task=python:contracts.user_env:make_env", "seed=2").job
    place = job.training.run_dir
    assert place == "runs/python_contracts.user_env_make_env/vm3ac/seed_2"
    assert Path(place).is_dir()


# --- what is answered -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["algorithm=vm3a"],
            "unknown algorithm 'vm3a' (did you mean 'vm3ac'?); valid for continuous actions: ma_ac",
        ),
        (["algorithm=fop"], "fop is for discrete actions; valid for continuous actions: ma_ac"),
        (["algorithm=ma_ac,vm3a", "-m"], "unknown algorithm 'vm3a'"),
        (["task=predator_prey"], "predator_prey_2, predator_prey_3, predator_prey_4"),
        (
            ["task=vmas/balence"],
            "'vmas/balence' (did you mean 'vmas/balance'?); valid",
        ),
        (["task=predator_prey_2,chess", "-m"], "unknown task 'chess'"),
        (["loop=fast"], "unknown loop 'fast'; valid: default, demo, paper"),
        (["sed=1"], "unknown option 'sed' of the run (did you mean 'seed'"),
        (["algorithm=ma_ac", "algorithm.num_latents=3"], "unknown option 'num_latents' of ma_ac"),
        (["algorithm.bata=3"], "unknown option 'bata' of vm3ac (did you mean 'beta'"),
        (["task.bta=1"], "unknown key task.bta; valid: name, max_steps, env"),
        (["beta=1"], "beta is an option of the algorithm: give algorithm.beta."),
        (
            ["algorithm.beta=-0.1"],
            "beta must be a list of numbers >= 0 or a number >= 0, got -0.1.",
        ),
        (["frames=0"], "frames must be an integer >= 1, got 0."),
        (["frames=many"], "frames must be an integer >= 1, got 'many'."),
        (["draw=1"], "draw must be true or false, got 1."),
        (["task.max_steps=1.5"], "task.max_steps must be an integer >= 1 or null, got 1.5."),
        (["resume=true", "overwrite=true"], "contradict each other"),
        (["loop=paper", "seeds=2"], "use seeds=1, one process per seed"),
        (["seed=3", "frames"], "'frames' is not of the form key=value"),
        (["seed"], "'seed' is not of the form key=value; see --help."),
    ],
)
def test_what_cannot_be_meant_is_answered_with_what_can(say, arguments, said, tmp_path):
    found = say(*arguments)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert found.jobs == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["algorithm=vm3ac_tight", "algorithm.num_latents=64", "task=vmas/balance", "task.beta=0"],
        ["loop=paper", "frames=10", "num_envs=2", "+task.env.growth=double", "hydra.verbose=true"],
        ["algorithm=ma_ac,ma_sac", "--multirun"],
        ["algorithm=ma_ac,ma_sac", "-m", "seed=3"],
        ["task=pettingzoo/mpe2.simple_spread_v3"],
    ],
)
def test_what_can_be_meant_passes(say, arguments):
    said = say(*arguments)
    assert said.code == 0
    assert said.jobs


def test_help_lists_every_option(say):
    said = say("--help")
    assert (said.code, said.jobs) == (0, [])
    for name in (*StepTraining.names(), *CONTINUOUS["vm3ac"].options.names()):
        assert f"  {name}=" in said.out, name
    for word in ("vm3ac_tight", "predator_prey_4", "vmas/<scenario>", "beta", "loop", "paper"):
        assert word in said.out
    other = say("algorithm=si_moa", "--help").out
    assert "  influence_weight=" in other
    assert other == help_text("train", "vm3ac train", "si_moa")


@pytest.mark.parametrize("algorithm", sorted(CONTINUOUS))
def test_help_of_every_algorithm(algorithm):
    text = help_text("train", "x", algorithm)
    assert CONTINUOUS[algorithm].about in text
    for row in CONTINUOUS[algorithm].options.table():
        assert f"  {row.name}=" in text
        assert row.meaning in text


# --- the recipe ---------------------------------------------------------------------------------


def test_a_failure_is_one_sentence(tmp_path):
    options = ["resume=true", f"run_dir={tmp_path / 'none'}"]
    done = run_recipe("train_continuous.py", *options, place=tmp_path)
    assert done.returncode == 2
    assert "nothing to resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_trains(tmp_path):
    options = ["frames=16", "num_envs=4", "batch_size=4", "init_random_frames=4", "hidden=[8]"]
    options += ["task.max_steps=5", "eval_episodes=2", "information_rows=0", "draw=false"]
    options += ["run_dir=here", "threads=1"]
    done = run_recipe("train_continuous.py", *options, place=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert done.stdout.startswith("vm3ac on predator_prey_2: return ")
    assert done.stdout.endswith("-> here\n")
    assert summary["frames"] == read_yaml(tmp_path / "here" / "config.yaml")["frames"] == 16
    # Hydra leaves nothing of its own behind.
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    "given",
    [
        ["--frames", "400", "--run-dir", "runs/z", "--draw", "--hidden", "[16]"],
        ["--frames=400", "--run_dir=runs/z", "--draw", "true", "--hidden=[16]"],
        ["--draw", "frames=400", "run_dir=runs/z", "hidden=[16]"],
    ],
)
def test_flags_say_the_same(say, given):
    job = say(*given, "--task.max_steps", "10", "--algorithm=ma_sac").job
    assert (job.training.frames, job.training.run_dir, job.training.draw) == (400, "runs/z", True)
    assert (job.name, job.task.max_steps, job.algorithm.hidden) == ("ma_sac", 10, (16,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--bogus", "3"], "unknown option 'bogus'"),
        (["--frames"], "--frames needs a value"),
        (["--frames", "--draw"], "--frames needs a value"),
    ],
)
def test_flags_that_cannot_be_meant(say, given, message):
    said = say(*given)
    assert said.code == 2
    assert message in said.err


def test_a_run_that_is_interrupted_says_how_to_go_on(say):
    def interrupt(settings):
        raise KeyboardInterrupt

    said = say("run_dir=here", fails=interrupt)
    assert said.code == 130
    assert "stopped; there is no checkpoint yet: start it again." in said.err


@pytest.mark.parametrize("words", [["resume=true", "loop=paper"], ["--loop", "paper", "--resume"]])
def test_a_loop_is_not_ignored_on_resume(say, tmp_path, words):
    place = f"run_dir={tmp_path / 'run'}"
    say(place, "frames=16")
    found = say(place, *words)
    assert "loop= cannot be given with resume=true" in found.err


def test_what_is_tuned_beside_an_option_goes_with_it(say):
    def temperature(*arguments):
        own = say("task=guard", "algorithm=ma_sac", *arguments).job.algorithm
        return own.beta, own.beta_end, own.beta_frames, own.auto_beta

    assert temperature() == (0.05, 0.2, 64_000, None)
    assert temperature("algorithm.beta=0.5") == (0.5, None, None, None)
    assert temperature("algorithm.auto_beta=entropy") == (0.05, None, None, "entropy")
    given = ("algorithm.beta_end=0.1", "algorithm.beta_frames=9")
    assert temperature("algorithm.beta=0.5", *given) == (0.5, 0.1, 9, None)
    # Python says the same.
    config = {"task": {"name": "guard"}, "algorithm": {"name": "ma_sac", "beta": 0.5}}
    assert Settings.of(config).algorithm.beta_end is None


@pytest.mark.parametrize(
    ("seed", "said"), [(None, "no checkpoint yet"), (".", "resume=true"), ("seed_1", "resume=true")]
)
def test_a_stopped_run_says_how_it_goes_on(tmp_path, seed, said):
    if seed is not None:
        save_checkpoint(tmp_path / seed, 1, {"w": torch.ones(1)}, config={})
    assert said in training._way_on({"run_dir": str(tmp_path)})
    assert "no checkpoint yet" in training._way_on({"run_dir": None})
