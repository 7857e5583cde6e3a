"""The recipe of the toy example: agents that part learn to meet."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import toy_meeting as recipe

from vm3ac_modules.envs import MeetingEnv

# Three times the paper's learning rate for a fifth of the recipe's updates.
SHORT = ["lr=1e-3", "updates=2200", "num_envs=32", "episodes=200", "draws=20000"]
TINY = ["updates=4", "record_every=3", "num_envs=3", "episodes=5", "draws=10"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("toy")
    threads = torch.get_num_threads()
    recipe.main([f"run_dir={run_dir}", *SHORT])
    torch.set_num_threads(threads)
    return run_dir, json.loads((run_dir / "summary.json").read_text())


def test_agents_that_part_learn_to_meet(learned):
    _, summary = learned
    first, last = summary["first_x_sums"], summary["x_sums"]
    assert first[0] < 0 < first[1]
    assert last[1] < -1 < 1 < last[0]
    for mode in recipe.MODES:
        assert summary["untrained"][mode] == {"met": 0.0, "steps": None}
    share = {mode: summary["trained"][mode]["met"] for mode in recipe.MODES}
    assert share["sample"] > 0.8
    assert share["synchronized"] > 0.8
    assert share["mean"] > 0.95
    assert all(4 < summary["trained"][mode]["steps"] < 9 for mode in recipe.MODES)


def test_measured_covariance_is_the_closed_form(learned):
    covariance = learned[1]["covariance"]
    exact, measured, stderr = (
        torch.tensor(covariance[name]) for name in ("exact", "measured", "stderr")
    )
    # Four entries, once in a million each.
    assert bool(((exact - measured).abs() < 4.9 * stderr).all())
    w1, w2 = (torch.tensor(w, dtype=torch.float64) for w in learned[1]["weights"])
    torch.testing.assert_close(exact.double(), w1 @ w2.T * 0.01 / 12, rtol=1e-5, atol=1e-9)
    # It is told apart from no correlation, and so is its sign.
    assert measured[0, 0] < -50 * stderr[0, 0]


def test_written_files_agree(learned):
    run_dir, summary = learned
    rows = list(csv.DictReader((run_dir / "weights.csv").read_text().splitlines()))
    assert [int(row["update"]) for row in rows] == list(range(0, 2201, 50))
    for row, key in ((rows[0], "first_weights"), (rows[-1], "weights")):
        written = torch.tensor([float(value) for value in [*row.values()][1:]])
        torch.testing.assert_close(written, torch.tensor(summary[key]).flatten(), atol=1e-5, rtol=0)
    assert list(rows[0])[1:3] == ["agent1_w11", "agent1_w12"]
    for name in ("figure9.png", "figure10.png"):
        assert (run_dir / name).read_bytes().startswith(b"\x89PNG")
    assert {"seed", "updates", "config", "versions", "git_commit", "wall_seconds"} <= set(summary)
    assert str(run_dir) not in json.dumps(summary)


@given(st.integers(0, 2**31))
def test_first_weights_part_the_agents(seed):
    torch.manual_seed(seed)
    weights = recipe.first_weights(0.05)
    left, right = weights[:, 0].sum(-1).tolist()
    assert left <= 0 <= right
    assert weights.abs().max() < 0.5
    assert bool(weights.all())


def test_one_update_goes_against_the_gradient_by_hand():
    cfg = recipe.Toy(noise_std=0, updates=1, num_envs=16, lr=0.01)
    torch.manual_seed(1)
    policy = recipe.make_policy(cfg)
    state = torch.random.get_rng_state()
    (_, before), (_, after) = recipe.train(cfg, policy)
    torch.random.set_rng_state(state)
    z = policy[0].prior.sample((16,))
    places = torch.tensor([[-1.0, 1.1], [1.0, 1.1]])
    places = places + torch.einsum("nxz,bz->bnx", before, z)
    apart = places[:, 0] - places[:, 1]
    unit = apart / apart.norm(dim=-1, keepdim=True)
    gradient = torch.einsum("bx,bz->xz", unit, z) / 16
    # Adam's first step has the size of the learning rate, whatever the gradient's.
    expected = before - 0.01 * torch.stack((gradient, -gradient)).sign()
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)


def test_measuring_leaves_training_alone(tmp_path):
    few = recipe.main([f"run_dir={tmp_path / 'a'}", *TINY])
    many = recipe.main([f"run_dir={tmp_path / 'b'}", *TINY, "episodes=9", "draws=20"])
    assert few["weights"] == many["weights"]
    assert recipe.main([f"run_dir={tmp_path / 'c'}", *TINY, "seed=1"])["weights"] != few["weights"]


def test_an_episode_is_drawn_from_its_start_to_its_end():
    cfg = recipe.Toy(max_steps=7, noise_std=0)
    policy = recipe.make_policy(cfg)
    places = recipe.trajectory(cfg, policy, "mean")
    assert places.shape == (8, 2, 2)
    assert places[0].tolist() == [[-1.0, 1.0], [1.0, 1.0]]
    drift = policy[1].module.weights.detach()[:, 0].sum(-1) * 0.05
    torch.testing.assert_close(places[7, :, 0] - places[0, :, 0], 7 * drift, atol=1e-5, rtol=0)


def test_the_environment_has_the_runs_knobs():
    env = recipe.make_env(recipe.Toy(max_steps=7, meeting_distance=0.3), 4)
    assert isinstance(env, MeetingEnv)
    assert (env.max_steps, env.meeting_distance, env.batch_size) == (7, 0.3, (4,))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["update=1"], "unknown option 'update' of toy_meeting.py (did you mean 'updates'?"),
        (["updates"], "not of the form key=value"),
        (["updates=many"], "updates must be an integer >= 0, got 'many'"),
        (["updates=2.9"], "updates must be an integer >= 0, got 2.9"),
        (["seed=true"], "seed must be an integer >= 0, got True"),
        (["max_steps=7.5"], "max_steps must be an integer >= 1, got 7.5"),
        (["num_envs=0"], "num_envs must be an integer >= 1, got 0"),
        (["lr=true"], "lr must be a number > 0, got True"),
        (["noise_std=.nan"], "noise_std must be a number >= 0, got nan"),
        (["overwrite=nope"], "overwrite must be true or false, got 'nope'"),
        (["meeting_distance=3"], "meeting_distance must be a number > 0 and <= 2, got 3"),
        (["noise_std=-1"], "noise_std must be a number >= 0, got -1"),
        (["latent_high=0"], "latent_high must be a number > 0, got 0"),
        (["updates=-1"], "updates must be an integer >= 0, got -1"),
        (["record_every=0"], "record_every must be an integer >= 1, got 0"),
        (["draws=1"], "draws must be an integer >= 2, got 1"),
    ],
)
def test_what_cannot_be_meant_ends_with_one_sentence(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        recipe.main([f"run_dir={tmp_path}", *TINY, *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_run_is_not_overwritten_unasked(tmp_path, capsys):
    recipe.main([f"run_dir={tmp_path}", *TINY])
    with pytest.raises(SystemExit):
        recipe.main([f"run_dir={tmp_path}", *TINY])
    assert "overwrite=true" in capsys.readouterr().err
    recipe.main([f"run_dir={tmp_path}", *TINY, "overwrite=true", "seed=1"])
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 1


def test_help_lists_every_knob(capsys):
    with pytest.raises(SystemExit) as stop:
        recipe.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"{key}=" in text for key in recipe.Toy.names())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_recipe_as_it_is_run(seed, tmp_path):
    summary = recipe.main([f"run_dir={tmp_path}", f"seed={seed}"])
    assert summary["x_sums"][1] < -3 < 3 < summary["x_sums"][0]
    assert summary["trained"]["sample"]["met"] > 0.85
    assert summary["trained"]["mean"]["met"] > 0.95
