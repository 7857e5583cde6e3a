"""What transforms of the environment learned comes into evaluations, exports and later sessions."""

from __future__ import annotations

import pytest
import torch
from contracts.normalized import PARTS
from contracts.training import logged, run_until, scramble

pytest.importorskip("tensorboard")

from vm3ac_modules.envs.carried import affine_observation, carried, foreign_parts
from vm3ac_modules.evaluation import evaluate
from vm3ac_modules.execution.export._parity import largest_difference
from vm3ac_modules.execution.export.agents import export_agents
from vm3ac_modules.execution.runtime.agent_file import read_record
from vm3ac_modules.execution.team.team import DecentralizedTeam
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.runs import Run, Settings, load_agent, load_checkpoint, train

# TorchRL's own notes on its normalizers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Support of VecNormV2"),
    pytest.mark.filterwarnings("ignore:This class is to be deprecated"),
    pytest.mark.filterwarnings("ignore:VecNorm wasn't initialized"),
    pytest.mark.filterwarnings("ignore:Querying state_dict"),
]
TASK = "python:contracts.normalized:make_env"
ABOUT = {"algorithm": "vm3ac", "task": "far", "checkpoint": {"sha256": "a", "frame": 0}}


@pytest.fixture
def far(compose):
    """A tiny training on the meeting game behind the transforms of that name."""
    return lambda part, **more: compose(task=TASK, task__env__part=part, draw=False, **more)


@pytest.mark.parametrize("part", ["v2", "v1", "own", "scaled", "clipped", "frames", "once"])
def test_evaluations_play_behind_the_frozen_statistics_of_the_training(far, tmp_path, part):
    summary = train(far(part))
    trained = load_agent(tmp_path / "run", trust=True)
    env = trained.make_env(3, seed=0)
    saved = load_checkpoint(tmp_path / "run").state["carried"]
    before = carried(env)
    again = evaluate(
        trained.policy, env, max_steps=6, seed=evaluation_seed(0), keys=trained.agent.keys
    )
    assert again.mean == pytest.approx(summary["eval_return_mean"], abs=1e-6)
    assert logged(tmp_path / "run" / "eval.csv")[-1]["return_mean"] == str(again.mean)
    if part in ("v2", "v1", "own"):
        [(name, state)] = saved.items()
        for key, value in carried(env)[name].items():
            assert torch.equal(value, state[key]), key
            assert torch.equal(value, before[name][key]), f"{key} moved while it was played"


