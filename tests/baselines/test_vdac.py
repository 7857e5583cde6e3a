"""VDAC: one advantage for the team, values on the policies' memory, nothing through the return."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.episode_contract import (
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

from vm3ac_modules.baselines import VDACLoss
from vm3ac_modules.nn import QMixer, ValueHead
from vm3ac_modules.objectives.episodic import read_episodes

GAMMA, LAM = 0.9, 0.7


class TestVDACContract(EpisodeLossContract):
    groups: ClassVar = {"loss_vdac": ("actor_network_params", "value_network_params")}
    mixed = True

    def build(self, num_agents=3, *, keys=None, actor=None, **options):
        mixer = QMixer(STATE, num_agents, embed_dim=4, hypernet_hidden=8) if self.mixed else None
        actor = make_actor(num_agents, keys=keys) if actor is None else actor
        return VDACLoss(actor, ValueHead(8, num_agents, mixer), keys=keys, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"lam": 1.1}, r"lam must be in \[0, 1\]"),
            ({"value_weight": -1.0}, "value_weight must not be negative, got -1.0"),
            ({"entropy_weight": -1.0}, "entropy_weight must not be negative"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_phases_and_kind(self):
        assert self.make().phases == (("loss_vdac",),)
        assert VDACLoss.on_policy is True


class TestVDACSumContract(TestVDACContract):
    mixed = False


def build(case=TestVDACContract, **options):
    return case().make(3, **{"gamma": GAMMA, "lam": LAM, **options})


def play(loss, td):
    """Log-probabilities ``[L, N, A]`` and values ``[L + 1]`` of one episode."""
    e = read_episodes(td, loss.tensor_keys, "test")
    with (
        loss.slots["actor_network"].filled(loss.actor_network_params),
        loss.slots["value_network"].filled(loss.value_network_params),
    ):
        memory, _ = loss.actor_network.net.unroll(e.observation, e.last_action)
        log_prob = loss.actor_network.log_prob(memory, e.action_mask)
        return log_prob[0, :-1], loss.value_network(memory, e.state)[0], e


@pytest.mark.parametrize("case", [TestVDACContract, TestVDACSumContract])
@pytest.mark.parametrize("options", [{}, {"value_weight": 0.7, "entropy_weight": 0.4}])
def test_loss_and_its_gradient(case, options):
    loss, td = build(case, **options), make_episodes()
    scores, errors, entropies, targets = [], [], [], []
    for row, length in enumerate(LENGTHS):
        log_prob, value, e = play(loss, episode(td, row))
        target = discounted(e.reward[0], value.detach(), ENDS[row], gamma=GAMMA, lam=LAM)
        for t in range(length):
            advantage = target[t] - value[t].detach()
            errors.append((value[t] - target[t]) ** 2)
            for i in range(3):
                p = log_prob[t, i].exp()
                scores.append(-advantage * log_prob[t, i, e.action[0, t, i]])
                entropies.append(-torch.special.xlogy(p, p).sum())
        targets.append(target)
    entropy, critic = torch.stack(entropies).mean(), torch.stack(errors).mean()
    policy = torch.stack(scores).mean() - options.get("entropy_weight", 0.0) * entropy
    expected = {
        "loss_vdac": policy + options.get("value_weight", 0.1) * critic,
        "policy_part": policy,
        "value_part": critic,
        "entropy": entropy,
        "value_target": torch.cat(targets).mean(),
    }
    out, leaves = loss(td), loss.parameter_groups()["loss_vdac"]
    assert_equal(out, expected)
    fast = torch.autograd.grad(out["loss_vdac"], leaves)
    slow = torch.autograd.grad(expected["loss_vdac"], leaves)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_value_of_the_team_rises_with_every_agent_s_own():
    mixer = QMixer(STATE, 3).double()
    values = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    mixer(values, torch.randn(20, STATE, dtype=torch.float64)).sum().backward()
    assert (values.grad >= 0).all()
    assert values.grad.any()


def test_the_memory_learns_from_both_terms():
    loss, td = build(), make_episodes()
    weights = loss.actor_network_params["net", "gru", "memory_map", "weight"]
    slopes = []
    for value_weight in (0.0, 1.0):
        loss.value_weight = value_weight
        slopes += torch.autograd.grad(loss(td)["loss_vdac"], [weights])
    assert slopes[0].any()
    assert not torch.allclose(slopes[0], slopes[1])
