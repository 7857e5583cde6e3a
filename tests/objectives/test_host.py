"""Hosts of other people: which latent their loss sees, and what is told when it does not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from contracts.hosts import (
    HOSTS,
    KEYS,
    ROWS,
    SPEC,
    collected,
    discrete_policy,
    discrete_sac,
    gaussian_policy,
    sac,
    scoring,
)
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import Bounded, OneHot
from torchrl.objectives import ClipPPOLoss, SACLoss
from torchrl.objectives.value import VTrace

import vm3ac_modules as vm
from vm3ac_modules.keys import Keys
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


WRONG = {
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


# --- a loss of the package: fresh or stored ---------------------------------------------------


def information(policy, **options):
    return vm.MutualInformationLoss(policy, vm.VariationalPredictor(4, SPEC), **options)


def bare_actor():
    return vm.make_actor(4, 3, SPEC, hidden=(8,), latent_gain=3.0)


def test_an_actor_whose_latent_nothing_draws_is_refused():
    with pytest.raises(ValueError, match=r"reads 'latent' and nothing draws it.*latent='stored'"):
        information(bare_actor())
    parts = bare_actor(), vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2)
    with pytest.raises(ValueError, match="reads 'latent' and nothing draws it"):
        vm.VM3ACLoss(*parts, vm.VariationalPredictor(4, SPEC))


def test_a_replaying_policy_is_refused_unless_the_stored_latent_is_meant():
    policy = gaussian_policy()
    with pytest.raises(ValueError, match=r"not policy\.replaying\(\)"):
        information(policy.replaying())
    information(policy.replaying(), latent="stored")


def test_stored_latents_are_asked_for_and_read():
    policy = gaussian_policy()
    loss = information(policy, latent="stored")
    assert "latent" in loss.in_keys
    batch = collected(policy)
    noise = loss.draw_noise(batch)
    values = [loss(batch, noise)["loss_mi"]]
    other = batch.clone().set("latent", batch["latent"].roll(1, 0))
    values += [loss(other, noise)["loss_mi"], loss(batch, noise)["loss_mi"]]
    assert values[0] != values[1]
    assert values[0] == values[2]
    fresh = information(policy)
    assert "latent" not in fresh.in_keys
    noise = fresh.draw_noise(batch)
    assert fresh(batch, noise)["loss_mi"] == fresh(other, noise)["loss_mi"]


def test_stored_latents_given_as_fresh_noise_give_the_same_loss():
    policy = gaussian_policy()
    predictor = vm.VariationalPredictor(4, SPEC, hidden=(8,))
    options = {"num_latents": 3, "entropy_weight": 1.0}
    stored = vm.MutualInformationLoss(policy, predictor, latent="stored", **options)
    fresh = vm.MutualInformationLoss(policy, predictor, **options)
    batch = collected(policy)
    noise = stored.draw_noise(batch)
    replayed = noise.clone().set("latent", batch["latent"])
    assert torch.equal(stored(batch, noise)["loss_mi"], fresh(batch, replayed)["loss_mi"])


def test_further_latents_of_a_stored_one_need_its_prior():
    batch = collected(gaussian_policy())
    with pytest.raises(ValueError, match=r"num_latents=2 draws further latents.*StoredLatent"):
        information(bare_actor(), latent="stored", num_latents=2)
    critics = vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2)
    networks = bare_actor(), *critics, vm.VariationalPredictor(4, SPEC)
    with pytest.raises(ValueError, match=r"num_latents=2 draws further latents.*StoredLatent"):
        vm.VM3ACLoss(*networks, latent="stored", num_latents=2)
    with pytest.raises(ValueError, match=r"diagnose draws further latents.*StoredLatent"):
        information(bare_actor(), latent="stored").diagnose(batch, 8)
    known = vm.make_policy(vm.StoredLatent(vm.GaussianPrior(3)), bare_actor())
    loss = information(known, latent="stored", num_latents=2)
    assert bool(torch.isfinite(loss(batch)["loss_mi"]))
    assert loss.diagnose(batch, 64).latent_information.min() > 0.1


def test_a_masked_row_without_a_latent_harms_nothing():
    policy = gaussian_policy()
    batch = collected(policy)
    batch["mask"] = torch.ones(ROWS, 1, dtype=torch.bool)
    batch["mask"][0] = False
    batch["latent"][0] = float("nan")
    loss = information(policy, latent="stored")
    loss.set_keys(loss_mask="mask") if "loss_mask" in vars(loss.tensor_keys) else None
    loss.loss_mask_key = "mask"
    loss(batch)["loss_mi"].backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in policy.parameters())


def test_an_unknown_kind_of_latent():
    with pytest.raises(ValueError, match="latent must be one of"):
        information(gaussian_policy(), latent="old")
    with pytest.raises(ValueError, match="latent='stored' needs a policy that reads a latent"):
        information(vm.make_policy(None, vm.make_actor(4, 0, SPEC)), latent="stored")


# --- a predictor for other actions ------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Bounded(-1.0, 1.0, (3, 1)), r"built for \[N, A\] = \[3, 1\], the policy acts in \[2, 1\]"),
        (Bounded(-1.0, 1.0, (2, 2)), r"built for \[N, A\] = \[2, 2\], the policy acts in \[2, 1\]"),
        (Bounded(-2.0, 2.0, (2, 1)), "another range of actions than the policy's"),
    ],
)
def test_a_predictor_for_another_spec_is_refused_at_once(spec, message):
    policy, predictor = gaussian_policy(), vm.VariationalPredictor(4, spec)
    critics = vm.make_action_value(4, 1, 2), vm.make_state_value(4, 2)
    for build in (vm.MutualInformationLoss, vm.MutualInformationReward):
        with pytest.raises(ValueError, match=message):
            build(policy, predictor)
    with pytest.raises(ValueError, match=message):
        vm.VM3ACLoss(policy, *critics, predictor)


def test_a_predictor_for_another_observation_says_so():
    policy = gaussian_policy()
    loss = vm.MutualInformationLoss(policy, vm.VariationalPredictor(5, SPEC))
    with pytest.raises(ValueError, match=r"observations of sizes \(1, 5\), got \(1, 4\)"):
        loss(collected(policy))


# --- what a host is known by ------------------------------------------------------------------


class DerivedPPO(ClipPPOLoss):
    """A loss of one's own, derived from TorchRL's."""


class DerivedSAC(SACLoss):
    sample_log_prob = None


def value_estimator(actor):
    value = vm.make_state_value(4, 2, hidden=(8,))
    estimator = VTrace(gamma=0.99, actor_network=actor, value_network=value)
    estimator.set_keys(sample_log_prob=KEYS.action_log_prob, value=KEYS.state_value)
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


@pytest.mark.parametrize("empty", ["no rows", "all masked"])
def test_diagnostics_of_nothing_are_zero(empty):
    policy = gaussian_policy()
    batch = collected(policy)
    loss = information(policy, diagnostic_latents=4)
    if empty == "all masked":
        batch["mask"] = torch.zeros(ROWS, 1, dtype=torch.bool)
        loss.loss_mask_key = "mask"
    found = loss(batch[:0] if empty == "no rows" else batch)
    assert {"mi_lower_bound", "mi_upper_bound", "latent_share"} <= set(found.keys())
    assert all((value == 0).all() for value in found.values())
