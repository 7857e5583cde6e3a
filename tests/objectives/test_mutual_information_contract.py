"""The contract of the mutual-information loss, and its value against the formula."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.loss_contract import LossContract, make_batch, make_parts, to_double

from vm3ac_modules.functional import scatter_others
from vm3ac_modules.keys import MissingKeysError
from vm3ac_modules.objectives import MutualInformationLoss


class MutualInformationContract(LossContract):
    fields = ("observation", "action")
    groups: ClassVar = {
        "loss_mi": "actor_network_params",
        "loss_predictor": "predictor_network_params",
    }
    reads_next = False
    options: ClassVar = {}

    def build(self, parts, **options):
        options = {"weight": 0.7, **self.options, **options}
        return MutualInformationLoss(parts.policy, parts.predictor, **options)

    def test_host_losses_and_targets_are_not_its_own(self):
        loss = self.make()
        assert not hasattr(loss, "value_network")
        assert all(
            name.startswith(("actor_network_params", "predictor_network_params"))
            for name, _ in loss.named_parameters()
        )


class TestMutualInformationContract(MutualInformationContract):
    options: ClassVar = {"entropy_weight": 1.0}

    def test_loss_equals_the_formula(self):
        num_agents, weight, entropy_weight = 3, 0.7, 0.4
        loss = self.make(num_agents, entropy_weight=entropy_weight).double()
        td = to_double(make_batch(6, num_agents=num_agents))
        noise = loss.draw_noise(td)
        out = loss(td, noise)
        observation, latent = td["agents", "observation"], noise["latent"]
        with torch.no_grad():
            loc, scale = loss.reader.heads(td, latent)
            u = loc + scale * noise["action"]
            action = loss.center + loss.half_range * u.tanh()
            normal = torch.distributions.Normal(loc, scale).log_prob(u)
            log_prob = (normal - (loss.half_range * (1 - u.tanh() ** 2)).log()).sum(-1)
            pairs = loss.predictor_network.pair_log_prob(action, action, observation)
            partner, own = map(scatter_others, pairs)
        expected, nll = 0.0, 0.0
        for i in range(num_agents):
            term = -entropy_weight * log_prob[:, i]
            for j in range(num_agents):
                if j != i:
                    term = term + partner[:, i, j] / num_agents
                    nll = nll - (partner[:, i, j] + own[:, i, j]) / 6
            expected = expected - weight * term / num_agents
        torch.testing.assert_close(out["loss_mi"], expected.mean())
        torch.testing.assert_close(out["loss_predictor"], nll.mean())
        torch.testing.assert_close(out["entropy"], -log_prob.mean())

    def test_weight_scales_the_policys_loss_alone(self):
        one, three = self.make(weight=1.0), self.make(weight=3.0)
        three.load_state_dict(one.state_dict())
        td = make_batch(6)
        noise = one.draw_noise(td)
        torch.testing.assert_close(three(td, noise)["loss_mi"], 3 * one(td, noise)["loss_mi"])
        assert torch.equal(three(td, noise)["loss_predictor"], one(td, noise)["loss_predictor"])

    def test_mean_weight_of_pairs(self):
        options = {"entropy_weight": 0.0}
        paper = self.make(3, **options)
        mean = self.make(3, pair_weight="mean", **options)
        mean.load_state_dict(paper.state_dict())
        td = make_batch(6, num_agents=3)
        noise = paper.draw_noise(td)
        torch.testing.assert_close(mean(td, noise)["loss_mi"], 1.5 * paper(td, noise)["loss_mi"])


class TestMutualInformationDiagnosedContract(MutualInformationContract):
    options: ClassVar = {
        "entropy_weight": 1.0,
        "num_latents": 3,
        "reverse_model": "partner",
    }

    def test_diagnostics_are_returned_on_request(self):
        loss = self.make(diagnostic_latents=4)
        out = loss(make_batch(6))
        assert set(out.keys()) == set(loss.out_keys)
        for name in ("mi_lower_bound", "mi_upper_bound", "mi_surrogate", "latent_share"):
            assert out[name].shape == ()
            assert not out[name].requires_grad
        assert "mi_lower_bound" not in self.make().out_keys


@pytest.mark.parametrize(
    "options", [{"diagnostic_latents": 1}, {"diagnostic_latents": 4, "seed_dims": 1}]
)
def test_unusable_numbers_of_diagnostic_latents(options):
    parts = make_parts()
    with pytest.raises(ValueError, match="diagnostic_latents must be 0 or at least 2"):
        MutualInformationLoss(parts.policy, parts.predictor, **options)


def test_diagnostics_leave_out_masked_rows_and_name_what_is_missing():
    parts, td = make_parts(), make_batch(6)
    loss = MutualInformationLoss(parts.policy, parts.predictor, diagnostic_latents=4)
    mask = torch.tensor([True, False, True, True, True, True])
    td["agents", "observation"][1] = float("nan")
    out = loss(td.set(("collector", "mask"), mask))
    assert all(
        out[name].isfinite() for name in ("mi_lower_bound", "mi_upper_bound", "latent_share")
    )
    with pytest.raises(MissingKeysError, match="observation"):
        loss.diagnose(td.exclude(("agents", "observation")))


def test_the_predictor_may_read_another_observation():
    parts, td = make_parts(), make_batch(6)
    loss = MutualInformationLoss(parts.policy, parts.predictor)
    noise = loss.draw_noise(td)
    expected = loss(td, noise)
    td["agents", "privileged"] = td["agents", "observation"].clone()
    loss.set_keys(observation=("agents", "privileged"))
    torch.testing.assert_close(loss(td, noise)["loss_predictor"], expected["loss_predictor"])
    td["agents", "privileged"] += 1.0
    assert loss(td, noise)["loss_predictor"] != expected["loss_predictor"]
    assert loss.diagnose(td, 4).lower.shape == (2, 2)


@pytest.mark.parametrize("name", ["weight", "entropy_weight", "num_latents", "diagnostic_latents"])
def test_negative_numbers_of_the_information_loss(name):
    parts = make_parts()
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
        MutualInformationLoss(parts.policy, parts.predictor, **{name: -1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
        ({"pair_weight": "sum"}, "pair_weight must be 'paper'"),
        ({"reverse_model": "other"}, "reverse_model must be one of .*, got 'other'"),
        ({"predictor_network": None}, "MutualInformationLoss needs a predictor_network"),
    ],
)
def test_unusable_information_options(options, message):
    parts = make_parts()
    with pytest.raises(ValueError, match=message):
        MutualInformationLoss(parts.policy, **{"predictor_network": parts.predictor, **options})
