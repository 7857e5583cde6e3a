"""Small games of discrete actions, trained by every algorithm over whole episodes."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from contracts.training import differences, run_until, scramble

from vm3ac_modules.algorithms import presets
from vm3ac_modules.algorithms.searched import SEARCHED
from vm3ac_modules.algorithms.tuning import tuned
from vm3ac_modules.envs import MATRIX_GAMES, GuardEnv, MatrixGameEnv, battle_task, make_battle_env
from vm3ac_modules.envs._known import FAILURES, known_failures
from vm3ac_modules.envs.battles.factory import SMALL_GAMES, lost_episodes, time_limit
from vm3ac_modules.envs.tasks import find_task
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.runs import Settings, load_agent, read_csv_log, train

# What was searched for a CPU is the same classes with other numbers.
DISCRETE = sorted(presets("discrete").keys() - {f"{name}_cpu" for name in SEARCHED})
TINY = {
    "backend": "games",
    "frames": 24,
    "num_envs": 4,
    "batch_size": 4,
    "start_episodes": 4,
    "updates_per_episode": 0.5,
    "buffer_size": 10,
    "eval_episodes": 3,
    "eval_every_frames": 7,
    "checkpoint_every_frames": 9,
    "log_every_updates": 3,
    "hidden_size": 8,
    "threads": 1,
    "draw": False,
}


def configuration(game, algorithm, place, **options):
    own = {"latent_episodes": 3} if algorithm == "maven" else {}
    return {**TINY, "map": game, "algorithm": {"name": algorithm, **own}, **options} | {
        "run_dir": str(place)
    }


@pytest.mark.parametrize("algorithm", DISCRETE)
@pytest.mark.parametrize("game", ["two_step", "guard"])
def test_every_algorithm_trains(game, algorithm, tmp_path):
    summary = train(Settings.of(configuration(game, algorithm, tmp_path)))
    rows = read_csv_log(tmp_path / "eval.csv")
    metrics = read_csv_log(tmp_path / "metrics.csv")
    assert summary["updates"] > 0
    assert all(math.isfinite(value) for value in rows["return_mean"])
    # A matrix has an optimum that is reached or not; against a guard nobody wins.
    assert ("win_rate" in rows) == (game == "two_step") == ("win_rate" in summary)
    assert ("train_win_rate" in metrics) == (game == "two_step")
    assert ("best_response_value" in rows) == (game == "guard")
    assert json.loads((tmp_path / "summary.json").read_text())["backend"] == "games"


@pytest.mark.parametrize("algorithm", ["vm3ac", "lica"])
def test_a_killed_run_meets_the_guard_that_it_left(algorithm, tmp_path):
    """The guard's memory is in the checkpoint, though no episode was under way."""

    def make(name):
        return configuration("guard", algorithm, tmp_path / name, frames=48)

    train(Settings.of(make("one")))
    scramble()
    run_until(make("other"), 28)
    scramble()
    train(Settings.of(make("other") | {"resume": True}))
    assert differences(tmp_path / "one", tmp_path / "other") == []


@pytest.mark.parametrize("name", SMALL_GAMES)
def test_games_by_name(name):
    env = make_battle_env(name, 3, backend="games", seed=0)
    kind = MatrixGameEnv if name in MATRIX_GAMES else GuardEnv
    assert isinstance(env, kind)
    assert (time_limit(env), lost_episodes(env)) == (2 if name == "two_step" else 1, 0)
    task = battle_task(name, "games")
    assert (task.best_response is not None) == (name == "guard")
    assert not task.row_is_process
    played = evaluate(
        None, task.make(5, seed=0), max_steps=task.limit(env), seed=0, plays="episodes"
    )
    assert played.lengths.tolist() == [time_limit(env)] * 5


def test_one_schedule_for_all_matrix_games_and_one_for_the_guard():
    found = {name: tuned("vm3ac", battle_task(name, "games").name) for name in SMALL_GAMES}
    longer = {"frames", "eval_every_frames", "epsilon_frames", "temperature_frames"}
    for name in MATRIX_GAMES:
        same = {k: v for k, v in found[name].items() if name != "two_step" or k not in longer}
        assert same.items() <= found["climbing"].items()
    # An episode of two steps is two frames.
    assert all(found["two_step"][key] == 2 * found["climbing"][key] for key in longer)
    assert found["guard"]["reward_scale"] == 1.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chess", {}, "unknown game 'chess'; valid: coordination, climbing"),
        ("climbing", {"reward": "shaped"}, "a game pays what it pays; leave reward out"),
        ("climbing", {"num_agents": 3}, "climbing has no options, got num_agents"),
        ("guard", {"num_modes": 1}, "num_modes must be at least 2"),
    ],
)
def test_games_that_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_battle_env(name, 2, backend="games", **options)


@torch.no_grad()
def test_a_large_latent_gain_makes_outcomes_unlike_each_other(tmp_path):
    """Near independence nothing pulls the outcomes' policies apart, so they may start apart."""

    def information(gain):
        place = tmp_path / str(gain)
        settings = configuration("guard", "vm3ac", place, frames=4, updates_per_episode=0.01)
        settings["algorithm"] |= {"latent_gain": gain, "latent_dim": 8, "epsilon_start": 0.0}
        train(Settings.of(settings))
        trained = load_agent(place)
        env = trained.make_env(1, seed=0)
        td = env.reset().expand(8).clone()
        td["latent"] = torch.eye(8)
        policies = trained.policy.scores(td).exp()
        mean = policies.mean(0)
        return float((mean * mean.log()).sum(-1).neg().mean()) - float(
            (policies * policies.log()).sum(-1).neg().mean()
        )

    assert information(1.0) < 0.02
    assert information(30.0) > 0.1


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [("lica", "known not to learn this game.*take algorithm=vm3ac"), ("vm3ac", None)],
)
def test_an_algorithm_that_is_known_to_fail_is_told_at_the_start(algorithm, said, tmp_path, caplog):
    summary = train(configuration("guard", algorithm, tmp_path / "run"))
    started = [record.message for record in caplog.records if "known not to" in record.message]
    assert len(started) == (said is not None)
    notes = [note for note in summary["notes"] if "known not to" in note]
    assert len(notes) == len(started)
    if said is not None:
        assert re.search(said, started[0])
        again = train(configuration("guard", algorithm, tmp_path / "run", resume=True, frames=32))
        assert [note for note in again["notes"] if "known not to" in note] == notes
        # Who asks for silence is told by the summary alone.
        caplog.clear()
        quiet = train(configuration("guard", algorithm, tmp_path / "quiet", progress="off"))
        assert [note for note in quiet["notes"] if "known not to" in note] == notes
        loud = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert not any("known not to" in text for text in loud)


def test_who_is_known_to_fail_exists_and_the_game_is_the_same():
    for algorithms, task, _ in FAILURES:
        kind = "discrete" if task.startswith("battle/") else "continuous"
        assert {*algorithms} <= {*presets(kind)}
        assert not known_failures(task).keys() & {"vm3ac_tight", "ma_sac_latent"}
        known = find_task(task) if kind == "continuous" else None
        known = known or battle_task(task.rpartition("/")[2], "games")
        assert known.failures == known_failures(task)
        assert all(text.endswith(".md)") for text in known.failures.values())
    assert find_task("guard", guard=False).failures == {}
    assert find_task("same_mode").failures == {}
    assert battle_task("guard", "games", guard=False).failures == {}
