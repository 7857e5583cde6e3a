"""DOP: the exact expectation of a linear mixture, two kinds of targets, where gradients go."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
import torch
from contracts.episode_contract import (
    ACTIONS,
    ENDS,
    LENGTHS,
    OBS,
    STATE,
    EpisodeLossContract,
    assert_equal,
    discounted,
    episode,
    make_actor,
    make_episodes,
)

from vm3ac_modules.baselines import DOPLoss
from vm3ac_modules.functional.categorical import expectation
from vm3ac_modules.nn import DecomposedCriticNet
from vm3ac_modules.objectives.episodic import at_slots, read_episodes

GAMMA, LAM, TREE_LAM = 0.9, 0.7, 0.8


class TestDOPContract(EpisodeLossContract):
    extra = ("on_policy",)
    groups: ClassVar = {
        "loss_actor": ("actor_network_params",),
        "loss_qvalue": ("qvalue_network_params",),
    }
    targets = ("qvalue_network",)

    def build(self, num_agents=3, *, keys=None, actor=None, **options):
        actor = make_actor(num_agents, keys=keys) if actor is None else actor
        critic = DecomposedCriticNet(OBS, STATE, ACTIONS, num_agents, hidden=(8, 8), embed_dim=4)
        return DOPLoss(actor, critic, keys=keys, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"lam": -0.1}, r"lam must be in \[0, 1\]"),
            ({"tree_backup_lam": 2.0}, r"tree_backup_lam must be in \[0, 1\]"),
            ({"tree_backup_steps": 0}, "tree_backup_steps must be at least 1"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_phases_and_kind(self):
        assert self.make().phases == (("loss_qvalue",), ("loss_actor",))
        assert DOPLoss.on_policy == "mixed"


def build(num_agents=3, **options):
    options = {"gamma": GAMMA, "lam": LAM, "tree_backup_lam": TREE_LAM, **options}
    return TestDOPContract().make(num_agents, **options)


def views(loss, td, params):
    """Log-probabilities ``[L + 1, N, A]``, values and shares of one episode."""
    e = read_episodes(td, loss.tensor_keys, "test")
    with loss.slots["actor_network"].filled(loss.actor_network_params):
        memory, _ = loss.actor_network.net.unroll(e.observation, e.last_action)
        log_prob = loss.actor_network.log_prob(memory, e.action_mask)
    with loss.slots["qvalue_network"].filled(params):
        values, shares = loss.qvalue_network(e.state, e.observation)
    return log_prob[0], values[0], shares[0], e


def enumerated(log_prob, values, shares):
    """Expectation of Q_tot over all joint actions, one by one."""
    total = 0.0
    for joint in itertools.product(range(values.shape[-1]), repeat=values.shape[-2]):
        pairs = list(enumerate(joint))
        weight = torch.stack([log_prob[i, a] for i, a in pairs]).sum().exp()
        total = total + weight * sum(shares[i] * values[i, a] for i, a in pairs)
    return total


def target_loop(loss, td, row, on_policy):
    """The target of one episode, step by step, over all joint actions."""
    td, steps = episode(td, row), loss.tree_backup_steps
    log_prob, values, shares, e = views(loss, td, loss.target_qvalue_network_params)
    length, reward, action = e.mask.shape[1], e.reward[0], e.action[0]
    agents = range(values.shape[-2])
    expected = [enumerated(log_prob[t], values[t], shares[t]) for t in range(length + 1)]
    taken = [sum(shares[t, i] * values[t, i, action[t, i]] for i in agents) for t in range(length)]
    if on_policy:
        bootstrap = [*taken, expected[-1]]
        return discounted(reward, bootstrap, ENDS[row], gamma=GAMMA, lam=LAM)
    follows = expected[1:]
    if ENDS[row]:
        follows[-1] = 0.0
    target = []
    for t in range(length):
        y, trace = taken[t], 1.0
        for lag in range(min(steps, length - t)):
            k = t + lag
            if lag:
                joint = sum(log_prob[k, i, action[k, i]] for i in agents)
                trace = trace * GAMMA * TREE_LAM * joint.exp()
            y = y + trace * (reward[k] + GAMMA * follows[k] - taken[k])
        target.append(y)
    return torch.stack(target)


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("num_agents", [1, 2])
def test_critic_regresses_on_both_kinds_of_targets(num_agents, steps):
    # Off policy the expectation is checked against an enumeration of all joint actions.
    loss = build(num_agents, tree_backup_steps=steps)
    td = make_episodes(num_agents=num_agents)
    errors, targets = [], []
    for row, on_policy in enumerate((True, False, False, True)):
        y = target_loop(loss, td, row, on_policy)
        _, values, shares, e = views(loss, episode(td, row), loss.qvalue_network_params)
        chosen = values[:-1].gather(-1, e.action[0, :-1].unsqueeze(-1)).squeeze(-1)
        errors.append(((shares[:-1] * chosen).sum(-1) - y) ** 2)
        targets.append(y)
    expected = {
        "loss_qvalue": torch.cat(errors).mean(),
        "qvalue_target": torch.cat(targets).mean(),
    }
    assert_equal(loss(td), expected)


def test_expected_value_equals_enumeration_and_shares_sum_to_one():
    loss = build(2)
    log_prob, values, shares, _ = views(
        loss, episode(make_episodes(num_agents=2), 0), loss.qvalue_network_params
    )
    fast = (shares * expectation(log_prob, values)).sum(-1)
    for t, exact in enumerate(fast):
        torch.testing.assert_close(enumerated(log_prob[t], values[t], shares[t]), exact)
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(fast))


def test_actor_loss_is_the_decomposed_policy_gradient_of_episodes_on_policy():
    loss, td = build(), make_episodes()
    terms = []
    for row in (0, 3):
        log_prob, values, shares, e = views(loss, episode(td, row), loss.qvalue_network_params)
        for t, i in itertools.product(range(LENGTHS[row]), range(3)):
            a = e.action[0, t, i]
            baseline = sum(log_prob[t, i, b].exp() * values[t, i, b] for b in range(ACTIONS))
            weight = (shares[t, i] * (values[t, i, a] - baseline)).detach()
            terms.append(-weight * log_prob[t, i, a])
    expected = torch.stack(terms).mean()
    out = loss(td)
    assert_equal(out, {"loss_actor": expected})
    leaves = loss.parameter_groups()["loss_actor"]
    fast = torch.autograd.grad(out["loss_actor"], leaves)
    slow = torch.autograd.grad(expected, leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_actor_reads_the_online_critic():
    loss, td = build(), make_episodes()
    before = loss(td)
    with torch.no_grad():
        for target in loss.target_qvalue_network_params.values(True, True):
            target.mul_(1.5)
    after = loss(td)
    assert torch.equal(after["loss_actor"], before["loss_actor"])
    assert after["qvalue_target"] != before["qvalue_target"]


def test_episodes_of_other_policies_do_not_reach_the_actor():
    loss, td = build(), make_episodes()
    other = td.clone()
    other["agents", "observation"][1:3] *= 2.0
    assert torch.equal(loss(other)["loss_actor"], loss(td)["loss_actor"])
    td["on_policy"] = torch.zeros_like(td["on_policy"])
    assert loss(td)["loss_actor"] == 0


def test_flag_of_the_first_slot_counts():
    loss, td = build(), make_episodes()
    other = td.clone()
    other["on_policy"][:, 1:] = ~other["on_policy"][:, 1:]
    assert_equal(loss(other), loss(td))


def test_dead_agents_have_no_policy_gradient():
    # A dead agent's probability is 1 whatever its scores are, with and without a floor.
    loss, td = build(), make_episodes(lengths=(4, 4), ends=(True, True))
    seen = []

    def watch(scores):
        scores.requires_grad_().retain_grad()
        seen.append(scores)
        return scores

    score = loss.actor_network.net.score
    loss.actor_network.net.score = lambda memory, *a, **k: watch(score(memory, *a, **k))
    loss(td)["loss_actor"].backward()
    # Padding is not scored.
    slope = at_slots(seen[0].grad, loss.read(td).seen)
    assert (slope[0, 2:, 0] == 0).all()
    assert (slope[0, :2, 0] != 0).any()
