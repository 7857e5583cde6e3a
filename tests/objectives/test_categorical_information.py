"""The information that categorical policies have: its estimates, and policies that learn it."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.categorical import batch_of, make_policy, masked_loss
from tensordict import TensorDict
from torch import nn

import vm3ac_modules as vm
from vm3ac_modules.objectives import MutualInformationLoss

# --- the information that a policy has --------------------------------------------------------


def outcomes_of(loss, td):
    """Policies under each of the three outcomes, one call each, ``[Z, B, N, A]``."""
    outcomes = torch.eye(3, dtype=torch.float64)
    return torch.stack([loss.reader.log_prob(td, z.expand(len(td), 3)).exp() for z in outcomes])


@torch.no_grad()
def test_estimates_of_a_categorical_latent_are_exact():
    prior = vm.CategoricalPrior(3, probs=[0.2, 0.5, 0.3])
    loss, td = masked_loss(prior=prior, gain=4.0), batch_of(5)
    found = loss.diagnose(td, 2)
    policies, weights = outcomes_of(loss, td), torch.tensor([0.2, 0.5, 0.3]).double()
    table = loss.predictor_network.table(td["state"], td["agents", "action_mask"])
    joint = torch.einsum("z,znia,znjb->nijab", weights, policies, policies)[:, 0, 1]
    marginals = joint.sum(-1), joint.sum(-2)
    entropies = [torch.special.entr(p).sum(-1).mean() for p in marginals]
    product = marginals[0].unsqueeze(-1) * marginals[1].unsqueeze(-2)
    information = torch.special.xlogy(joint, joint / product.clamp_min(1e-30)).sum((-1, -2)).mean()
    forward = (joint * table[:, 0, :, 1, :]).sum((-1, -2)).mean()
    reverse = (joint * table[:, 1, :, 0, :].mT).sum((-1, -2)).mean()
    torch.testing.assert_close(found.entropy, torch.stack(entropies))
    torch.testing.assert_close(found.upper[0, 1], information)
    torch.testing.assert_close(found.lower[0, 1], 0.5 * (sum(entropies) + forward + reverse))
    conditional = (weights[:, None, None] * torch.special.entr(policies).sum(-1)).sum(0).mean(0)
    torch.testing.assert_close(found.conditional_entropy, conditional)
    torch.testing.assert_close(found.surrogate[0, 1], 0.5 * (conditional.sum() + forward + reverse))
    assert found.ceiling == pytest.approx(math.log(3))
    assert found.latent_share.isnan().all()
    for matrix in (found.lower, found.upper, found.surrogate):
        assert (matrix.diagonal() == 0).all()
        torch.testing.assert_close(matrix, matrix.mT)
    assert found.lower[0, 1] < information
    assert information > 0.01


def test_estimates_of_a_drawn_latent_bracket_the_exact_ones():
    """The three outcomes again, now of a prior that says nothing about being finite."""

    class Drawn(vm.GaussianPrior):
        def sample(self, batch_shape, *, like=None):
            return nn.functional.one_hot(torch.randint(3, (*batch_shape,)), 3).to(like)

    exact = masked_loss(prior=vm.CategoricalPrior(3), gain=4.0)
    drawn = masked_loss(prior=Drawn(3), gain=4.0)
    drawn.load_state_dict(exact.state_dict())
    td = batch_of(1)
    td["agents", "action_mask"][:] = True
    td = td.expand(1000)
    truth, found = exact.diagnose(td[:1]), drawn.diagnose(td, 150)
    of_latent = truth.entropy - truth.conditional_entropy
    for name in ("entropy", "conditional_entropy", "lower", "surrogate"):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name), atol=0.03, rtol=0.0)
    torch.testing.assert_close(found.upper[0, 1], of_latent.min(), atol=0.03, rtol=0.0)
    assert found.ceiling == pytest.approx(math.log(151))
    few = drawn.diagnose(td, 2)
    assert few.upper[0, 1] > found.upper[0, 1] + 0.01
    assert few.lower[0, 1] < found.lower[0, 1] - 0.01


# --- learning ---------------------------------------------------------------------------------


def information_after_training(seed, **options):
    """Exact information of two agents before and after training on the loss alone."""
    torch.manual_seed(seed)
    policy = make_policy(prior=vm.CategoricalPrior(3), gain=3.0, obs_dim=2, actions=3)
    predictor = vm.CategoricalPredictor(
        2, 2, 3, situation="observations", embed_dim=8, hypernet_hidden=8
    )
    loss = MutualInformationLoss(policy, predictor, entropy_weight=1.0, **options)
    td = TensorDict({("agents", "observation"): torch.ones(16, 2, 2)}, [16])
    groups = loss.parameter_groups()
    optimizer = torch.optim.Adam(
        [
            {"params": groups["loss_mi"], "lr": 0.02},
            {"params": groups["loss_predictor"], "lr": 0.05},
        ]
    )
    before = loss.diagnose(td[:1])
    for _ in range(120):
        out = loss(td)
        optimizer.zero_grad()
        (out["loss_mi"] + out["loss_predictor"]).backward()
        optimizer.step()
    return before, loss.diagnose(td[:1])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_marginal_entropy_makes_policies_coordinate(seed):
    before, after = information_after_training(seed, weight=1.0, num_latents=64)
    assert before.upper[0, 1] < 0.3
    assert after.upper[0, 1] > 1.0
    # The predictor knows it: the bound is nearly tight, and log 3 is all there is.
    assert after.lower[0, 1] > after.upper[0, 1] - 0.05
    assert after.upper[0, 1] < math.log(3) + 1e-4


def test_nothing_coordinates_policies_without_weight_or_without_the_marginal_entropy():
    before, after = information_after_training(0, weight=0.0, num_latents=64)
    torch.testing.assert_close(after.upper, before.upper)
    before, after = information_after_training(0, weight=1.0, num_latents=0)
    assert after.upper[0, 1] < min(before.upper[0, 1], 0.01)
