"""The variational predictor, against `torch.distributions.Normal` written out by hand."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from tensordict import TensorDict
from torch.distributions import Normal
from torchrl.data import Bounded, Categorical, Unbounded

from vm3ac_modules.functional import scatter_others
from vm3ac_modules.keys import Keys, MissingKeysError
from vm3ac_modules.modules.predictor import PairLogProb, VariationalPredictor

RANGE_LOW = torch.tensor([[-1.0, 0.0], [2.0, -3.0], [-0.1, -10.0]], dtype=torch.float64)
RANGE_HIGH = torch.tensor([[1.0, 0.5], [5.0, -2.0], [0.0, 30.0]], dtype=torch.float64)
CENTER, HALF_RANGE = (RANGE_HIGH + RANGE_LOW) / 2, (RANGE_HIGH - RANGE_LOW) / 2


def small_predictor(**options):
    spec = Bounded(RANGE_LOW, RANGE_HIGH, dtype=torch.float64)
    return VariationalPredictor(4, spec, **{"hidden": (8,), **options}).double()


def joint(*batch):
    unit = 2 * torch.rand(*batch, 3, 2, dtype=torch.float64) - 1
    return CENTER + HALF_RANGE * unit, torch.randn(*batch, 3, 4, dtype=torch.float64)


def distribution(predictor, action, observation, i, j, *, own):
    """What agent i's model says of j given i, or (own) of i given j."""
    partners = [k for k in range(3) if k != i]
    out = predictor.net(action, observation)[..., i, partners.index(j) + (2 if own else 0), :]
    target = i if own else j
    loc = CENTER[target] + HALF_RANGE[target] * out[..., :2].tanh()
    if not predictor.learns_scale:
        return Normal(loc, predictor.constant_scale * HALF_RANGE[target])
    low, high = predictor.log_scale_range
    share = torch.exp(low + (high - low) * out[..., 2:].sigmoid())
    return Normal(loc, share * HALF_RANGE[target])


def partner_matrix(predictor, *inputs):
    """Predictions of the partners as a matrix ``[*B, N, N]`` with a zero diagonal."""
    return scatter_others(predictor.partner_log_prob(*inputs))


def pair_matrices(predictor, *inputs, **options):
    """Predictions in both directions as matrices, so that a test can name who predicts whom."""
    return PairLogProb(*map(scatter_others, predictor.pair_log_prob(*inputs, **options)))


@pytest.mark.parametrize("scale", [0.2, 1.0, "learned"])
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_pair_log_prob_equals_normals_by_hand(scale, batch):
    predictor = small_predictor(scale=scale)
    condition, observation = joint(*batch)
    target, _ = joint(*batch)
    pairs = pair_matrices(predictor, condition, target, observation)
    for i in range(3):
        for j in range(3):
            if i == j:
                assert (pairs.partner[..., i, i] == 0).all()
                assert (pairs.own[..., i, i] == 0).all()
                continue
            partner = distribution(predictor, condition, observation, i, j, own=False)
            own = distribution(predictor, condition, observation, i, j, own=True)
            torch.testing.assert_close(
                pairs.partner[..., i, j], partner.log_prob(target[..., j, :]).sum(-1)
            )
            torch.testing.assert_close(
                pairs.own[..., i, j], own.log_prob(target[..., i, :]).sum(-1)
            )


def test_one_direction_equals_that_of_both():
    predictor = small_predictor()
    action, observation = joint(5)
    both = pair_matrices(predictor, action, action, observation)
    one = partner_matrix(predictor, action, action, observation)
    torch.testing.assert_close(one, both.partner)


def test_forward_writes_the_pair_matrix():
    keys = Keys("walkers")
    predictor = small_predictor(keys=keys)
    action, observation = joint(5)
    td = TensorDict({"walkers": {"action": action, "observation": observation}}, [5])
    pairs = predictor(td)["walkers", "pair_log_prob"]
    torch.testing.assert_close(pairs, partner_matrix(predictor, action, action, observation))


