"""What every loss over transitions keeps to: a mixin of tests, small networks and batches."""

from __future__ import annotations

import copy
from typing import ClassVar, NamedTuple

import pytest
import torch
from contracts.base_contract import BaseContract, assert_same, gradients, total_loss
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives import SoftUpdate

from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.actors import make_actor, make_policy
from vm3ac_modules.modules.critics import make_action_value, make_state_value
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.modules.predictor import VariationalPredictor

OBS_DIM, ACTION_DIM, LATENT_DIM = 4, 2, 3


class Parts(NamedTuple):
    """The networks of a loss."""

    policy: object
    qvalue: object
    value: object
    predictor: object


def action_spec(num_agents):
    # Ranges differ between agents and actions, so that no range can be mistaken for another.
    low = -torch.arange(1.0, num_agents * ACTION_DIM + 1).reshape(num_agents, ACTION_DIM)
    return Bounded(low, 0.5 - 0.25 * low)


def make_parts(
    num_agents=2, *, latent_dim=LATENT_DIM, mode="sample", keys=None, stack_shape=(), **predictor
):
    keys, spec = Keys() if keys is None else keys, action_spec(num_agents)
    options = {"hidden": (8, 8), "keys": keys, "stack_shape": stack_shape}
    sampler = None
    if latent_dim:
        sampler = LatentSampler(GaussianPrior(latent_dim), mode=mode, keys=keys)
    return Parts(
        make_policy(sampler, make_actor(OBS_DIM, latent_dim, spec, **options)),
        make_action_value(OBS_DIM, ACTION_DIM, num_agents, **options),
        make_state_value(OBS_DIM, num_agents, **options),
        VariationalPredictor(OBS_DIM, spec, **{"scale": 0.5, **options, **predictor}),
    )


def make_batch(*batch, num_agents=2, keys=None, dtype=None):
    """Transitions with every entry that some loss reads, and no terminal state."""
    keys = Keys() if keys is None else keys
    spec = action_spec(num_agents)

    def step():
        return {
            keys.observation: torch.randn(*batch, num_agents, OBS_DIM, dtype=dtype),
            keys.latent: torch.randn(*batch, LATENT_DIM, dtype=dtype),
        }

    share = torch.rand(*batch, num_agents, ACTION_DIM, dtype=dtype)
    low, high = spec.space.low.to(share), spec.space.high.to(share)
    following = {
        **step(),
        keys.reward: torch.randn(*batch, num_agents, 1, dtype=dtype),
        keys.terminated: torch.zeros(*batch, 1, dtype=torch.bool),
    }
    now = {**step(), keys.action: low + (high - low) * share}
    goes_on = torch.rand(*batch, 1, 1) < 0.8
    stored = {
        keys.latent_log_prob: -torch.rand(*batch, 1, dtype=dtype),
        keys.next_action: low + (high - low) * torch.rand_like(share),
        keys.next_action_valid: goes_on.expand(*batch, num_agents, 1).clone(),
    }
    return TensorDict({**now, **stored, "next": TensorDict(following, batch)}, batch)


def to_double(td):
    return td.apply(lambda x: x.double() if x.is_floating_point() else x)


def with_updater(loss):
    """Register what moves the targets: without it TorchRL warns, and warnings are errors."""
    if any(name.startswith("target_") for name in loss.state_dict()):
        loss.updater = SoftUpdate(loss, tau=0.5)
    return loss


def move(td, old, new):
    """The tensordict with one entry, also of the next step, under another name."""
    td = td.clone()
    for step in (td, td["next"]):
        if step.get(old, None) is not None:
            step.rename_key_(old, new)
    return td


