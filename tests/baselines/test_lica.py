"""LICA: credit through the joint policy's probabilities, an entropy gradient of constant size."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.episode_contract import (
    ACTIONS,
    ENDS,
    LENGTHS,
    STATE,
    EpisodeLossContract,
    assert_equal,
    discounted,
    episode,
    make_actor,
    make_episodes,
)
from torch.nn.functional import one_hot

from vm3ac_modules.baselines import LICALoss
from vm3ac_modules.nn import LICACritic
from vm3ac_modules.objectives.episodic import at_slots, read_episodes

GAMMA, LAM = 0.9, 0.7


class TestLICAContract(EpisodeLossContract):
    groups: ClassVar = {
        "loss_actor": ("actor_network_params",),
        "loss_qvalue": ("qvalue_network_params",),
    }
    targets = ("qvalue_network",)
    floor = False
    linear: ClassVar = {"entropy_weight": 0.0}

    def build(self, num_agents=3, *, keys=None, **options):
        actor = make_actor(num_agents, epsilon=0.0, keys=keys)
        critic = LICACritic(STATE, ACTIONS, num_agents, embed_dim=32, bottleneck=8)
        return LICALoss(actor, critic, keys=keys, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": -0.1}, r"gamma must be in \[0, 1\], got -0.1"),
            ({"lam": 1.5}, r"lam must be in \[0, 1\]"),
            ({"entropy_weight": -1.0}, "entropy_weight must not be negative, got -1.0"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_phases_and_kind(self):
        assert self.make().phases == (("loss_qvalue",), ("loss_actor",))
        assert LICALoss.on_policy is True


def build(num_agents=3, **options):
    return TestLICAContract().make(num_agents, **{"gamma": GAMMA, "lam": LAM, **options})


def policies(loss, td):
    """Log-probabilities of one episode, ``[L + 1, N, A]``, and the episode."""
    e = read_episodes(td, loss.tensor_keys, "test")
    with loss.slots["actor_network"].filled(loss.actor_network_params):
        memory, _ = loss.actor_network.net.unroll(e.observation, e.last_action)
        return loss.actor_network.log_prob(memory, e.action_mask)[0], e


def critic(loss, params, state, probabilities):
    with loss.slots["qvalue_network"].filled(params):
        return loss.qvalue_network(state, probabilities.double())


def test_critic_regresses_what_was_done_on_the_lambda_return():
    loss, td = build(), make_episodes()
    noise = loss.draw_noise(td)
    taken, targets = [], []
    for row, length in enumerate(LENGTHS):
        log_prob, e = policies(loss, episode(td, row))
        action = e.action[0].clone()
        action[length] = (log_prob[length] + noise["action"][row]).argmax(-1)
        vertices = one_hot(action, ACTIONS)
        taken.append(critic(loss, loss.qvalue_network_params, e.state[0], vertices)[:-1])
        value = critic(loss, loss.target_qvalue_network_params, e.state[0], vertices)
        targets.append(discounted(e.reward[0], value, ENDS[row], gamma=GAMMA, lam=LAM))
    taken, targets = torch.cat(taken), torch.cat(targets)
    expected = {
        "loss_qvalue": (taken - targets).square().mean(),
        "state_action_value": taken.mean(),
        "qvalue_target": targets.mean(),
    }
    assert_equal(loss(td, noise), expected)


def test_noise_matters_where_an_episode_was_cut_off():
    loss = build()
    for over in (True, False):
        td = make_episodes(ends=(over,) * len(LENGTHS))
        values = {float(loss(td)["qvalue_target"].detach()) for _ in range(20)}
        assert (len(values) > 1) != over


def test_actor_loss_is_the_value_of_the_joint_policy_and_the_scaled_entropy():
    weight = 0.3
    loss, td = build(entropy_weight=weight), make_episodes()
    values, entropies = [], []
    for row in range(len(LENGTHS)):
        log_prob, e = policies(loss, episode(td, row))
        p = log_prob.exp()[:-1]
        values.append(critic(loss, loss.qvalue_network_params, e.state[0, :-1], p))
        entropies.append(-torch.special.xlogy(p, p).sum(-1).mean(-1))
    value, entropy = torch.cat(values).mean(), torch.cat(entropies).mean()
    out, leaves = loss(td), loss.parameter_groups()["loss_actor"]
    assert_equal(out, {"entropy": entropy, "policy_value": value})
    expected = -value - weight / entropy.detach() * entropy
    assert_equal(out, {"loss_actor": expected})
    fast = torch.autograd.grad(out["loss_actor"], leaves)
    slow = torch.autograd.grad(expected, leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_entropy_weight_is_bounded_when_nothing_is_left_to_spread():
    loss, td = build(entropy_weight=0.5), make_episodes(dead=False)
    with torch.no_grad():
        loss.actor_network_params["net", "head", "weight"].mul_(0.0)
        loss.actor_network_params["net", "head", "bias"].copy_(
            torch.tensor([0.0, 30.0, 20.0, 10.0, 0.0])
        )
    out = loss(td)
    assert 0 < out["entropy"] < 1e-3
    expected = -out["policy_value"] - 0.5 / 1e-3 * out["entropy"]
    assert_equal(out, {"loss_actor": expected})


def test_every_agent_gets_credit():
    loss, td = build(entropy_weight=0.0), make_episodes(dead=False)
    seen = []

    def watch(scores):
        scores.retain_grad()
        seen.append(scores)
        return scores

    score = loss.actor_network.net.score
    loss.actor_network.net.score = lambda memory, *a, **k: watch(score(memory, *a, **k))
    loss(td)["loss_actor"].backward()
    # Padding is not scored.
    slope = at_slots(seen[0].grad, loss.read(td).seen)
    free = td["agents", "action_mask"].sum(-1) > 1
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            for agent in range(3):
                assert slope[row, t, agent].any() == free[row, t, agent]
        assert not slope[row, length:].any()


def test_critic_is_a_constant_of_the_actor_loss_and_the_online_one():
    loss, td = build(), make_episodes()
    before = loss(td, only=["loss_actor"])
    with torch.no_grad():
        for target in loss.target_qvalue_network_params.values(True, True):
            target.mul_(1.5)
    assert_equal(loss(td, only=["loss_actor"]), before)
    with torch.no_grad():
        loss.qvalue_network_params["b2", "2", "bias"].add_(1.0)
    after = loss(td, only=["loss_actor"])
    torch.testing.assert_close(after["loss_actor"], before["loss_actor"] - 1.0)
