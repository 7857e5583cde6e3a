"""What is played: how decided a policy is, and drawn play beside greedy play."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.teams import plain_team
from hypothesis import given
from hypothesis import strategies as st
from torchrl.data import Bounded

import vm3ac_modules as vm
from vm3ac_modules.envs import MeetingEnv
from vm3ac_modules.evaluation import decidedness, evaluate
from vm3ac_modules.evaluation.protocol import usual_actions
from vm3ac_modules.functional.categorical import masked_log_softmax
from vm3ac_modules.modules import Policy

SEEDS = st.integers(0, 2**31 - 1)


def episodes(seed, steps=4):
    """Logits, legal actions and steps that happened of three episodes of two agents."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, steps, 2, 5, generator=generator)
    legal = torch.rand(3, steps, 2, 5, generator=generator) < 0.5
    legal[..., 0] = True
    legal[:, 0, 0] = True
    lengths = torch.randint(1, steps + 1, (3, 1), generator=generator)
    return logits, legal, torch.arange(steps) < lengths


@given(SEEDS)
def test_means_over_agents_with_a_choice(seed):
    logits, legal, happened = episodes(seed)
    found = decidedness(masked_log_softmax(logits, legal), legal, happened)
    for episode in range(3):
        entropies, gaps = [], []
        for step in range(int(happened[episode].sum())):
            for agent in range(2):
                scores = logits[episode, step, agent][legal[episode, step, agent]].double()
                if len(scores) < 2:
                    continue
                law = torch.distributions.Categorical(logits=scores)
                entropies.append(float(law.entropy()))
                first, second, *_ = sorted(scores.tolist(), reverse=True)
                gaps.append(first - second)
        wanted = sum(entropies) / len(entropies), sum(gaps) / len(gaps)
        assert float(found["policy_entropy"][episode]) == pytest.approx(wanted[0], abs=1e-5)
        assert float(found["logit_gap"][episode]) == pytest.approx(wanted[1], abs=1e-5)


def test_the_uniform_policy_is_undecided_and_one_without_a_choice_has_no_number():
    legal = torch.tensor([[[[True, True, True]]], [[[True, False, False]]]])
    found = decidedness(
        masked_log_softmax(torch.zeros(2, 1, 1, 3), legal), legal, torch.ones(2, 1, dtype=bool)
    )
    assert found["policy_entropy"].tolist()[0] == pytest.approx(math.log(3))
    assert found["logit_gap"].tolist()[0] == 0.0
    assert found["policy_entropy"][1].isnan()
    assert found["logit_gap"][1].isnan()


def drawing_team():
    torch.manual_seed(0)
    return vm.make_policy(None, vm.make_actor(2, 0, Bounded(-1.0, 1.0, (2, 2)), hidden=(8,)))


def meet(policy, actions, **options):
    env = MeetingEnv(6, max_steps=7, meeting_distance=1.6)
    return evaluate(policy, env, max_steps=7, seed=3, actions=actions, **options)


@pytest.mark.parametrize("plays", ["steps", "episodes"])
def test_both_are_the_two_alone_from_the_same_starts(plays):
    both, drawn, mean = (
        meet(drawing_team(), how, plays=plays) for how in ("both", "drawn", "mean")
    )
    assert torch.equal(both.returns, drawn.returns)
    assert torch.equal(both.greedy.returns, mean.returns)
    assert not torch.equal(drawn.returns, mean.returns)
    assert both.beside() == {"greedy_return_mean": mean.mean}
    assert drawn.beside() == mean.beside() == {}
    halves = both.split(2)
    assert torch.equal(torch.cat([half.greedy.returns for half in halves]), mean.returns)
    assert math.isnan(both.win_rate)


@pytest.mark.parametrize("actions", ["drawn", "both"])
def test_a_policy_without_sampling_cannot_be_drawn_from(actions):
    with pytest.raises(ValueError, match=r"no sampling.*evaluate it with actions='mean'"):
        meet(plain_team(), actions)
    with pytest.raises(ValueError, match="actions must be one of mean, drawn, both, got 'greedy'"):
        meet(plain_team(), "greedy")


def test_what_is_played_unasked():
    policy = Policy(plain_team())
    assert usual_actions(policy, "episodes") == usual_actions(None, "episodes") == "mean"
    drawing = Policy(drawing_team())
    assert usual_actions(drawing, "episodes") == "both"
    assert usual_actions(drawing, "steps") == "mean"