def test_what_a_normalizer_shows_is_the_raw_observation_by_the_saved_statistics(far, tmp_path):
    train(far("v2_seen"))
    env = load_agent(tmp_path / "run", trust=True).make_env(3, seed=5)
    [state] = load_checkpoint(tmp_path / "run").state["carried"].values()
    keys = {key.split(".-|-.")[0].split("/")[-1]: value for key, value in state.items()}
    debias = 1 - 0.9999 ** keys["count"]
    loc = keys["loc"] / debias
    scale = ((keys["var"] - keys["loc"] ** 2) / debias).sqrt()
    steps = env.rollout(4)
    shown, raw = steps["agents", "observation"], steps["agents", "raw_observation"]
    assert raw.mean() > 8.0, "the raw observation is the environment's own"
    torch.testing.assert_close(shown, ((raw - loc) / scale).float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("part", ["v2", "v1", "scaled", "clipped"])
def test_reported_returns_are_the_tasks_whatever_a_transform_makes_of_rewards(far, tmp_path, part):
    train(far(part))
    trained = load_agent(tmp_path / "run", trust=True)
    env = trained.make_env(3, seed=0)
    steps = env.rollout(6)
    # Two agents are paid minus their distance, which the raw observations show.
    raw = steps["next", "agents", "raw_observation"] if part != "clipped" else None
    raw = steps["next", "agents", "observation"] if raw is None else raw
    paid = steps["next", "agents", "task_reward"]
    apart = (raw[:, :, :1] - raw[:, :, 1:]).abs() / 3.0
    torch.testing.assert_close(paid, -apart.expand_as(paid), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(steps["next", "agents", "reward"], paid)
    result = evaluate(None, env, max_steps=6, seed=3)
    plain = load_agent(tmp_path / "run", trust=True).make_env(3, seed=0).base_env
    assert result.mean == pytest.approx(evaluate(None, plain, max_steps=6, seed=3).mean, rel=1e-5)


@pytest.mark.parametrize("part", ["v2_seen", "scaled"])
def test_exported_agents_normalize_by_themselves(far, tmp_path, part):
    train(far(part))
    trained = load_agent(tmp_path / "run", trust=True)
    env = trained.make_env(4, seed=0)
    maps = affine_observation(env)
    options = {"latent": "mean", "about": ABOUT}
    paths = export_agents(trained.policy, tmp_path / "a", normalization=maps, **options)
    said = read_record(paths[0])["observation_normalization"]
    assert len(said) == len(maps)
    assert said[0]["loc"] == maps[0].loc[0].tolist()
    apart = largest_difference(trained.policy, env, paths, latent="mean", seed=7)
    assert apart < 1e-4, "an agent alone does what it did in the team"
    unaware = export_agents(trained.policy, tmp_path / "b", **options)
    assert read_record(unaware[0])["observation_normalization"] is None


def test_a_team_of_processes_gets_raw_observations(far, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    train(far("scaled"))
    trained = load_agent(tmp_path / "run", trust=True)
    env = trained.make_env(4, seed=0)
    options = {"latent": "mean", "about": ABOUT, "format": "onnx"}
    maps = affine_observation(env)
    paths = export_agents(trained.policy, tmp_path / "a", normalization=maps, **options)
    with DecentralizedTeam(paths, seed=7) as team:
        found = evaluate(team, env, max_steps=6, seed=7)
    joint = evaluate(trained.policy, env, max_steps=6, seed=7, latent="mean")
    assert found.mean == pytest.approx(joint.mean, abs=1e-4)


def test_an_export_says_which_transform_it_cannot_write(far, tmp_path):
    train(far("behind"))
    with pytest.raises(ValueError, match="ClipTransform changes observations behind a normalizer"):
        affine_observation(load_agent(tmp_path / "run", trust=True).make_env(2))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("per_row", r"VecNormV2 keeps statistics for every row apart .* reduce_batch_dims=True"),
        ("stateless", r"VecNormV2\(stateful=False\) keeps its statistics in the data"),
        ("tensor", r"Freezable changes largest with the data, which no checkpoint holds"),
        ("number", r"Freezable changes largest with the data, which no checkpoint holds"),
        ("no_freeze", r"Running changes largest with the data and cannot be frozen"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name_before_anything_is_written(
    far, tmp_path, part, says
):
    with pytest.raises(ValueError, match=says):
        train(far(part))
    assert not (tmp_path / "run").exists()


def test_seeds_that_train_together_do_not_pool_statistics(far, tmp_path):
    with pytest.raises(ValueError, match="VecNormV2 would pool the statistics of 2 seeds"):
        train(far("v2", seeds=2))
    assert not (tmp_path / "run").exists()
    # What is fixed is every seed's.
    assert len(train(far("scaled", seeds=2))["seeds"]) == 2


@pytest.mark.parametrize("part", ["v2", "v1", "own", "frames"])
def test_a_resumed_run_goes_on_with_the_same_statistics_to_the_bit(compose, tmp_path, part):
    more = {"task": TASK, "task__env__part": part, "draw": False}
    config = compose(**more)
    run_until(config, 44)
    scramble()
    saved = load_checkpoint(tmp_path / "run").state["carried"]
    with Run(Settings.of({**config, "resume": True})) as run:
        found = carried(run.env, run.of_rows)
    for name, state in saved.items():
        # Stacked frames are of a row each, and begin anew with the episode.
        assert bool(state) == (part != "frames")
        assert all(torch.equal(found[name][key], value) for key, value in state.items())
    assert train({**config, "resume": True})["frames"] == 64


def test_a_checkpoint_of_another_transform_is_refused_by_name(far, tmp_path):
    train(far("v2"))
    trained = load_agent(tmp_path / "run", trust=True)
    other = trained._replace(carried={"0:VecNorm": {}})
    with pytest.raises(ValueError, match=r"lacks the transforms \['0:VecNorm'\].*VecNormV2"):
        other.make_env(2)


def test_every_kind_is_a_users_own_to_the_search():
    from contracts.normalized import make_env

    for part in PARTS:
        assert foreign_parts(make_env(2, "cpu", 0, part)), part
