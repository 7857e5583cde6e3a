"""The bracket of the mutual information, on policies whose information is known.

The pre-squash mean is exactly linear in a Gaussian latent, and tanh is a bijection of each agent's
action, so the information is that of a linear-Gaussian game. Actions stay small, so that a Gaussian
predictor of the action is nearly the true conditional and the lower bound is nearly tight.
"""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from vm3ac_modules.modules.actors import make_actor, make_policy
from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives import MutualInformationLoss, PolicyReader, estimate_information
from vm3ac_modules.objectives import diagnostics as diagnostics_module
from vm3ac_modules.testing import LinearGaussianGame

NOISE, REPEATS, ROWS, LATENTS = 0.03, 8, 400, 300


def linear_game(weights):
    """``u_i = w_i z + NOISE n_i`` with one-dimensional actions and latent."""
    weights = torch.tensor(weights, dtype=torch.float64).reshape(-1, 1, 1)
    noise = torch.full_like(weights, NOISE**2)
    return LinearGaussianGame(
        weights, torch.zeros_like(weights[..., 0]), noise, torch.ones(1, 1, dtype=torch.float64)
    )


def linear_policy(weights):
    """An actor whose mean is ``w_i z``: x = relu(x) - relu(-x) passes through one hidden layer."""
    num_agents = len(weights)
    actor = make_actor(1, 1, Bounded(-1.0, 1.0, (num_agents, 1)), hidden=(2,))
    net = actor[0].net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.latent_layer.weight.copy_(torch.tensor([1.0, -1.0]).expand_as(net.latent_layer.weight))
        head = net.trunk.layers[0]
        head.weight[:, 0, 0] = torch.tensor(weights)
        head.weight[:, 1, 0] = -torch.tensor(weights)
        head.bias[..., 1] = math.log(NOISE)
    return make_policy(LatentSampler(GaussianPrior(1)), actor)


def linear_predictor(game, **options):
    """The true conditional of a game in which it is the same up to sign for all pairs."""
    weights = game.weights.flatten()
    true = game.conditional(1, given=0)
    predictor = VariationalPredictor(
        1,
        Bounded(-1.0, 1.0, (len(weights), 1)),
        hidden=(2 * len(weights),),
        scale=true.covariance.sqrt().item(),
        **options,
    )
    slope = abs(true.matrix.item())
    first, last = predictor.net.net.layers
    num_agents = len(weights)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.zero_()
        # Unit (k, +-) is on for the condition c = k alone: its one-hot opens it.
        for k in range(num_agents):
            for sign, unit in ((1.0, 2 * k), (-1.0, 2 * k + 1)):
                first.weight[:, 0, unit] = sign
                first.weight[:, 2 : 2 + num_agents, unit] = -10.0
                first.weight[:, 2 + k, unit] = 0.0
                last.weight[:, unit, 0] = sign * slope * float(weights[k].sign())
    # The sign of the target's weight is the same for all targets of these games.
    return predictor


def observations(rows=ROWS, num_agents=2):
    return TensorDict({("agents", "observation"): torch.zeros(rows, num_agents, 1)}, [rows])


def estimates(policy, predictor, repeats=REPEATS, num_latents=LATENTS):
    """Mean of repeated estimates and its standard error, by name."""
    reader = PolicyReader(policy)
    num_agents = reader.center.shape[-2]
    found = [
        estimate_information(
            reader,
            predictor,
            observations(num_agents=num_agents),
            center=reader.center,
            half_range=reader.half_range,
            num_latents=num_latents,
        )
        for _ in range(repeats)
    ]
    mean, error = {}, {}
    for name in ("lower", "upper", "surrogate", "entropy", "conditional_entropy", "latent_share"):
        values = torch.stack([getattr(x, name) for x in found]).double()
        mean[name], error[name] = values.mean(0), values.std(0) / math.sqrt(repeats)
    return mean, error


