"""What every actor-critic loss keeps to: a mixin of tests."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from contracts.loss_contract import LossContract, make_batch
from torchrl.objectives import ValueEstimators


class ActorCriticContract(LossContract):
    fields = (
        "observation",
        "action",
        "reward",
        "terminated",
        "joint_action",
        "state_action_value",
        "state_value",
    )
    groups: ClassVar = {
        "loss_actor": "actor_network_params",
        "loss_qvalue": "qvalue_network_params",
        "loss_value": "value_network_params",
    }

    def test_updater_finds_exactly_the_target_of_the_value(self):
        loss = self.make()
        targets = {key[0] for key in loss.updater._targets.keys(True, True)}
        assert {str(name) for name in targets} == {"target_value_network_params"}

    def test_update_moves_the_target_alone(self):
        loss = self.make()
        with torch.no_grad():
            for parameter in loss.parameter_groups()["loss_value"]:
                parameter.add_(1.0)
        before = {name: x.clone() for name, x in loss.state_dict().items()}
        loss.updater.step()
        for name, after in loss.state_dict().items():
            moved = 0.5 if name.startswith("target_value_network_params") else 0.0
            if after.is_floating_point():
                torch.testing.assert_close(after, before[name] + moved)

    def test_value_and_its_target_start_equal(self):
        loss = self.make()
        for own, target in zip(
            loss.value_network_params.parameters(),
            loss.target_value_network_params.values(True, True),
            strict=True,
        ):
            assert torch.equal(own, target)

    def test_discount_is_set_by_the_value_estimator(self):
        loss, td = self.make(gamma=0.5), make_batch(6)
        noise = loss.draw_noise(td)
        at_half = loss(td, noise)["loss_qvalue"]
        loss.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
        at_nine_tenths = loss(td, noise)["loss_qvalue"]
        assert float(loss.gamma) == pytest.approx(0.9)
        assert at_half != at_nine_tenths
        loss.make_value_estimator(gamma=0.5)
        assert torch.equal(loss(td, noise)["loss_qvalue"], at_half)
        with pytest.raises(ValueError, match="only TD0 is known"):
            loss.make_value_estimator(ValueEstimators.GAE)
        with pytest.raises(ValueError, match=r"got 0.9 and \{'lmbda': 0.9\}"):
            loss.make_value_estimator(gamma=0.9, lmbda=0.9)
        with pytest.raises(ValueError, match="gamma in"):
            loss.make_value_estimator(gamma=1.5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"policy_q": "mean"}, "policy_q must be 'first' or 'min', got 'mean'"),
            ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"gamma": float("nan")}, r"gamma must be in \[0, 1\]"),
            ({"reward_scale": 0.0}, "reward_scale must be positive, got 0.0"),
        ],
    )
    def test_unusable_loss_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.make(**options)
