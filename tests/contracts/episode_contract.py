"""What every loss over discrete episodes keeps to: a mixin of tests, and episodes for them."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.base_contract import BaseContract, gradients, losses_of
from tensordict import TensorDict
from torchrl.objectives import SoftUpdate

from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn import RecurrentPolicyNet

OBS, STATE, ACTIONS, OUTCOMES = 4, 6, 5, 3
LENGTHS, ENDS = (5, 3, 1, 4), (True, False, True, False)
NAN = float("nan")


def make_actor(num_agents=3, *, epsilon=0.2, keys=None):
    net = RecurrentPolicyNet(OBS, ACTIONS, num_agents, hidden_size=8)
    actor = RecurrentActor(net, keys=keys)
    actor.epsilon.fill_(epsilon)
    return actor


def make_episodes(lengths=LENGTHS, ends=ENDS, *, num_agents=3, slots=None, keys=None, dead=True):
    """Episodes in float64; ``ends``: is the game over, or was it cut off. Padding is zeros.

    The first and the fourth are on policy: of either kind one is over and one was cut off.
    Agent 0 is dead from step 2 on: then it can do nothing but action 0, which nobody else can.
    """
    keys = Keys() if keys is None else keys
    slots = max(lengths) + 1 if slots is None else slots
    batch = (len(lengths), slots)
    step = torch.arange(slots)
    size = torch.tensor(lengths).unsqueeze(-1)
    mask = step < size
    seen = step <= size
    legal = torch.rand(*batch, num_agents, ACTIONS) < 0.6
    legal[..., 0], legal[..., 1] = False, True
    if dead:
        legal[:, 2:, 0] = torch.arange(ACTIONS) == 0
    # The most likely of random scores: a uniform draw.
    action = torch.rand_like(legal, dtype=torch.float64).masked_fill(~legal, -1.0).argmax(-1)
    over = torch.tensor(ends).unsqueeze(-1) & (step == size - 1)
    double = {"dtype": torch.float64}
    root = {
        keys.state: torch.randn(*batch, STATE, **double),
        keys.observation: torch.randn(*batch, num_agents, OBS, **double),
        keys.action: action,
        keys.action_mask: legal,
        keys.reward: torch.randn(*batch, num_agents, 1, **double),
        "on_policy": (torch.arange(len(lengths)) % 3 == 0).reshape(-1, 1, 1).expand(*batch, 1),
        keys.latent: torch.eye(OUTCOMES, **double)[torch.arange(len(lengths)) % OUTCOMES]
        .unsqueeze(1)
        .repeat(1, slots, 1),
    }
    rows = {
        key: torch.where(seen.reshape(*batch, *(1,) * (x.ndim - 2)), x, torch.zeros_like(x))
        for key, x in root.items()
    }
    return TensorDict(
        {**rows, keys.terminated: over.unsqueeze(-1), keys.mask: mask.unsqueeze(-1)}, batch
    )


def episode(td, row):
    """One episode alone, without padding: ``[1, L + 1]``."""
    length = int(td["mask"][row].sum())
    return td[row : row + 1, : length + 1]


def noise_of(noise, rows, slots):
    """The part of a loss's noise that belongs to these rows and the first slots, as a view."""
    return noise[rows, :slots] if noise.ndim == 2 else noise[rows]


def with_garbage(td):
    """NaN and wrong flags wherever nothing was seen."""
    mask = td["mask"].squeeze(-1)
    seen = mask.clone()
    seen[:, 1:] |= mask[:, :-1]
    td = td.clone()
    for key in td.keys(True, True):
        if key == "mask":
            continue
        value = td[key]
        filler = NAN if value.is_floating_point() else 99 if value.dtype == torch.int64 else True
        value[~seen] = filler
    return td