class LossContract(BaseContract):
    """Inherit, set the attributes, and define ``build``."""

    fields: ClassVar[tuple[str, ...]]
    """Names that ``set_keys`` accepts."""
    reads_next = True
    """Whether rewards and terminal flags of the next step are read."""

    def parts(self, num_agents=2, *, keys=None):
        """The networks, a named tuple of modules."""
        return make_parts(num_agents, keys=keys)

    def build(self, parts, **options):
        raise NotImplementedError

    def make(self, num_agents=2, *, keys=None, **options):
        parts = self.parts(num_agents, keys=keys)
        return with_updater(self.build(parts, keys=keys, **options))

    def batch(self):
        return make_batch(6)

    # --- keys -------------------------------------------------------------------------------

    def test_default_keys(self):
        loss = self.make()
        assert set(loss.default_keys.__dataclass_fields__) == set(self.fields)
        for name in self.fields:
            assert getattr(loss.tensor_keys, name) == getattr(Keys(), name)

    def test_keys_of_another_group_and_nested_shared_entries(self):
        keys = Keys("walkers", latent=("shared", "z"), terminated=("flags", "end"))
        loss, plain = self.make(keys=keys), self.make()
        plain.load_state_dict(
            {name.replace("walkers", "agents"): p for name, p in loss.state_dict().items()}
        )
        td = make_batch(6, keys=keys)
        theirs = move(td, "walkers", "agents")
        theirs = move(theirs, ("flags", "end"), "terminated")
        theirs = move(theirs, ("shared", "z"), "latent")
        noise = plain.draw_noise(theirs)
        expected, actual = plain(theirs, noise), loss(td, noise)
        assert_same(actual, expected)

    def test_renamed_entries_really_nested(self):
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        names = {name: ("some", "deep", name) for name in self.fields if name in ("action",)}
        if self.reads_next:
            names |= {"reward": ("other", "reward"), "terminated": ("other", "end")}
        for name, key in names.items():
            td = move(td, getattr(Keys(), name), key)
        loss.set_keys(**names)
        actual = loss(td, noise)
        assert set(names.values()) <= {
            key[1:] if key[0] == "next" else key for key in loss.in_keys if isinstance(key, tuple)
        }
        assert_same(actual, expected)

    def test_two_instances_keep_their_own_keys(self):
        first, second = self.make(), self.make()
        second.set_keys(action=("agents", "other_action"))
        assert first.tensor_keys.action == ("agents", "action")
        assert ("agents", "other_action") not in first.in_keys
        assert ("agents", "other_action") in second.in_keys
        td = make_batch(6)
        first(td)
        second(move(td, ("agents", "action"), ("agents", "other_action")))
        with pytest.raises(MissingKeysError):
            second(td)

    # --- input and noise --------------------------------------------------------------------

    def test_stored_latent_is_never_read(self):
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        other = td.clone()
        other["latent"] = torch.full_like(td["latent"], float("nan"))
        other["next", "latent"] = torch.full_like(td["latent"], float("nan"))
        for changed in (other, td.exclude("latent", ("next", "latent"))):
            actual = loss(changed, noise)
            assert_same(actual, expected)

    @pytest.mark.parametrize("exploration", list(ExplorationType))
    def test_noise_is_random_under_every_exploration_type(self, exploration):
        loss, td = self.make(), make_batch(6)
        actor_loss = loss.out_keys[0]
        with set_exploration_type(exploration):
            first, second = loss(td), loss(td)
            noise = loss.draw_noise(td)
            assert_same(loss(td, noise), loss(td, noise))
        assert first[actor_loss] != second[actor_loss]
        assert (noise["latent"] != 0).all()

    def test_one_latent_serves_all_agents_of_a_transition(self):
        loss = self.make()
        noise = loss.draw_noise(make_batch(6))
        assert noise["latent"].shape == (6, LATENT_DIM)
        assert noise["action"].shape == (6, 2, ACTION_DIM)
        assert (noise["latent"][0] != noise["latent"][1]).all()

    @pytest.mark.parametrize("mode", ["mean", "constant", "synchronized", "independent"])
    def test_sampler_in_another_mode(self, mode):
        parts = self.parts()
        sampler = parts.policy[0].with_mode(mode, num_agents=2)
        parts = parts._replace(policy=make_policy(sampler, parts.policy[1:]))
        with pytest.raises(ValueError, match=f"sampler has mode '{mode}'"):
            self.build(parts)

    # --- state ------------------------------------------------------------------------------

    def test_conversion_to_double_after_a_call(self):
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        before = loss(td, noise)
        loss.double()
        after = loss(to_double(td), to_double(noise))
        for key, value in before.items():
            assert after[key].dtype == torch.float64
            torch.testing.assert_close(after[key].float(), value, rtol=1e-4, atol=1e-4)
        total_loss(after).backward()
        assert all(p.grad.dtype == torch.float64 for p in loss.parameters() if p.grad is not None)

    # --- reduction, shapes ------------------------------------------------------------------

    @pytest.mark.parametrize("batch", [(6,), (2, 3)])
    def test_reductions_agree(self, batch):
        losses = {name: self.make(reduction=name) for name in ("none", "mean", "sum")}
        for loss in losses.values():
            loss.load_state_dict(losses["none"].state_dict())
        td = make_batch(*batch)
        noise = losses["none"].draw_noise(td)
        out = {name: loss(td, noise) for name, loss in losses.items()}
        for key in self.groups:
            assert out["none"][key].shape == batch
            torch.testing.assert_close(out["mean"][key], out["none"][key].mean())
            torch.testing.assert_close(out["sum"][key], out["none"][key].sum())

    @pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
    @pytest.mark.parametrize("num_agents", [1, 2, 3, 4])
    def test_leading_dimensions_and_numbers_of_agents(self, batch, num_agents):
        loss = self.make(num_agents, reduction="none")
        td = make_batch(*batch, num_agents=num_agents)
        noise = loss.draw_noise(td)
        out = loss(td, noise)
        for key in self.groups:
            assert out[key].shape == batch
            assert out[key].isfinite().all()
        flat = loss(td.reshape(-1), noise.reshape(-1))
        for key in self.groups:
            torch.testing.assert_close(flat[key], out[key].reshape(-1), rtol=1e-4, atol=1e-4)
        for key in set(out.keys()) - set(self.groups):
            torch.testing.assert_close(flat[key], out[key], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    @pytest.mark.parametrize("key", [("collector", "mask"), ("my", "valid")])
    @pytest.mark.parametrize("trailing", [True, False])
    def test_mask_selects_transitions(self, reduction, key, trailing):
        loss, td = self.make(reduction=reduction), make_batch(6)
        if key[0] == "my":
            loss.loss_mask_key = key
        mask = torch.tensor([True, False, True, True, False, True])
        noise = loss.draw_noise(td)
        masked = td.clone().set(key, mask.unsqueeze(-1) if trailing else mask)
        out = loss(masked, noise)
        part = loss(td[mask], noise[mask])
        for name in self.groups:
            actual = out[name][mask] if reduction == "none" else out[name]
            torch.testing.assert_close(actual, part[name])
            if reduction == "none":
                assert (out[name][~mask] == 0).all()
        slopes = gradients(loss, out)
        for left, right in zip(slopes, gradients(loss, part), strict=True):
            torch.testing.assert_close(left, right)

    def test_masked_rows_may_hold_nan(self):
        loss, td = self.make(), make_batch(6)
        mask = torch.tensor([True, False, True, True, False, True])
        noise = loss.draw_noise(td)
        td.set(("collector", "mask"), mask)
        expected = loss(td, noise)
        for key in loss.in_keys:
            if td[key].is_floating_point():
                td[key][~mask] = float("nan")
        actual = loss(td, noise)
        for name in loss.out_keys:
            torch.testing.assert_close(actual[name], expected[name])
        slopes = gradients(loss, actual)
        for left, right in zip(slopes, gradients(loss, expected), strict=True):
            torch.testing.assert_close(left, right)

    def test_nothing_selected(self):
        loss, td = self.make(), make_batch(6)
        td.set(("collector", "mask"), torch.zeros(6, dtype=torch.bool))
        out = loss(td)
        assert all(out[name] == 0 for name in self.groups)

    def test_a_cast_loss_equals_one_of_cast_networks(self):
        parts = self.parts()
        late = with_updater(self.build(copy.deepcopy(parts)))
        noise = late.draw_noise(td := to_double(make_batch(6)))
        late(make_batch(6), noise.float())
        late.double()
        early = with_updater(self.build(type(parts)(*(part.double() for part in parts))).double())
        expected = early(td, to_double(noise))
        for name, value in late(td, to_double(noise)).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)

    def test_compiles_as_one_graph(self):
        # One function for every loss of a process: torch gives up after eight.
        torch.compiler.reset()
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        compiled = torch.compile(lambda t, n: loss(t, n), backend="eager", fullgraph=True)
        expected = loss(td, noise)
        for name, value in compiled(td, noise).items():
            torch.testing.assert_close(value, expected[name])

    # --- gradients --------------------------------------------------------------------------

    def test_each_loss_reaches_its_own_parameters_only(self):
        loss = self.make()
        out, groups = loss(make_batch(6)), loss.parameter_groups()
        for name in self.groups:
            for owner, parameters in groups.items():
                gradients = torch.autograd.grad(
                    out[name], parameters, retain_graph=True, allow_unused=True
                )
                if owner != name:
                    assert all(gradient is None for gradient in gradients)
                    continue
                for gradient in gradients:
                    assert gradient is not None
                    # Every agent's slice of every parameter.
                    assert gradient.flatten(1).ne(0).any(1).all()