def test_learned_scale_stays_between_floor_and_ceiling():
    predictor = small_predictor(scale="learned", scale_range=(0.1, 0.7))
    with torch.no_grad():
        predictor.net.net.layers[-1].weight.mul_(1e3)
    action, observation = joint(200)
    shares = torch.cat(
        [
            distribution(predictor, action, observation, i, j, own=own).scale
            / HALF_RANGE[i if own else j]
            for i in range(3)
            for j in range(3)
            for own in (False, True)
            if i != j
        ]
    )
    assert shares.min().item() == pytest.approx(0.1, rel=1e-3)
    assert shares.max().item() == pytest.approx(0.7, rel=1e-3)
    # The density has its best value where the prediction is exact and the scale at the floor.
    best = -(0.1 * HALF_RANGE).log().sum(-1) - math.log(2 * math.pi)
    assert (partner_matrix(predictor, action, action, observation) <= best.max()).all()


def test_scale_of_an_unbounded_output_is_not_clamped_away():
    # A smooth map: the gradient of the scale never vanishes at moderate outputs.
    predictor = small_predictor(scale="learned")
    action, observation = joint(20)
    loss = partner_matrix(predictor, action, action, observation).sum()
    (grad,) = torch.autograd.grad(loss, predictor.net.net.layers[-1].bias)
    assert (grad[:, 2:] != 0).all()


def test_without_normalizer_the_difference_is_its_constant():
    predictor = small_predictor(scale=0.3, normalized=False)
    action, observation = joint(5)
    raw = pair_matrices(predictor, action, action, observation)
    normalized = pair_matrices(predictor, action, action, observation, normalized=True)
    constant = (0.3 * HALF_RANGE).log().sum(-1) + math.log(2 * math.pi)
    off_diagonal = ~torch.eye(3, dtype=torch.bool)
    of_partner = (constant * off_diagonal).expand(5, 3, 3)
    of_itself = (constant.unsqueeze(-1) * off_diagonal).expand(5, 3, 3)
    torch.testing.assert_close(raw.partner - normalized.partner, of_partner)
    torch.testing.assert_close(raw.own - normalized.own, of_itself)


@pytest.mark.parametrize(
    "options", [{"scale": 0.2}, {"scale": "learned"}, {"scale": "learned", "num_components": 3}]
)
def test_no_action_is_likelier_than_the_peak(options):
    predictor = small_predictor(**options)
    action, observation = joint(5)
    peaks = predictor.pair_log_prob(action, None, observation)
    assert torch.equal(peaks.partner, predictor.partner_log_prob(action, None, observation))
    others = action + torch.randn(500, *action.shape, dtype=torch.float64)
    observations = observation.expand(500, *observation.shape)
    found = predictor.pair_log_prob(action.expand_as(others), others, observations)
    assert all((side <= peak + 1e-9).all() for side, peak in zip(found, peaks, strict=True))
    if "num_components" not in options:
        for own, side in ((False, peaks.partner), (True, peaks.own)):
            normal = distribution(predictor, action, observation, 0, 1, own=own)
            expected = normal.log_prob(normal.loc).sum(-1)
            torch.testing.assert_close(scatter_others(side)[:, 0, 1], expected)


def test_permuting_batch_rows_permutes_results():
    predictor = small_predictor()
    action, observation = joint(6)
    order = torch.randperm(6)
    pairs = partner_matrix(predictor, action, action, observation)
    torch.testing.assert_close(
        partner_matrix(predictor, action[order], action[order], observation[order]), pairs[order]
    )


def test_stacked_owners_equal_separate_predictors():
    stacked, single = (
        small_predictor(stack_shape=(2,), scale="learned"),
        small_predictor(scale="learned"),
    )
    action, observation = joint(2, 5)
    pairs = pair_matrices(stacked, action, action, observation)
    for seed in range(2):
        single.load_state_dict({name: p[seed] for name, p in stacked.state_dict().items()})
        expected = pair_matrices(single, action[seed], action[seed], observation[seed])
        torch.testing.assert_close(pairs.partner[seed], expected.partner)
        torch.testing.assert_close(pairs.own[seed], expected.own)


def test_one_agent_has_an_empty_sum():
    predictor = VariationalPredictor(4, Bounded(-1.0, 1.0, (1, 2)), hidden=(8,))
    pairs = pair_matrices(
        predictor, torch.zeros(5, 1, 2), torch.zeros(5, 1, 2), torch.zeros(5, 1, 4)
    )
    assert torch.equal(pairs.partner, torch.zeros(5, 1, 1))
    assert torch.equal(pairs.own, torch.zeros(5, 1, 1))


