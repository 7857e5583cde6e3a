"""What the losses inherit: options that are refused, networks, phases, masks, reward scale."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from contracts.base_contract import assert_same
from contracts.episode_contract import make_episodes, with_targets_moved
from contracts.loss_contract import make_batch, make_parts, with_updater
from tensordict import TensorDict
from torch import nn
from torchrl.objectives import ValueEstimators

from vm3ac_modules.objectives import (
    BOUNDS,
    CentralizedActorCriticLoss,
    EntropyTerm,
    MAACLoss,
    MASACLoss,
    MultiAgentLoss,
    MutualInformationLoss,
    MutualInformationTerm,
    VM3ACLoss,
)
from vm3ac_modules.objectives.options import (
    check_choice,
    check_not_negative,
    check_positive,
    check_shares,
)
from vm3ac_modules.objectives.terms import Term, TermInputs, TermValues

NAN, INF = float("nan"), float("inf")


class Decay(MultiAgentLoss):
    """Two networks, of which one loss trains both and nothing the third."""

    in_keys = ("x",)
    diagnostics = ("size",)

    def __init__(self, **options):
        super().__init__(**options)
        self.add_network("first", nn.Linear(3, 1), loss="loss_both")
        self.add_network("second", nn.Linear(3, 1), loss="loss_both", target=True)
        self.add_network("third", nn.Linear(3, 1), loss=None)

    def compute(self, batch, noise, wanted):
        x, total = batch.tensordict["x"], 0.0
        for name in ("first", "second"):
            network = self.network(name)
            with network.filled():
                total = total + network.module(x).square().squeeze(-1)
        size = total.detach().mean()
        return {**self.reduce({"loss_both": total}, batch.mask), "size": size}


def options_of(check, value):
    with pytest.raises(ValueError, match="this") as caught:
        check(fine=0.5, this=value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (check_shares, 1.5, "this must be in [0, 1], got 1.5."),
        (check_shares, -0.1, "this must be in [0, 1], got -0.1."),
        (check_shares, NAN, "this must be in [0, 1], got nan."),
        (check_shares, INF, "this must be in [0, 1], got inf."),
        (check_shares, True, "this must be a number, got True."),
        (check_shares, "0.9", "this must be a number, got '0.9'."),
        (check_shares, None, "this must be a number, got None."),
        (check_positive, 0, "this must be positive, got 0."),
        (check_positive, 0.0, "this must be positive, got 0.0."),
        (check_positive, NAN, "this must be positive, got nan."),
        (check_positive, INF, "this must be finite, got inf."),
        (check_positive, False, "this must be a number, got False."),
        (check_not_negative, -1, "this must not be negative, got -1."),
        (check_not_negative, NAN, "this must not be negative, got nan."),
        (check_not_negative, INF, "this must be finite, got inf."),
        (check_not_negative, [0.1, 0.2], "this must be a number, got [0.1, 0.2]."),
    ],
)
def test_numbers_that_are_refused(check, value, message):
    assert options_of(check, value) == message


def test_numbers_that_are_accepted():
    check_shares(zero=0, one=1.0, tensor=torch.tensor(0.5))
    check_positive(small=1e-12, whole=3)
    check_not_negative(zero=0, large=1e9)
    check_choice("reduction", "mean", ("mean", "sum"))
    with pytest.raises(ValueError, match=r"kind must be one of \('a', 'b'\), got 'c'"):
        check_choice("kind", "c", ("a", "b"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": True}, "gamma must be a number, got True"),
        ({"gamma": NAN}, r"gamma must be in \[0, 1\]"),
        ({"reward_scale": 0}, "reward_scale must be positive, got 0"),
        ({"reward_scale": NAN}, "reward_scale must be positive, got nan"),
        ({"reward_scale": True}, "reward_scale must be a number, got True"),
        ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
    ],
)
def test_options_of_every_loss(options, message):
    with pytest.raises(ValueError, match=message):
        Decay(**options)
    with pytest.raises(ValueError, match=message):
        MAACLoss(*make_parts(latent_dim=0)[:3], **options)


def test_an_option_that_no_loss_has():
    with pytest.raises(TypeError, match="discount"):
        MAACLoss(*make_parts(latent_dim=0)[:3], discount=0.9)


def test_networks_say_what_trains_them():
    loss = with_updater(Decay(gamma=0.9))
    assert loss.networks() == {"loss_both": ("first_network", "second_network")}
    assert loss.phases == (("loss_both",),)
    assert loss.out_keys == ["loss_both", "size"]
    [group] = loss.parameter_groups().values()
    expected = [*loss.first_network.parameters(), *loss.second_network.parameters()]
    assert [id(p) for p in group] == [id(p) for p in expected]
    loss.networks()["loss_other"] = ()
    assert list(loss.networks()) == ["loss_both"]


def test_a_network_runs_on_the_parameters_that_it_is_given():
    loss, x = with_updater(Decay()), torch.ones(1, 3)
    with torch.no_grad():
        for parameter in loss.second_network.parameters():
            parameter.add_(1.0)
    for target in (False, True):
        network = loss.network("second", target=target)
        with network.filled():
            found = network.module(x)
        torch.testing.assert_close(found, loss.second_network(x) - 4.0 * target)
    network = loss.network("first")
    with network.filled(detach=True):
        assert not network.module(x).requires_grad
    with network.filled():
        assert network.module(x).requires_grad


def test_discount_of_a_loss_without_one():
    with pytest.raises(ValueError, match="Decay estimates no values"):
        Decay().make_value_estimator(gamma=0.9)
    parts = make_parts()
    with pytest.raises(ValueError, match="MutualInformationLoss estimates no values"):
        MutualInformationLoss(parts.policy, parts.predictor).make_value_estimator(gamma=0.9)


def test_discount_of_one_step_and_of_episodes():
    one_step, episodes = Decay(gamma=0.5), fop()
    for loss in (one_step, episodes):
        loss.make_value_estimator(gamma=0.25)
        assert float(loss.gamma) == 0.25
        known = loss.default_value_estimator
        loss.make_value_estimator(known)
        assert float(loss.gamma) == 0.25
        with pytest.raises(ValueError, match=f"only {known.name} is known"):
            loss.make_value_estimator(ValueEstimators.GAE)
        for wrong in (1.5, NAN):
            with pytest.raises(ValueError, match="gamma in"):
                loss.make_value_estimator(gamma=wrong)


@pytest.mark.parametrize("key", [None, "shifted_valid", ("my", "mask")])
def test_masks_are_found_by_their_public_names(key):
    loss, valid = with_updater(Decay(reduction="none")), torch.tensor([True, False, True])
    td = TensorDict({"x": torch.randn(3, 3), "shifted_valid": valid.unsqueeze(-1)}, [3])
    td["my", "mask"] = ~valid
    whole = Decay.__call__(loss, td.select("x"))["loss_both"]
    loss.loss_mask_key = key
    counts = {None: torch.ones(3, dtype=torch.bool), "shifted_valid": valid}.get(key, ~valid)
    assert torch.equal(loss(td)["loss_both"], torch.where(counts, whole, 0.0))


def test_masks_that_torchrl_writes_are_combined():
    loss = with_updater(Decay(reduction="none"))
    td = TensorDict({"x": torch.randn(2, 2, 3)}, [2, 2])
    td["collector", "mask"] = torch.tensor([[True, False], [True, True]]).unsqueeze(-1)
    td["shifted_valid"] = torch.tensor([[True, True], [False, False]])
    out = loss(td)["loss_both"]
    assert ((out != 0) == torch.tensor([[True, False], [False, False]])).all()
    td["shifted_valid"] = torch.ones(2, 2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 2, 3\) does not fit"):
        loss(td)


# --- terms ----------------------------------------------------------------------------------


class Curiosity(Term):
    """Whatever a user adds: here a bonus per agent in each of the places."""

    name = "model"
    kind = "a Linear"
    logged = ("bonus",)

    def evaluate(self, inputs: TermInputs, network) -> TermValues:
        with network.filled():
            error = network.module(inputs.tensordict["agents", "observation"])[..., 0].square()
        bonus = inputs.scale * error.detach()
        return TermValues(
            policy=(inputs.sample.action.sum(-1),),
            value=(bonus,),
            reward=bonus,
            losses={"loss_model": error.sum(-1), "loss_actor": bonus.sum(-1)},
            scalars={"bonus": bonus},
        )


def test_a_term_of_ones_own():
    parts, td = make_parts(latent_dim=0), make_batch(6)
    plain = with_updater(MAACLoss(*parts[:3]))
    loss = with_updater(CentralizedActorCriticLoss(*parts[:3], terms=[Curiosity(nn.Linear(4, 1))]))
    assert list(loss.parameter_groups())[-1] == "loss_model"
    assert loss.out_keys[-1] == "bonus"
    noise = plain.draw_noise(td)
    ours, theirs = loss(td, noise), plain(td, noise)
    assert set(loss.out_keys) == set(ours.keys())
    assert torch.allclose(ours["bonus"], ours["loss_model"] / 2)
    expected = theirs["state_value_target"] + ours["bonus"]
    torch.testing.assert_close(ours["state_value_target"], expected)
    assert ours["loss_qvalue"] != theirs["loss_qvalue"]
    assert ours["loss_actor"] != theirs["loss_actor"]


def test_a_term_without_its_network():
    with pytest.raises(ValueError, match="Loss needs a model_network: build a Linear"):
        CentralizedActorCriticLoss(*make_parts(latent_dim=0)[:3], terms=[Curiosity()])


def test_terms_are_found_by_their_class():
    loss = VM3ACLoss(*make_parts(), beta=0.2)
    assert loss.term(MutualInformationTerm) is loss.term(EntropyTerm) is loss.terms[0]
    assert float(loss.term(EntropyTerm).beta) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="MAACLoss has no EntropyTerm"):
        MAACLoss(*make_parts(latent_dim=0)[:3]).term(EntropyTerm)


def test_terms_agree_about_latents():
    terms = [EntropyTerm(0.1, 2), EntropyTerm(0.1, 3)]
    with pytest.raises(ValueError, match="terms disagree about num_latents"):
        MAACLoss(*make_parts()[:3], terms=terms)


def test_two_terms_add_up():
    parts, td = make_parts(latent_dim=0), make_batch(6)
    terms = [EntropyTerm(0.1), EntropyTerm(0.2)]
    two = with_updater(MAACLoss(*parts[:3], terms=terms))
    one = with_updater(MASACLoss(*parts[:3], beta=0.3))
    noise = one.draw_noise(td)
    for name, value in one(td, noise).items():
        torch.testing.assert_close(two(td, noise)[name], value)


# --- episodes -------------------------------------------------------------------------------


def fop(**options):
    from objectives.test_fop import TestFOPContract

    return TestFOPContract().build(**options)


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_reward_scale_multiplies_the_rewards_of_episodes(scale):
    td = make_episodes()
    scaled = with_targets_moved(fop(reward_scale=scale).double())
    plain = with_targets_moved(fop().double())
    plain.load_state_dict(scaled.state_dict())
    noise = scaled.draw_noise(td)
    by_hand = td.clone()
    by_hand["agents", "reward"] = td["agents", "reward"] * scale
    assert_same(scaled(td, noise), plain(by_hand, noise))
    assert scaled(td, noise)["loss_qvalue"] != plain(td, noise)["loss_qvalue"]


@pytest.mark.parametrize("name", ["gamma", "lam", "reward_scale", "temperature"])
@pytest.mark.parametrize("value", [NAN, True, -1.0])
def test_options_of_a_loss_over_episodes(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        fop(**{name: value})


# --- bounds ---------------------------------------------------------------------------------


def test_bounds_are_what_is_logged_in_this_order():
    names = [bound.name for bound in BOUNDS]
    assert names == [
        *("mi_lower_bound", "mi_upper_bound", "mi_surrogate", "mi_lower_bound_ceiling"),
        "latent_share",
    ]
    assert all(bound.unit in ("nats", "1") and bound.meaning for bound in BOUNDS)
    parts = make_parts()
    loss = MutualInformationLoss(parts.policy, parts.predictor, diagnostic_latents=4)
    found = loss.diagnose(make_batch(6), 4)
    assert list(found.scalars()) == names
    assert float(found.scalars()["mi_lower_bound_ceiling"]) == pytest.approx(math.log(5))
    assert loss.out_keys[-len(names) :] == names


def test_bounds_are_documented():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert all(f"| `{bound.name}` |" in text for bound in BOUNDS)
