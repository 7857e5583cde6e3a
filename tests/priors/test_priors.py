"""Priors: moments, supports, specs, and what they refuse."""

from __future__ import annotations

import json
import math

import pytest
import torch
from contracts.priors import prior_from, priors
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, UniformPrior


@pytest.mark.parametrize("prior", priors())
def test_draws_have_the_moments_of_the_prior(prior):
    torch.manual_seed(0)
    z = prior.sample((20_000,)).double()
    mean = prior.mean(force=True).double()
    variance = {
        GaussianPrior: torch.ones(prior.dim).double(),
        UniformPrior: torch.full((prior.dim,), 25 / 12).double(),
        CategoricalPrior: mean * (1 - mean),
    }[type(prior)]
    torch.testing.assert_close(z.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(z.var(0), variance, atol=0.0, rtol=0.06)


@pytest.mark.parametrize("prior", priors())
def test_uniforms_map_to_the_same_distribution(prior):
    u = torch.rand(20_000, prior.num_uniforms, dtype=torch.float64)
    z = prior.from_uniforms(u)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.mean(0), prior.mean(force=True), atol=0.06, rtol=0)
    assert bool(prior.log_prob(z).isfinite().all())


@pytest.mark.parametrize("prior", priors())
def test_draws_and_constant_lie_in_the_spec(prior):
    spec = prior.spec((4, 2))
    z = prior.sample((4, 2))
    assert spec.shape == z.shape == (4, 2, prior.dim)
    assert spec.dtype == z.dtype
    assert spec.is_in(z)
    assert prior.spec().is_in(prior.constant())
    assert prior.log_prob(z).shape == (4, 2)


def test_log_prob_is_the_log_density():
    z = torch.randn(5, 3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(GaussianPrior(3).log_prob(z), normal)
    uniform = UniformPrior(2, low=0.0, high=4.0)
    inside, outside = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])
    assert uniform.log_prob(inside).item() == pytest.approx(-2 * math.log(4))
    assert uniform.log_prob(outside).item() == -math.inf


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64, torch.bfloat16])
def test_log_prob_of_latents_of_any_type(dtype):
    prior = CategoricalPrior(3, probs=[0.2, 0.5, 0.3])
    z = torch.eye(3).to(dtype)
    found = prior.log_prob(z)
    assert found.is_floating_point()
    assert found.double().exp().tolist() == pytest.approx([0.2, 0.5, 0.3], rel=0.01)
    assert prior.log_prob(torch.ones(3).to(dtype)).item() == -math.inf
    for other in (GaussianPrior(2), UniformPrior(2, low=-2.0, high=3.0)):
        ones = torch.ones(2)
        expected = other.log_prob(ones).item()
        assert other.log_prob(ones.to(dtype)).item() == pytest.approx(expected, rel=0.01)
    assert UniformPrior(1, low=2.0, high=3.0).log_prob(ones[:1].to(dtype)).item() == -math.inf


def test_categorical_support_carries_all_probability():
    prior = CategoricalPrior(3, probs=[0.0, 0.75, 0.25])
    log_probs = prior.log_prob(prior.support())
    assert log_probs.exp().tolist() == pytest.approx([0.0, 0.75, 0.25])
    assert prior.log_prob(torch.full((3,), 1 / 3)).item() == -math.inf
    assert prior.log_prob(torch.tensor([1.0, 1.0, 0.0])).item() == -math.inf


