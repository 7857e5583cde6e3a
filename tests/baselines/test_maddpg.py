"""MADDPG: its contract, Eqs. (5) and (6) one agent at a time, and what moves its targets."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import pytest
import torch
from contracts.loss_contract import (
    ACTION_DIM,
    OBS_DIM,
    LossContract,
    action_spec,
    assert_same,
    make_batch,
    to_double,
    total_loss,
    with_updater,
)
from contracts.reference import affine, assert_equal_grads, grads, network
from torchrl.data import OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives import ValueEstimators

from vm3ac_modules.baselines import MADDPGLoss
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.actors import make_deterministic_actor
from vm3ac_modules.modules.critics import make_action_value

GAMMA = 0.9
TARGETS = ("target_actor_network_params", "target_qvalue_network_params")


class MADDPGParts(NamedTuple):
    policy: object
    qvalue: object


def make_maddpg_parts(num_agents=2, *, keys=None, **critic):
    options = {"hidden": (8, 8), "keys": keys}
    return MADDPGParts(
        make_deterministic_actor(OBS_DIM, action_spec(num_agents), **options),
        make_action_value(
            OBS_DIM, ACTION_DIM, num_agents, **{"num_critics": 1, **options, **critic}
        ),
    )


class TestMADDPGContract(LossContract):
    fields = ("action", "reward", "terminated", "joint_action", "state_action_value")
    groups: ClassVar = {
        "loss_actor": "actor_network_params",
        "loss_qvalue": "qvalue_network_params",
    }
    # A deterministic policy has no sampler, and nothing is drawn for it.
    test_sampler_in_another_mode = None
    test_one_latent_serves_all_agents_of_a_transition = None
    test_noise_is_random_under_every_exploration_type = None

    def parts(self, num_agents=2, *, keys=None):
        return make_maddpg_parts(num_agents, keys=keys)

    def build(self, parts, **options):
        return MADDPGLoss(*parts, **options)

    @pytest.mark.parametrize("exploration", list(ExplorationType))
    def test_nothing_is_random_under_any_exploration_type(self, exploration):
        loss, td = self.make(), make_batch(6)
        expected = loss(td)
        with set_exploration_type(exploration):
            assert_same(loss(td), expected)
            noise = loss.draw_noise(td)
        assert noise.batch_size == (6,)
        assert noise.is_empty()

    def test_updater_finds_the_targets_of_both_networks(self):
        found = {str(key[0]) for key in self.make().updater._targets.keys(True, True)}
        assert found == set(TARGETS)

    def test_networks_and_their_targets_start_equal(self):
        state = self.make().state_dict()
        targets = [name for name in state if name.startswith("target_")]
        assert len(targets) == 2 + 2 * 3 + 2 * 2 + 2 * 2  # the range, the actor, the critic
        for name in targets:
            assert torch.equal(state[name], state[name.removeprefix("target_")])

    def test_discount_is_set_by_the_value_estimator(self):
        loss, td = self.make(gamma=0.5), make_batch(6)
        at_half = loss(td)["loss_qvalue"]
        loss.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
        assert float(loss.gamma) == pytest.approx(0.9)
        assert loss(td)["loss_qvalue"] != at_half
        loss.make_value_estimator(gamma=0.5)
        assert torch.equal(loss(td)["loss_qvalue"], at_half)
        with pytest.raises(ValueError, match="only TD0 is known"):
            loss.make_value_estimator(ValueEstimators.GAE)
        with pytest.raises(ValueError, match=r"got 0.9 and \{'lmbda': 0.9\}"):
            loss.make_value_estimator(gamma=0.9, lmbda=0.9)
        with pytest.raises(ValueError, match="gamma in"):
            loss.make_value_estimator(gamma=1.5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"gamma": float("nan")}, r"gamma must be in \[0, 1\]"),
            ({"reward_scale": 0.0}, "reward_scale must be positive, got 0.0"),
        ],
    )
    def test_unusable_loss_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.make(**options)


# --- the reference ----------------------------------------------------------------------------


class Reference:
    """Eqs. (5) and (6) for one batch, one agent at a time, on the parameters of the loss."""

    def __init__(self, loss, td):
        self.loss, self.td = loss, td
        self.num_agents = td["agents", "action"].shape[-2]
        self.stored = td["agents", "action"].unbind(-2)

    def policy(self, params, i, observations):
        space = action_spec(self.num_agents).space
        low, high = space.low[i].double(), space.high[i].double()
        squashed = network(params["net", "net", "layers"], (i,), observations[i]).tanh()
        return low + (high - low) * (squashed + 1) / 2

    def value(self, params, i, observations, actions):
        partners = [j for j in range(self.num_agents) if j != i]
        own = torch.cat((observations[i], actions[i]), -1)
        net = params["net"]
        if not partners:
            return network(net["trunk", "layers"], (0, i), own).squeeze(-1)
        others = torch.cat([x[j] for x in (observations, actions) for j in partners], -1)
        hidden = [
            affine(own, net["own_layer"], (0, i)),
            affine(others, net["others_layer"], (0, i)),
        ]
        return network(net["trunk", "layers"], (0, i), torch.cat(hidden, -1).relu()).squeeze(-1)

    def actor(self, i):
        """-Q_i(x, a_1, .., mu_i(o_i), .., a_N), the other actions as they were stored."""
        observations = self.td["agents", "observation"].unbind(-2)
        actions = list(self.stored)
        actions[i] = self.policy(self.loss.actor_network_params, i, observations)
        return -self.value(self.loss.qvalue_network_params, i, observations, actions).mean()

    def critic(self, i):
        observations = self.td["next", "agents", "observation"].unbind(-2)
        mu_bar = self.loss.target_actor_network_params
        actions = [self.policy(mu_bar, j, observations) for j in range(self.num_agents)]
        q_bar = self.value(self.loss.target_qvalue_network_params, i, observations, actions)
        alive = 1.0 - self.td["next", "terminated"].squeeze(-1).double()
        reward = self.loss.reward_scale * self.td["next", "agents", "reward"][..., i, 0]
        gamma = float(self.loss.gamma)
        target = (reward + gamma * alive * q_bar).detach()
        observations = self.td["agents", "observation"].unbind(-2)
        q_value = self.value(self.loss.qvalue_network_params, i, observations, self.stored)
        return (0.5 * (q_value - target) ** 2).mean()


def build(num_agents=3, **options):
    """A loss in float64 whose targets are not its networks, and a batch with terminal states."""
    parts = [part.double() for part in make_maddpg_parts(num_agents)]
    loss = with_updater(MADDPGLoss(*parts, gamma=GAMMA, **options)).double()
    with torch.no_grad():
        for name in TARGETS:
            for key, target in getattr(loss, name).items(True, True):
                if key[-1] in ("weight", "bias"):
                    target.add_(0.1 * torch.randn_like(target))
    td = to_double(make_batch(7, num_agents=num_agents))
    td["next", "terminated"][::3] = True
    return loss, td


@pytest.mark.parametrize("num_agents", [1, 2, 3])
@pytest.mark.parametrize("reward_scale", [1.0, 0.1])
def test_losses_and_gradients_equal_a_loop_over_agents(num_agents, reward_scale):
    loss, td = build(num_agents, reward_scale=reward_scale)
    out, reference = loss(td), Reference(loss, td)
    expected = {
        "loss_actor": sum(reference.actor(i) for i in range(num_agents)),
        "loss_qvalue": sum(reference.critic(i) for i in range(num_agents)),
    }
    for name, parameters in loss.parameter_groups().items():
        torch.testing.assert_close(out[name], expected[name], rtol=1e-9, atol=1e-9)
        assert_equal_grads(grads(out[name], parameters), grads(expected[name], parameters))


# --- the traps --------------------------------------------------------------------------------


def alone(i, num_agents=3):
    """A loss whose ``loss_actor`` is agent i's: the critics of the others are zero."""
    loss, td = build(num_agents)
    with torch.no_grad():
        for theta in loss.qvalue_network_params.parameters():
            theta[:, [j for j in range(num_agents) if j != i]] = 0.0
    return loss, td