@pytest.mark.parametrize("copier", ["state_dict", "deepcopy", "pickle"])
@pytest.mark.parametrize("scale", [0.3, "learned"])
def test_predictor_round_trips(copier, scale):
    predictor = small_predictor(scale=scale)
    if copier == "state_dict":
        other = small_predictor(scale=scale)
        other.load_state_dict(predictor.state_dict())
    else:
        other = (
            copy.deepcopy(predictor)
            if copier == "deepcopy"
            else pickle.loads(pickle.dumps(predictor))
        )
    action, observation = joint(5)
    for left, right in zip(
        pair_matrices(other, action, action, observation),
        pair_matrices(predictor, action, action, observation),
        strict=True,
    ):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be positive and finite, got 0.0"),
        ({"scale": -0.2}, "scale must be positive and finite, got -0.2"),
        ({"scale": math.inf}, "scale must be positive and finite, got inf"),
        ({"scale": math.nan}, "scale must be positive and finite, got nan"),
        ({"scale": "fixed"}, "positive number or 'learned', got 'fixed'"),
        ({"scale": "learned", "scale_range": (0.0, 1.0)}, r"ceiling < inf, got \(0.0, 1.0\)"),
        ({"scale": "learned", "scale_range": (0.5, 0.5)}, "0 < floor < ceiling"),
        ({"scale": "learned", "scale_range": (0.05, math.inf)}, r"got \(0.05, inf\)"),
        ({"scale": "learned", "scale_range": (math.nan, 1.0)}, "0 < floor < ceiling"),
        ({"scale": "learned", "normalized": False}, "normalized=False needs a constant scale"),
        ({"hidden": ()}, "at least one hidden layer"),
    ],
)
def test_unusable_predictor_options(options, message):
    with pytest.raises(ValueError, match=message):
        small_predictor(**options)


@pytest.mark.parametrize("spec", [Unbounded((3, 2)), Categorical(5, (3,))])
def test_predictor_of_an_unbounded_or_discrete_action(spec):
    with pytest.raises(ValueError, match="needs a bounded continuous action spec"):
        VariationalPredictor(4, spec)


def test_call_with_another_number_of_agents():
    predictor = small_predictor()
    td = TensorDict(
        {
            ("agents", "action"): torch.zeros(5, 2, 2),
            ("agents", "observation"): torch.zeros(5, 2, 4),
        },
        [5],
    ).double()
    with pytest.raises(ValueError, match="built for 3 agents, got actions of 2 agents"):
        predictor(td)


def test_predictor_names_what_is_missing():
    td = TensorDict({("agents", "observation"): torch.zeros(5, 3, 4)}, [5])
    with pytest.raises(
        MissingKeysError, match=r"VariationalPredictor.*\('agents', 'action'\).*present"
    ):
        small_predictor()(td)


def test_a_mixture_is_the_logsumexp_of_its_components():
    torch.manual_seed(0)
    spec = Bounded(-torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [3.0]]))
    predictor = VariationalPredictor(2, spec, scale="learned", num_components=3, hidden=(8,))
    action, observation = torch.rand(5, 2, 1), torch.randn(5, 2, 2)
    out = predictor.net(action, observation, both=False).unflatten(-1, (3, 3))
    loc, raw, logits = out.unbind(-1)
    half_range = torch.tensor([3.0, 1.0]).reshape(2, 1, 1)  # of the predicted partner
    scale = half_range * torch.exp(
        math.log(0.05) + (math.log(1.0) - math.log(0.05)) * raw.sigmoid()
    )
    target = action.flip(1).unsqueeze(-1)
    normal = torch.distributions.Normal(half_range * loc.tanh(), scale)
    mixture = torch.logsumexp(normal.log_prob(target) + logits.log_softmax(-1), -1).squeeze(-1)
    pairs = partner_matrix(predictor, action, action, observation)
    torch.testing.assert_close(pairs[:, [0, 1], [1, 0]], mixture)
    both = pair_matrices(predictor, action, action, observation)
    torch.testing.assert_close(both.partner, pairs)


def test_a_mixture_needs_a_component():
    with pytest.raises(ValueError, match="num_components must be at least 1, got 0"):
        VariationalPredictor(2, Bounded(-1.0, 1.0, (2, 1)), num_components=0)
