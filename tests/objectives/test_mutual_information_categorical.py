"""The mutual-information loss of categorical policies, against loops over agents and actions."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import pytest
import torch
from contracts.categorical import (
    ACTIONS,
    actor_net,
    batch_of,
    make_policy,
    make_predictor,
    masked_loss,
)
from contracts.loss_contract import LATENT_DIM, LossContract, assert_same, make_batch
from tensordict import TensorDict

import vm3ac_modules as vm
from vm3ac_modules.functional import scatter_others
from vm3ac_modules.keys import MissingKeysError
from vm3ac_modules.objectives import MutualInformationLoss
from vm3ac_modules.objectives.categorical_policy import categorical_pair_terms


class Parts(NamedTuple):
    policy: object
    predictor: object


# --- the contract of every loss ---------------------------------------------------------------


class CategoricalContract(LossContract):
    fields = ("observation", "action")
    groups: ClassVar = {
        "loss_mi": "actor_network_params",
        "loss_predictor": "predictor_network_params",
    }
    reads_next = False
    options: ClassVar = {}

    def parts(self, num_agents=2, *, keys=None):
        return Parts(make_policy(num_agents, keys=keys), make_predictor(num_agents, keys=keys))

    def build(self, parts, **options):
        return MutualInformationLoss(*parts, **{"weight": 0.7, **self.options, **options})

    def test_renamed_entries_really_nested(self):
        loss, td = self.make(), make_batch(6)
        noise = loss.draw_noise(td)
        expected = loss(td, noise)
        key = ("some", "deep", "observation")
        loss.set_keys(observation=key)
        assert key in loss.in_keys
        assert_same(loss(td.set(key, td["agents", "observation"]), noise), expected)
        with pytest.raises(MissingKeysError):
            loss(td.exclude(key))

    def test_two_instances_keep_their_own_keys(self):
        first, second = self.make(), self.make()
        second.set_keys(observation=("agents", "privileged"))
        assert first.in_keys == [("agents", "observation")]
        assert second.in_keys == [("agents", "observation"), ("agents", "privileged")]

    def test_one_latent_serves_all_agents_of_a_transition(self):
        noise = self.make().draw_noise(make_batch(6))
        assert noise["latent"].shape == (6, LATENT_DIM)
        assert (noise["latent"][0] != noise["latent"][1]).all()
        assert set(noise.keys()) == {"latent", "extra_latents"}

    def test_compiles_as_one_graph(self):
        # All contracts compile the same lambda, and Dynamo keeps at most 8 versions of one.
        torch.compiler.reset()
        super().test_compiles_as_one_graph()
        torch.compiler.reset()

    def test_each_loss_reaches_its_own_parameters_only(self):
        loss = self.make(3)
        out, groups = loss(make_batch(6, num_agents=3)), loss.parameter_groups()
        for name in self.groups:
            for owner, parameters in groups.items():
                gradients = torch.autograd.grad(
                    out[name], parameters, retain_graph=True, allow_unused=True
                )
                if owner != name:
                    assert all(gradient is None for gradient in gradients)
                elif name == "loss_mi":
                    assert all(g.flatten(1).ne(0).any(1).all() for g in gradients)
                else:
                    assert all(g.ne(0).any() for g in gradients)


class TestCategoricalContract(CategoricalContract):
    options: ClassVar = {"entropy_weight": 1.0}


class TestCategoricalManyLatentsContract(CategoricalContract):
    options: ClassVar = {"entropy_weight": 1.0, "num_latents": 3, "reverse_model": "partner"}


# --- the formula, one agent and one action at a time ------------------------------------------


def oracle(loss, td, noise, mixture="constant"):
    """``loss_mi`` and ``loss_predictor`` of every transition, nothing detached but what must be.

    Agent i's own loss is to be differentiated with respect to its own parameters alone: then the
    partners' policies are constants by themselves.
    """
    net, num_agents = actor_net(loss), td["agents", "observation"].shape[-2]
    observation, legal = td["agents", "observation"], td["agents", "action_mask"]

    def policies(latent):
        logits = net(observation, latent).masked_fill(~legal, -math.inf)
        return logits.softmax(-1)

    drawn = policies(noise["latent"])
    extra = [policies(latent) for latent in noise["extra_latents"].unbind(-2)]
    mixed = sum([drawn, *extra]) / (1 + len(extra))
    if extra and mixture == "constant":
        mixed = mixed.detach()
    predictor = loss.predictor_network
    own, nll = [], torch.zeros(td.batch_size, dtype=torch.float64)
    for i in range(num_agents):
        term = torch.zeros(td.batch_size, dtype=torch.float64)
        for a in range(ACTIONS):
            logarithm = torch.where(legal[..., i, a], mixed[..., i, a], 1.0).log()
            term = term - loss.entropy_weight * drawn[..., i, a] * logarithm
            at = torch.full((*td.batch_size, num_agents), a)
            log_q = predictor.net(at, td["state"], legal)
            for j in range(num_agents):
                for b in range(ACTIONS if j != i else 0):
                    both = drawn[..., i, a] * drawn[..., j, b]
                    term = term + both * log_q[..., i, j, b].detach() / num_agents
                    nll = nll - 2 * both.detach() * log_q[..., i, j, b]
        own.append(-loss.weight * term / num_agents)
    return torch.stack(own, -1), nll / (num_agents * (num_agents - 1))


@pytest.mark.parametrize("batch", [(5,), (2, 3)])
@pytest.mark.parametrize("num_latents", [0, 1, 3])
@pytest.mark.parametrize("num_agents", [2, 3])
def test_losses_and_gradients_equal_the_loops(num_agents, num_latents, batch):
    options = {"weight": 0.7, "entropy_weight": 0.4, "num_latents": num_latents}
    loss = masked_loss(num_agents, gain=3.0, **options)
    td = batch_of(*batch, num_agents=num_agents)
    noise = loss.draw_noise(td)
    out = loss(td, noise)
    own, nll = oracle(loss, td, noise)
    torch.testing.assert_close(out["loss_mi"], own.sum(-1).mean())
    torch.testing.assert_close(out["loss_predictor"], nll.mean())
    net, groups = actor_net(loss), loss.parameter_groups()
    actual = torch.autograd.grad(out["loss_mi"], [net.first, net.last])
    for i in range(num_agents):
        mine = own[..., i].mean()
        expected = torch.autograd.grad(mine, [net.first, net.last], retain_graph=True)
        for left, right in zip(actual, expected, strict=True):
            torch.testing.assert_close(left[i], right[i])
            assert (right[i] != 0).any()
    for left, right in zip(
        torch.autograd.grad(out["loss_predictor"], groups["loss_predictor"]),
        torch.autograd.grad(nll.mean(), groups["loss_predictor"]),
        strict=True,
    ):
        torch.testing.assert_close(left, right)


def test_diagnostics_of_a_call_are_those_of_the_losses():
    loss = masked_loss(3, entropy_weight=1.0, weight=1.0, pair_weight="mean")
    td = batch_of(6, num_agents=3)
    out = loss(td)
    matrix = out["pair_log_prob_matrix"]
    assert (matrix.diagonal() == 0).all()
    torch.testing.assert_close(out["pair_log_prob"], matrix.sum() / 6)
    torch.testing.assert_close(out["loss_predictor"], -2 * out["pair_log_prob"])
    # Each agent has two partners, of weight 1/2 each.
    torch.testing.assert_close(out["loss_mi"], -out["entropy"] - out["pair_log_prob"])


def test_sides_of_the_pair_terms():
    log_prob = torch.randn(5, 3, ACTIONS).log_softmax(-1).requires_grad_()
    table = torch.randn(5, 3, ACTIONS, 3, ACTIONS).requires_grad_()
    pairs = categorical_pair_terms(log_prob, table)
    forward, reverse = scatter_others(pairs.partner), scatter_others(pairs.own)
    torch.testing.assert_close(reverse, forward.mT)
    torch.testing.assert_close(pairs.policy, pairs.partner)
    assert not torch.allclose(pairs.own, pairs.partner)
    for side, trained in zip(pairs, (log_prob, table, table), strict=True):
        reached = torch.autograd.grad(
            side.sum(), (log_prob, table), retain_graph=True, allow_unused=True
        )
        assert [x is not None for x in reached] == [x is trained for x in (log_prob, table)]


def test_what_the_log_of_the_mixture_leaves_out_has_zero_mean():
    # Both draws of a latent with two outcomes, enumerated.
    loss = masked_loss(2, prior=vm.CategoricalPrior(2), gain=3.0, entropy_weight=1.0, num_latents=1)
    one, latents = batch_of(1), torch.eye(2, dtype=torch.float64)
    td = one.expand(4)
    noise = TensorDict(
        {"latent": latents[[0, 0, 1, 1]], "extra_latents": latents[[0, 1, 0, 1]].unsqueeze(-2)}, [4]
    )
    net = actor_net(loss)
    actual = torch.autograd.grad(loss(td, noise)["loss_mi"], net.last)[0]
    own, _ = oracle(loss, td, noise, mixture="differentiated")
    for i in range(2):
        expected = torch.autograd.grad(own[..., i].mean(), net.last, retain_graph=True)[0]
        torch.testing.assert_close(actual[i], expected[i])
    single = torch.autograd.grad(loss(td[1:2], noise[1:2])["loss_mi"], net.last)[0]
    own, _ = oracle(loss, td[1:2], noise[1:2], mixture="differentiated")
    assert not torch.allclose(single[0], torch.autograd.grad(own[..., 0].mean(), net.last)[0][0])
