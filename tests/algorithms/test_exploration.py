"""A floor of exploration: noise behind the policy that is collected with, and nowhere else."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vmas")

from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import AdditiveGaussianModule

from vm3ac_modules.algorithms import build, presets
from vm3ac_modules.envs import make_env
from vm3ac_modules.modules.policy import policy_leaves

NAMES = sorted(presets("continuous"))


def built(algorithm, noise, seeds=1):
    torch.manual_seed(0)
    env = make_env("predator_prey_2", 4 * seeds, seed=0)
    agent = build(algorithm, env, hidden=[8], exploration_noise=noise, seeds=seeds)
    return agent, agent.wrap(env)


def actions(policy, start, kind):
    torch.manual_seed(1)
    with set_exploration_type(kind), torch.no_grad():
        return policy(start.clone())["agents", "action"]


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("seeds", [1, 2])
def test_noise_moves_what_is_collected_and_not_what_is_evaluated(algorithm, seeds):
    (plain, env), (noisy, _) = (built(algorithm, noise, seeds) for noise in (0.0, 0.1))
    start = env.reset()
    apart = actions(noisy.policy, start, ExplorationType.RANDOM)
    apart = apart - actions(plain.policy, start, ExplorationType.RANDOM)
    # The same draws come first, then the noise: 0.1 half ranges, seldom clipped.
    assert 0.03 < apart.std() < 0.2
    greedy = noisy.policy.greedy()
    assert not any(isinstance(leaf, AdditiveGaussianModule) for leaf in policy_leaves(greedy))
    for kind in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM):
        expected = actions(plain.policy.greedy(), start, kind)
        assert torch.equal(actions(greedy, start, kind), expected)


def test_a_saturated_policy_goes_on_exploring():
    agent, env = built("ma_ac", 0.1)
    loc = [p for name, p in agent.loss.named_parameters() if "actor" in name and "bias" in name][-1]
    with torch.no_grad():
        # Means far out, standard deviations at their least: tanh leaves no spread of its own.
        loc[..., :2], loc[..., 2:] = 20.0, -20.0
    start = env.reset()
    assert actions(agent.policy.greedy(), start, ExplorationType.RANDOM).std() < 1e-6
    assert actions(agent.policy, start, ExplorationType.RANDOM).std() > 0.03
