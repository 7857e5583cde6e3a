"""MAVEN's loss: its contract, the discriminator's sign and routing, the latent of both ends."""

from __future__ import annotations

import copy
import itertools
import math
from typing import ClassVar

import pytest
import torch
from contracts.actor_critic_contract import ActorCriticContract
from contracts.loss_contract import (
    ACTION_DIM,
    LATENT_DIM,
    OBS_DIM,
    assert_same,
    make_batch,
    make_parts,
    with_updater,
)
from contracts.maven import GAMMA, build, make_maven_parts
from contracts.reference import assert_equal_grads, grads, network
from hypothesis import given
from torch.nn.functional import one_hot

from vm3ac_modules.baselines import LatentDiscriminator, MAVENLoss
from vm3ac_modules.objectives import MAACLoss
from vm3ac_modules.objectives.terms import own_gradient_rows
from vm3ac_modules.testing import tensor_batches


class TestMAVENContract(ActorCriticContract):
    fields = (*ActorCriticContract.fields, "latent", "latent_log_prob")
    groups: ClassVar = {
        **ActorCriticContract.groups,
        "loss_discriminator": "discriminator_network_params",
    }
    # The prior of the latent learns from episodes, by `latent_policy_loss`.
    elsewhere = ("latent_policy_network_params",)
    options: ClassVar = {"mi_weight": 0.3}
    # The latent is the episode's: it is read and not drawn.
    test_stored_latent_is_never_read = None
    test_one_latent_serves_all_agents_of_a_transition = None
    test_sampler_in_another_mode = None

    def parts(self, num_agents=2, *, keys=None):
        return make_maven_parts(num_agents, keys=keys)

    def build(self, parts, **options):
        return MAVENLoss(*parts, **{**self.options, **options})

    def test_a_latent_is_read_and_none_is_drawn(self):
        loss, td = self.make(), make_batch(6)
        assert "latent" in loss.in_keys
        assert ("next", "latent") in loss.in_keys
        assert loss.draw_noise(td)["latent"].shape == (6, 0)


class TestMAVENRewardContract(TestMAVENContract):
    options: ClassVar = {"mi_weight": 0.3, "mi_mode": "reward"}
    # Takes seconds and compiles nothing that is not compiled in the other mode.
    test_compiles_as_one_graph = None


def with_weight(loss, weight):
    loss.terms[0].weight.fill_(weight)
    return loss


def fresh_actions(loss, td, noise):
    """What the policies do under the stored latent, with a gradient."""
    loc, scale = loss.reader.heads(td, td["latent"])
    return loss.center + loss.half_range * (loc + scale * noise["action"]).tanh()


def log_discriminator(loss, td, actions):
    """log D(z|x, a), layer by layer, for one list of the agents' actions ``[B, A]`` each."""
    rows = torch.cat((*td["agents", "observation"].unbind(-2), *actions), dim=-1)
    layers = loss.discriminator_network_params["net", "layers"]
    logits = network(layers, (0,), rows)
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return probabilities.log()[torch.arange(len(td)), td["latent"].argmax(-1)]


# --- the discriminator in the policies' loss --------------------------------------------------


@pytest.mark.parametrize("num_agents", [1, 2, 3])
@pytest.mark.parametrize("reward_scale", [1.0, 0.25])
def test_policies_loss_is_minus_the_value_minus_the_bonus(num_agents, reward_scale):
    # Agent i's own term, in which the other agents' actions are constants.
    weight = 0.75
    loss, td, noise = build(num_agents, mi_weight=weight, reward_scale=reward_scale)
    phi = loss.parameter_groups()["loss_actor"]
    bonus = torch.zeros((), dtype=torch.float64)
    actions = fresh_actions(loss, td, noise).unbind(-2)
    for i in range(num_agents):
        seen = [a if j == i else a.detach() for j, a in enumerate(actions)]
        bonus = bonus + weight * log_discriminator(loss, td, seen).mean()
    with_bonus = loss(td, noise)["loss_actor"]
    actual = grads(with_bonus, phi)
    without = with_weight(loss, 0.0)(td, noise)["loss_actor"]
    torch.testing.assert_close(with_bonus, without - reward_scale * bonus)
    expected = [
        plain - reward_scale * extra
        for plain, extra in zip(grads(without, phi), grads(bonus, phi), strict=True)
    ]
    assert_equal_grads(actual, expected)


