"""Where two algorithms are the same one, and where many seeds are as many runs."""

from __future__ import annotations

import pytest
import torch
from contracts.loss_contract import (
    OBS_DIM,
    action_spec,
    make_batch,
    make_parts,
    to_double,
    total_loss,
    with_updater,
)
from tensordict import TensorDict

from vm3ac_modules.modules.actors import make_actor, make_policy
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.objectives import (
    CentralizedActorCriticLoss,
    EntropyTerm,
    MAACLoss,
    MASACLoss,
    MutualInformationLoss,
    VM3ACLoss,
)


def shared_state(source, target):
    """Load the parameters that both losses have."""
    own = target.state_dict()
    state = {name: x for name, x in source.state_dict().items() if name in own}
    target.load_state_dict({**own, **state})
    return target


def run_updates(loss, batches, noises, num_updates=5):
    """Full updates: one Adam per group of parameters, then the target."""
    optimizers = [
        torch.optim.Adam(parameters, 1e-2) for parameters in loss.parameter_groups().values()
    ]
    losses = []
    for step in range(num_updates):
        out = loss(batches[step], noises[step])
        for optimizer in optimizers:
            optimizer.zero_grad()
        total_loss(out).backward()
        for optimizer in optimizers:
            optimizer.step()
        loss.updater.step()
        losses.append(out.detach())
    return losses


def assert_same_runs(left, right, num_agents):
    batches = [make_batch(16, num_agents=num_agents) for _ in range(5)]
    noises = [left.draw_noise(td) for td in batches]
    shared_state(left, right)
    before = {name: p.clone() for name, p in right.named_parameters()}
    out_left, out_right = (run_updates(loss, batches, noises) for loss in (left, right))
    for a, b in zip(out_left, out_right, strict=True):
        for name in ("loss_actor", "loss_qvalue", "loss_value"):
            assert torch.equal(a[name], b[name])
    ours, theirs = left.state_dict(), right.state_dict()
    names = [n for n in theirs if n in ours and "_network_params" in n and "predictor" not in n]
    assert len(names) > 20
    for name in names:
        assert torch.equal(ours[name], theirs[name]), name
    for name, p in right.named_parameters():
        assert p.numel() == 0 or (p != before[name]).any(), name


@pytest.mark.parametrize("num_agents", [1, 2, 3])
def test_ma_ac_is_vm3_ac_without_temperature_and_latent(num_agents):
    parts = make_parts(num_agents, latent_dim=0)
    vm3ac = with_updater(VM3ACLoss(*parts, beta=0.0))
    maac = with_updater(MAACLoss(*make_parts(num_agents, latent_dim=0)[:3]))
    assert_same_runs(vm3ac, maac, num_agents)


@pytest.mark.parametrize("num_agents", [1, 3])
def test_ma_sac_is_the_slot_filled_by_entropy(num_agents):
    general = with_updater(
        CentralizedActorCriticLoss(
            *make_parts(num_agents, latent_dim=0)[:3], terms=[EntropyTerm(0.3)]
        )
    )
    masac = with_updater(MASACLoss(*make_parts(num_agents, latent_dim=0)[:3], beta=0.3))
    assert_same_runs(general, masac, num_agents)


@pytest.mark.parametrize("pair_weight", ["paper", "mean"])
def test_ma_sac_is_vm3_ac_of_one_agent(pair_weight):
    parts = make_parts(1, latent_dim=0)
    vm3ac = with_updater(VM3ACLoss(*parts, beta=0.3, pair_weight=pair_weight))
    masac = with_updater(MASACLoss(*make_parts(1, latent_dim=0)[:3], beta=0.3))
    assert_same_runs(vm3ac, masac, 1)


