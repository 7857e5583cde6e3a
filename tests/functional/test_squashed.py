"""The tanh squash: a density, its Jacobian, and saturation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import (
    AffineTransform,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

from vm3ac_modules.functional import sample_squashed_gaussian, squash, squash_log_det
from vm3ac_modules.testing import tensor_batches


def positive(x):
    return torch.nn.functional.softplus(x) + 0.1


@given(
    st.floats(-2.0, 2.0),
    st.sampled_from([0.1, 0.5, 1.0, 2.0]),
    st.floats(-3.0, 3.0),
    st.sampled_from([0.1, 1.0, 4.0]),
)
def test_density_integrates_to_one_over_the_range(loc, scale, center, half_range):
    # Equal steps of the noise are dense in the range wherever the density is.
    noise = torch.linspace(-9.0, 9.0, 20_001, dtype=torch.float64).unsqueeze(-1)
    loc, scale, center, half_range = (
        noise.new_tensor([x]) for x in (loc, scale, center, half_range)
    )
    draw = sample_squashed_gaussian(loc, scale, noise, center, half_range)
    assert ((draw.action - center).abs() <= half_range + 1e-12).all()
    mass = torch.trapezoid(draw.log_prob.exp(), draw.action.squeeze(-1))
    assert mass.item() == pytest.approx(1.0, abs=1e-4)


@given(tensor_batches("*NA", "A", "A"))
def test_log_det_is_the_jacobians(drawn):
    u, center, raw = drawn
    u.requires_grad_()
    half_range = positive(raw)
    slope = torch.autograd.grad(squash(u, center, half_range).sum(), u)[0]
    torch.testing.assert_close(squash_log_det(u, half_range), slope.log().sum(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [10.0, 20.0, 50.0])
def test_saturation_stays_finite(dtype, size):
    u = torch.tensor([[-size], [size]], dtype=dtype, requires_grad=True)
    one = torch.ones(1, dtype=dtype)
    log_det = squash_log_det(u, one)
    # The derivative of log(1 - tanh^2) is -2 tanh, so log-det is 2 log 2 - 2|u| out there.
    expected = torch.full((2,), 2 * (math.log(2.0) - size), dtype=dtype)
    torch.testing.assert_close(log_det, expected)
    grad = torch.autograd.grad(log_det.sum(), u)[0]
    torch.testing.assert_close(grad, torch.tensor([[2.0], [-2.0]], dtype=dtype))


@pytest.mark.parametrize("size", [5.0, 50.0])
def test_samples_in_saturation_have_finite_scores_and_gradients(size):
    loc = torch.tensor([size, -size], requires_grad=True)
    scale = torch.tensor([0.5, 2.0], requires_grad=True)
    draw = sample_squashed_gaussian(
        loc, scale, torch.tensor([1.5, -0.5]), torch.zeros(2), torch.ones(2)
    )
    grads = torch.autograd.grad(draw.log_prob, (loc, scale))
    assert all(x.isfinite().all() for x in (draw.log_prob, *grads))


@given(tensor_batches("*NA", "*NA", "*NA", "A", "A"))
def test_log_prob_is_torchs_away_from_saturation(drawn):
    loc, raw, noise, center, raw_range = drawn
    scale, half_range = positive(0.3 * raw), positive(raw_range)
    noise = noise.clamp(-2.0, 2.0)
    draw = sample_squashed_gaussian(loc, scale, noise, center, half_range)
    transforms = [TanhTransform(), AffineTransform(center, half_range, event_dim=0)]
    density = TransformedDistribution(Normal(loc, scale), transforms)
    expected = Independent(density, 1).log_prob(draw.action)
    # torch goes back by atanh, which loses digits as |u| grows.
    near = (draw.pre_squash.abs() < 5.0).all(-1)
    torch.testing.assert_close(draw.log_prob[near], expected[near], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(draw.pre_squash, loc + scale * noise)


@given(tensor_batches("*NA", "*NA", "*NA", "A"))
def test_gradient_is_that_of_the_reparameterized_density(drawn):
    loc, raw, noise, raw_range = drawn
    scale, half_range = positive(raw).requires_grad_(), positive(raw_range)
    loc.requires_grad_()
    draw = sample_squashed_gaussian(loc, scale, noise, 0.0 * half_range, half_range)
    grads = torch.autograd.grad(draw.log_prob.sum(), (loc, scale))
    # log N(u; loc, scale) moves by -log scale only; the squash adds 2 tanh(u) du.
    slope = 2.0 * draw.pre_squash.tanh()
    torch.testing.assert_close(grads[0], slope)
    torch.testing.assert_close(grads[1], slope * noise - 1.0 / scale)
