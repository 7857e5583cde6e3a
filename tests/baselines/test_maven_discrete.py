"""Value-based MAVEN: double-Q targets under a latent, the discriminator's sign, the prior."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.episode_contract import (
    ACTIONS,
    ENDS,
    LENGTHS,
    NAN,
    OBS,
    OUTCOMES,
    STATE,
    EpisodeLossContract,
    assert_equal,
    episode,
    make_episodes,
)
from torch.nn.functional import one_hot

from vm3ac_modules.baselines import EpisodeLatentPolicy, MAVENDiscreteLoss
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.utility_actor import EpsilonGreedyActor
from vm3ac_modules.nn import EpisodeDiscriminatorNet, LatentUtilityNet, QMixer
from vm3ac_modules.objectives.episodic import read_episodes

GAMMA = 0.9


def make_parts(num_agents=3, *, keys=None, recurrent=True, uniform=False, outcomes=OUTCOMES):
    net = LatentUtilityNet(OBS, ACTIONS, num_agents, latent_dim=OUTCOMES, hidden_size=8)
    sizes = {"hidden": (16, 16), "hidden_size": 6, "recurrent": recurrent}
    situation = (Keys() if keys is None else keys).state
    return (
        EpsilonGreedyActor(net, keys=keys),
        QMixer(STATE + OUTCOMES, num_agents, embed_dim=4, hypernet_layers=1),
        EpisodeDiscriminatorNet(STATE + num_agents * ACTIONS, OUTCOMES, **sizes),
        EpisodeLatentPolicy(
            STATE, outcomes, situation=situation, uniform=uniform, keys=keys, hidden=(8,)
        ),
    )


class TestMAVENDiscreteContract(EpisodeLossContract):
    extra = ("latent",)
    groups: ClassVar = {
        "loss_maven": (
            "actor_network_params",
            "mixer_network_params",
            "discriminator_network_params",
        )
    }
    elsewhere = ("latent_policy_network_params",)
    targets = ("actor_network", "mixer_network")
    floor = False
    recurrent = True

    def build(self, num_agents=3, *, keys=None, **options):
        parts = make_parts(num_agents, keys=keys, recurrent=self.recurrent)
        return MAVENDiscreteLoss(*parts, keys=keys, **{"mi_weight": 0.5, **options})

    # The discriminator of whole episodes counts each once, however long it is.
    linear: ClassVar = {"mi_weight": 0.0}

    def test_a_batch_is_the_mean_of_its_episodes(self):
        if not self.recurrent:
            super().test_a_batch_is_the_mean_of_its_episodes()
            return
        loss, td = self.make(mi_weight=1.0), make_episodes()
        whole = loss(td)
        alone = [loss(episode(td, row)) for row in range(len(td))]
        expected = sum(out["latent_log_prob"] for out in alone) / len(alone)
        torch.testing.assert_close(whole["latent_log_prob"], expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"mi_weight": -1.0}, "mi_weight must not be negative, got -1.0"),
            ({"entropy_weight": -1.0}, "entropy_weight must not be negative"),
        ],
    )
    def test_unusable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_phases_and_kind(self):
        assert self.make().phases == (("loss_maven",),)
        assert MAVENDiscreteLoss.on_policy is False


class TestMAVENPerStepContract(TestMAVENDiscreteContract):
    recurrent = False


def build(case=TestMAVENDiscreteContract, **options):
    return case().make(3, **{"gamma": GAMMA, **options})


def utilities(loss, params, e, latent):
    with loss.slots["actor_network"].filled(params):
        net = loss.actor_network.net
        memory, _ = net.unroll(e.observation, e.last_action)
        return net.score(memory[0], latent.expand(memory.shape[1], -1))


def team_value(loss, params, chosen, state, latent):
    with loss.slots["mixer_network"].filled(params):
        return loss.mixer_network(chosen, torch.cat((state, latent), -1))


# --- the values -------------------------------------------------------------------------------


def test_temporal_difference_equals_a_loop():
    loss, td = build(mi_weight=0.0), make_episodes()
    errors, targets, raised = [], [], 0
    for row, length in enumerate(LENGTHS):
        e = read_episodes(episode(td, row), loss.tensor_keys, "test")
        latent = td["latent"][row, 0]
        online = utilities(loss, loss.actor_network_params, e, latent)
        target = utilities(loss, loss.target_actor_network_params, e, latent)
        for t in range(length):
            chosen = torch.stack([online[t, i, e.action[0, t, i]] for i in range(3)])
            value = team_value(loss, loss.mixer_network_params, chosen, e.state[0, t], latent)
            y = e.reward[0, t]
            if not (ENDS[row] and t == length - 1):
                best = []
                for i in range(3):
                    legal = [a for a in range(ACTIONS) if e.action_mask[0, t + 1, i, a]]
                    best.append(max(legal, key=lambda a, i=i: online[t + 1, i, a].item()))
                    raised += best[-1] != max(legal, key=lambda a, i=i: target[t + 1, i, a].item())
                following = torch.stack([target[t + 1, i, a] for i, a in enumerate(best)])
                params = loss.target_mixer_network_params
                y = y + GAMMA * team_value(loss, params, following, e.state[0, t + 1], latent)
            targets.append(y.detach())
            errors.append((value - targets[-1]) ** 2)
    # Somewhere the two networks would choose differently, else nothing is shown.
    assert raised
    expected = {"td_part": torch.stack(errors).mean(), "qvalue_target": torch.stack(targets).mean()}
    out, leaves = loss(td), loss.parameter_groups()["loss_maven"]
    assert_equal(out, {**expected, "loss_maven": expected["td_part"]})
    options = {"materialize_grads": True}
    fast = torch.autograd.grad(out["loss_maven"], leaves, **options)
    slow = torch.autograd.grad(expected["td_part"], leaves, **options)
    for left, right in zip(fast, slow, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_the_latent_is_that_of_the_first_slot():
    loss, td = build(), make_episodes()
    expected = loss(td)
    later = td.clone()
    later["latent"][:, 1:] = NAN
    assert_equal(loss(later), expected)
    first = td.clone()
    first["latent"][:, 0] = first["latent"][:, 0].roll(1, -1)
    for name in ("loss_maven", "td_part", "qvalue_target", "latent_log_prob"):
        assert loss(first)[name] != expected[name]


# --- the discriminator ------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [True, False])
def test_log_probability_of_the_latent_and_its_sign(recurrent):
    case = TestMAVENDiscreteContract if recurrent else TestMAVENPerStepContract
    loss, td = build(case, mi_weight=0.7), make_episodes()
    terms = []
    for row, length in enumerate(LENGTHS):
        e = read_episodes(episode(td, row), loss.tensor_keys, "test")
        latent = td["latent"][row, 0]
        online = utilities(loss, loss.actor_network_params, e, latent)
        legal = e.action_mask[0]
        weight = torch.where(legal, online.exp(), torch.zeros_like(online))
        soft = (weight / weight.sum(-1, keepdim=True))[:length]
        x = torch.cat((e.state[0, :length], soft.flatten(-2)), dim=-1).unsqueeze(0)
        with loss.slots["discriminator_network"].filled(loss.discriminator_network_params):
            logits = loss.discriminator_network(x, e.mask)[0]
        assert len(logits) == (1 if recurrent else length)
        terms += list(torch.log_softmax(logits, -1)[:, latent.argmax()])
    found = torch.stack(terms).mean()
    out, leaves = loss(td), loss.parameter_groups()["loss_maven"]
    assert_equal(out, {"latent_log_prob": found, "loss_maven": out["td_part"] - 0.7 * found})
    loss.mi_weight = 0.0
    without = torch.autograd.grad(loss(td)["loss_maven"], leaves, materialize_grads=True)
    both = torch.autograd.grad(out["loss_maven"], leaves, materialize_grads=True)
    slow = torch.autograd.grad(found, leaves, materialize_grads=True)
    for left, right, term in zip(both, without, slow, strict=True):
        torch.testing.assert_close(left, right - 0.7 * term, rtol=1e-8, atol=1e-12)
    names = {id(p): name for name, p in loss.named_parameters()}
    reached = {names[id(p)].split("_")[0] for p, g in zip(leaves, slow, strict=True) if g.any()}
    # The soft actions carry it to the utilities.
    assert reached == {"actor", "discriminator"}


def test_finding_the_latent_lowers_the_loss():
    loss, td = build(TestMAVENPerStepContract, mi_weight=1.0), make_episodes((4, 4), (True, False))
    td["latent"] = one_hot(torch.ones(2, 5, dtype=torch.long), OUTCOMES).double()
    bias = loss.discriminator_network_params["net", "net", "layers", "2", "bias"]
    found = {}
    for outcome in range(OUTCOMES):
        with torch.no_grad():
            bias.copy_(torch.zeros_like(bias))
            bias[..., outcome] = 50.0
        found[outcome] = loss(td)
    torch.testing.assert_close(found[1]["loss_maven"], found[1]["td_part"])
    assert found[1]["loss_maven"] < found[0]["loss_maven"]
    assert found[1]["loss_maven"] < found[2]["loss_maven"]


# --- the prior --------------------------------------------------------------------------------


def test_prior_learns_by_reinforce_with_the_exact_entropy():
    loss = build(entropy_weight=0.3)
    situation = torch.randn(7, STATE, dtype=torch.float64)
    latent = one_hot(torch.arange(7) % OUTCOMES, OUTCOMES).double()
    advantage = torch.randn(7, dtype=torch.float64)
    value, entropy = loss.latent_policy_loss(situation, latent, advantage)
    with loss.slots["latent_policy_network"].filled(loss.latent_policy_network_params):
        p = loss.latent_policy_network.net(situation).softmax(-1)
    spread = -(p * p.log()).sum(-1).mean()
    expected = -(advantage * p[torch.arange(7), torch.arange(7) % OUTCOMES].log()).mean()
    torch.testing.assert_close(entropy, spread)
    torch.testing.assert_close(value, expected - 0.3 * spread)
    leaves = list(loss.latent_policy_network_params.parameters())
    slow = torch.autograd.grad(expected - 0.3 * spread, leaves)
    for left, right in zip(torch.autograd.grad(value, leaves), slow, strict=True):
        torch.testing.assert_close(left, right)


def test_a_uniform_prior_has_nothing_to_learn():
    loss = MAVENDiscreteLoss(*make_parts(uniform=True))
    assert loss.latent_policy_network_params.is_empty()
    prior = loss.latent_policy_network.distribution(torch.zeros(2, STATE))
    torch.testing.assert_close(prior.probs, torch.full((2, OUTCOMES), 1 / OUTCOMES))


def test_networks_that_disagree_about_the_latent():
    with pytest.raises(ValueError, match=r"disagree about the latent's outcomes: .*'prior': 2"):
        MAVENDiscreteLoss(*make_parts(outcomes=2))
