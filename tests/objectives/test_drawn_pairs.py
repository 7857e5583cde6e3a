"""k partners of every agent instead of all: the expectation stays, the cost falls."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from contracts.categorical import make_policy, make_predictor
from contracts.loss_contract import make_batch, make_parts, to_double, with_updater
from contracts.reference import assert_equal_grads, grads
from hypothesis import given, settings
from hypothesis import strategies as st

from vm3ac_modules.algorithms import build as build_agent
from vm3ac_modules.envs.guard import GuardEnv
from vm3ac_modules.functional.pairwise import gather_others, gather_partners, partners_at
from vm3ac_modules.nn.blocks import AgentLinear
from vm3ac_modules.objectives import MutualInformationLoss, MutualInformationTerm, VM3ACLoss

ESTIMATORS = {"barber_agakov": 0, "infonce": 2, "nwj": 2, "donsker_varadhan": 2}


def build(kind=VM3ACLoss, num_agents=4, *, predictor=(), seeds=(), batch=(3,), **options):
    """A loss in float64 and a batch with a masked transition."""
    torch.manual_seed(num_agents)
    parts = make_parts(num_agents, stack_shape=seeds, **dict(predictor))
    networks = parts if kind is VM3ACLoss else (parts.policy, parts.predictor)
    own = {"beta": 0.3} if kind is VM3ACLoss else {"entropy_weight": 0.5}
    loss = kind(*networks, **own, seed_dims=len(seeds), **options)
    loss = (with_updater(loss) if kind is VM3ACLoss else loss).double()
    td = to_double(make_batch(*seeds, *batch, num_agents=num_agents))
    td["collector", "mask"] = torch.ones(td.batch_size, dtype=torch.bool)
    td["collector", "mask"][..., -1] = False
    return loss, td


def with_offsets(noise, offsets):
    """The same noise with these partners in every transition."""
    noise = noise.clone()
    noise["partner_offset"] = torch.tensor(offsets).expand(*noise.batch_size, len(offsets))
    return noise


def parts_of(out, loss):
    """Losses whose value is linear in the bonus, and the gradients of all."""
    groups = loss.parameter_groups()
    values = [out[name] for name in groups if name != "loss_value"]
    return values, [g for name in groups for g in grads(out[name].sum(), groups[name])]


def means(columns):
    return [torch.stack(each).mean(0) for each in zip(*columns, strict=True)]


# --- the expectation --------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([VM3ACLoss, MutualInformationLoss]),
    num_agents=st.integers(2, 5),
    fewer=st.integers(0, 3),
    reverse_model=st.sampled_from(["own", "partner"]),
    estimator=st.sampled_from(sorted(ESTIMATORS)),
    pair_weight=st.sampled_from(["paper", "mean"]),
    share_params=st.booleans(),
    seeds=st.sampled_from([(), (2,)]),
)
def test_the_mean_over_all_draws_is_that_of_all_pairs(
    kind, num_agents, fewer, reverse_model, estimator, pair_weight, share_params, seeds
):
    k = max(num_agents - 1 - fewer, 1)
    options = {
        "reverse_model": reverse_model,
        "estimator": estimator,
        "num_latents": ESTIMATORS[estimator],
        "pair_weight": pair_weight,
        "predictor": {"share_params": share_params, "scale": "learned"},
        "seeds": seeds,
    }
    full, td = build(kind, num_agents, **options)
    drawn, _ = build(kind, num_agents, pairs=k, **options)
    drawn.load_state_dict(full.state_dict())
    noise = full.draw_noise(td)
    expected = full(td, noise)
    found = []
    logged = torch.zeros_like(expected["pair_log_prob_matrix"])
    for offsets in combinations(range(1, num_agents), k):
        out = drawn(td, with_offsets(noise, offsets))
        found.append(parts_of(out, drawn))
        logged = torch.maximum(logged, out["pair_log_prob_matrix"].abs())
    values, gradients = parts_of(expected, full)
    for left, right in (
        (means([value for value, _ in found]), values),
        (means([gradient for _, gradient in found]), gradients),
    ):
        assert_equal_grads(left, right, tolerance=1e-10)
    torch.testing.assert_close(logged, expected["pair_log_prob_matrix"].abs())


@given(num_agents=st.integers(2, 6), k=st.integers(1, 5), seed=st.integers(0, 99))
def test_no_partner_is_drawn_twice_and_everybody_is_somebodys(num_agents, k, seed):
    k = min(k, num_agents - 1)
    torch.manual_seed(seed)
    loss, td = build(num_agents=max(num_agents, k + 2), pairs=k)
    partners = partners_at(loss.draw_noise(td)["partner_offset"], max(num_agents, k + 2))
    for rows in partners:
        for agent, row in enumerate(rows.tolist()):
            assert agent not in row
            assert len(set(row)) == k
        assert (rows.flatten().bincount() == k).all()


def test_every_partner_is_drawn_equally_often():
    loss, td = build(num_agents=5, pairs=2, batch=(20_000,))
    counts = loss.draw_noise(td)["partner_offset"].flatten().bincount()[1:]
    # Of 20,000 draws each partner is in half; the standard deviation is 71.
    assert ((counts - 10_000).abs() < 5 * 71).all()


# --- all pairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VM3ACLoss, MutualInformationLoss])
def test_all_partners_are_not_drawn(kind):
    full, td = build(kind)
    every, _ = build(kind, pairs=3)
    every.load_state_dict(full.state_dict())
    noise = full.draw_noise(td)
    assert every.draw_noise(td).keys() == noise.keys()
    for name, value in full(td, noise).items():
        assert torch.equal(value, every(td, noise)[name])


@pytest.mark.parametrize("reverse_model", ["own", "partner"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_all_partners_in_another_order_give_the_same(reverse_model, estimator):
    options = {"estimator": estimator, "num_latents": ESTIMATORS[estimator]}
    loss, td = build(reverse_model=reverse_model, **options)
    noise = loss.draw_noise(td)
    expected = loss(td, noise)
    for name, value in loss(td, with_offsets(noise, (2, 3, 1))).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10)


def test_one_agent_has_no_partner_to_draw():
    loss, td = build(num_agents=1, pairs=3)
    assert "partner_offset" not in loss.draw_noise(td).keys()  # noqa: SIM118 - nested keys
    assert loss(td)["pair_log_prob"] == 0


# --- what is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reverse_model", "pairs", "rows"),
    # The policies' side, then the predictor's.
    [("own", 1, [1, 2]), ("own", 2, [2, 4]), ("own", None, [5, 10]), ("partner", 1, [1, 2])],
)
def test_rows_that_the_predictor_is_run_on(monkeypatch, reverse_model, pairs, rows):
    loss, td = build(num_agents=6, pairs=pairs, reverse_model=reverse_model, batch=(7,))
    noise, seen = loss.draw_noise(td), []
    hidden = loss.predictor_network.net.net.layers[1]
    plain = AgentLinear.grouped

    def counted(layer, groups):
        if layer is hidden:
            seen.append(groups.shape[-2] / 7)
        return plain(layer, groups)

    monkeypatch.setattr(AgentLinear, "grouped", counted)
    loss(td, noise)
    assert seen == rows


@pytest.mark.parametrize("pairs", [1, 2])
def test_no_other_agents_policy_is_reached(pairs):
    # The critics' part is the same for both temperatures, so the difference is the bonus.
    loss, td = build(pairs=pairs)
    noise = loss.draw_noise(td)
    phi = loss.parameter_groups()["loss_actor"]
    before = grads(loss(td, noise)["loss_actor"], phi)
    with torch.no_grad():
        for xi in loss.predictor_network_params.parameters():
            xi[1:].add_(torch.randn_like(xi[1:]))
    after = grads(loss(td, noise)["loss_actor"], phi)
    assert all(torch.equal(x[0], y[0]) for x, y in zip(before, after, strict=True))
    assert any((x[1:] != y[1:]).any() for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("reverse_model", ["own", "partner"])
def test_a_loss_of_drawn_pairs_compiles_into_one_graph(reverse_model):
    loss, td = build(pairs=1, reverse_model=reverse_model)
    noise = loss.draw_noise(td)
    torch.compiler.reset()
    compiled = torch.compile(lambda t, n: loss(t, n), backend="eager", fullgraph=True)
    for name, value in compiled(td, noise).items():
        torch.testing.assert_close(value, loss(td, noise)[name])
    torch.compiler.reset()


def test_the_matrix_is_the_mean_over_the_transitions_that_drew_the_pair():
    loss, td = build(pairs=1, batch=(3,), reduction="none")
    noise = loss.draw_noise(td)
    noise["partner_offset"] = torch.tensor([[1], [1], [2]])  # the third one is masked
    out = loss(td, noise)["pair_log_prob_matrix"]
    for i in range(4):
        for j in range(4):
            assert (out[i, j] != 0) == ((j - i) % 4 == 1)
    alone = [loss(td[row : row + 1], noise[row : row + 1]) for row in (0, 1)]
    pairs = [each["pair_log_prob_matrix"] for each in alone]
    torch.testing.assert_close(out, (pairs[0] + pairs[1]) / 2)
    mean = loss(td, noise)["pair_log_prob"]
    torch.testing.assert_close(mean, (alone[0]["pair_log_prob"] + alone[1]["pair_log_prob"]) / 2)


@given(num_agents=st.integers(2, 5), data=st.data())
def test_partners_gathered_in_ascending_order_are_the_others(num_agents, data):
    x = torch.randn(3, num_agents, 2)
    others = [[j for j in range(num_agents) if j != i] for i in range(num_agents)]
    found = gather_partners(x, torch.tensor(others).expand(3, -1, -1))
    assert torch.equal(found, gather_others(x))


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VM3ACLoss, MutualInformationLoss])
@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (0, r"pairs must be at least 1, or None for all partners, got 0"),
        (-1, r"pairs must not be negative, got -1"),
        (1.5, r"pairs must be a whole number, got 1.5"),
        (True, r"pairs must be a number, got True"),
        (4, r"pairs must be at most N - 1 = 3, the partners of each of 4 agents, got 4"),
    ],
)
def test_numbers_of_partners_that_there_are_not(kind, pairs, message):
    with pytest.raises(ValueError, match=message):
        build(kind, pairs=pairs)


@pytest.mark.parametrize("kind", [VM3ACLoss, MutualInformationLoss])
def test_noise_without_partners_is_refused(kind):
    loss, td = build(kind, pairs=1)
    with pytest.raises(ValueError, match=r"pairs=1, but the noise lacks 'partner_offset'"):
        loss(td, loss.draw_noise(td).exclude("partner_offset"))


def test_categorical_policies_take_all_pairs():
    policy, predictor = make_policy(3), make_predictor(3)
    MutualInformationLoss(policy, predictor)
    with pytest.raises(ValueError, match="pairs must be None with a categorical policy, got 1"):
        MutualInformationLoss(policy, predictor, pairs=1)


@pytest.mark.parametrize(("pairs", "drawn"), [(None, None), (1, 1), (2, None)])
def test_the_algorithm_passes_the_option_on(pairs, drawn):
    agent = build_agent("vm3ac", GuardEnv(num_envs=2, num_agents=3), pairs=pairs)
    assert agent.loss.term(MutualInformationTerm).pairs == drawn