@pytest.mark.parametrize("num_agents", [2, 3])
def test_ma_sac_is_vm3_ac_whose_predictor_counts_for_nothing(num_agents, monkeypatch):
    monkeypatch.setattr("vm3ac_modules.objectives.terms.bonus_weight", lambda *options: 0.0)
    vm3ac = with_updater(VM3ACLoss(*make_parts(num_agents, latent_dim=0), beta=0.3))
    masac = with_updater(MASACLoss(*make_parts(num_agents, latent_dim=0)[:3], beta=0.3))
    assert_same_runs(vm3ac, masac, num_agents)


def test_ma_sac_differs_from_vm3_ac_of_two_agents():
    # What the equalities above would miss if the pairs never counted.
    vm3ac = with_updater(VM3ACLoss(*make_parts(2, latent_dim=0), beta=0.3))
    masac = with_updater(MASACLoss(*make_parts(2, latent_dim=0)[:3], beta=0.3))
    td = make_batch(16)
    noise = vm3ac.draw_noise(td)
    shared_state(vm3ac, masac)
    assert vm3ac(td, noise)["loss_actor"] != masac(td, noise)["loss_actor"]


@pytest.mark.parametrize("num_latents", [0, 3])
def test_latent_of_dimension_zero_is_no_latent(num_latents):
    actor = make_actor(OBS_DIM, 0, action_spec(2), hidden=(8, 8))
    parts = make_parts(2, latent_dim=0)
    plain = with_updater(VM3ACLoss(actor, *parts[1:], beta=0.3, num_latents=num_latents))
    td = make_batch(6)
    sampler = LatentSampler(GaussianPrior(1))
    sampled = with_updater(
        VM3ACLoss(make_policy(sampler, actor), *parts[1:], beta=0.3, num_latents=num_latents)
    )
    torch.manual_seed(5)
    noise = sampled.draw_noise(td)
    assert noise["latent"].shape == (6, 1)
    without = TensorDict(
        {"latent": torch.zeros(6, 0), "extra_latents": torch.zeros(6, num_latents, 0)}, [6]
    )
    without["action"] = noise["action"]
    assert {key: x.shape for key, x in plain.draw_noise(td).items()} == {
        key: x.shape for key, x in without.items()
    }
    left, right = plain(td, without), sampled(td, noise)
    for key, value in left.items():
        assert torch.equal(right[key], value), key


def test_without_dependence_on_the_latent_extra_latents_change_no_entropy():
    parts = make_parts(2, latent_dim=0)
    none, three = (
        with_updater(VM3ACLoss(*parts, beta=0.3, num_latents=k)).double() for k in (0, 3)
    )
    td = to_double(make_batch(6))
    noise = three.draw_noise(td)
    torch.testing.assert_close(
        none(td, none.draw_noise(td).set("action", noise["action"]))["entropy"],
        three(td, noise)["entropy"],
    )


@pytest.mark.parametrize("beta", [0.3, [0.1, 0.5]])
def test_reward_scale_multiplies_rewards_and_beta(beta):
    scale = 0.25
    parts = make_parts(2)
    scaled = with_updater(VM3ACLoss(*parts, beta=beta, reward_scale=scale))
    by_hand = [scale * b for b in beta] if isinstance(beta, list) else scale * beta
    plain = with_updater(VM3ACLoss(*make_parts(2), beta=by_hand))
    shared_state(scaled, plain)
    plain.term(EntropyTerm).beta.copy_(torch.tensor(by_hand))
    td = make_batch(6)
    noise = scaled.draw_noise(td)
    rescaled = td.clone()
    rescaled["next", "agents", "reward"] = scale * td["next", "agents", "reward"]
    left, right = scaled(td, noise), plain(rescaled, noise)
    for key in left.keys():  # noqa: SIM118 - iterating a tensordict means its batch
        torch.testing.assert_close(left[key], right[key])


# --- seeds ----------------------------------------------------------------------------------

SEEDS, AGENTS = 4, 3
KINDS = ["vm3ac", "masac", "mi", "vm3ac by infonce", "mi by nwj", "mi by donsker_varadhan"]
KINDS += ["vm3ac of drawn pairs", "mi of drawn pairs"]


