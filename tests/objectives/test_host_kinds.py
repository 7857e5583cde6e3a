"""What a host is known by: its class, what is said of it, what its parts hold."""

from __future__ import annotations

import pytest
import torch
from contracts.hosts import (
    HOSTS,
    KEYS,
    SPEC,
    JointValue,
    collected,
    discrete_sac,
    gaussian_policy,
    sac,
    scoring,
)
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import OneHot
from torchrl.objectives import ClipPPOLoss, IQLLoss, SACLoss
from torchrl.objectives.value import VTrace

import vm3ac_modules as vm
from vm3ac_modules.keys import Keys
from vm3ac_modules.nn import LatentCategoricalNet
from vm3ac_modules.objectives import HostError

# --- what a host is known by ------------------------------------------------------------------


class DerivedPPO(ClipPPOLoss):
    """A loss of one's own, derived from TorchRL's."""


class DerivedSAC(SACLoss):
    sample_log_prob = None


def value_estimator(actor):
    value = vm.make_state_value(4, 2, hidden=(8,))
    estimator = VTrace(gamma=0.99, actor_network=actor, value_network=value)
    estimator.set_keys(sample_log_prob=KEYS.action_log_prob, value=KEYS.state_value)
    estimator.set_keys(**{key: ("agents", key) for key in ("reward", "done", "terminated")})
    return estimator


# Older versions look for annotations in the class itself.
@pytest.mark.filterwarnings("ignore:The name .* wasn't part of the annotations:UserWarning")
def test_losses_derived_from_torchrl_s_are_known_by_their_base():
    policy = gaussian_policy()
    batch = collected(policy)
    vm.check_host(scoring(DerivedPPO, policy.replaying()), policy, batch)
    vm.check_host(sac(policy.fresh(), DerivedSAC), policy, batch)
    with pytest.raises(HostError, match="DerivedPPO scores stored actions"):
        vm.check_host(scoring(DerivedPPO, policy.fresh()), policy, batch)
    with pytest.raises(HostError, match="DerivedSAC draws actions of its own"):
        vm.check_host(sac(policy.replaying(), DerivedSAC), policy, batch)


def test_v_trace_scores_stored_actions():
    policy = gaussian_policy()
    batch = collected(policy)
    vm.check_host(value_estimator(policy.replaying()), policy, batch)
    with pytest.raises(HostError, match="VTrace scores stored actions"):
        vm.check_host(value_estimator(policy.fresh()), policy, batch)
    unnamed = value_estimator(policy.replaying())
    unnamed.set_keys(terminated="terminated")
    with pytest.raises(HostError, match=r"VTrace reads terminated of shape.*estimator\.set_keys"):
        vm.check_host(unnamed, policy, batch)


def test_iql_scores_stored_actions_and_makes_its_own_target():
    policy = gaussian_policy()
    batch = collected(policy)
    value = TensorDictModule(
        JointValue(1), [KEYS.observation, KEYS.action], [KEYS.state_action_value]
    )
    state_value = vm.make_state_value(4, 2, hidden=(8,))
    loss = IQLLoss(policy.replaying(), value, value_network=state_value)
    loss.set_keys(action=KEYS.action, reward=KEYS.reward, value=KEYS.state_value)
    loss.set_keys(state_action_value=KEYS.state_action_value)
    with pytest.raises(HostError, match="IQLLoss reads done of shape"):
        vm.check_host(loss, policy, batch)
    loss.set_keys(done=("agents", "done"), terminated=("agents", "terminated"))
    vm.check_host(loss, policy, batch)
    with pytest.raises(HostError, match=r"lacks \('next', 'agents', 'observation'\)"):
        vm.check_host(loss, policy, batch.exclude(("next", *KEYS.observation)))


