"""Bounds of mutual information: identities on games whose exact value is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, Normal

from vm3ac_modules.functional import (
    barber_agakov_bound,
    bound_gap,
    categorical_log_density,
    gaussian_log_density,
    latent_variance_share,
    leave_one_out_log_prob,
    mixture_log_prob,
    smaller_of_pairs,
    symmetric_bound,
)
from vm3ac_modules.testing import (
    LinearGaussianGame,
    TabularGame,
    conditional_tables,
    linear_gaussian_games,
    linear_predictors,
    tabular_games,
    tensor_batches,
)

CLOSE = {"rtol": 0.0, "atol": 1e-10}


@st.composite
def games_with_predictors(draw, num_predictors=1, **kwargs):
    """A game of either kind, with conditional densities that have nothing to do with it."""
    if draw(st.booleans()):
        game = draw(linear_gaussian_games(**kwargs))
        size = game.offset.shape[-1]
        return game, *(draw(linear_predictors(size)) for _ in range(num_predictors))
    game = draw(tabular_games(**kwargs))
    sizes = [len(game.marginal(0)), len(game.marginal(1))]
    # The second predictor, where there is one, goes from agent 1 to agent 0.
    shapes = (sizes, sizes[::-1])
    return game, *(draw(conditional_tables(*shapes[k])) for k in range(num_predictors))


def enumerate_heads(table, latent, num_latents):
    """Every (z_0, ..., z_K, a): its probability, log pi(a|z_0) and log pi(a|z_1..K)."""
    outcomes, actions = table.shape
    rows = list(itertools.product(range(outcomes), repeat=num_latents + 1))
    drawn = torch.tensor(rows).repeat_interleave(actions, dim=0)
    action = torch.arange(actions).repeat(len(rows))
    heads = table.log()[drawn, action.unsqueeze(-1)]
    weight = latent[drawn].prod(-1) * table[drawn[:, 0], action]
    return weight, heads[:, 0], heads[:, 1:]


class TestLowerBound:
    @given(games_with_predictors())
    def test_never_exceeds_the_exact_value_and_misses_it_by_the_expected_divergence(self, drawn):
        game, q = drawn
        exact = game.mutual_information(0, 1)
        bound = barber_agakov_bound(game.entropy(1), game.expected_log_q(0, 1, q))
        assert bound.total <= exact + 1e-10
        torch.testing.assert_close(exact - bound.total, game.gap(0, 1, q), **CLOSE)
        torch.testing.assert_close(bound.total, game.bound(0, 1, q), **CLOSE)
        torch.testing.assert_close(bound.entropy_term + bound.prediction_term, bound.total)

    @given(games_with_predictors())
    def test_is_exact_at_the_true_conditional(self, drawn):
        game, _ = drawn
        q = game.conditional(1, given=0)
        torch.testing.assert_close(game.bound(0, 1, q), game.mutual_information(0, 1), **CLOSE)
        assert game.gap(0, 1, q).abs() < 1e-10

    @given(tabular_games(), st.data())
    def test_gap_is_the_mean_of_its_integrand(self, game, data):
        q = data.draw(conditional_tables(*game.joint(0, 1).shape))
        integrand = bound_gap(game.conditional(1, given=0).log(), q.log())
        expected = (game.joint(0, 1) * integrand).sum()
        torch.testing.assert_close(expected, game.gap(0, 1, q), **CLOSE)

    @given(games_with_predictors(num_predictors=2))
    def test_symmetric_form_is_a_bound_and_ignores_the_order_of_agents(self, drawn):
        game, q, q_rev = drawn
        terms = (game.entropy(0), game.entropy(1))
        scores = (game.expected_log_q(0, 1, q), game.expected_log_q(1, 0, q_rev))
        one = symmetric_bound(*terms, *scores)
        other = symmetric_bound(*terms[::-1], *scores[::-1])
        assert one.total <= game.mutual_information(0, 1) + 1e-10
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one.total, game.symmetric_bound(0, 1, q, q_rev), **CLOSE)
        torch.testing.assert_close(
            one.total, 0.5 * (game.bound(0, 1, q) + game.bound(1, 0, q_rev)), **CLOSE
        )

    @given(games_with_predictors(num_agents=3))
    def test_does_not_exceed_what_the_action_tells_of_the_latent(self, drawn):
        game, _ = drawn
        exact = game.mutual_information(0, 1)
        assert exact >= -1e-10
        assert exact <= min(game.latent_information(0), game.latent_information(1)) + 1e-10


class TestSurrogateOfTheConditionalEntropy:
    """With K = 0 the bonus is never positive: it must not be logged as mutual information."""

    @given(games_with_predictors())
    def test_is_never_positive_whatever_the_predictor(self, drawn):
        game, q = drawn
        best = game.surrogate(0, 1, game.conditional(1, given=0))
        assert game.surrogate(0, 1, q) <= best + 1e-10
        assert best <= 1e-10

    @given(tabular_games())
    def test_at_the_best_predictor_in_a_table(self, game):
        joint = torch.einsum("z,za,zb->zab", game.latent, *game.policies)
        both, alone = joint.sum(0), joint.sum((0, 2))
        with_latent = joint.sum(2, keepdim=True)
        information = (joint * (joint * alone.unsqueeze(-1) / (with_latent * both)).log()).sum()
        best = game.surrogate(0, 1, game.conditional(1, given=0))
        torch.testing.assert_close(best, -information, **CLOSE)

    @given(linear_gaussian_games())
    def test_at_the_best_predictor_of_a_gaussian(self, game):
        # I(a_1; z | a_0) from the joint covariance of (z, a_0, a_1).
        latent, size = game.latent.shape[0], game.offset.shape[-1]
        to_latent = [game.weights[k] @ game.latent for k in range(2)]
        joint = torch.cat(
            (
                torch.cat((game.latent, to_latent[0].mT, to_latent[1].mT), 1),
                torch.cat((to_latent[0], game.covariance(0, 0), game.covariance(0, 1)), 1),
                torch.cat((to_latent[1], game.covariance(1, 0), game.covariance(1, 1)), 1),
            )
        )
        own, pair = slice(latent, latent + size), slice(latent, None)
        known = slice(None, latent + size)
        logdets = [joint[part, part].logdet() for part in (known, pair, slice(None), own)]
        information = 0.5 * (logdets[0] + logdets[1] - logdets[2] - logdets[3])
        best = game.surrogate(0, 1, game.conditional(1, given=0))
        torch.testing.assert_close(best, -information, **CLOSE)


class TestEntropyFamily:
    @given(tabular_games())
    def test_climbs_from_the_conditional_to_the_marginal_entropy(self, game):
        lower = torch.stack([game.entropy_lower(0, k) for k in range(4)])
        torch.testing.assert_close(lower[0], game.conditional_entropy(0), **CLOSE)
        assert (lower.diff() >= -1e-10).all()
        assert (lower <= game.entropy(0) + 1e-10).all()

    @given(tabular_games())
    def test_upper_side_descends_to_the_marginal_entropy(self, game):
        upper = torch.stack([game.entropy_upper(0, k) for k in range(1, 4)])
        assert (upper.diff() <= 1e-10).all()
        assert (upper >= game.entropy(0) - 1e-10).all()

    @given(tabular_games(), st.integers(0, 3))
    def test_functions_are_the_integrands(self, game, num_latents):
        weight, own, extra = enumerate_heads(game.policies[0], game.latent, num_latents)
        mean = -(weight * mixture_log_prob(own, extra)).sum()
        torch.testing.assert_close(mean, game.entropy_lower(0, num_latents), **CLOSE)
        if num_latents > 0:
            mean = -(weight * leave_one_out_log_prob(extra)).sum()
            torch.testing.assert_close(mean, game.entropy_upper(0, num_latents), **CLOSE)

    @given(tensor_batches("*N", "*NK"))
    def test_per_draw_only_the_ceiling_holds(self, drawn):
        own, extra = drawn
        ceiling = math.log(extra.shape[-1] + 1)
        assert (-mixture_log_prob(own, extra) <= -own + ceiling + 1e-10).all()

    @given(tensor_batches("*N", "*NK"), st.floats(-50.0, 50.0))
    def test_shifts_with_its_arguments(self, drawn, shift):
        # Heads may be scored up to a common Jacobian.
        own, extra = drawn
        shifted = mixture_log_prob(own + shift, extra + shift)
        torch.testing.assert_close(shifted, mixture_log_prob(own, extra) + shift)

    def test_no_extra_latent_is_the_papers_form(self):
        own = torch.randn(3)
        assert mixture_log_prob(own, own.new_zeros(3, 0)) is own
        with pytest.raises(ValueError, match="at least one extra latent"):
            leave_one_out_log_prob(own.new_zeros(3, 0))


def routed_term(game, i, j):
    """E log q(sg a_j | a_i), term (b) of Eq. (50), at the best predictor, in closed form."""
    if isinstance(game, TabularGame):
        q = game.conditional(j, given=i).detach()
        policies = tuple(t if k == i else t.detach() for k, t in enumerate(game.policies))
        return TabularGame(game.latent, policies).expected_log_q(i, j, q)
    q = type(game.conditional(j, given=i))(*(p.detach() for p in game.conditional(j, given=i)))
    own = torch.arange(len(game.weights)).reshape(-1, 1, 1) == i
    weights = torch.where(own, game.weights, game.weights.detach())
    noise = torch.where(own, game.noise, game.noise.detach())
    return LinearGaussianGame(weights, game.offset, noise, game.latent).expected_log_q(i, j, q)


class TestRoutedGradient:
    """The routed term (b) moves agent i along the gradient of the exact mutual information."""

    @given(linear_gaussian_games(num_agents=3))
    def test_linear_gaussian(self, game):
        leaves = (game.weights.requires_grad_(), game.noise.requires_grad_())
        routed = torch.autograd.grad(routed_term(game, 0, 1), leaves)
        exact = torch.autograd.grad(game.mutual_information(0, 1), leaves)
        for one, other in zip(routed, exact, strict=True):
            torch.testing.assert_close(one[0], other[0], **CLOSE)
            assert one[1:].count_nonzero() == 0

    @given(tabular_games(num_agents=3))
    def test_tabular(self, game):
        logits = [table.log().requires_grad_() for table in game.policies]
        game = TabularGame(game.latent, tuple(leaf.softmax(-1) for leaf in logits))
        # The tables are shared by both graphs.
        routed = torch.autograd.grad(routed_term(game, 0, 1), logits[0], retain_graph=True)[0]
        exact = torch.autograd.grad(game.mutual_information(0, 1), logits[0])[0]
        torch.testing.assert_close(routed, exact, **CLOSE)

    def test_needs_the_detached_target(self):
        # Without it agent 1 is pushed by -grad H(a_1 | a_0), which is not grad I.
        weights = torch.tensor([[[1.0]], [[0.5]]], dtype=torch.float64, requires_grad=True)
        one = torch.ones(2, 1, 1, dtype=torch.float64)
        game = LinearGaussianGame(weights, one[..., 0], one, one[0])
        q = type(game.conditional(1, given=0))(*(p.detach() for p in game.conditional(1, given=0)))
        wrong = torch.autograd.grad(game.expected_log_q(0, 1, q), weights)[0]
        exact = torch.autograd.grad(game.mutual_information(0, 1), weights)[0]
        assert (wrong - exact)[1].abs() > 0.1


@given(linear_gaussian_games())
def test_independent_agents_share_nothing(game):
    game = LinearGaussianGame(0.0 * game.weights, game.offset, game.noise, game.latent)
    assert game.mutual_information(0, 1).abs() < 1e-12
    q = game.conditional(1, given=0)
    assert game.bound(0, 1, q).abs() < 1e-10
    assert game.surrogate(0, 1, q).abs() < 1e-10


@given(tensor_batches("*NA", "*NA", "*NA"))
def test_gaussian_log_density_is_torchs(drawn):
    x, loc, raw = drawn
    scale = raw.exp()
    expected = Independent(Normal(loc, scale), 1).log_prob(x)
    torch.testing.assert_close(gaussian_log_density(x, loc, scale), expected)
    bare = gaussian_log_density(x, loc, scale, normalized=False)
    constant = (scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(bare, expected + constant)


@given(tensor_batches("*NA", "*NA"), st.sampled_from([0.2, 1.0, 3.0]))
def test_gradient_of_a_constant_scale_is_that_of_the_squared_error(drawn, scale):
    x, loc = drawn
    loc.requires_grad_()
    grad = torch.autograd.grad(gaussian_log_density(x, loc, scale).sum(), loc)[0]
    torch.testing.assert_close(grad, (x - loc).detach() / scale**2)


def test_gaussian_log_density_refuses():
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        gaussian_log_density(x, x, 0.0)
    with pytest.raises(ValueError, match="normalized=False needs a constant scale"):
        gaussian_log_density(x, x, torch.ones(2, requires_grad=True), normalized=False)


@given(tensor_batches("*NA"), st.integers(0, 2**16))
def test_categorical_log_density_is_torchs(drawn, seed):
    (logits,) = drawn
    generator = torch.Generator().manual_seed(seed)
    action = torch.randint(logits.shape[-1], logits.shape[:-1], generator=generator)
    expected = Categorical(logits=logits).log_prob(action)
    torch.testing.assert_close(categorical_log_density(logits, action), expected)


@given(tensor_batches("*NA"), st.floats(0.0, 1.0))
def test_smoothing_keeps_a_probability_with_a_floor(drawn, smoothing):
    (logits,) = drawn
    count = logits.shape[-1]
    actions = torch.arange(count).expand(*logits.shape[:-1], count)
    wide = (100.0 * logits).unsqueeze(-2).expand(*logits.shape, count)
    log_prob = categorical_log_density(wide, actions, smoothing=smoothing)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones_like(logits[..., 0]))
    assert (log_prob.exp() >= smoothing / count - 1e-12).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_smoothing_outside_the_unit_interval_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\]"):
        categorical_log_density(torch.zeros(2), torch.tensor(0), smoothing=smoothing)


@given(tensor_batches("*NA"), st.integers(2, 5))
def test_the_smaller_of_two_bounds_is_never_below_the_smaller_mean(drawn, rows):
    (x,) = drawn
    noise = torch.randn(*x.shape[:-1], 2 * rows, generator=torch.Generator().manual_seed(rows))
    values = (x.mean(-1, keepdim=True) + noise.double()).mT
    found, means = smaller_of_pairs(values), values.mean(-2)
    both = means.unsqueeze(-1), means.unsqueeze(-2)
    assert (found >= torch.minimum(*both) - 1e-12).all()
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(found.diagonal(dim1=-2, dim2=-1), means)


def test_the_smaller_of_two_noisy_bounds_is_not_too_small():
    values = torch.randn(4000, 16, 2, dtype=torch.float64)
    found = smaller_of_pairs(values)[:, 0, 1]
    error = float(found.std()) / 4000**0.5
    assert abs(float(found.mean())) < 4 * error
    # The minimum of the means, which stood here before, is too small by 0.56 deviations.
    smallest = values.mean(-2).amin(-1)
    assert float(smallest.mean()) < -10 * error
    apart = smaller_of_pairs(values + torch.tensor([0.0, 5.0]))[:, 0, 1]
    assert abs(float(apart.mean())) < 4 * error
    one_row = smaller_of_pairs(torch.tensor([[1.0, 3.0]]))
    assert one_row.tolist() == [[1.0, 2.0], [2.0, 3.0]]


def test_latent_variance_share_of_a_linear_policy():
    # Latents of exact mean 0 and variance 1, so that the share is that of the linear game.
    z = torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(2, 1, 1)
    weights = torch.tensor([[2.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    share = latent_variance_share(z * weights, torch.full((2, 2, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(share, torch.tensor([5.0 / 5.5, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="at least two, got 1"):
        latent_variance_share(torch.zeros(1, 2, 1), torch.ones(1, 2, 1))
