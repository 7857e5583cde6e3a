"""Centralized critics behind tensordict keys."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict

from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.critics import make_action_value, make_state_value


def scene(*batch, group="agents", state="state"):
    return TensorDict(
        {
            (group, "observation"): torch.randn(*batch, 3, 4),
            (group, "joint_action"): torch.randn(*batch, 3, 3, 2),
            state: torch.randn(*batch, 6),
        },
        batch,
    )


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
@pytest.mark.parametrize("critic_input", ["observations", "state"])
def test_values_are_written_per_agent(batch, critic_input):
    options = {"critic_input": critic_input, "state_dim": 6, "hidden": (8,)}
    td = scene(*batch)
    make_action_value(4, 2, 3, num_critics=3, **options)(td)
    make_state_value(4, 3, **options)(td)
    assert td["agents", "state_action_value"].shape == (*batch, 3, 3)
    assert td["agents", "state_value"].shape == (*batch, 3, 1)


def test_values_equal_those_of_the_network():
    critic = make_action_value(4, 2, 3, critic_input="state", state_dim=6, hidden=(8,))
    td = critic(scene(5))
    expected = critic.net(td["agents", "observation"], td["agents", "joint_action"], td["state"])
    assert torch.equal(td["agents", "state_action_value"], expected)


def test_observation_critic_ignores_the_state_dimension():
    critic = make_state_value(4, 3, state_dim=6, hidden=(8,))
    assert critic.in_keys == [("agents", "observation")]
    critic(scene(5))


def test_critics_of_another_group_and_a_nested_state():
    keys = Keys("walkers", state=("global", "state"))
    options = {"critic_input": "state", "state_dim": 6, "hidden": (8,), "keys": keys}
    td = scene(5, group="walkers", state=("global", "state"))
    action_value, state_value = (
        make_action_value(4, 2, 3, **options),
        make_state_value(4, 3, **options),
    )
    assert action_value.in_keys == [
        ("walkers", "observation"),
        ("global", "state"),
        ("walkers", "joint_action"),
    ]
    assert action_value(td)["walkers", "state_action_value"].shape == (5, 3, 2)
    assert state_value(td)["walkers", "state_value"].shape == (5, 3, 1)


def test_critics_never_read_the_latent():
    for critic in (make_action_value(4, 2, 3), make_state_value(4, 3)):
        assert "latent" not in critic.in_keys


@pytest.mark.parametrize("copier", ["state_dict", "deepcopy", "pickle"])
def test_critic_round_trips(copier):
    critic = make_action_value(4, 2, 3, hidden=(8,))
    if copier == "state_dict":
        other = make_action_value(4, 2, 3, hidden=(8,))
        other.load_state_dict(critic.state_dict())
    else:
        other = (
            copy.deepcopy(critic) if copier == "deepcopy" else pickle.loads(pickle.dumps(critic))
        )
    td = scene(5)
    key = ("agents", "state_action_value")
    assert torch.equal(other(td.clone())[key], critic(td.clone())[key])


@pytest.mark.parametrize("make", [make_action_value, make_state_value])
def test_critic_input_that_is_unknown_or_lacks_its_size(make):
    sizes = (4, 2, 3) if make is make_action_value else (4, 3)
    with pytest.raises(ValueError, match="must be 'observations' or 'state', got 'image'"):
        make(*sizes, critic_input="image")
    with pytest.raises(ValueError, match="critic_input='state' needs state_dim"):
        make(*sizes, critic_input="state")


def test_critic_names_what_is_missing():
    critic = make_action_value(4, 2, 3, critic_input="state", state_dim=6)
    with pytest.raises(MissingKeysError, match=r"CentralizedCriticNet.*lacks \['state'\]"):
        critic(scene(5).exclude("state"))