@pytest.mark.parametrize("weight", [0.03, 0.1])
def test_bracket_holds_the_exact_information(weight):
    game = linear_game([weight, weight])
    mean, error = estimates(linear_policy([weight, weight]), linear_predictor(game))
    exact = game.mutual_information(0, 1)
    lower, upper, surrogate = (mean[x][0, 1] for x in ("lower", "upper", "surrogate"))
    se = {name: 4 * value[0, 1] for name, value in error.items() if value.ndim == 2}
    assert exact > 0.1
    assert lower <= exact + se["lower"]
    assert exact <= upper + se["upper"]
    # Near the truth, not only on the right side of it: q is nearly the true conditional.
    torch.testing.assert_close(lower, exact, rtol=0.0, atol=float(se["lower"]) + 0.03)
    torch.testing.assert_close(
        upper, game.latent_information(0), rtol=0.0, atol=float(se["upper"]) + 0.03
    )
    price = game.surrogate(0, 1, game.conditional(1, given=0))
    assert price < 0
    assert surrogate <= se["surrogate"]
    torch.testing.assert_close(surrogate, price, rtol=0.0, atol=float(se["surrogate"]) + 0.03)
    for name, value in (
        ("entropy", game.entropy(0)),
        ("conditional_entropy", game.conditional_entropy(0)),
    ):
        expected = value.expand(2)
        torch.testing.assert_close(mean[name], expected, rtol=0.0, atol=0.05)


def test_few_latents_loosen_both_sides():
    # The draw that generated the action belongs to the lower side and must not enter the upper one.
    game = linear_game([0.1, 0.1])
    mean, error = estimates(linear_policy([0.1, 0.1]), linear_predictor(game), num_latents=3)
    slack = {name: 4 * error[name][0, 1] for name in ("lower", "upper")}
    assert mean["upper"][0, 1] > game.latent_information(0) + slack["upper"]
    assert mean["lower"][0, 1] < game.mutual_information(0, 1) - slack["lower"]


def test_wrong_predictor_loosens_the_lower_side_alone():
    game = linear_game([0.1, 0.1])
    predictor = linear_predictor(game)
    with torch.no_grad():
        predictor.net.net.layers[-1].weight.neg_()
    mean, error = estimates(linear_policy([0.1, 0.1]), predictor)
    exact = game.mutual_information(0, 1)
    assert mean["lower"][0, 1] < exact - 1.0
    assert exact <= mean["upper"][0, 1] + 4 * error["upper"][0, 1]