def test_the_better_the_discriminator_the_lower_the_policies_loss():
    loss, td, noise = build(mi_weight=0.5)
    td["latent"] = one_hot(torch.zeros(7, dtype=torch.int64), LATENT_DIM).double()
    out = []
    last = loss.discriminator_network_params["net", "layers", "2"]
    with torch.no_grad():
        last["weight"].zero_()
        for logit in (-5.0, 0.0, 5.0, 50.0):
            last["bias"].copy_(torch.tensor([[[logit, 0.0, 0.0]]]))
            out.append(loss(td, noise))
    for worse, better in itertools.pairwise(out):
        assert better["latent_log_prob"] > worse["latent_log_prob"]
        assert better["loss_actor"] < worse["loss_actor"]
        assert better["loss_discriminator"] < worse["loss_discriminator"]
    # A perfect one leaves MA-AC's loss, as log 1 = 0.
    plain = with_weight(loss, 0.0)(td, noise)["loss_actor"]
    torch.testing.assert_close(out[-1]["loss_actor"], plain)


@pytest.mark.parametrize(("outcome", "direction"), [(0, 1.0), (1, -1.0)])
def test_an_agent_whose_action_reveals_the_latent_is_pushed_to_reveal_it(outcome, direction):
    # D(z|x, a) = softmax(4 a_1, 0, 0): only the first entry of agent 1's action tells z = 0.
    loss, td, noise = build(mi_weight=0.5, discriminator_hidden=())
    td["latent"] = one_hot(torch.full((7,), outcome), LATENT_DIM).double()
    with torch.no_grad():
        for theta in loss.qvalue_network_params.parameters():
            theta.zero_()
        layer = loss.discriminator_network_params["net", "layers", "0"]
        layer["weight"].zero_()
        layer["bias"].zero_()
        layer["weight"][0, 3 * OBS_DIM + ACTION_DIM, 0] = 4.0
    out = loss(td, noise)
    head = loss.actor_network_params["module", "0", "net", "trunk", "layers", "1", "bias"]
    [gradient] = grads(out["loss_actor"], [head])
    gradient = gradient.squeeze(-2)
    # Descent moves the mean of that entry up for z = 0, and down for another z.
    assert -gradient[1, 0] * direction > 0
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1, [1, ACTION_DIM + 1]] == 0).all()
    with torch.no_grad():
        head.sub_(0.1 * gradient.unsqueeze(-2))
    assert loss(td, noise)["latent_log_prob"] > out["latent_log_prob"]


@given(tensor_batches("*NA"))
def test_every_agent_sees_the_same_joint_action_and_its_own_gradient(drawn):
    [action] = drawn
    action.requires_grad_()
    num_agents, size = action.shape[-2:]
    rows = own_gradient_rows(action)
    assert torch.equal(rows, action.flatten(-2).unsqueeze(-2).expand(rows.shape))
    for i in range(num_agents):
        [gradient] = grads(rows[..., i, :].square().sum(), [action])
        own = torch.arange(num_agents).unsqueeze(-1).expand(num_agents, size) == i
        torch.testing.assert_close(gradient, torch.where(own, 2 * action, 0.0).detach())


# --- the discriminator's own loss -------------------------------------------------------------


def test_discriminator_learns_the_stored_latent_from_fresh_actions():
    loss, td, noise = build()
    fixed = fresh_actions(loss, td, noise).detach().unbind(-2)
    expected = -log_discriminator(loss, td, fixed).mean()
    out = loss(td, noise)
    torch.testing.assert_close(out["loss_discriminator"], expected)
    torch.testing.assert_close(out["latent_log_prob"], -expected.detach())
    upsilon = loss.parameter_groups()["loss_discriminator"]
    assert_equal_grads(grads(out["loss_discriminator"], upsilon), grads(expected, upsilon))
    changed = td.clone()
    changed["agents", "action"] = torch.zeros_like(td["agents", "action"])
    assert torch.equal(loss(changed, noise)["loss_discriminator"], out["loss_discriminator"])


def test_neither_side_of_the_discriminator_trains_the_other():
    loss, td, noise = build(mi_weight=0.5)
    out, groups = loss(td, noise), loss.parameter_groups()
    for name, others in (("loss_actor", "loss_discriminator"), ("loss_discriminator", None)):
        for owner in groups if others is None else [others]:
            if owner != name:
                found = torch.autograd.grad(
                    out[name], groups[owner], allow_unused=True, retain_graph=True
                )
                assert all(gradient is None for gradient in found)


# --- the latent of both ends ------------------------------------------------------------------


