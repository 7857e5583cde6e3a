"""A run that was killed and resumed is the run that was not, to the last bit."""

from __future__ import annotations

import json
from importlib.util import find_spec
from multiprocessing import get_context

import pytest
from contracts.training import differences, logged, run_until, scramble

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")

from vm3ac_modules.envs import battle_task
from vm3ac_modules.runs import load_checkpoint, train

# More is collected than the replay holds; episodes end in mid-step of the schedule; the kill comes
# behind rows of metrics.csv and eval.csv that the last checkpoint does not know.
STEPS = {
    "frames": 80,
    "num_envs": 4,
    "batch_size": 8,
    "init_random_frames": 12,
    "eval_episodes": 2,
    "eval_every_frames": 28,
    "checkpoint_every_frames": 20,
    "log_every_updates": 4,
    "draw": False,
    "threads": 1,
    "buffer_size": 28,
    "hidden": [8],
    "information_rows": 4,
    "information_latents": 4,
}
KILLED_AT = 56
PAPER = {
    "num_envs": 1,
    "frames": 60,
    "init_random_frames": 5,
    "update_at_episode_end": True,
    "updates_per_step": 1,
    "eval_every_frames": 25,
    "checkpoint_every_frames": 20,
    "buffer_size": 30,
    "log_every_updates": 4,
}
BATTLES = {
    "map": "3m",
    "env": {"max_steps": 9},
    "frames": 220,
    "num_envs": 4,
    "batch_size": 4,
    "start_episodes": 4,
    # As many rows as are trained on: the simulator is compiled for a number of rows.
    "eval_episodes": 4,
    "eval_every_frames": 35,
    "checkpoint_every_frames": 80,
    "log_every_updates": 4,
    "draw": False,
    "buffer_size": 10,
    "hidden_size": 8,
    "threads": 1,
}
CONTINUOUS = (
    *("vm3ac", "vm3ac_tight", "ma_ac", "ma_sac", "maddpg", "maven", "si_moa"),
    "vm3ac_auto_bonus",
)
DISCRETE = ("vm3ac", "fop", "dop", "lica", "vdac", "maven")


def steps(algorithm, run_dir, **options):
    task = {"name": "predator_prey_2", "max_steps": 7}
    if isinstance(algorithm, str):
        own = {"latent_episodes": 3} if algorithm == "maven" else {}
        algorithm = {"name": algorithm, **own}
    return {**STEPS, "algorithm": algorithm, "task": task, "run_dir": str(run_dir), **options}


def killed_and_resumed(make, tmp_path, frame):
    """Directories of a run in one go and of one that was killed; what the killed one left."""
    one, other = tmp_path / "one", tmp_path / "other"
    train(make(one))
    scramble()
    run_until(make(other), frame)
    left = {}
    for place in sorted(other.rglob("metrics.csv")):
        kept = load_checkpoint(place.parent)
        left[place.parent.name] = (kept, len(logged(place)), len(logged(place.parent / "eval.csv")))
    scramble()
    train(make(other) | {"resume": True})
    return one, other, left


@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_steps(algorithm, tmp_path):
    one, other, left = killed_and_resumed(
        lambda place: steps(algorithm, place), tmp_path, KILLED_AT
    )
    [(kept, metrics, evaluations)] = left.values()
    # The checkpoint is older than the kill, and rows had been written since.
    assert kept.frame == 40
    assert kept.state["log_rows"][0] < metrics
    assert kept.state["log_rows"][1] < evaluations
    # It lies between two rows of metrics.csv.
    assert kept.state["log"]["count"] > 0
    assert differences(one, other) == []
    # The ring has wrapped.
    files = load_checkpoint(one).files
    assert files.held == STEPS["buffer_size"] < files.written


@pytest.mark.parametrize("algorithm", ["vm3ac", "maven", "si_moa"])
def test_two_seeds(algorithm, tmp_path):
    one, other, _ = killed_and_resumed(
        lambda place: steps(algorithm, place, seeds=2, seed=3), tmp_path, KILLED_AT
    )
    for seed in (3, 4):
        assert differences(one / f"seed_{seed}", other / f"seed_{seed}") == []