def test_policies_that_ignore_the_latent_have_no_information():
    game = linear_game([0.1, 0.1])
    mean, _ = estimates(linear_policy([0.0, 0.0]), linear_predictor(game), repeats=2)
    torch.testing.assert_close(mean["upper"], torch.zeros(2, 2).double(), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(mean["lower"], mean["surrogate"], atol=1e-4, rtol=0.0)
    assert (mean["latent_share"] == 0).all()
    assert mean["lower"][0, 1] < 0


def test_upper_side_is_that_of_the_less_informed_agent():
    weights = [0.1, 0.03, 0.0]
    predictor = VariationalPredictor(1, Bounded(-1.0, 1.0, (3, 1)), hidden=(2,))
    mean, error = estimates(linear_policy(weights), predictor, repeats=4)
    game = linear_game(weights)
    for i in range(3):
        for j in range(3):
            least = min(game.latent_information(k).item() for k in (i, j))
            expected = 0.0 if i == j else least
            slack = 4 * error["upper"][i, j].item() + 0.03
            assert mean["upper"][i, j].item() == pytest.approx(expected, abs=slack)


@pytest.mark.parametrize("weight", [0.01, 0.03, 0.1])
def test_share_of_the_latent_equals_its_closed_form(weight):
    predictor = VariationalPredictor(1, Bounded(-1.0, 1.0, (2, 1)), hidden=(2,))
    mean, _ = estimates(linear_policy([weight, 0.0]), predictor, repeats=2)
    expected = torch.tensor([weight**2 / (weight**2 + NOISE**2), 0.0]).double()
    torch.testing.assert_close(mean["latent_share"], expected, rtol=0.0, atol=0.02)


def once(policy, predictor, num_latents, rows=20):
    reader = PolicyReader(policy)
    torch.manual_seed(11)
    return estimate_information(
        reader,
        predictor,
        observations(rows),
        center=reader.center,
        half_range=reader.half_range,
        num_latents=num_latents,
    )


@pytest.mark.parametrize("num_latents", [2, 7])
def test_ceiling_of_the_lower_side(num_latents):
    # A latent that decides the action: the estimate runs into its ceiling.
    policy, predictor = linear_policy([2.0, 2.0]), linear_predictor(linear_game([0.1, 0.1]))
    found = once(policy, predictor, num_latents, rows=2000)
    assert found.ceiling == pytest.approx(math.log(num_latents + 1))
    gain = found.entropy - found.conditional_entropy
    assert (gain <= found.ceiling + 1e-4).all()
    assert (gain > found.ceiling - 0.2).all()
    off_diagonal = (found.lower - found.surrogate)[0, 1]
    assert off_diagonal <= found.ceiling + 1e-4


def test_matrices_are_symmetric_with_zero_diagonals():
    found = once(linear_policy([0.1, 0.03]), linear_predictor(linear_game([0.1, 0.03])), 9)
    for matrix in (found.lower, found.upper, found.surrogate):
        assert (matrix.diagonal() == 0).all()
    assert found.upper[0, 1] == found.upper[1, 0]
    assert not any(x.requires_grad for x in found[:7])


def test_chunks_of_latents_are_one_estimate(monkeypatch):
    policy, predictor = linear_policy([0.1, 0.1]), linear_predictor(linear_game([0.1, 0.1]))
    whole = once(policy, predictor, 50)
    monkeypatch.setattr(diagnostics_module, "_CHUNK", 7)
    parts = once(policy, predictor, 50)
    for name in ("lower", "upper", "surrogate", "entropy"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_estimates_are_normalized_whatever_the_predictor_says():
    policy, game = linear_policy([0.1, 0.1]), linear_game([0.1, 0.1])
    plain = once(policy, linear_predictor(game), 9)
    raw = once(policy, linear_predictor(game, normalized=False), 9)
    torch.testing.assert_close(raw.lower, plain.lower)


def test_policy_without_latent_is_bracketed_by_zero():
    actor = make_actor(1, 0, Bounded(-1.0, 1.0, (2, 1)), hidden=(2,))
    found = once(actor, linear_predictor(linear_game([0.1, 0.1])), 9)
    torch.testing.assert_close(found.upper, torch.zeros(2, 2), atol=1e-5, rtol=0.0)


def test_loss_diagnoses_its_own_policy():
    policy, predictor = linear_policy([0.1, 0.1]), linear_predictor(linear_game([0.1, 0.1]))
    loss = MutualInformationLoss(policy, predictor)
    expected = once(policy, predictor, 9)
    torch.manual_seed(11)
    found = loss.diagnose(observations(20), num_latents=9)
    for left, right in zip(found[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("num_latents", [0, 1])
def test_too_few_latents_for_an_estimate(num_latents):
    policy, predictor = linear_policy([0.1, 0.1]), linear_predictor(linear_game([0.1, 0.1]))
    with pytest.raises(ValueError, match=f"at least two extra latents, got {num_latents}"):
        once(policy, predictor, num_latents)


def test_without_a_predictor_only_the_lower_side_is_missing():
    game, policy = linear_game([0.03, 0.03]), linear_policy([0.03, 0.03])
    reader = PolicyReader(policy)

    def found(predictor):
        torch.manual_seed(0)
        sizes = {"center": reader.center, "half_range": reader.half_range, "num_latents": 20}
        return estimate_information(reader, predictor, observations(rows=10), **sizes)

    alone, both = found(None), found(linear_predictor(game))
    off = ~torch.eye(2, dtype=torch.bool)
    for name in ("lower", "surrogate"):
        assert getattr(alone, name)[off].isnan().all()
        assert getattr(both, name)[off].isfinite().all()
    for name in ("upper", "latent_information", "entropy", "latent_share"):
        torch.testing.assert_close(getattr(alone, name), getattr(both, name), rtol=0, atol=0)
    # Ten rows: chosen on one half and read on the other it is at least the smaller mean.
    assert both.upper[0, 1] >= both.latent_information.min() - 1e-6
