"""Losses of the package: a fresh latent or the stored one, and a predictor that fits."""

from __future__ import annotations

import pytest
import torch
from contracts.hosts import (
    ROWS,
    SPEC,
    collected,
    gaussian_policy,
)
from torchrl.data import Bounded

import vm3ac_modules as vm

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
