"""What stands where a loss meets its user: whole numbers, shapes, names of parameters, states."""

from __future__ import annotations

import pytest
import torch
from contracts import maven, si_moa
from contracts.base_contract import assert_same
from contracts.episode_contract import make_episodes
from contracts.loss_contract import (
    ACTION_DIM,
    OBS_DIM,
    action_spec,
    make_batch,
    make_parts,
    with_updater,
)
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import nn

from vm3ac_modules.baselines import MADDPGLoss
from vm3ac_modules.modules.actors import make_deterministic_actor
from vm3ac_modules.modules.critics import make_action_value
from vm3ac_modules.objectives import MAACLoss, VM3ACLoss
from vm3ac_modules.objectives.common import next_outcome, valid_mask
from vm3ac_modules.objectives.episodic import EpisodeKeys, read_episodes
from vm3ac_modules.objectives.slots import ParameterSlots


def make_maddpg(**options):
    actor = make_deterministic_actor(OBS_DIM, action_spec(3), hidden=(8, 8))
    critic = make_action_value(OBS_DIM, ACTION_DIM, 3, num_critics=1, hidden=(8, 8))
    return with_updater(MADDPGLoss(actor, critic, **options))


BUILDERS = {
    "vm3ac": lambda **options: with_updater(VM3ACLoss(*make_parts(3), **options)),
    "ma_ac": lambda **options: with_updater(MAACLoss(*make_parts(3, latent_dim=0)[:3], **options)),
    "maddpg": make_maddpg,
}


# --- whole numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_a_discount_given_as_a_whole_number_can_be_changed_in_place(name):
    loss = BUILDERS[name](gamma=1)
    assert loss.gamma.is_floating_point()
    loss.gamma.mul_(0.5)
    assert float(loss.gamma) == 0.5
    loss.make_value_estimator(gamma=0.25)
    assert float(loss.gamma) == 0.25


def test_so_can_weights_and_temperatures():
    built = maven.build(mi_weight=1)[0], si_moa.build(influence_weight=1)[0]
    for loss in built:
        loss.terms[0].weight.mul_(0.5)
        assert float(loss.terms[0].weight) == 0.5
    beta = VM3ACLoss(*make_parts(3), beta=1).terms[0].beta
    assert float(beta.mul_(0.5)) == 0.5


# --- rewards and flags ----------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("reward", (3,)),
        ("reward", (3, 1)),
        ("reward", (3, 3)),
        ("terminated", (3,)),
        ("terminated", (3, 3)),
    ],
)
def test_as_many_rows_as_agents_do_not_hide_a_missing_dimension(name, field, shape):
    loss, td = BUILDERS[name](), make_batch(3, num_agents=3)
    td["next", "wrong"] = torch.zeros(shape, dtype=torch.bool if field == "terminated" else None)
    loss.set_keys(**{field: "wrong"})
    with pytest.raises(ValueError, match=r"'wrong' must be \[\*B, ") as caught:
        loss(td)
    assert f"got {[*shape]}" in str(caught.value)


@pytest.mark.parametrize("name", BUILDERS)
def test_an_end_of_the_team_is_an_end_of_every_agent(name):
    loss, td = BUILDERS[name](), make_batch(3, num_agents=3)
    td["next", "terminated"][1] = True
    noise = loss.draw_noise(td)
    expected = loss(td, noise)
    td["next", "each"] = td["next", "terminated"].unsqueeze(-1).expand(3, 3, 1)
    loss.set_keys(terminated="each")
    assert_same(loss(td, noise), expected)


@given(st.lists(st.integers(0, 3), max_size=2), st.integers(1, 4))
def test_outcomes_keep_their_values(batch, num_agents):
    reward = torch.randn(*batch, num_agents, 1)
    td = TensorDict({"r": reward, "d": torch.zeros(*batch, 1)}, batch)
    found, flags = next_outcome(td, "r", "d", torch.Size([*batch, num_agents]))
    assert torch.equal(found.unsqueeze(-1), reward)
    assert flags.shape == (*batch, 1)


@pytest.mark.parametrize("name", ["mask", "terminated"])
def test_flags_of_episodes_are_one_per_slot(name):
    td = make_episodes()
    td[name] = td[name].unsqueeze(-1).expand(*td.shape, 3, 1)
    with pytest.raises(ValueError, match=rf"Mine: '{name}' must be .* one flag per slot, got"):
        read_episodes(td, EpisodeKeys(), "Mine")


# --- masks, parameters, states --------------------------------------------------------------


@pytest.mark.parametrize("wrong", [3, True, ["mask"], torch.ones(2)])
def test_a_mask_is_named_by_a_key(wrong):
    with pytest.raises(ValueError, match="loss_mask_key must be 'auto', None or a key, got"):
        valid_mask(TensorDict({}, [2]), wrong)


def test_parameters_are_put_in_by_name():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).eval()
    params, x = TensorDict.from_module(net), torch.randn(5, 2)
    other = params.apply(lambda p: p.abs() + (torch.rand_like(p) if p.is_floating_point() else 1))
    slots = ParameterSlots(net, params)
    with slots.filled(other):
        expected = net(x)
    turned = TensorDict({}, [])
    for key in reversed(list(other.keys(True, True))):
        turned[key] = other[key]
    assert list(turned.keys(True, True)) != list(other.keys(True, True))
    with slots.filled(turned):
        assert torch.equal(net(x), expected)
    assert not torch.equal(net(x), expected)
    with pytest.raises(KeyError), slots.filled(turned.exclude(("0", "bias"))):
        pass


@pytest.mark.parametrize("name", BUILDERS)
def test_a_state_is_tensors_alone(name):
    loss = BUILDERS[name]()
    state = nn.ModuleDict({"mine": loss}).state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert len(state) == len(loss.state_dict()) > 10
    nn.ModuleDict({"mine": BUILDERS[name]()}).load_state_dict(state)