class Own(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part


@pytest.mark.parametrize("wrap", [lambda part: part, Own])
def test_a_loss_in_plain_torch_is_checked_by_what_is_said_of_it(wrap):
    policy = gaussian_policy()
    batch = collected(policy)
    vm.check_host(wrap(policy.replaying()), policy, batch, scores_stored=True)
    vm.check_host(wrap(policy.fresh()), policy, batch, scores_stored=False)
    vm.check_host(wrap(policy.fresh()), policy, batch)  # nothing is known, nothing is claimed
    with pytest.raises(HostError, match="scores stored actions under a latent of its own"):
        vm.check_host(wrap(policy.fresh()), policy, batch, scores_stored=True)
    with pytest.raises(HostError, match="draws actions of its own"):
        vm.check_host(wrap(policy.replaying()), policy, batch, scores_stored=False)
    stale = batch.clone().set("latent", batch["latent"].roll(1, 0))
    with pytest.raises(HostError, match="ratio is off"):
        vm.check_host(wrap(policy.replaying()), policy, stale, scores_stored=True)


def test_what_is_said_of_a_loss_without_a_policy():
    policy = gaussian_policy()
    with pytest.raises(ValueError, match="no policy was found in Identity"):
        vm.check_host(nn.Identity(), policy, collected(policy), scores_stored=True)


def test_a_predictor_that_nothing_steps():
    policy = gaussian_policy()
    batch, loss = collected(policy), HOSTS["ClipPPO"](policy)
    mi = vm.MutualInformationLoss(policy, vm.VariationalPredictor(4, SPEC))
    with pytest.raises(HostError, match=r"no optimizer steps .* of the predictor"):
        vm.check_host(loss, policy, batch, optimizers=torch.optim.Adam(loss.parameters()), mi=mi)


def test_frozen_parameters_need_no_optimizer():
    policy = gaussian_policy()
    frozen = next(policy.parameters()).requires_grad_(False)
    loss = HOSTS["ClipPPO"](policy)
    trained = [p for p in loss.parameters() if p is not frozen]
    vm.check_host(loss, policy, collected(policy), optimizers=torch.optim.Adam(trained))


def test_few_outcomes_and_rows_are_no_reason_to_refuse():
    for seed in range(40):
        torch.manual_seed(seed)
        spec = OneHot(5, shape=(2, 5))
        actor = vm.make_categorical_actor(4, 2, spec, hidden=(8,))
        policy = vm.make_policy(vm.LatentSampler(vm.CategoricalPrior(2)), actor)
        batch = collected(policy, rows=2, seed=seed)
        vm.check_host(scoring(ClipPPOLoss, policy.replaying()), policy, batch)
    with pytest.raises(HostError, match="the batch is empty"):
        vm.check_host(scoring(ClipPPOLoss, policy.replaying()), policy, batch[:0])


def test_a_critic_that_sees_the_latent_under_another_name():
    keys = Keys(latent="z")
    torch.manual_seed(0)
    actor = vm.make_categorical_actor(4, 3, OneHot(5, shape=(2, 5)), keys=keys, hidden=(8,))
    policy = vm.make_policy(vm.LatentSampler(vm.CategoricalPrior(3), keys=keys), actor)
    net = LatentCategoricalNet(4, 3, 5, 2, hidden=(8,))
    critic = TensorDictModule(net, [KEYS.observation, "z"], ["action_value"])
    with pytest.raises(HostError, match="qvalue_network reads the latent"):
        vm.check_host(discrete_sac(policy.fresh(), critic), policy, collected(policy))


def test_checking_changes_nothing():
    policy = gaussian_policy()
    batch, loss = collected(policy), HOSTS["SAC"](policy)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    vm.check_host(loss, policy, batch)
    assert torch.equal(torch.rand(3), expected)
    with pytest.raises(ValueError, match="tolerance must be positive"):
        vm.check_host(loss, policy, batch, tolerance=float("nan"))


# --- parts of nested and foreign sequences ----------------------------------------------------


def test_parts_of_nested_sequences():
    sampler, *rest = gaussian_policy()
    nested = vm.make_policy(TensorDictSequential(sampler), ProbabilisticTensorDictSequential(*rest))
    foreign = vm.modules.Policy.of(
        TensorDictSequential(sampler, ProbabilisticTensorDictSequential(*rest))
    )
    batch = collected(nested)
    for replaying in (nested.replaying(), foreign.replaying()):
        log_prob = replaying.get_dist(batch.clone()).log_prob(batch[KEYS.action])
        torch.testing.assert_close(log_prob, batch[KEYS.action_log_prob], atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match=r"policy\.replaying\(\)"):
        nested.get_dist(batch)
