"""The contract of the actor-critic losses, and what they check at construction."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from contracts.actor_critic_contract import ActorCriticContract
from contracts.loss_contract import action_spec, make_batch, make_parts, with_updater
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal

from vm3ac_modules.objectives import (
    CentralizedActorCriticLoss,
    EntropyTerm,
    MAACLoss,
    MASACLoss,
    MutualInformationTerm,
    PolicyReader,
    VM3ACLoss,
)


class PairContract(ActorCriticContract):
    groups: ClassVar = {**ActorCriticContract.groups, "loss_predictor": "predictor_network_params"}

    def test_predictor_is_required(self):
        with pytest.raises(ValueError, match=r"Loss needs a predictor_network"):
            self.build(make_parts()._replace(predictor=None))

    def test_reverse_model_is_known(self):
        with pytest.raises(ValueError, match=r"reverse_model must be one of .*, got 'other'"):
            self.make(reverse_model="other")

    def test_predictor_of_another_number_of_agents(self):
        parts = make_parts()._replace(predictor=make_parts(3).predictor)
        with pytest.raises(ValueError, match=r"built for \[N, A\] = \[3, 2\].*acts in \[2, 2\]"):
            self.build(parts)

    def test_matrix_of_pairs_is_the_mean_over_the_batch(self):
        loss, td = self.make(3), make_batch(6, num_agents=3)
        noise = loss.draw_noise(td)
        out = loss(td, noise)
        rows = [loss(td[b], noise[b])["pair_log_prob_matrix"] for b in range(6)]
        matrix = torch.stack(rows).mean(0)
        torch.testing.assert_close(out["pair_log_prob_matrix"], matrix)
        torch.testing.assert_close(out["pair_log_prob"], matrix.sum() / 6)
        assert (matrix.diagonal() == 0).all()


class TestVM3ACContract(PairContract):
    def build(self, parts, **options):
        policy, qvalue, value, predictor = parts
        return VM3ACLoss(policy, qvalue, value, predictor, **{"beta": 0.3, **options})


class TestVM3ACWithExtraLatentsContract(PairContract):
    def build(self, parts, **options):
        policy, qvalue, value, predictor = parts
        options = {
            "beta": 0.3,
            "num_latents": 3,
            "reverse_model": "partner",
            "policy_q": "min",
            **options,
        }
        return VM3ACLoss(policy, qvalue, value, predictor, **options)


class TestCentralizedContract(PairContract):
    def build(self, parts, **options):
        policy, qvalue, value, predictor = parts
        reverse_model = options.pop("reverse_model", "own")
        term = MutualInformationTerm(predictor, 0.3, 2, "mean", reverse_model)
        return CentralizedActorCriticLoss(policy, qvalue, value, terms=[term], **options)


class TestMAACContract(ActorCriticContract):
    def build(self, parts, **options):
        return MAACLoss(*parts[:3], **options)


class TestMASACContract(ActorCriticContract):
    def build(self, parts, **options):
        return MASACLoss(*parts[:3], **{"beta": 0.3, **options})


PRINT_KEYS = """
from contracts.loss_contract import make_parts
from vm3ac_modules.objectives import MAACLoss, MASACLoss, MutualInformationLoss, VM3ACLoss
p = make_parts()
for loss in (VM3ACLoss(*p), MAACLoss(*p[:3]), MASACLoss(*p[:3]),
             MutualInformationLoss(p.policy, p.predictor, diagnostic_latents=2)):
    print(loss.in_keys, loss.out_keys, list(loss.parameter_groups()))
"""


def test_keys_are_ordered_alike_in_every_process(capsys):
    # This process has a seed of its own, random unless the caller chose one.
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", PRINT_KEYS],
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    exec(PRINT_KEYS, {})
    printed = capsys.readouterr().out
    assert done.stdout == printed
    assert "loss_mi" in printed


def information_term(*options):
    return MutualInformationTerm(make_parts().predictor, *options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyTerm(-0.1), "beta must not be negative, got -0.1"),
        (lambda: information_term([0.1, -0.1]), "beta must not be negative"),
        (lambda: EntropyTerm(float("nan")), "beta must not be negative"),
        (lambda: EntropyTerm(float("inf")), "beta must be finite, got inf"),
        (lambda: EntropyTerm(True), "beta must be a number, got True"),
        (lambda: EntropyTerm([0.1, True]), "beta must be a number, got True"),
        (lambda: EntropyTerm(0.1, -1), r"num_latents \(K\) must not be negative, got -1"),
        (lambda: information_term(0.1, 0, "sum"), "pair_weight must be 'paper'"),
    ],
)
def test_unusable_terms(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def plain_policy(**distribution):
    network = TensorDictSequential(
        TensorDictModule(
            nn.Sequential(nn.Linear(4, 4), NormalParamExtractor()),
            [("agents", "observation")],
            [("agents", "loc"), ("agents", "scale")],
        )
    )
    options = {"distribution_class": TanhNormal, **distribution}
    return ProbabilisticActor(
        network,
        in_keys={"loc": ("agents", "loc"), "scale": ("agents", "scale")},
        out_keys=[("agents", "action")],
        **options,
    )


def test_reader_accepts_any_sequence_that_ends_in_a_squashed_normal():
    space = action_spec(2).space
    reader = PolicyReader(plain_policy(distribution_kwargs={"low": space.low, "high": space.high}))
    assert reader.in_keys == [("agents", "observation")]
    assert reader.prior is None
    torch.testing.assert_close(reader.half_range, (space.high - space.low) / 2)
    loc, scale = reader.heads(make_batch(6), torch.zeros(6, 0))
    many_loc, many_scale = reader.many_heads(make_batch(6), torch.zeros(6, 5, 0))
    assert loc.shape == scale.shape == (6, 2, 2)
    assert many_loc.shape == many_scale.shape == (6, 5, 2, 2)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda: plain_policy()[0], "must end in a distribution"),
        (
            lambda: plain_policy(distribution_class=torch.distributions.Normal),
            "must be a TanhNormal with tanh_loc=False, got Normal",
        ),
        (
            lambda: plain_policy(distribution_kwargs={"tanh_loc": True}),
            "must be a TanhNormal with tanh_loc=False",
        ),
    ],
)
def test_reader_of_an_unusable_policy(policy, message):
    with pytest.raises(ValueError, match=message):
        PolicyReader(policy())


def test_networks_of_other_makers_give_the_same_losses():
    parts, td = make_parts(), make_batch(6)
    observation, latent = ("agents", "observation"), "latent"
    sampler, network, head = parts.policy
    policy = ProbabilisticTensorDictSequential(
        sampler, TensorDictModule(network.net, [observation, latent], network.out_keys), head
    )
    foreign = [policy]
    for critic in (parts.qvalue, parts.value):
        foreign.append(TensorDictModule(critic.net, critic.in_keys, critic.out_keys))
    options = {"beta": 0.3, "num_latents": 3}
    ours = with_updater(VM3ACLoss(*parts, **options))
    theirs = with_updater(VM3ACLoss(*foreign, parts.predictor, **options))
    noise = ours.draw_noise(td)
    expected, actual = ours(td, noise), theirs(td, noise)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value)


def test_two_updaters_keep_to_their_own_loss():
    first, second = TestMAACContract().make(), TestMAACContract().make()
    before = {name: x.clone() for name, x in first.state_dict().items()}
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1.0)
    second.updater.step()
    for name, after in first.state_dict().items():
        assert torch.equal(after, before[name])
