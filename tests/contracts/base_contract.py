"""What every loss keeps to, whatever its batches: a mixin of tests."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest
import torch

from vm3ac_modules.keys import MissingKeysError


def losses_of(out):
    return {name: value for name, value in out.items() if name.startswith("loss_")}


def total_loss(out):
    return sum(value.sum() for value in losses_of(out).values())


def gradients(loss, out):
    """Of the sum of all losses, for every parameter that one of them trains."""
    parameters = [p for group in loss.parameter_groups().values() for p in group]
    return torch.autograd.grad(total_loss(out), parameters, materialize_grads=True)


def assert_same(actual, expected):
    """To the bit, in every entry that was expected."""
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


class BaseContract:
    """Inherit, set the attributes, and define ``make`` and ``batch``."""

    groups: ClassVar[dict]
    """Loss key -> prefix (or prefixes) of the parameters that it trains."""
    elsewhere: ClassVar[tuple[str, ...]] = ()
    """Prefixes of parameters that the loss holds and ``forward`` does not train."""

    def make(self, num_agents=2, **options):
        raise NotImplementedError

    def batch(self):
        raise NotImplementedError

    # --- keys -------------------------------------------------------------------------------

    def test_unknown_key(self):
        with pytest.raises(ValueError, match="latents is not an accepted tensordict key"):
            self.make().set_keys(latents="z")

    def test_in_keys_suffice(self):
        loss, td = self.make(), self.batch()
        noise = loss.draw_noise(td)
        assert len(set(loss.in_keys)) == len(loss.in_keys)
        assert_same(loss(td.select(*loss.in_keys), noise), loss(td, noise))

    def test_every_missing_entry_is_named(self):
        loss, td = self.make(), self.batch()
        for key in loss.in_keys:
            with pytest.raises(MissingKeysError) as caught:
                loss(td.clone().exclude(key))
            message = str(caught.value)
            assert message.startswith(type(loss).__name__)
            assert str(key) in message.split("present:")[0]

    def test_out_keys_are_what_is_returned(self):
        loss = self.make()
        out = loss(self.batch())
        assert set(loss.out_keys) == set(out.keys())
        assert len(set(loss.out_keys)) == len(loss.out_keys)

    def test_only_losses_carry_a_gradient(self):
        out = self.make()(self.batch())
        for key, value in out.items():
            assert value.requires_grad == key.startswith("loss_")

    # --- networks and phases ----------------------------------------------------------------

    def test_parameter_groups_are_disjoint_and_exhaustive(self):
        loss = self.make()
        groups = loss.parameter_groups()
        assert set(groups) == set(self.groups)
        listed = [id(p) for group in groups.values() for p in group]
        assert len(set(listed)) == len(listed)
        trained = {
            id(p)
            for name, p in loss.named_parameters()
            if p.requires_grad and not name.startswith(self.elsewhere)
        }
        assert set(listed) == trained

    def test_groups_hold_the_named_networks(self):
        loss = self.make()
        names = {id(p): name for name, p in loss.named_parameters()}
        for key, prefix in self.groups.items():
            for parameter in loss.parameter_groups()[key]:
                assert names[id(parameter)].startswith(prefix)
        prefixes = [x if isinstance(x, tuple) else (x,) for x in self.groups.values()]
        networks = [tuple(f"{name}_params" for name in x) for x in loss.networks().values()]
        assert networks == prefixes

    def test_phases_hold_every_loss_once(self):
        loss = self.make()
        names = [name for phase in loss.phases for name in phase]
        assert sorted(names) == sorted(loss.parameter_groups()) == sorted(loss.networks())
        assert set(names) == {name for name in loss.out_keys if name.startswith("loss_")}

    def test_what_is_asked_for_is_what_comes(self):
        loss, td = self.make(), self.batch()
        noise = loss.draw_noise(td)
        whole, parts = loss(td, noise), {}
        for phase in (*loss.phases, *((name,) for name in loss.networks())):
            out = loss(td, noise, only=phase)
            assert set(losses_of(out)) == set(phase)
            assert all(value.requires_grad for value in losses_of(out).values())
            parts |= dict(out.items())
        assert_same(parts, whole)
        assert set(parts) == set(whole.keys())
        with pytest.raises(ValueError, match="takes names of"):
            loss(td, noise, only=["entropy"])

    def test_an_empty_batch_is_zero_and_trains_nothing(self):
        loss, td = self.make(), self.batch()[:0]
        out = loss(td)
        assert all(bool((value == 0).all()) for value in out.values())
        assert not any(x.any() for x in gradients(loss, out))

    # --- state ------------------------------------------------------------------------------

    def test_input_is_unchanged_and_noise_is_data(self):
        loss, td = self.make(), self.batch()
        before, noise = td.clone(), loss.draw_noise(td)
        assert_same(loss(td, noise), loss(td, noise))
        total_loss(loss(td)).backward()
        assert set(td.keys(True, True)) == set(before.keys(True, True))
        for key in before.keys(True, True):
            assert torch.equal(td[key], before[key])
            assert not td[key].requires_grad

    @pytest.mark.parametrize("copier", ["state_dict", "deepcopy", "pickle"])
    def test_copies_give_equal_losses(self, copier):
        loss, td = self.make(), self.batch()
        noise = loss.draw_noise(td)
        expected, name = loss(td, noise), next(iter(self.groups))
        if copier == "state_dict":
            other = self.make()
            assert other(td, noise)[name] != expected[name]
            other.load_state_dict(loss.state_dict())
        else:
            # The updater belongs to the loop, not to the loss.
            loss.__dict__.pop("updater", None)
            copied = copier == "deepcopy"
            other = copy.deepcopy(loss) if copied else pickle.loads(pickle.dumps(loss))
        assert_same(other(td, noise), expected)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1)
        assert_same(loss(td, noise), expected)
        assert other(td, noise)[name] != expected[name]
