"""Influence: closed forms, what they cannot be, and the exact divergence by quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from vm3ac_modules.functional import influence
from vm3ac_modules.testing import tensor_batches

closed_forms = st.sampled_from(["moments", "fixed"])
sigmas = st.sampled_from([0.1, 0.5, 2.0])
# Predicted means, and predicted means given other actions.
predictions = tensor_batches("*NPA", "*MNPA")


@given(predictions, sigmas, closed_forms)
def test_closed_forms_are_divergences_from_a_gaussian(drawn, sigma, form):
    mean, counterfactual = drawn
    center = counterfactual.mean(-4)
    # The second moment of the mixture is that of its components plus that of their means.
    second = sigma**2 + counterfactual.square().mean(-4) - center.square()
    scale = second.sqrt() if form == "moments" else torch.full_like(center, sigma)
    expected = kl_divergence(Normal(mean, sigma), Normal(center, scale)).sum((-1, -2))
    actual = influence(mean, counterfactual, sigma, form=form)
    assert actual.shape == mean.shape[:-2]
    torch.testing.assert_close(actual, expected)


@given(predictions, sigmas, closed_forms)
def test_no_closed_form_is_negative(drawn, sigma, form):
    assert (influence(*drawn, sigma, form=form) >= -1e-12).all()


@given(predictions, sigmas, closed_forms, st.booleans())
def test_influence_is_zero_only_where_other_actions_predict_the_same(drawn, sigma, form, shift):
    mean, counterfactual = drawn
    same = mean.unsqueeze(-4).expand_as(counterfactual)
    assert (influence(mean, same, sigma, form=form).abs() < 1e-12).all()
    # Either all means are elsewhere, or they spread around the one that was predicted: the first is
    # seen by both forms, the second by the moments alone.
    away = torch.ones_like(same)
    if not shift:
        away = torch.cat((away, -away), dim=-4)
        same = torch.cat((same, same), dim=-4)
    found = influence(mean, same + 0.25 * away, sigma, form=form)
    assert torch.equal(found > 1e-6, torch.full_like(found, shift or form == "moments") == 1)


@given(predictions, sigmas, st.sampled_from(["moments", "fixed", "samples"]), st.randoms())
def test_order_of_counterfactuals_and_partners_does_not_matter(drawn, sigma, form, random):
    mean, counterfactual = drawn
    noise = torch.randn(counterfactual.shape, dtype=torch.float64)
    draws = list(range(counterfactual.shape[-4]))
    partners = list(range(counterfactual.shape[-2]))
    random.shuffle(draws)
    random.shuffle(partners)
    other = counterfactual[..., draws, :, :, :][..., partners, :]
    torch.testing.assert_close(
        influence(mean[..., partners, :], other, sigma, form=form, noise=noise[..., partners, :]),
        influence(mean, counterfactual, sigma, form=form, noise=noise),
    )


@given(predictions, st.sampled_from(["moments", "fixed", "samples"]))
def test_influence_is_the_sum_over_partners_and_has_no_unit(drawn, form):
    mean, counterfactual = drawn
    noise = torch.randn(counterfactual.shape, dtype=torch.float64)
    whole = influence(mean, counterfactual, 0.5, form=form, noise=noise)
    parts = [
        influence(*(x[..., k : k + 1, :] for x in drawn), 0.5, form=form, noise=noise[..., [k], :])
        for k in range(mean.shape[-2])
    ]
    torch.testing.assert_close(whole, sum(parts))
    scaled = influence(3.0 * mean, 3.0 * counterfactual, 1.5, form=form, noise=noise)
    torch.testing.assert_close(scaled, whole)


def test_influence_by_hand():
    # mean 1, counterfactuals 0 and 2 (mean 1, variance 1), sigma 1: log(2) / 2 + 1/4 - 1/2.
    mean = torch.ones(1, 1, 1)
    counterfactual = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1)
    moments = influence(mean, counterfactual, 1.0, form="moments")
    assert moments.item() == pytest.approx(0.5 * math.log(2.0) - 0.25)
    assert influence(mean, counterfactual, 1.0, form="fixed").item() == 0.0
    # Nobody to influence.
    assert influence(mean[:, :0], counterfactual[:, :, :0], 1.0).tolist() == [0.0]


def exact_mixture_divergence(mean, counterfactual, sigma):
    """KL of a Gaussian from a mixture of Gaussians, by the trapezoidal rule."""
    x = torch.linspace(mean - 12 * sigma, mean + 12 * sigma, 20_001, dtype=torch.float64)
    own = Normal(mean, sigma).log_prob(x)
    components = Normal(counterfactual.unsqueeze(-1), sigma).log_prob(x)
    mixture = components.logsumexp(0) - math.log(len(counterfactual))
    return torch.trapezoid(own.exp() * (own - mixture), x)


@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_samples_approach_the_divergence_from_the_mixture(sigma):
    draws = 40_000
    mean = torch.tensor([[0.3], [-0.6]], dtype=torch.float64).unsqueeze(-1)
    counterfactual = torch.tensor([[0.1, -0.5, 0.8], [0.2, -0.6, -0.7]], dtype=torch.float64)
    expected = torch.stack(
        [
            exact_mixture_divergence(m, c, sigma)
            for m, c in zip(mean.flatten(), counterfactual, strict=True)
        ]
    )
    noise = torch.randn(draws, 2, 1, 1, dtype=torch.float64)
    means = counterfactual.T.reshape(3, 2, 1, 1)
    found = influence(mean, means, sigma, form="samples", noise=noise)
    # The standard error from the draws one by one.
    each = influence(
        mean.expand(draws, 2, 1, 1),
        means.expand(draws, 3, 2, 1, 1),
        sigma,
        form="samples",
        noise=noise.unsqueeze(1),
    )
    torch.testing.assert_close(each.mean(0), found)
    error = (found - expected).abs() / (each.std(0) / math.sqrt(draws))
    assert (error < 4).all()
    # What the closed forms say is something else.
    for form in ("moments", "fixed"):
        closed = influence(mean, means, sigma, form=form)
        assert (closed - expected).abs().max() > 10 * (found - expected).abs().max()


def test_samples_of_one_and_the_same_prediction_are_zero():
    mean = torch.randn(7, 2, 1, 3, dtype=torch.float64)
    noise = torch.randn(7, 5, 2, 1, 3, dtype=torch.float64)
    same = mean.unsqueeze(1).expand(7, 4, 2, 1, 3)
    found = influence(mean, same, 0.5, form="samples", noise=noise)
    torch.testing.assert_close(found, torch.zeros_like(found))


def test_influence_refuses():
    mean, counterfactual = torch.zeros(1, 2, 1, 1), torch.zeros(1, 4, 2, 1, 1)
    with pytest.raises(ValueError, match=r"must be one of \('moments', .*\), got 'exact'"):
        influence(mean, counterfactual, 0.5, form="exact")
    with pytest.raises(ValueError, match="form='samples' needs noise"):
        influence(mean, counterfactual, 0.5, form="samples")
