"""Hosts of other people: which latent their loss sees, and what is told when it does not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from contracts.hosts import (
    HOSTS,
    KEYS,
    SPEC,
    collected,
    discrete_policy,
    discrete_sac,
    gaussian_policy,
    sac,
    scoring,
)
from tensordict.nn import ProbabilisticTensorDictSequential
from torchrl.objectives import A2CLoss, ClipPPOLoss

import vm3ac_modules as vm
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.nn import LatentCategoricalNet
from vm3ac_modules.objectives import HostError


@pytest.mark.parametrize("host", HOSTS)
def test_right_compositions_pass(host):
    policy = gaussian_policy()
    batch = collected(policy)
    before = batch.clone()
    loss = HOSTS[host](policy)
    mi = vm.MutualInformationLoss(policy, vm.VariationalPredictor(4, SPEC, hidden=(8,)))
    optimizers = [
        torch.optim.Adam(loss.parameters()),
        torch.optim.Adam(mi.parameter_groups()["loss_predictor"]),
    ]
    vm.check_host(loss, policy, batch, optimizers=optimizers, mi=mi)
    assert set(batch.keys(True, True)) == set(before.keys(True, True))
    assert bool((batch == before).all())
    assert all(bool(torch.isfinite(x).all()) for x in loss(batch.clone()).values())


# What older versions of TorchRL say of themselves.
@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@pytest.mark.parametrize("masked", [False, True])
def test_discrete_hosts_pass(masked):
    policy = discrete_policy(masked)
    batch = collected(policy)
    vm.check_host(scoring(ClipPPOLoss, policy.replaying()), policy, batch)
    if not masked:
        loss = discrete_sac(policy.fresh())
        vm.check_host(loss, policy, batch)
        assert bool(torch.isfinite(loss(batch)["loss_actor"]))


def critic_under_z(policy):
    """A discrete SAC whose critic sees the latent."""
    net = LatentCategoricalNet(4, 3, 5, 2, hidden=(8,))
    read = {"observation": KEYS.observation, "latent": KEYS.latent}
    return discrete_sac(policy, NetworkModule(net, read, ["action_value"]))


def test_a_critic_that_sees_the_latent_needs_the_one_of_the_action():
    policy = discrete_policy()
    batch = collected(policy)
    with pytest.raises(
        HostError, match="qvalue_network reads the latent of the batch and its actor"
    ):
        vm.check_host(critic_under_z(policy.fresh()), policy, batch)
    replaying = critic_under_z(policy.replaying())
    with pytest.raises(HostError, match="and of no next state"):
        vm.check_host(replaying, policy, batch)
    batch["next"] = policy[0](batch["next"])
    vm.check_host(replaying, policy, batch)
    assert bool(torch.isfinite(replaying(batch)["loss_qvalue"]))


# --- the ratio at first look ------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian_policy, discrete_policy])
def test_ratio_of_fresh_data_is_one_under_the_stored_latent_alone(make):
    policy = make()
    batch = collected(policy)
    replaying, fresh = (
        scoring(ClipPPOLoss, part)(batch) for part in (policy.replaying(), policy.fresh())
    )
    torch.testing.assert_close(replaying["kl_approx"].item(), 0.0, atol=1e-6, rtol=0)
    vm.check_host(scoring(ClipPPOLoss, policy.replaying()), policy, batch, tolerance=1e-5)
    assert replaying["clip_fraction"] == 0
    assert abs(fresh["kl_approx"]) > 0.1
    assert fresh["clip_fraction"] > 0.5


def test_both_parts_share_the_parameters_of_the_policy():
    policy = gaussian_policy()
    for part in (policy.fresh(), policy.replaying()):
        assert list(part.parameters()) == list(policy.parameters())


def test_the_policy_itself_gives_no_distribution():
    policy = gaussian_policy()
    batch = collected(policy)
    with pytest.raises(RuntimeError, match=r"policy\.fresh\(\).*policy\.replaying\(\)"):
        policy.get_dist(batch)
    with pytest.raises(RuntimeError, match=r"policy\.replaying\(\)"):
        scoring(ClipPPOLoss, policy)(batch)


def test_replaying_of_a_sequence_of_ones_own():
    sampler, *rest = gaussian_policy()
    own = ProbabilisticTensorDictSequential(sampler, *rest)
    replaying = vm.modules.Policy.of(own).replaying()
    batch = collected(own)
    again = replaying(batch.clone())
    assert torch.equal(again["latent"], batch["latent"])


def of_actor(found):
    names = {"loss_objective", "loss_actor"} & set(found.keys())
    return found[names.pop()].mean()


# --- weight 0, and the sum of gradients -------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_total_gradient_is_the_host_s_plus_that_of_the_information(host):
    policy = gaussian_policy()
    batch, loss = collected(policy), HOSTS[host](policy)
    predictor = vm.VariationalPredictor(4, SPEC, hidden=(8,))
    parameters = list(policy.parameters())

    def gradient(weight, with_host=True):
        mi = vm.MutualInformationLoss(policy, predictor, weight=weight)
        torch.manual_seed(3)
        found = loss(batch.clone())
        host = of_actor(found)
        torch.manual_seed(4)
        total = mi(batch)["loss_mi"] + (host if with_host else 0.0)
        return torch.autograd.grad(total, parameters, allow_unused=True)

    torch.manual_seed(3)
    found = loss(batch.clone())
    alone = torch.autograd.grad(of_actor(found), parameters)
    for zero, host in zip(gradient(0.0), alone, strict=True):
        assert torch.equal(zero, host)
    for both, host, own in zip(gradient(0.5), alone, gradient(0.5, False), strict=True):
        torch.testing.assert_close(both, host + own)
        assert own.abs().sum() > 0


# --- wrong compositions -----------------------------------------------------------------------


def two_owners(policy, batch):
    loss = HOSTS["ClipPPO"](policy)
    mi = vm.MutualInformationLoss(policy, vm.VariationalPredictor(4, SPEC))
    optimizers = [torch.optim.Adam(loss.parameters()), torch.optim.Adam(mi.parameters())]
    vm.check_host(loss, policy, batch, optimizers=optimizers, mi=mi)


def other_optimizer(policy, batch):
    loss = HOSTS["SAC"](policy)
    critic = torch.optim.Adam(loss.qvalue_network_params.parameters())
    vm.check_host(loss, policy, batch, optimizers=[critic])


def wrong_log_prob_key(policy, batch):
    loss = HOSTS["ClipPPO"](policy)
    loss.set_keys(sample_log_prob="action_log_prob")
    vm.check_host(loss, policy, batch)


def wrong_action_key(policy, batch):
    loss = HOSTS["SAC"](policy)
    loss.set_keys(action="action")
    vm.check_host(loss, policy, batch)


def unused_latent(policy, batch):
    deaf = gaussian_policy(latent_dim=0)
    vm.check_host(HOSTS["ClipPPO"](deaf), deaf, collected(deaf))


def no_latent(policy, batch):
    bare = vm.make_policy(None, vm.make_actor(4, 0, SPEC))
    vm.check_host(HOSTS["ClipPPO"](bare), bare, collected(bare))


def copied_policy(policy, batch):
    vm.check_host(HOSTS["ClipPPO"](copy.deepcopy(policy)), policy, batch)


def other_mi(policy, batch):
    mi = vm.MutualInformationLoss(copy.deepcopy(policy), vm.VariationalPredictor(4, SPEC))
    vm.check_host(HOSTS["ClipPPO"](policy), policy, batch, mi=mi)


def older_policy(policy, batch):
    loss = HOSTS["ClipPPO"](policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    vm.check_host(loss, policy, batch)


def actor_alone(policy, batch):
    vm.check_host(HOSTS["ClipPPO"](policy), policy, batch.exclude("latent"))


def no_log_prob(policy, batch):
    vm.check_host(HOSTS["ClipPPO"](policy), policy, batch.exclude(KEYS.action_log_prob))


def another_latent_in_the_batch(policy, batch):
    batch = batch.clone().set("latent", batch["latent"].roll(1, 0))
    vm.check_host(HOSTS["ClipPPO"](policy), policy, batch)


def told_of_outcomes(lost=(), **names):
    """SAC with other keys, on a batch without some entries of the next step."""

    def compose(policy, batch):
        loss = HOSTS["SAC"](policy)
        loss.set_keys(**names)
        vm.check_host(loss, policy, batch.exclude(*(("next", *key) for key in lost)))

    return compose


OUTCOMES = {
    "a done that is nowhere": (
        told_of_outcomes(done="finished"),
        r"lacks \('next', 'finished'\), which SACLoss reads as done: loss.set_keys\(done=\('a",
    ),
    "a terminated that is nowhere": (
        told_of_outcomes(lost=[("agents", "terminated")]),
        r"lacks \('next', 'agents', 'terminated'\).*ExpandDone.*loss.set_keys\(terminated=",
    ),
    "a reward that is nowhere": (
        told_of_outcomes(reward="reward"),
        r"lacks \('next', 'reward'\).*loss.set_keys\(reward=\('agents', 'reward'\)\)",
    ),
    "no reward at all": (
        told_of_outcomes(lost=[("agents", "reward")]),
        "reads as reward: collect with the environment",
    ),
    "an end for all beside a reward each": (
        told_of_outcomes(done="done"),
        r"done of shape \[64, 1\] beside a reward of shape \[64, 2, 1\]: loss.set_keys\(done=\('ag",
    ),
    "no next observation": (
        told_of_outcomes(lost=[("agents", "observation")]),
        r"lacks \('next', 'agents', 'observation'\), which SACLoss reads",
    ),
}

WRONG = {
    **OUTCOMES,
    "PPO draws": (
        lambda policy, batch: vm.check_host(scoring(ClipPPOLoss, policy.fresh()), policy, batch),
        r"ClipPPOLoss scores stored actions under a latent of its own.*policy\.replaying\(\)",
    ),
    "SAC replays": (
        lambda policy, batch: vm.check_host(sac(policy.replaying()), policy, batch),
        r"SACLoss draws actions of its own under the latent of the batch.*policy\.fresh\(\)",
    ),
    "SAC is handed the policy": (
        lambda policy, batch: vm.check_host(sac(policy), policy, batch),
        r"SACLoss is handed the policy as it is: hand it policy\.fresh\(\)",
    ),
    "two optimizers": (two_owners, "optimizers 0 and 1 both step a parameter"),
    "no optimizer": (other_optimizer, "no optimizer steps"),
    "log-probability key": (wrong_log_prob_key, r"reads log-probabilities at 'action_log_prob'"),
    "action key": (wrong_action_key, r"reads action at 'action', and the policy writes"),
    "z unused": (unused_latent, "the policy does not use z"),
    "no z": (no_latent, "the policy has no latent"),
    "copy": (copied_policy, "ClipPPOLoss does not hold .* of this policy"),
    "copy in the information": (other_mi, "MutualInformationLoss does not hold .* of this policy"),
    "older policy": (older_policy, r"ClipPPOLoss's ratio is off by up to"),
    "another latent": (another_latent_in_the_batch, r"ClipPPOLoss's ratio is off by up to"),
    "no latent in the batch": (actor_alone, "the batch lacks 'latent'.*sampler included"),
    "no log-probability": (no_log_prob, "the batch lacks .*action_log_prob.*return_log_prob=True"),
    "mode": (
        lambda policy, batch: vm.check_host(
            HOSTS["ClipPPO"](policy), gaussian_policy(mode="mean"), batch
        ),
        "the policy's sampler has mode 'mean'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_compositions_are_told_in_one_sentence(case):
    compose, message = WRONG[case]
    policy = gaussian_policy()
    with pytest.raises(HostError, match=message) as error:
        compose(policy, collected(policy))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_latent_that_is_held_is_not_drawn_by_a_loss():
    policy = gaussian_policy(held=True)
    batch = collected(policy, rows=8, latent=torch.randn(8, 3))
    loss = scoring(ClipPPOLoss, policy.fresh())
    before = batch.clone()
    vm.check_host(loss, policy, batch)
    assert bool((loss(batch)["kl_approx"].abs() < 1e-5).all())
    assert torch.equal(batch[KEYS.latent], before[KEYS.latent])


@pytest.mark.parametrize("kind", [A2CLoss, ClipPPOLoss])
def test_a_critic_that_writes_its_values_elsewhere(kind):
    policy = gaussian_policy()
    loss = kind(policy.replaying(), vm.make_state_value(4, 2, hidden=(8,)))
    loss.set_keys(action=KEYS.action, sample_log_prob=KEYS.action_log_prob)
    said = "reads state values at 'state_value', and its critic_network writes them at .*set_keys"
    with pytest.raises(HostError, match=said):
        vm.check_host(loss, policy, collected(policy))


def test_optimizers_that_are_none():
    policy = gaussian_policy()
    with pytest.raises(ValueError, match=r"optimizers must be .* got None: leave it out"):
        vm.check_host(sac(policy.fresh()), policy, collected(policy), optimizers=None)