def build_losses(kind, *, stack_shape=(), num_latents=2):
    parts = make_parts(AGENTS, stack_shape=stack_shape, scale="learned")
    options = {"seed_dims": len(stack_shape), "num_latents": num_latents}
    kind, of, _ = kind.partition(" of drawn pairs")
    if of:
        options["pairs"] = 1
    kind, _, estimator = kind.partition(" by ")
    if estimator:
        options["estimator"] = estimator
    if kind == "mi":
        options = {"entropy_weight": 0.5, **options}
        return MutualInformationLoss(parts.policy, parts.predictor, **options).double()
    if kind == "vm3ac":
        return with_updater(VM3ACLoss(*parts, beta=0.3, **options)).double()
    options.pop("num_latents")
    return with_updater(MASACLoss(*parts[:3], beta=0.3, **options)).double()


def stacked_and_singles(kind):
    """A loss over stacked networks, and one loss per copy with that copy's parameters."""
    stacked = build_losses(kind, stack_shape=(SEEDS,))
    singles = []
    for seed in range(SEEDS):
        single = build_losses(kind)
        state = {}
        for name, own in single.state_dict().items():
            x = stacked.state_dict()[name]
            state[name] = x if x.shape == own.shape else x[seed]
        single.load_state_dict(state)
        singles.append(single)
    return stacked, singles


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_seeds_are_as_many_losses(kind, batch):
    stacked, singles = stacked_and_singles(kind)
    td = to_double(make_batch(SEEDS, *batch, num_agents=AGENTS))
    noise = stacked.draw_noise(td)
    out = stacked(td, noise)
    for seed, single in enumerate(singles):
        expected = single(td[seed], noise[seed])
        for key, value in expected.items():
            assert out[key].shape == (SEEDS, *value.shape)
            torch.testing.assert_close(out[key][seed], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_do_not_push_each_other(kind):
    stacked, singles = stacked_and_singles(kind)
    td = to_double(make_batch(SEEDS, 5, num_agents=AGENTS))
    noise = stacked.draw_noise(td)
    out, own = stacked(td, noise), singles[1](td[1], noise[1])
    for name, parameters in stacked.parameter_groups().items():
        gradients = torch.autograd.grad(out[name][1], parameters, retain_graph=True)
        expected = torch.autograd.grad(
            own[name], singles[1].parameter_groups()[name], retain_graph=True
        )
        for gradient, alone in zip(gradients, expected, strict=True):
            assert (gradient[[0, 2]] == 0).all()
            torch.testing.assert_close(gradient[1], alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["vm3ac", "masac"])
def test_seeds_reduce_by_rows_and_by_mask(kind):
    stacked, singles = stacked_and_singles(kind)
    td = to_double(make_batch(SEEDS, 5, num_agents=AGENTS))
    td["collector", "mask"] = torch.rand(SEEDS, 5, 1) < 0.6
    td["collector", "mask"][:, 0] = True
    noise = stacked.draw_noise(td)
    for reduction in ("mean", "sum", "none"):
        stacked.reduction = reduction
        out = stacked(td, noise)
        for seed, single in enumerate(singles):
            single.reduction = reduction
            expected = single(td[seed], noise[seed])
            for name in stacked.parameter_groups():
                torch.testing.assert_close(out[name][seed], expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_over_stacked_losses_equals_each_of_them(kind):
    losses = [build_losses(kind) for _ in range(SEEDS)]
    td = to_double(make_batch(SEEDS, 5, num_agents=AGENTS))
    noise = torch.stack([loss.draw_noise(td[seed]) for seed, loss in enumerate(losses)])
    params = TensorDict.from_modules(*losses, as_module=False)

    def call(params, td, noise):
        with params.to_module(losses[0]):
            return losses[0](td, noise)

    out = torch.vmap(call, randomness="different")(params, td, noise)
    for seed, loss in enumerate(losses):
        for key, value in loss(td[seed], noise[seed]).items():
            torch.testing.assert_close(out[key][seed], value, rtol=1e-6, atol=1e-9)