@pytest.mark.parametrize("reward_scale", [1.0, 0.25])
@pytest.mark.parametrize("mode", ["policy", "reward"])
def test_targets_by_hand(mode, reward_scale):
    weight = 0.75
    options = {"mi_weight": weight, "mi_mode": mode, "reward_scale": reward_scale}
    loss, td, noise = build(**options)
    stored = td["agents", "action"].unbind(-2)
    reward = td["next", "agents", "reward"].squeeze(-1)
    if mode == "reward":
        gain = log_discriminator(loss, td, stored) - td["latent_log_prob"].squeeze(-1)
        reward = reward + weight * gain.detach().unsqueeze(-1)
        torch.testing.assert_close(loss(td, noise)["reward_bonus"], weight * gain.mean().detach())
    alive = ~td["next", "terminated"].squeeze(-1)

    def action_value(actions):
        rows = [[i, *(j for j in range(3) if j != i)] for i in range(3)]
        joint = torch.stack([torch.stack([actions[j] for j in row], -2) for row in rows], -3)
        net = loss.qvalue_network.net
        return net(td["agents", "observation"], joint, latent=td["latent"])

    following = td["next"]
    with loss.target_value_network_params.to_module(loss.value_network):
        next_value = loss.value_network.net(
            following["agents", "observation"], latent=following["latent"]
        ).squeeze(-1)
    target = reward_scale * reward + float(loss.gamma) * alive.unsqueeze(-1) * next_value
    error = (action_value(stored) - target.detach().unsqueeze(-1)).square()
    out = loss(td, noise)
    torch.testing.assert_close(out["loss_qvalue"], 0.5 * error.sum((-1, -2)).mean())
    theta = loss.parameter_groups()["loss_qvalue"]
    expected = grads(0.5 * error.sum((-1, -2)).mean(), theta)
    assert_equal_grads(grads(out["loss_qvalue"], theta), expected)

    best = action_value(fresh_actions(loss, td, noise).unbind(-2)).amin(-1).detach()
    value = loss.value_network.net(td["agents", "observation"], latent=td["latent"]).squeeze(-1)
    expected = 0.5 * (value - best).square().sum(-1).mean()
    torch.testing.assert_close(out["loss_value"], expected)


def test_each_end_reads_its_own_entry_of_the_latent():
    loss, td, noise = build()
    before, other = loss(td, noise), td["latent"].roll(1, -1)
    after = loss(td.clone().set(("next", "latent"), other), noise)
    changed = {name for name in loss.out_keys if not torch.equal(after[name], before[name])}
    assert changed == {"loss_qvalue"}
    after = loss(td.clone().set("latent", other), noise)
    # The density of an action does not depend on where its mean is: the entropy need not move.
    changed = {name for name in loss.out_keys if not torch.equal(after[name], before[name])}
    assert changed | {"entropy"} == set(loss.out_keys)


def test_the_reward_keeps_the_bonus_out_of_the_policies_loss():
    loss, td, noise = build(mi_weight=0.75, mi_mode="reward")
    with_bonus = loss(td, noise)
    without = with_weight(loss, 0.0)(td, noise)
    assert torch.equal(with_bonus["loss_actor"], without["loss_actor"])
    assert with_bonus["loss_qvalue"] != without["loss_qvalue"]
    # It is the stored action's: another fresh draw leaves it as it is.
    again = with_weight(loss, 0.75)(td, loss.draw_noise(td))
    assert torch.equal(again["reward_bonus"], with_bonus["reward_bonus"])
    assert again["loss_actor"] != with_bonus["loss_actor"]


@pytest.mark.parametrize("mode", ["policy", "reward"])
def test_weight_zero_is_ma_ac_with_the_same_networks(mode):
    parts = make_maven_parts(3)
    stored = {"latent": "stored", "gamma": GAMMA}
    plain = with_updater(MAACLoss(*copy.deepcopy(parts[:3]), **stored))
    loss = with_updater(MAVENLoss(*parts, mi_weight=0.0, mi_mode=mode, gamma=GAMMA))
    td = make_batch(7, num_agents=3)
    noise = loss.draw_noise(td)
    ours, theirs = loss(td, noise), plain(td, noise)
    assert_same(ours, theirs)
    groups = loss.parameter_groups()
    for name, parameters in plain.parameter_groups().items():
        for left, right in zip(
            grads(ours[name], groups[name]), grads(theirs[name], parameters), strict=True
        ):
            assert torch.equal(left, right)


# --- what is refused --------------------------------------------------------------------------


def test_a_policy_that_draws_its_own_latent():
    parts = make_maven_parts()._replace(policy=make_parts().policy)
    with pytest.raises(ValueError, match="give the actor without a LatentSampler"):
        MAVENLoss(*parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mi_weight": -0.1}, "mi_weight must not be negative, got -0.1"),
        ({"mi_weight": math.nan}, "mi_weight must not be negative"),
        ({"mi_mode": "critic"}, r"mi_mode must be one of \('policy', 'reward'\), got 'critic'"),
        ({"entropy_weight": -0.1}, "entropy_weight must not be negative, got -0.1"),
        ({"entropy_weight": math.nan}, "entropy_weight must not be negative"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        MAVENLoss(*make_maven_parts(), **options)


def test_diagnostics_of_each_mode():
    assert LatentDiscriminator(None).logged == ("latent_log_prob",)
    assert LatentDiscriminator(None, mode="reward").logged == ("latent_log_prob", "reward_bonus")
