from __future__ import annotations

import pytest

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import ALGORITHMS, build
from vm3ac_modules.algorithms.registry import resolve_knobs
from vm3ac_modules.envs import make_env


@pytest.fixture(scope="module")
def env():
    return make_env("predator_prey_2", 2, seed=0)


def test_the_predictor_learns_at_the_policys_rate_unless_told(env):
    def rates(**knobs):
        optimizers = build("vm3ac", env, hidden=[8, 8], **knobs).optimizers
        return {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}

    assert set(rates(lr=1e-3).values()) == {1e-3}
    assert rates(lr=1e-3, predictor_lr=2e-3)["loss_predictor"] == 2e-3


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_optimizers_hold_every_parameter_once(env, algorithm):
    agent = build(algorithm, env, hidden=[8, 8])
    held = [
        p for o in agent.optimizers.values() for group in o.param_groups for p in group["params"]
    ]
    assert len({id(p) for p in held}) == len(held)
    assert {id(p) for p in agent.policy.parameters()} <= {id(p) for p in held}


def test_unknown_names_list_the_valid_ones(env):
    with pytest.raises(ValueError, match="unknown algorithm 'vm3'; valid: vm3ac, vm3ac_tight"):
        build("vm3", env)
    with pytest.raises(
        ValueError, match=r"unknown knob\(s\) bata for algorithm 'ma_ac'; valid: beta"
    ):
        resolve_knobs("ma_ac", {"bata": 1})
    with pytest.raises(ValueError, match="unknown prior 'normal'; valid: gaussian"):
        build("vm3ac", env, prior="normal")


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ({"latent_dim": -1}, "latent_dim must not be negative"),
        ({"beta": -0.1}, "beta must not be negative"),
        ({"num_latents": -1}, "must not be negative"),
        ({"predictor_scale": 0.0}, "scale must be positive"),
        ({"critic": "simple"}, "form must be"),
        ({"critic_input": "images"}, "critic_input must be"),
        ({"gamma": 1.5}, "gamma must be in"),
        ({"reward_scale": 0.0}, "reward_scale must be positive"),
        ({"log_std": "exp"}, "log_std must be one of"),
    ],
)
def test_unusable_knobs(env, knob, said):
    with pytest.raises(ValueError, match=said):
        build("vm3ac", env, **knob)
