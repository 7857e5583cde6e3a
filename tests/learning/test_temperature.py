"""A learned temperature moves towards its target, per seed, and survives a checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict

pytest.importorskip("vmas")

from vm3ac_modules.algorithms import build
from vm3ac_modules.envs import make_env
from vm3ac_modules.learning import TemperatureLearner

SMALL = {"hidden": [8, 8], "beta": 0.2, "beta_lr": 0.1}


@pytest.fixture(scope="module")
def env():
    return make_env("predator_prey_2", 4, seed=0)


def losses(*values, correlation=0.0):
    entropy = torch.tensor(values[0] if len(values) == 1 else values)
    return TensorDict({"entropy": entropy, "correlation_term": torch.as_tensor(correlation)}, [])


def test_beta_rises_below_the_target_and_falls_above(env):
    agent = build("vm3ac_auto_entropy", env, **SMALL)
    [hook] = agent.hooks
    beta = agent.loss.terms[0].beta
    assert hook.target == -2.0
    hook.after_update(losses(-3.0))
    # Adam's first step has the length of the learning rate, whatever the gradient's.
    assert float(beta) == pytest.approx(0.2 * 2.718281828**0.1)
    agent = build("vm3ac_auto_entropy", env, **SMALL)
    agent.hooks[0].after_update(losses(-1.0))
    assert float(agent.loss.terms[0].beta) == pytest.approx(0.2 * 2.718281828**-0.1)


def test_the_bonus_is_the_entropy_and_what_the_predictor_adds(env):
    agent = build("vm3ac_auto_bonus", env, beta_target=1.0, reward_scale=0.5, **SMALL)
    beta = agent.loss.terms[0].beta
    # 2 nats of entropy, -0.12 of correlation in reward units: 2 - 0.12 / (0.5 * 0.2) = 0.8 < 1.
    agent.hooks[0].after_update(losses(2.0, correlation=-0.12))
    assert float(beta) > 0.2
    agent = build("vm3ac_auto_bonus", env, beta_target=0.7, reward_scale=0.5, **SMALL)
    agent.hooks[0].after_update(losses(2.0, correlation=-0.12))
    assert float(agent.loss.terms[0].beta) < 0.2


def test_every_seed_has_its_own(env):
    agent = build("vm3ac_auto_entropy", env, seeds=2, **SMALL)
    [hook] = agent.hooks
    hook.after_update(losses(-3.0, -1.0))
    up, down = agent.loss.terms[0].beta.flatten().tolist()
    assert up > 0.2 > down
    saved = [hook.state_dict(seed) for seed in range(2)]
    other = build("vm3ac_auto_entropy", env, seeds=2, **SMALL).hooks[0]
    other.load_state_dicts(saved)
    assert torch.equal(other.scalars(), hook.scalars())


def test_unusable_temperatures(env):
    with pytest.raises(ValueError, match="start with beta > 0"):
        build("vm3ac_auto_entropy", env, hidden=[8, 8], beta=0.0)
    with pytest.raises(ValueError, match="auto_beta must be entropy, bonus, null, got 'alpha'"):
        build("vm3ac", env, hidden=[8, 8], auto_beta="alpha")
    with pytest.raises(ValueError, match="needs beta_target"):
        build("vm3ac", env, hidden=[8, 8], auto_beta="bonus")
    with pytest.raises(ValueError, match="VM3-AC's regularizer"):
        build("ma_sac", env, hidden=[8, 8], auto_beta="bonus", beta_target=0.5)
    assert TemperatureLearner.logged == ("beta",)


def test_the_default_target_knows_the_range_of_the_actions():
    env = make_env("vmas/give_way", 2, seed=0)  # actions in [-0.5, 0.5]
    agent = build("vm3ac_auto_entropy", env, **SMALL)
    size = env.full_action_spec["agents", "action"].shape[-1]
    assert agent.hooks[0].target == pytest.approx(size * (math.log(0.5) - 1.0))


def test_beta_stays_in_its_range(env):
    agent = build("vm3ac_auto_entropy", env, hidden=[8, 8], beta=90.0, beta_lr=1.0)
    for _ in range(3):
        agent.hooks[0].after_update(losses(-100.0))
    assert float(agent.loss.terms[0].beta) == pytest.approx(100.0)


def test_a_beta_per_agent_is_refused(env):
    with pytest.raises(ValueError, match="one beta for all agents"):
        build("vm3ac_auto_entropy", env, hidden=[8, 8], beta=[0.1, 0.2])


# --- a temperature that follows the frames ------------------------------------------------------


@pytest.mark.parametrize("name", ["ma_sac", "vm3ac"])
def test_beta_goes_to_its_end_on_a_straight_line(env, name):
    agent = build(name, env, hidden=[8, 8], beta=0.2, beta_end=0.1, beta_frames=100)
    [hook] = agent.hooks
    beta = agent.loss.terms[0].beta
    for frames, value in [(0, 0.2), (25, 0.175), (100, 0.1), (500, 0.1)]:
        hook.before_collect(frames)
        assert float(beta) == pytest.approx(value)
    assert hook.logged == ("beta",)
    # It may rise, and end at 0.
    [hook] = build(name, env, hidden=[8, 8], beta=0.1, beta_end=0.0, beta_frames=4).hooks
    hook.before_collect(3)
    assert hook.scalars().item() == pytest.approx(0.025)


def test_stacked_seeds_have_the_same(env):
    options = {"beta": 0.2, "beta_end": 0.4, "beta_frames": 10}
    agent = build("ma_sac", env, seeds=3, hidden=[8, 8], **options)
    [hook] = agent.hooks
    hook.before_collect(5)
    assert hook.scalars().flatten().tolist() == pytest.approx([0.3] * 3)
    assert float(agent.loss.terms[0].beta) == pytest.approx(0.3)


def test_unusable_ends(env):
    with pytest.raises(ValueError, match="beta_end needs beta_frames"):
        build("ma_sac", env, hidden=[8, 8], beta_end=0.1)
    with pytest.raises(ValueError, match="beta_frames needs beta_end"):
        build("ma_sac", env, hidden=[8, 8], beta_frames=10)
    with pytest.raises(ValueError, match="one beta for all agents"):
        build("ma_sac", env, hidden=[8, 8], beta=[0.1, 0.2], beta_end=0.1, beta_frames=5)
    with pytest.raises(ValueError, match="learned or led"):
        build("vm3ac_auto_entropy", env, hidden=[8, 8], beta_end=0.1, beta_frames=5)