def discounted(reward, value, over, *, gamma, lam):
    """Lambda-return of one episode: rewards ``[L]``, values ``[L + 1]``, by its definition."""
    length, out = len(reward), []
    for t in range(length):
        total, weight = 0.0, 1.0
        for n in range(1, length - t + 1):
            last = t + n == length
            n_step = sum(gamma**k * reward[t + k] for k in range(n))
            if not (last and over):
                n_step = n_step + gamma**n * value[t + n]
            total = total + (weight if last else weight * (1 - lam)) * n_step
            weight = weight * lam
        out.append(total)
    return torch.stack(out)


def assert_equal(actual, expected):
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-10, atol=1e-12)


def with_targets_moved(loss):
    """Register what moves the targets, and move them away from their networks."""
    targets = [name for name in dict(loss.named_children()) if name.startswith("target_")]
    if targets:
        loss.updater = SoftUpdate(loss, tau=0.5)
    with torch.no_grad():
        for name in targets:
            for key, target in getattr(loss, name).items(True, True):
                if key[-1] in ("weight", "bias"):
                    target.add_(0.1 * torch.randn_like(target))
    return loss


class EpisodeLossContract(BaseContract):
    """Inherit, set the attributes, and define ``parts`` and ``build``."""

    extra: ClassVar[tuple[str, ...]] = ()
    """Entries beyond those of every episode batch."""
    targets: ClassVar[tuple[str, ...]] = ()
    floor = True
    """Whether the exploration floor is a part of the policy that is trained."""
    linear: ClassVar[dict] = {}
    """Options under which the losses are means over transitions."""

    def build(self, num_agents=3, *, keys=None, actor=None, **options):
        raise NotImplementedError

    def make(self, num_agents=3, **options):
        return with_targets_moved(self.build(num_agents, **options).double())

    def batch(self):
        return make_episodes()

    # --- keys -------------------------------------------------------------------------------

    def test_keys_can_be_renamed(self):
        loss, td = self.make(), make_episodes()
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        with pytest.raises(ValueError, match="not an accepted tensordict key"):
            loss.set_keys(nothing="x")
        for name in (*self.extra, "mask", "reward"):
            old, new = getattr(loss.tensor_keys, name), ("other", name)
            td = td.clone().rename_key_(old, new)
            loss.set_keys(**{name: new})
        assert {("other", name) for name in self.extra} <= set(loss.in_keys)
        assert_equal(loss(td, noise), expected)

    def test_another_group_of_agents(self):
        keys = Keys("walkers")
        loss, plain = self.make(keys=keys), self.make()
        plain.load_state_dict(loss.state_dict())
        td = make_episodes(keys=keys)
        noise = loss.draw_noise(td)
        assert_equal(plain(td.clone().rename_key_("walkers", "agents"), noise), loss(td, noise))

    def test_in_keys_are_those_of_every_loss_and_its_own(self):
        assert len(self.make().in_keys) == 7 + len(self.extra)

    def test_scalars_are_returned(self):
        for value in self.make()(make_episodes()).values():
            assert value.shape == ()
            assert value.isfinite()

    def test_batch_that_is_no_episodes(self):
        loss, td = self.make(), make_episodes()
        noise = loss.draw_noise(td)
        for wrong in (td[:, :1], td[:, 0]):
            with pytest.raises(ValueError, match="expected episodes"):
                loss(wrong, noise)

    def test_the_floor_is_that_of_the_actor_that_collects(self):
        if not self.floor:
            pytest.skip("the floor is no part of what is learned")
        actor = make_actor(epsilon=0.0)
        loss = with_targets_moved(self.build(actor=actor))
        td = make_episodes().apply(lambda x: x.float() if x.is_floating_point() else x)
        td["on_policy"] = torch.ones_like(td["on_policy"])
        actor.epsilon.fill_(1.0)
        real = td["mask"].squeeze(-1)
        uniform = td["agents", "action_mask"][real].sum(-1).log().mean()
        torch.testing.assert_close(loss(td)["entropy"], uniform)

    # --- gradients --------------------------------------------------------------------------

    def test_each_loss_reaches_all_its_parameters_and_no_others(self):
        loss = self.make()
        names = {id(p): name for name, p in loss.named_parameters()}
        out = loss(make_episodes())
        for name, prefixes in self.groups.items():
            for parameter in loss.parameters():
                if not parameter.requires_grad:
                    continue
                [gradient] = torch.autograd.grad(
                    out[name], [parameter], retain_graph=True, allow_unused=True
                )
                own = names[id(parameter)].startswith(prefixes)
                assert (gradient is not None) == own, names[id(parameter)]
                assert not own or gradient.any(), names[id(parameter)]

    def test_updater_finds_the_targets(self):
        loss = self.make()
        found = {name for name in dict(loss.named_children()) if name.startswith("target_")}
        assert found == {f"target_{name}_params" for name in self.targets}

    # --- padding ----------------------------------------------------------------------------

    def test_garbage_in_the_padding_changes_nothing(self):
        loss, td = self.make(), make_episodes(slots=7)
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        actual = loss(with_garbage(td), noise)
        assert_equal(actual, expected)
        slopes = zip(gradients(loss, actual), gradients(loss, expected), strict=True)
        for left, right in slopes:
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)

    def test_longer_padding_and_empty_episodes_change_nothing(self):
        loss = self.make()
        td = make_episodes()
        noise = loss.draw_noise(td)
        wide = torch.cat((td, torch.zeros_like(td[:, :2])), dim=1)
        empty = with_garbage(torch.zeros_like(wide[:1]))
        empty["on_policy"] = torch.ones_like(empty["on_policy"])
        more = torch.cat((wide, empty))
        drawn = loss.draw_noise(more)
        noise_of(drawn, slice(len(td)), td.shape[1]).update_(noise)
        actual, expected = loss(more, drawn), loss(td, noise)
        assert_equal(actual, expected)
        for left, right in zip(gradients(loss, actual), gradients(loss, expected), strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)

    def test_nothing_real_at_all(self):
        loss, td = self.make(), make_episodes()
        td["mask"] = torch.zeros_like(td["mask"])
        out = loss(td)
        for value in (*losses_of(out).values(), *gradients(loss, out)):
            assert (value == 0).all()

    def test_a_batch_is_the_mean_of_its_episodes(self):
        loss, td = self.make(**self.linear), make_episodes()
        td["on_policy"] = torch.ones_like(td["on_policy"])
        noise = loss.draw_noise(td)
        weights = torch.tensor(LENGTHS, dtype=torch.float64) / sum(LENGTHS)
        alone = [
            loss(episode(td, row), noise_of(noise, slice(row, row + 1), length + 1))
            for row, length in enumerate(LENGTHS)
        ]
        for name, value in loss(td, noise).items():
            mean = sum(w * out[name] for w, out in zip(weights, alone, strict=True))
            torch.testing.assert_close(value, mean, rtol=1e-10, atol=1e-12)

    def test_action_of_the_last_slot_is_not_read(self):
        loss, td = self.make(), make_episodes()
        noise = loss.draw_noise(td)
        other = td.clone()
        for row, length in enumerate(LENGTHS):
            action = other["agents", "action"]
            action[row, length] = (action[row, length] + 1) % ACTIONS
        assert_equal(loss(other, noise), loss(td, noise))

    def test_everyone_dead(self):
        loss, td = self.make(), make_episodes()
        legal = torch.zeros_like(td["agents", "action_mask"])
        legal[..., 0] = True
        td["agents", "action_mask"] = legal
        td["agents", "action"] = torch.zeros_like(td["agents", "action"])
        out = loss(td)
        for value in (*out.values(), *gradients(loss, out)):
            assert value.isfinite().all()

    # --- state ------------------------------------------------------------------------------

    @pytest.mark.parametrize("num_agents", [1, 2])
    def test_numbers_of_agents(self, num_agents):
        loss = self.make(num_agents)
        out = loss(make_episodes(num_agents=num_agents))
        assert all(value.isfinite() for value in out.values())