@pytest.mark.parametrize("probs", [[0.0, 0.75, 0.25], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
def test_categorical_edges_never_select_an_impossible_outcome(probs):
    prior = CategoricalPrior(3, probs)
    ends = torch.tensor([[0.0], [2.0**-33], [1 - 2.0**-33]], dtype=torch.float64)
    assert bool(prior.log_prob(prior.from_uniforms(ends)).isfinite().all())


def test_constant_is_the_most_probable_outcome_of_lowest_index():
    assert CategoricalPrior(3).constant().tolist() == [1, 0, 0]
    assert CategoricalPrior(4, [0.1, 0.4, 0.1, 0.4]).constant().tolist() == [0, 1, 0, 0]
    assert UniformPrior(2, low=1.0, high=3.0).constant().tolist() == [2, 2]
    assert GaussianPrior(2).constant().tolist() == [0, 0]


def test_mean_of_the_categorical_needs_force():
    prior = CategoricalPrior(3)
    with pytest.raises(ValueError, match=r"\(0.333, 0.333, 0.333\) is outside the support"):
        prior.mean()
    torch.testing.assert_close(prior.mean(force=True), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("prior", [GaussianPrior(0), UniformPrior(0)])
def test_priors_of_dimension_zero(prior):
    assert prior.sample((4,)).shape == (4, 0)
    assert prior.spec((4,)).shape == (4, 0)
    assert prior.log_prob(torch.zeros(4, 0)).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianPrior(-1), "must be >= 0, got -1"),
        (lambda: UniformPrior(-2), "must be >= 0, got -2"),
        (lambda: UniformPrior(2, low=1.0, high=1.0), "finite low < high"),
        (lambda: UniformPrior(2, high=math.inf), "finite low < high"),
        (lambda: UniformPrior(2, low=-1e308, high=1e308), "finite low < high"),
        (lambda: CategoricalPrior(0), "num_outcomes must be >= 1, got 0"),
        (lambda: CategoricalPrior(2, [0.5, 0.2]), "sum to 1"),
        (lambda: CategoricalPrior(2, [1.0]), "must be 2 non-negative"),
        (lambda: CategoricalPrior(2, [1.5, -0.5]), "must be 2 non-negative"),
        (lambda: GaussianPrior(2).support(), "GaussianPrior is continuous"),
    ],
)
def test_bad_priors_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("prior", priors())
def test_priors_add_nothing_to_a_checkpoint_and_follow_dtype(prior):
    assert not prior.state_dict()
    assert not list(prior.parameters())
    assert prior.sample((2,), like=torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    double = type(prior)(prior.dim).to(torch.float64)
    assert double.sample((2,)).dtype == torch.float64
    assert double.spec().dtype == torch.float64


@pytest.mark.parametrize("prior", priors())
def test_draws_follow_the_default_generator(prior):
    torch.manual_seed(3)
    first = prior.sample((5,))
    torch.manual_seed(3)
    assert torch.equal(prior.sample((5,)), first)


@pytest.mark.parametrize("prior", priors())
def test_draws_compile_in_one_graph(prior):
    draw = torch.compile(lambda x: prior.sample((16,), like=x), fullgraph=True, backend="eager")
    z = draw(torch.zeros(1))
    assert prior.spec((16,)).is_in(z)


@pytest.mark.parametrize("prior", priors())
def test_draws_differ_under_vmap(prior):
    draw = torch.vmap(lambda x: prior.sample((50,)) + 0 * x, randomness="different")
    z = draw(torch.zeros(3))
    assert z.shape == (3, 50, prior.dim)
    assert not torch.equal(z[0], z[1])


class Doubled(GaussianPrior):
    """Draws otherwise than its base."""

    def _transform(self, u, numbers):
        return 2.0 * super()._transform(u, numbers)


class Named(Doubled):
    _LAW = "doubled"


@given(
    st.one_of(
        st.builds(GaussianPrior, st.integers(0, 6)),
        st.builds(UniformPrior, st.integers(0, 6), st.floats(-9, 0), st.floats(0.1, 1e6)),
        st.lists(st.floats(0, 1, width=16), min_size=1, max_size=9)
        .filter(lambda weights: sum(weights) > 0)
        .map(lambda weights: [w / sum(weights) for w in weights])
        .map(lambda probs: CategoricalPrior(len(probs), probs)),
    )
)
def test_a_description_survives_json_and_gives_the_same_draws(prior):
    again = prior_from(json.loads(json.dumps(prior.describe())))
    assert type(again) is type(prior)
    assert again.describe() == prior.describe()
    u = torch.rand(64, prior.num_uniforms, dtype=torch.float64)
    assert torch.equal(again.from_uniforms(u), prior.from_uniforms(u))
    assert torch.equal(again.mean(force=True), prior.mean(force=True))
    assert torch.equal(again.constant(), prior.constant())
    assert getattr(again, "edges", None) == getattr(prior, "edges", None)


def test_the_described_probabilities_are_those_that_were_given():
    # Divided by their sum once these move in the last bit, divided twice they move again.
    prior = CategoricalPrior(2, [0.57, 0.4300001])
    assert CategoricalPrior(2, prior.probs).probs != prior.probs
    assert prior_from(prior.describe()).probs == prior.probs


def test_descriptions_are_plain():
    assert GaussianPrior(8).describe() == {"law": "gaussian", "dim": 8}
    uniform = {"law": "uniform", "dim": 2, "low": 0.0, "high": 2.0}
    assert UniformPrior(2, low=0, high=2).describe() == uniform
    assert CategoricalPrior(2, (0.25, 0.75)).describe() == {
        "law": "categorical",
        "probs": [0.25, 0.75],
    }


def test_a_subclass_that_draws_otherwise_is_not_taken_for_its_base():
    prior = Doubled(2)
    assert prior.law is None
    with pytest.raises(ValueError, match="Doubled has no description"):
        prior.describe()
    with pytest.raises(ValueError, match="a Doubled cannot be computed inside a program"):
        prior.numbers()
    assert Named(2).describe() == {"law": "doubled", "dim": 2}


@pytest.mark.parametrize("prior", [*priors(), Named(2)])
def test_a_draw_from_tensors_of_the_numbers_has_the_same_bits(prior):
    numbers = prior.numbers()
    assert all(value.dtype == torch.float64 for value in numbers.values())
    word = torch.cat((torch.arange(4000), torch.randint(2**32, (40_000,))))
    u = ((word.double() + 0.5) * 2.0**-32).unsqueeze(-1).expand(-1, prior.num_uniforms)
    assert torch.equal(prior.from_uniforms(u, numbers), prior.from_uniforms(u))
