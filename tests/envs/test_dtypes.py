"""Entries of other types and shapes are cast or refused at the door, by name."""

from __future__ import annotations

import pytest
import torch
from contracts.episode_contract import STATE, make_actor, make_episodes
from contracts.loss_contract import make_batch, make_parts, with_updater
from contracts.training import STEPS, configuration
from contracts.typed import TYPES
from contracts.typed import make_env as typed

from vm3ac_modules.algorithms.registry import build
from vm3ac_modules.baselines import VDACLoss
from vm3ac_modules.envs import make_env
from vm3ac_modules.envs.checks import check_homogeneous_continuous
from vm3ac_modules.nn import QMixer, ValueHead
from vm3ac_modules.objectives import VM3ACLoss
from vm3ac_modules.runs import train

TASK = "python:contracts.typed:make_env"
PLACES = {
    "observation": ("agents", "observation"),
    "reward": ("agents", "reward"),
    "state": "state",
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("entry", PLACES)
def test_a_task_casts_what_networks_read_and_says_so(entry, dtype):
    with pytest.warns(UserWarning, match=f"'{entry}'.* is torch.{dtype} and is cast to torch.fl"):
        env = make_env(TASK, 3, seed=0, entry=entry, dtype=dtype)
    steps = env.rollout(2)
    for name in PLACES.keys() - ({"state"} if entry != "state" else set()):
        place = PLACES[name] if isinstance(PLACES[name], tuple) else (PLACES[name],)
        assert steps["next", *place].dtype is torch.float32, name
    read = env.observation_spec if entry != "reward" else env.full_reward_spec
    assert read[PLACES[entry]].dtype is torch.float32


@pytest.mark.parametrize(
    ("entry", "dtype"),
    [("observation", "float64"), ("observation", "int64"), ("action", "float64")],
)
def test_a_training_on_cast_entries_goes_through(tmp_path, entry, dtype):
    pytest.importorskip("tensorboard")
    tiny = {**STEPS, "run_dir": str(tmp_path), "draw": False}
    with pytest.warns(UserWarning, match=f"'{entry}'.* is torch.{dtype} and is cast"):
        found = train(
            configuration(tiny=tiny, task=TASK, task__env={"entry": entry, "dtype": dtype})
        )
    assert found["updates"] > 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("entry", PLACES)
def test_an_environment_handed_over_directly_is_refused_by_name(entry, dtype):
    env = typed(3, "cpu", 0, entry=entry, dtype=dtype)
    with pytest.raises(ValueError, match=rf"'{entry}'.* is torch.{dtype}, but networks compute"):
        check_homogeneous_continuous(env)
    with pytest.raises(ValueError, match="DTypeCastTransform"):
        build("vm3ac", env)


def test_actions_of_another_float_type_are_refused_with_what_helps():
    env = typed(3, "cpu", 0, entry="action", dtype="float64")
    with pytest.raises(ValueError, match=r"in_keys=\[\], in_keys_inv=\[\('agents', 'action'\)\]\)"):
        build("vm3ac", env)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_an_environment_whose_specs_are_wrong_is_refused_where_the_policy_reads(dtype):
    env = typed(3, "cpu", 0, entry="observation", dtype=dtype, says=False)
    agent = build("ma_sac", env)
    with pytest.raises(
        ValueError, match=rf"the policy: \('agents', 'observation'\) is torch.{dtype}"
    ):
        agent.policy(env.reset())


def test_images_are_refused_and_no_dimension_is_taken_for_another():
    env = typed(3, "cpu", 0, entry="", dtype="bool", image=True)
    with pytest.raises(ValueError, match=r"has shape \[3, 2, 1, 3\].*FlattenObservation"):
        check_homogeneous_continuous(env)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
@pytest.mark.parametrize("entry", ["observation", "reward"])
@pytest.mark.parametrize("place", ["root", "next"])
def test_a_loss_names_the_entry_of_another_type(entry, place, dtype):
    if place == "root" and entry == "reward":
        pytest.skip("rewards are of the next step")
    loss, batch = with_updater(VM3ACLoss(*make_parts(3))), make_batch(num_agents=3)
    key = ("next", "agents", entry) if place == "next" else ("agents", entry)
    batch.set(key, batch.get(key).to(dtype))
    if entry == "reward" and not dtype.is_floating_point:
        # Whole numbers are rewards like others.
        assert loss(batch)["loss_value"].dtype is torch.float32
        return
    with pytest.raises(ValueError, match=rf"VM3ACLoss: .*'{entry}'\) is {dtype}"):
        loss(batch)


def test_networks_of_double_precision_take_double_entries():
    loss = with_updater(VM3ACLoss(*make_parts(3))).double()
    batch = make_batch(num_agents=3)
    with pytest.raises(
        ValueError, match=r"is torch.float32, but the networks compute in torch.float64"
    ):
        loss(batch)
    assert loss(batch.double())["loss_value"].dtype is torch.float64


def test_a_loss_over_episodes_names_the_entry_too():
    episodes = make_episodes(num_agents=3)
    mixer = QMixer(STATE, 3, embed_dim=8)
    loss = VDACLoss(make_actor(3), ValueHead(8, 3, mixer)).double()
    loss(episodes)
    episodes.set("state", episodes.get("state").float())
    with pytest.raises(ValueError, match=r"VDACLoss: 'state' is torch\.float32"):
        loss(episodes)
