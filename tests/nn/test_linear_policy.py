"""Linear policies with a common latent, and the covariance that it gives them."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.nn import LinearLatentPolicy, action_covariance
from vm3ac_modules.testing import LinearGaussianGame, linear_gaussian_games, tensors

ROWS = 5


@given(tensors(3, 2, 4), tensors(2, 3), tensors(ROWS, 3, 3), tensors(ROWS, 4))
def test_forward_is_the_formula_agent_by_agent(weights, observed, observation, latent):
    policy = LinearLatentPolicy(weights, observation_weights=observed).double()
    action = policy(observation, latent)
    for row, agent in itertools.product(range(ROWS), range(3)):
        expected = observed @ observation[row, agent] + weights[agent] @ latent[row]
        torch.testing.assert_close(action[row, agent], expected)
    apart = latent.unsqueeze(1).repeat(1, 3, 1)
    torch.testing.assert_close(policy(observation, apart), action)
    apart[:, 2] += 1
    moved = policy(observation, apart) - action
    torch.testing.assert_close(moved[:, :2], torch.zeros_like(moved[:, :2]))
    torch.testing.assert_close(moved[:, 2], weights[2].sum(-1).expand(ROWS, 2))


def test_paper_policies_by_hand():
    weights = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[-1.0, -2.0], [0.0, 0.5]]])
    action = LinearLatentPolicy(weights)(
        torch.tensor([[-1.0, 1.0], [1.0, 2.0]]), torch.tensor([0.25, 0.5])
    )
    # Only y moves by itself, by a tenth; the batch may be empty.
    torch.testing.assert_close(action, torch.tensor([[1.25, 2.85], [-1.25, 0.45]]))


def test_noise_is_each_agents_own_and_only_in_training():
    policy = LinearLatentPolicy(torch.zeros(2, 2, 2), noise_std=0.5)
    observation, latent = torch.zeros(50_000, 2, 2), torch.zeros(50_000, 2)
    noise = policy(observation, latent).flatten(1)
    torch.testing.assert_close(noise.T.cov(), 0.25 * torch.eye(4), atol=0.01, rtol=0)
    torch.testing.assert_close(noise.mean(0), torch.zeros(4), atol=0.02, rtol=0)
    assert not policy.eval()(observation, latent).any()


def test_only_the_latents_weights_are_learned():
    first = torch.ones(2, 2, 2)
    policy = LinearLatentPolicy(first, noise_std=0.1)
    assert [name for name, _ in policy.named_parameters()] == ["weights"]
    policy(torch.ones(3, 2, 2), torch.full((3, 2), 2.0)).sum().backward()
    assert policy.weights.grad.tolist() == torch.full((2, 2, 2), 6.0).tolist()
    with torch.no_grad():
        policy.weights.zero_()
    assert bool(first.all())


@given(
    tensors(2, 2, 2),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
    tensors(4, 2),
    tensors(2, 2),
)
def test_covariance_by_enumeration_of_a_discrete_latent(weights, odds, outcomes, observation):
    probs = torch.tensor(odds, dtype=torch.float64) / sum(odds)
    policy = LinearLatentPolicy(weights).double()
    with torch.no_grad():
        actions = policy(observation.expand(4, 2, 2), outcomes)

    def covariance(x, y):
        mean_x, mean_y = probs @ x, probs @ y
        products = (x - mean_x).unsqueeze(-1) * (y - mean_y).unsqueeze(-2)
        return (probs[:, None, None] * products).sum(0)

    found = action_covariance(*weights, covariance(outcomes, outcomes))
    torch.testing.assert_close(found, covariance(actions[:, 0], actions[:, 1]))


@given(linear_gaussian_games(num_agents=2))
def test_covariance_is_the_linear_gaussian_games(game: LinearGaussianGame):
    found = action_covariance(game.weights[0], game.weights[1], game.latent)
    torch.testing.assert_close(found, game.covariance(0, 1))
    swapped = action_covariance(game.weights[1], game.weights[0], game.latent)
    torch.testing.assert_close(swapped, found.mT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": torch.zeros(2, 2)}, r"weights \[N, A, Z\].* got \[2, 2\]"),
        (
            {"weights": torch.zeros(2, 2, 2), "observation_weights": torch.zeros(3, 2)},
            r"got \[2, 2, 2\] and \[3, 2\]",
        ),
        ({"weights": torch.zeros(2, 2, 2), "noise_std": -0.1}, "must be >= 0, got -0.1"),
        ({"weights": torch.zeros(2, 2, 2), "noise_std": float("nan")}, "must be >= 0, got nan"),
    ],
)
def test_bad_policies_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LinearLatentPolicy(**options)


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 2), (2, 2)), ((2, 2), (2, 2), (3, 3)), ((2, 2), (2, 2), (3, 2))]
)
def test_covariances_of_unlike_sizes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"weights \[\*B, A, Z\] and a covariance \[Z, Z\]"):
        action_covariance(*(torch.zeros(shape) for shape in shapes))