@pytest.mark.parametrize("i", [0, 1, 2])
def test_replayed_actions_of_the_others_count_and_their_policies_get_nothing(i):
    loss, td = alone(i)
    before = loss(td)["loss_actor"]
    torch.testing.assert_close(before, Reference(loss, td).actor(i))
    for j in range(3):
        changed = td.clone()
        changed["agents", "action"][:, j] += 0.1
        assert torch.equal(loss(changed)["loss_actor"], before) == (i == j)
    for gradient in grads(before, loss.parameter_groups()["loss_actor"]):
        assert gradient[i].ne(0).any()
        assert (gradient[[j for j in range(3) if j != i]] == 0).all()


def test_target_is_that_of_the_target_networks():
    loss, td = build()
    before = loss(td)
    name = "state_action_value_target"
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    online = loss(td)
    assert torch.equal(online[name], before[name])
    assert online["loss_actor"] != before["loss_actor"]
    for target in TARGETS:
        loss, td = build()
        before = loss(td)
        with torch.no_grad():
            for value in getattr(loss, target).values(True, True):
                value.add_(0.1)
        after = loss(td)
        assert after[name] != before[name]
        assert torch.equal(after["loss_actor"], before["loss_actor"])


def test_termination_cuts_the_bootstrap_and_truncation_does_not():
    loss, td = build()
    loss.reduction = "none"
    changed = td.clone()
    changed["next", "agents", "observation"] = torch.randn_like(td["next", "agents", "observation"])
    for x in (td, changed):
        # The time limit ends the episode of every row; only some of them terminate.
        x["next", "truncated"] = torch.ones(7, 1, dtype=torch.bool)
        x["next", "done"] = torch.ones(7, 1, dtype=torch.bool)
    unchanged = loss(td)["loss_qvalue"] == loss(changed)["loss_qvalue"]
    assert torch.equal(unchanged, td["next", "terminated"].squeeze(-1))


