"""Where the objective leads: claims about its gradient that a training run would hide.

One-dimensional game: two agents, reward -3/2 (a_0^2 + a_1^2), z ~ N(0, 1), a_i = w z + s eps,
temperature beta = 1, pair weight 1/N. Both agents move alike, so one (w, s) is followed; gradients
are those of Eq. (49) in closed form, with the best predictor of the current policy at every step.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.functional import mixture_log_prob
from vm3ac_modules.testing import tabular_games


def normal_grid(count, reach):
    """Nodes and weights of the standard normal; the trapezoid is spectrally accurate here."""
    nodes = torch.linspace(-reach, reach, count, dtype=torch.float64)
    weights = torch.exp(-0.5 * nodes.square())
    return nodes, weights / weights.sum()


def information(w, s):
    rho = w * w / (w * w + s * s)
    return -0.5 * math.log(1.0 - rho * rho)


def ascend(sigma, w, s, rate=0.01, steps=3000):
    """Closed-form gradient ascent for K = 0 and a predictor of constant scale sigma."""
    for _ in range(steps):
        slope = w * w / (w * w + s * s)
        # d/dw, d/ds of 1/2 E log N(sg a_j; slope a_i, sigma^2) with the slope held.
        pull = (slope * w - slope**2 * w) / (2 * sigma**2)
        push = slope**2 * s / (2 * sigma**2)
        w, s = w + rate * (-3 * w + pull), s + rate * (-3 * s + 1 / s - push)
    return w, s


@pytest.mark.parametrize("start", [0.1, 0.5, 2.0])
def test_wide_constant_scale_ends_without_coordination(start):
    w, s = ascend(sigma=1.0, w=start, s=0.3)
    assert abs(w) < 1e-8
    assert s == pytest.approx(math.sqrt(1 / 3))


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_narrow_constant_scale_ends_coordinated(noise):
    w, s = ascend(sigma=0.1, w=0.5, s=noise)
    assert information(w, s) == pytest.approx(1.0433, abs=1e-3)
    # The stationarity condition: 3 = rho (1 - rho) / (2 sigma^2).
    rho = w * w / (w * w + s * s)
    assert rho * (1 - rho) == pytest.approx(6 * 0.1**2)


def mixture_entropy(ratio, num_latents):
    r"""H_K of the game at s = 1, w = ratio, up to a constant.

    E log X = int (e^-t - E e^-tX) dt / t makes K + 1 latents a product over one quadrature.
    """
    z, z_weight = normal_grid(97, 6.0)
    own, own_weight = normal_grid(61, 5.0)
    noise, noise_weight = normal_grid(25, 5.0)
    action = (ratio * own.unsqueeze(-1) + noise).reshape(-1)
    weight = (own_weight.unsqueeze(-1) * noise_weight).reshape(-1)
    own_density = torch.exp(-0.5 * noise.expand(len(own), -1).reshape(-1).square())
    kept = weight > 1e-9
    action, weight, own_density = action[kept], weight[kept], own_density[kept]
    log_t = torch.linspace(-12.0, 18.0, 81, dtype=torch.float64)
    density = torch.exp(-0.5 * (action.unsqueeze(-1) - ratio * z).square())
    other = torch.stack([torch.exp(-t * density) @ z_weight for t in log_t.exp()])
    t = log_t.exp().unsqueeze(-1)
    integrand = torch.exp(-t) - torch.exp(-t * own_density) * other**num_latents
    return math.log(num_latents + 1) - (weight * torch.trapezoid(integrand, log_t, dim=0)).sum()


def test_quadrature_of_the_mixture_entropy():
    ratio, num_latents = torch.tensor(2.0, dtype=torch.float64), 16
    z = torch.randn(20_000, num_latents + 1, dtype=torch.float64)
    action = ratio * z[:, :1] + torch.randn(20_000, 1, dtype=torch.float64)
    heads = -0.5 * (action - ratio * z).square()
    draws = -mixture_log_prob(heads[:, 0], heads[:, 1:])
    error = 6 * draws.std() / math.sqrt(len(draws))
    assert abs(mixture_entropy(ratio, num_latents) - draws.mean()) < error


def potential_slope(ratio, num_latents=16):
    """Slope of the potential Phi_K along w / s, each agent's variance at its best value."""
    ratio = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    square = ratio.square()
    entropy = mixture_entropy(ratio, num_latents) - 0.5 * torch.log1p(square)
    mutual = -0.5 * torch.log1p(-((square / (1 + square)) ** 2))
    return torch.autograd.grad(2 * entropy + 0.5 * mutual, ratio)[0].item()


def test_sixteen_latents_and_a_learned_scale_end_coordinated():
    low, high = 4.0, 7.0
    # Uphill below the fixed point and downhill above it: gradient steps stop there.
    assert potential_slope(low) > 0.0 > potential_slope(high)
    for _ in range(9):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if potential_slope(middle) > 0.0 else (low, middle)
    assert information(low, 1.0) == pytest.approx(1.442, abs=2e-3)


def test_sixteen_latents_have_a_dead_zone():
    # Downhill to independence below a share 2 / (K + 1) of the variance, uphill above it.
    share = 2 / 17
    edge = math.sqrt(share / (1 - share))
    assert potential_slope(0.7 * edge) < 0.0 < potential_slope(1.4 * edge)


@given(tabular_games(num_agents=1, max_latents=3), st.integers(1, 2))
def test_mixture_head_gradients_cancel_only_together(game, num_latents):
    """The explicit gradient of log pi_K has zero mean over all K + 1 heads, the generating one
    included; the part of the K extra heads alone has not, so dropping it alone is biased."""
    table = game.policies[0]
    generating, extra = (table.log().requires_grad_() for _ in range(2))
    total = torch.zeros((), dtype=torch.float64)
    for drawn in itertools.product(range(len(table)), repeat=num_latents + 1):
        own = generating.log_softmax(-1)[drawn[0]]
        others = extra.log_softmax(-1)[list(drawn[1:])].mT
        # The action and the latents are drawn from the table: no gradient through them.
        weight = game.latent[list(drawn)].prod() * table[drawn[0]]
        total = total + (weight * mixture_log_prob(own, others)).sum()
    of_generating, of_extra = torch.autograd.grad(total, (generating, extra))
    torch.testing.assert_close(
        of_generating + of_extra, torch.zeros_like(table), atol=1e-12, rtol=0
    )


def test_gradient_of_the_extra_heads_alone_is_biased():
    # K = 1, a = 0.8 z + 0.5 eps, by quadrature over (z_0, z_1, eps); gradient in (w, s).
    z, z_weight = normal_grid(81, 6.5)
    weight = z_weight.reshape(-1, 1, 1) * z_weight.reshape(-1, 1) * z_weight
    action = 0.8 * z.reshape(-1, 1, 1) + 0.5 * z

    def log_prob(params, latent):
        w, s = params
        return -0.5 * ((action - w * latent) / s).square() - s.log()

    own, extra = (
        torch.tensor([0.8, 0.5], dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    heads = (log_prob(own, z.reshape(-1, 1, 1)), log_prob(extra, z.reshape(-1, 1)))
    heads = tuple(head.expand_as(weight) for head in heads)
    mean = (weight * mixture_log_prob(heads[0], heads[1].unsqueeze(-1))).sum()
    of_own, of_extra = torch.autograd.grad(mean, (own, extra))
    torch.testing.assert_close(of_own, -of_extra, atol=1e-7, rtol=0.0)
    expected = torch.tensor([-0.1627, 0.1511], dtype=torch.float64)
    torch.testing.assert_close(of_extra, expected, atol=1e-4, rtol=0.0)
