"""The tensordict vocabulary and the checks at the boundary."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch
from tensordict import TensorDict

from vm3ac_modules.extras import require_extra, require_version
from vm3ac_modules.keys import Keys, MissingKeysError, require_keys

OF_AGENTS = [
    "observation",
    "action",
    "reward",
    "loc",
    "scale",
    "action_log_prob",
    "joint_action",
    "pair_log_prob",
    "state_action_value",
    "state_value",
]
AT_THE_ROOT = ["latent", "state", "done", "terminated", "truncated", "step_count", "episode"]


@pytest.mark.parametrize("name", OF_AGENTS)
@pytest.mark.parametrize("group", ["agents", "walkers"])
def test_entries_of_agents_are_under_their_group(name, group):
    assert getattr(Keys(group), name) == (group, name) == Keys(group).of_agents(name)


@pytest.mark.parametrize("name", AT_THE_ROOT)
def test_shared_entries_are_at_the_root(name):
    assert getattr(Keys("walkers"), name) == name
    assert getattr(Keys(**{name: ("global", name)}), name) == ("global", name)


def test_vocabulary_is_a_value():
    assert Keys("walkers") == Keys("walkers") != Keys()
    assert {Keys(): 1}[Keys()] == 1
    assert pickle.loads(pickle.dumps(Keys("walkers"))) == Keys("walkers")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Keys().group = "walkers"


def test_present_keys_pass():
    td = TensorDict({"latent": torch.zeros(5), "agents": {"action": torch.zeros(5, 3)}}, [5])
    require_keys(td, ["latent", ("agents", "action")], "SomeLoss")
    require_keys(td, [], "SomeLoss")


def test_missing_keys_are_named_and_so_are_the_present_ones():
    td = TensorDict({"latent": torch.zeros(5), "agents": {"action": torch.zeros(5, 3)}}, [5])
    with pytest.raises(MissingKeysError) as caught:
        require_keys(td, ["latent", ("agents", "reward"), ("next", "done")], "SomeLoss")
    message = str(caught.value)
    assert message.startswith(
        "SomeLoss: the tensordict lacks [('agents', 'reward'), ('next', 'done')]"
    )
    assert "present: ('agents', 'action'), latent." in message
    assert isinstance(caught.value, KeyError)


def test_error_about_an_empty_tensordict():
    with pytest.raises(MissingKeysError, match=r"lacks \['state'\]; present: nothing"):
        require_keys(TensorDict(batch_size=[5]), ["state"], "SomeLoss")


def test_missing_package_names_its_extra():
    with pytest.raises(ImportError) as caught:
        require_extra("package_that_is_not_there", "vmas", "the particle environment")
    assert str(caught.value) == (
        "the particle environment needs the package 'package_that_is_not_there', which is not "
        "installed: pip install 'vm3ac-modules[vmas]'"
    )


@pytest.mark.parametrize(
    ("found", "fits"),
    [("1.5.2", True), ("1.5.10+cpu", True), ("1.5.1", False), ("1.6", False), ("1.6.0rc1", False)],
)
def test_versions_that_fit(found, fits):
    ask = ("benchmarl", "1.5.2", "1.6", "The loop", "install it", lambda name: found)
    if fits:
        require_version(*ask)
        return
    with pytest.raises(ImportError) as caught:
        require_version(*ask)
    assert str(caught.value) == f"The loop needs benchmarl>=1.5.2,<1.6, not {found}: install it"


def test_a_version_of_what_is_not_there():
    with pytest.raises(ImportError, match="nothing_at_all>=1,<2, which is not installed: get it"):
        require_version("nothing_at_all", "1", "2", "The loop", "get it")


def test_installed_package_passes():
    require_extra("torch", "vmas", "everything")