def test_termination_of_each_agent():
    loss, td = build()
    expected = loss(td)["loss_qvalue"]
    loss.set_keys(terminated=("agents", "terminated"))
    flags = td["next", "terminated"].unsqueeze(-2).expand(7, 3, 1).clone()
    td["next", "agents", "terminated"] = flags
    assert torch.equal(loss(td)["loss_qvalue"], expected)
    flags[1, 2] = True
    assert loss(td)["loss_qvalue"] != expected


def test_target_networks_are_moved_by_their_updater_alone():
    loss, td = build()

    def targets():
        state = loss.state_dict()
        names = [name for name in state if name.startswith("target_")]
        return {name: state[name].clone() for name in names}

    before = targets()
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        total_loss(loss(td)).backward()
        optimizer.step()
    assert_same(targets(), before)
    assert not any(getattr(loss, name).requires_grad for name in TARGETS)
    online = dict(loss.state_dict())
    loss.updater.step()
    for name, after in targets().items():
        source = online[name.removeprefix("target_")]
        torch.testing.assert_close(after, 0.5 * before[name] + 0.5 * source)
        # Of both networks; the action range is the same in both.
        assert torch.equal(after, before[name]) == name.endswith(("center", "half_range"))


@pytest.mark.parametrize("batch", [2, 7])
def test_values_of_several_critics(batch):
    # As many rows as agents would otherwise go through by broadcasting.
    loss = with_updater(MADDPGLoss(*make_maddpg_parts(num_critics=2)))
    with pytest.raises(ValueError, match=r"one critic per agent, got values .*num_critics=1"):
        loss(make_batch(batch))


def test_the_actor_writes_actions_of_its_range_under_the_groups_keys():
    actor = make_deterministic_actor(OBS_DIM, action_spec(3), keys=Keys("walkers"), hidden=())
    assert actor.in_keys == [("walkers", "observation")]
    td = make_batch(50, num_agents=3, keys=Keys("walkers"))
    td["walkers", "observation"] *= 1e4
    action, space = actor(td)["walkers", "action"], action_spec(3).space
    torch.testing.assert_close(action.amin(0), space.low)
    torch.testing.assert_close(action.amax(0), space.high)


def test_the_actor_of_discrete_actions():
    with pytest.raises(ValueError, match="needs a bounded continuous action spec, got OneHot"):
        make_deterministic_actor(OBS_DIM, OneHot(3, (2, 3)))
