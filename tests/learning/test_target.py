from __future__ import annotations

import copy

import torch
from torchrl.data import Bounded
from torchrl.objectives import SoftUpdate

import vm3ac_modules as vm
from vm3ac_modules.learning import FusedSoftUpdate


def make_loss():
    actor = vm.make_actor(4, 0, Bounded(-1.0, 1.0, (2, 1)))
    return vm.MAACLoss(actor, vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2))


def test_steps_are_those_of_torchrl():
    ours = make_loss()
    theirs = copy.deepcopy(ours)
    updaters = FusedSoftUpdate(ours, tau=0.1), SoftUpdate(theirs, tau=0.1)
    for _ in range(3):
        for loss, updater in zip((ours, theirs), updaters, strict=True):
            with torch.no_grad():
                for index, parameter in enumerate(loss.value_network_params.parameters()):
                    parameter.add_(1.0 + index)
            updater.step()
    expected = theirs.target_value_network_params
    for key, value in ours.target_value_network_params.items(True, True):
        torch.testing.assert_close(value, expected.get(key))
        assert not torch.equal(value, ours.value_network_params.get(key))


def test_the_source_is_left_alone_and_no_graph_is_kept():
    loss = make_loss()
    updater = FusedSoftUpdate(loss, tau=0.5)
    before = {name: p.clone() for name, p in loss.named_parameters()}
    updater.step()
    assert all(torch.equal(p, before[name]) for name, p in loss.named_parameters())
    assert not any(t.requires_grad for t in loss.target_value_network_params.values(True, True))
