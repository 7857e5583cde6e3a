"""The mutual-information loss of categorical policies: which policies, masks, shapes and keys."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.categorical import (
    AgentLogits,
    actor_net,
    batch_of,
    make_policy,
    make_predictor,
    masked_loss,
)
from contracts.loss_contract import LATENT_DIM, assert_same, make_batch, make_parts
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    OneHotOrdinal,
    ProbabilisticActor,
)

import vm3ac_modules as vm
from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.nn import HyperPairNet
from vm3ac_modules.objectives import MutualInformationLoss
from vm3ac_modules.objectives.categorical_policy import CategoricalPolicyReader

# --- what is accepted as a policy -------------------------------------------------------------


@pytest.mark.parametrize("num_latents", [0, 3])
@pytest.mark.parametrize(
    "distribution", [OneHotCategorical, MaskedCategorical, MaskedOneHotCategorical]
)
def test_every_distribution_gives_the_same_losses(distribution, num_latents):
    td = batch_of(5)
    td["agents", "action_mask"][:] = True
    options = {"num_latents": num_latents, "entropy_weight": 1.0}
    plain = masked_loss(distribution=Categorical, **options)
    other = masked_loss(distribution=distribution, **options)
    other.load_state_dict(plain.state_dict())
    noise = plain.draw_noise(td)
    assert_same(other(td, noise), plain(td, noise))


def policy_of(body, *, mask=None, distribution=Categorical):
    """The same latent before another network."""
    given = {"logits": Keys().logits, **({} if mask is None else {"mask": mask})}
    actor = ProbabilisticActor(
        body, in_keys=given, out_keys=[Keys().action], distribution_class=distribution
    )
    return vm.make_policy(vm.LatentSampler(vm.GaussianPrior(LATENT_DIM)), actor)


class Masking(nn.Module):
    """A network that takes many latents at once and leaves out illegal actions by itself."""

    broadcasts_latent = True

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, observation, latent, mask):
        shape = (*latent.shape[:-1], *observation.shape[-2:])
        return self.net(observation.expand(shape), latent).masked_fill(~mask, -math.inf)


@pytest.mark.parametrize("kind", ["masks by itself", "several networks"])
def test_policies_of_other_makers_give_the_same_losses(kind):
    keys, own_mask = Keys(), ("agents", "own_mask")
    net = AgentLogits(2, LATENT_DIM, gain=3.0).double()
    predictor = make_predictor(situation="state", masked=True).double()
    reads = {"observation": keys.observation, "latent": keys.latent}
    plain = NetworkModule(net, reads, [keys.logits])
    if kind == "several networks":
        mask = TensorDictModule(torch.clone, [keys.action_mask], [own_mask])
        other = policy_of(
            TensorDictSequential(mask, plain), mask=own_mask, distribution=MaskedCategorical
        )
    else:
        body = NetworkModule(Masking(net), {**reads, "mask": keys.action_mask}, [keys.logits])
        other = policy_of(body)
    policy = policy_of(plain, mask=keys.action_mask, distribution=MaskedCategorical)
    options = {"num_latents": 3, "entropy_weight": 1.0}
    ours, theirs = (MutualInformationLoss(x, predictor, **options) for x in (policy, other))
    assert (ours.reader.broadcasts, theirs.reader.broadcasts) == (False, "itself" in kind)
    td = batch_of(2, 3)
    noise = ours.draw_noise(td)
    expected, actual = ours(td, noise), theirs(td, noise)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value)
    left, right = (torch.autograd.grad(out["loss_mi"], net.last)[0] for out in (expected, actual))
    torch.testing.assert_close(left, right)
    assert right.isfinite().all()


def test_policy_without_a_latent():
    loss = masked_loss(prior=None, num_latents=3, entropy_weight=1.0)
    td = batch_of(5)
    conditional = masked_loss(prior=None, entropy_weight=1.0)
    conditional.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(td)["loss_mi"], conditional(td)["loss_mi"])
    found = loss.diagnose(td)
    torch.testing.assert_close(found.upper, torch.zeros(2, 2).double(), atol=1e-12, rtol=0.0)
    assert found.ceiling == 0.0


# --- masks, shapes, keys ----------------------------------------------------------------------


@pytest.mark.parametrize("num_latents", [0, 3])
def test_dead_agents_and_rows_without_a_legal_action_stay_finite(num_latents):
    loss = masked_loss(3, num_latents=num_latents, entropy_weight=1.0).float()
    td = batch_of(6, num_agents=3)
    td = td.apply(lambda x: x.float() if x.is_floating_point() else x)
    mask = td["agents", "action_mask"]
    mask[0, 1] = torch.tensor([True, False, False, False])
    mask[1] = False
    out = loss(td)
    (out["loss_mi"] + out["loss_predictor"]).backward()
    assert all(value.isfinite().all() for value in out.values())
    assert all(p.grad.isfinite().all() for p in loss.parameters())
    # Whoever can do one thing only is predicted for certain, and has no entropy.
    single = loss(td[:1])["pair_log_prob_matrix"]
    torch.testing.assert_close(single[:, 1], torch.zeros(3), atol=1e-6, rtol=0.0)
    log_prob = loss.reader.log_prob(td[:1], torch.zeros(1, LATENT_DIM))
    assert log_prob[0, 1].exp().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert all(x.isfinite().all() for x in loss.diagnose(td, 4)[:5])


def test_nan_of_a_network_is_not_an_illegal_action():
    loss, td = masked_loss(), batch_of(4)
    with torch.no_grad():
        actor_net(loss).last[0, 0, 0] = float("nan")
    assert loss(td)["loss_mi"].isnan()


@pytest.mark.parametrize("situation", ["state", "observations"])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("num_agents", [1, 2, 4])
def test_shapes_of_batches_and_groups(num_agents, batch, situation):
    given = {"situation": situation}
    options = {"entropy_weight": 1.0, "num_latents": 2, "diagnostic_latents": 3}
    loss = masked_loss(num_agents, predictor=given, reduction="none", **options)
    td = batch_of(*batch, num_agents=num_agents)
    before, noise = td.clone(), loss.draw_noise(td)
    out = loss(td, noise)
    assert set(out.keys()) == set(loss.out_keys)
    assert "latent_share" not in out
    for name in ("loss_mi", "loss_predictor"):
        assert out[name].shape == batch
        assert out[name].requires_grad
    assert out["pair_log_prob_matrix"].shape == (num_agents, num_agents)
    again = loss(td, noise)
    for name in ("loss_mi", "loss_predictor", "entropy"):
        assert torch.equal(out[name], again[name])
    assert set(td.keys(True)) == set(before.keys(True))
    assert (td == before).all()
    if num_agents == 1:
        assert (out["loss_predictor"] == 0).all()
        assert (out["pair_log_prob"] == 0).all()
        torch.testing.assert_close(out["loss_mi"].mean(), -0.1 * out["entropy"])


def test_state_and_mask_under_other_names():
    keys = Keys("walkers", state=("shared", "state"), latent=("shared", "z"))
    policy = make_policy(keys=keys, distribution=MaskedCategorical)
    predictor = make_predictor(situation="state", masked=True, keys=keys)
    loss = MutualInformationLoss(policy, predictor, keys=keys).double()
    td = batch_of(4, keys=keys)
    assert loss.in_keys == [
        ("walkers", "observation"),
        ("walkers", "action_mask"),
        ("shared", "state"),
    ]
    loss(td.select(*loss.in_keys))
    for key in loss.in_keys:
        with pytest.raises(MissingKeysError, match=str(key[1])):
            loss(td.exclude(key))
        with pytest.raises(MissingKeysError, match=str(key[1])):
            loss.diagnose(td.exclude(key))


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: MutualInformationLoss(make_policy(), make_parts().predictor),
            "policy is categorical and the predictor a VariationalPredictor; build a Categorical",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), HyperPairNet(4, 2, 4)),
            "the predictor a HyperPairNet; build a CategoricalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), None),
            "the predictor None; build a CategoricalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_parts().policy, make_predictor()),
            "TanhNormal and the predictor a CategoricalPredictor; build a VariationalPredictor",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(), seed_dims=1),
            "seed_dims must be 0 with a categorical policy, got 1",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(), reverse_model="other"),
            "reverse_model must be one of .*, got 'other'",
        ),
        (
            lambda: CategoricalPolicyReader(make_parts().policy),
            "must be one of Categorical, .* for logits, got SquashedNormal given by loc, scale",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor(3))(make_batch(6)),
            r"the observations must end in \[3, 4\]",
        ),
        (
            lambda: masked_loss(predictor={"num_agents": 3, "masked": False})(batch_of(4)),
            r"built for \(agents, actions\) \(3, 4\), but the policy has \(2, 4\)",
        ),
        (
            lambda: MutualInformationLoss(make_policy(), make_predictor()).diagnose(
                make_batch(6), 1
            ),
            "at least two extra latents, got 1",
        ),
    ],
)
def test_unusable_parts(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        (Categorical, ["probs"]),
        (MaskedCategorical, ["logits"]),
        (MaskedCategorical, ["logits", "indices"]),
        (OneHotOrdinal, ["scores"]),
        (Bernoulli, ["logits"]),
        (Normal, ["loc", "scale"]),
    ],
)
def test_distributions_that_are_given_otherwise(distribution, names):
    net = TensorDictModule(nn.Identity(), ["x"], ["x"])
    policy = ProbabilisticActor(
        net, dict.fromkeys(names, "x"), ["action"], distribution_class=distribution
    )
    with pytest.raises(ValueError, match=f"got {distribution.__name__} given by .*{names[-1]}"):
        CategoricalPolicyReader(policy)