@pytest.mark.parametrize("name", ["guard", "guarded_rendezvous"])
def test_an_adversary_and_a_latent_that_is_held(name, tmp_path):
    options = {"name": "vm3ac_tight", "latent_held": True, "num_latents": 2}
    game = {"name": name} if name == "guard" else {"name": name, "env": {"horizon": 3}}
    one, other, _ = killed_and_resumed(
        lambda place: steps(options, place, seeds=2, seed=3, task=game), tmp_path, KILLED_AT
    )
    for seed in (3, 4):
        assert differences(one / f"seed_{seed}", other / f"seed_{seed}") == []


def test_updates_at_the_end_of_episodes(tmp_path):
    one, other, _ = killed_and_resumed(lambda place: steps("vm3ac", place, **PAPER), tmp_path, 51)
    assert differences(one, other) == []


@pytest.mark.skipif(find_spec("jaxmarl") is None, reason="needs the extra smax")
@pytest.mark.parametrize("algorithm", DISCRETE)
def test_battles(algorithm, tmp_path):
    # What the simulator imports draws from Python's stream, once per process.
    battle_task("3m").make(1, seed=0)
    own = {"latent_episodes": 3} if algorithm == "maven" else {}
    config = {**BATTLES, "algorithm": {"name": algorithm, **own}}
    one, other, left = killed_and_resumed(
        lambda place: {**config, "run_dir": str(place)}, tmp_path, 140
    )
    [(kept, metrics, evaluations)] = left.values()
    assert kept.frame < 140
    assert kept.state["log_rows"][0] < metrics
    assert kept.state["log_rows"][1] < evaluations
    assert kept.state["log"]["count"] > 0
    assert kept.state["log"]["played"]
    assert differences(one, other) == []


TASKS = ("treasure_collection_4", "cooperative_navigation_3")


@pytest.mark.parametrize("name", TASKS)
def test_the_other_scenarios_go_on_in_mid_episode(name, tmp_path):
    task = {"name": name, "max_steps": 7}
    one, other, _ = killed_and_resumed(
        lambda place: steps("ma_ac", place, task=task), tmp_path, KILLED_AT
    )
    assert differences(one, other) == []


def test_learned_temperature_and_clipping(tmp_path):
    options = {"max_grad_norm": 0.5, "reward_scale": 2.0}
    one, other, _ = killed_and_resumed(
        lambda place: steps("vm3ac_auto_entropy", place, **options), tmp_path, KILLED_AT
    )
    assert differences(one, other) == []


def test_two_kills(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    train(steps("vm3ac", one))
    run_until(steps("vm3ac", other), 32)
    scramble()
    run_until(steps("vm3ac", other, resume=True), 72)
    scramble()
    train(steps("vm3ac", other, resume=True))
    assert differences(one, other) == []


def test_a_kill_before_the_first_update(tmp_path):
    config = {"checkpoint_every_frames": 8}
    one, other, left = killed_and_resumed(
        lambda place: steps("si_moa", place, **config), tmp_path, 12
    )
    [(kept, *_)] = left.values()
    assert kept.state["counters"]["updates"] == 0
    assert differences(one, other) == []


def test_more_frames_than_were_planned(tmp_path):
    """A run that was ended is the beginning of a longer one."""
    one, other = tmp_path / "one", tmp_path / "other"
    # A quarter of all frames is random at most, which is more than is asked for in both.
    train(steps("vm3ac", one, eval_every_frames=20))
    train(steps("vm3ac", other, eval_every_frames=20, frames=60))
    train(steps("vm3ac", other, eval_every_frames=20, resume=True))
    mine, theirs = logged(one / "eval.csv"), logged(other / "eval.csv")
    assert mine == theirs
    assert [name for name in differences(one, other) if "replay" in name or "loss" in name] == []


def test_in_a_process_of_its_own(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    train(steps("vm3ac_tight", one))
    run_until(steps("vm3ac_tight", other), KILLED_AT)
    # Not a fork of this process: it has none of its state.
    arguments = (steps("vm3ac_tight", other, resume=True),)
    process = get_context("forkserver").Process(target=train, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert differences(one, other) == []


def test_a_simulator_that_cannot_go_on_starts_new_episodes_and_says_so(tmp_path):
    pytest.importorskip("pettingzoo")
    pytest.importorskip("Box2D")
    task = {"name": "multiwalker_2", "max_steps": 7}
    config = steps("ma_ac", tmp_path / "run", task=task)
    run_until(config, KILLED_AT)
    said = "the simulator cannot go on in mid-episode: new episodes were started on resume"
    summary = train(config | {"resume": True})
    assert summary["notes"] == [said]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["notes"] == [said]
    assert summary["frames"] == STEPS["frames"]
