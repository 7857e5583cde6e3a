"""What a finished run says of settings that kept it from learning."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from contracts.episode_contract import ACTIONS, OBS, STATE
from contracts.fop import make_critic
from tensordict import TensorDict
from torch import nn
from torchrl.objectives import HardUpdate

from vm3ac_modules.algorithms import presets
from vm3ac_modules.functional.schedules import linear_schedule
from vm3ac_modules.learning import FusedSoftUpdate
from vm3ac_modules.learning._collecting import collecting
from vm3ac_modules.learning.hooks import Hook, Schedule
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn import RecurrentPolicyNet
from vm3ac_modules.objectives import FOPLoss
from vm3ac_modules.runs._advice import advise, beside_random, won_values


def make_fop(**options):
    actor = RecurrentActor(RecurrentPolicyNet(OBS, ACTIONS, 3, hidden_size=8))
    loss = FOPLoss(actor, make_critic(), **options)
    # TorchRL warns of targets that nothing moves.
    FusedSoftUpdate(loss, tau=0.01)
    return loss


def make_run(*, updates=8000, frames=100, hooks=(), target=None, clips=None, won=None, loss=None):
    clipped = {} if clips is None else {name: torch.tensor(v) for name, v in clips.items()}
    agent = SimpleNamespace(target=target, hooks=list(hooks), clipped=clipped, loss=loss)
    training = SimpleNamespace(max_grad_norm=10.0, device="cpu", seed=0)
    return SimpleNamespace(agent=agent, training=training, updates=updates, frames=frames, won=won)


def schedule(duration, name="epsilon"):
    law = partial(linear_schedule, start=1.0, end=0.05, duration=duration)
    return Schedule(name, law, list)


def test_a_run_without_a_fault_says_nothing():
    hooks = [schedule(100), schedule(50, "temperature"), Hook(), schedule(900, None)]
    run = make_run(hooks=hooks, clips={"loss_actor": 0.5}, target=HardUpdate(make_fop()))
    run.agent.target.value_network_update_interval = 399
    assert advise(run) == []


@pytest.mark.parametrize(
    ("means", "updates", "adversary", "said"),
    [
        ([3.0], 100, None, None),
        (
            [1.4],
            100,
            None,
            r"the return is not above .* \(1.40 \+- 0.50 against 1.00\): .*100, or",
        ),
        ([1.4], 99, None, None),
        ([1.4], 100, max, None),
        ([3.0, 1.4, -2.0], 100, None, r"the return of seed 1, 2 is not above .* \(1.40 \+-"),
        ([3.0, 1.6], 100, None, None),
    ],
)
def test_what_is_no_better_than_chance_is_told(means, updates, adversary, said):
    run = make_run(updates=updates)
    run.task = SimpleNamespace(best_response=adversary)
    results = [SimpleNamespace(mean=mean, ci95=0.5) for mean in means]
    randoms = [SimpleNamespace(mean=1.0, ci95=0.5)] * len(means)
    found = list(beside_random(run, results, randoms))
    assert len(found) == (said is not None)
    if said is not None:
        assert re.search(said, found[0])


@pytest.mark.parametrize(("interval", "copies"), [(1000, 8), (401, 19), (400, None)])
def test_too_few_copies_into_the_targets(interval, copies):
    target = HardUpdate(make_fop(), value_network_update_interval=interval - 1)
    said = advise(make_run(target=target))
    assert len(said) == (copies is not None)
    if said:
        assert f"{copies} times in 8000 updates" in said[0]
        assert "algorithm.target_interval" in said[0]
        assert "algorithm.target_tau" in said[0]
    assert advise(make_run(target=FusedSoftUpdate(make_fop(), tau=0.01))) == []


def test_a_schedule_longer_than_the_run():
    said = advise(make_run(hooks=[schedule(100), schedule(200, "temperature")]))
    assert len(said) == 1
    assert "temperature was still 0.525 at the end, on its way to 0.05" in said[0]
    assert "algorithm.temperature_frames that fits 100 frames" in said[0]


def test_a_clip_that_is_always_hit():
    [said] = advise(make_run(clips={"loss_qvalue": 0.95, "loss_actor": 0.89}))
    assert said.startswith("max_grad_norm=10 cut the gradient of loss_qvalue in 90% of the updates")
    assert "algorithm.lr" in said


def test_a_run_without_an_update_is_not_advised():
    assert advise(make_run(updates=0, hooks=[schedule(1000)])) == []


def won_episodes(rewards=(0.5, 3.0)):
    """Two episodes, of two steps and of one; the second slot of the second one is padding."""
    agents = {
        "observation": torch.randn(2, 3, 3, OBS),
        "action": torch.zeros(2, 3, 3, dtype=torch.long),
        "action_mask": torch.ones(2, 3, 3, ACTIONS, dtype=torch.bool),
        "reward": torch.zeros(2, 3, 3, 1),
    }
    agents["reward"][0, 0], agents["reward"][0, 1], agents["reward"][1, 0] = *rewards, rewards[1]
    agents["reward"][1, 1] = 99.0
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool().unsqueeze(-1)
    over = torch.tensor([[0, 1, 0], [1, 0, 0]]).bool().unsqueeze(-1)
    root = {"agents": agents, "state": torch.randn(2, 3, STATE), "terminated": over, "mask": mask}
    return TensorDict(root, [2, 3])


def test_what_won_battles_returned_by_hand():
    loss = make_fop(gamma=0.5, reward_scale=2.0)
    batch = won_episodes()
    state = torch.get_rng_state()
    value, returned = won_values(loss, batch, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    # 2 (0.5 + 0.5 3), 2 3 and 2 3, each step once
    assert returned == pytest.approx((4 + 6 + 6) / 3)
    assert value == pytest.approx(float(loss(batch)["state_action_value"]))


def constant_critic(value):
    """A run of FOP whose critics say the same of everything."""
    loss = make_fop(gamma=1.0)
    loss.forward = lambda td: {"state_action_value": torch.tensor(value)}
    return make_run(loss=loss, won=won_episodes())


def test_a_critic_that_does_not_know_victory():
    [said] = advise(constant_critic(1.5))
    assert "the critic says 1.5 of battles that were won and returned 3.17" in said
    assert "updates_per_episode" in said
    assert advise(constant_critic(1.6)) == []


def test_a_loss_without_a_value_is_not_asked():
    assert won_values(SimpleNamespace(out_keys=["loss_actor"]), won_episodes(), 0) is None
    run = make_run(loss=nn.Linear(1, 1), won=won_episodes())
    assert advise(run) == []


@pytest.mark.parametrize("name", sorted(presets("discrete")))
def test_every_battle_algorithm_tells_the_value_of_won_battles(name):
    pytest.importorskip("jaxmarl")
    from vm3ac_modules.algorithms import build
    from vm3ac_modules.envs import make_battle_env

    agent = build(name, make_battle_env("3m", 2, seed=0, max_steps=4), hidden_size=8)
    env = agent.wrap(make_battle_env("3m", 2, seed=0, max_steps=4))
    played = next(iter(collecting(agent, env, episodes=True, max_steps=4)))
    value, returned = won_values(agent.loss, played.data, seed=0)
    scale = agent.loss.reward_scale
    rewards = played.data["agents", "reward"].mean((-2, -1)) * scale
    gamma = agent.loss.gamma
    expected = [
        sum(gamma**k * float(row[t + k]) for k in range(int(length) - t))
        for row, length in zip(rewards, played.played.lengths, strict=True)
        for t in range(int(length))
    ]
    assert returned == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert abs(value) < 1e3


@pytest.mark.parametrize("name", ["fop", "ma_ac"])
def test_an_agent_counts_how_often_it_is_clipped(name):
    from vm3ac_modules.algorithms import build
    from vm3ac_modules.envs import make_env

    if name == "fop":
        pytest.importorskip("jaxmarl")
        from vm3ac_modules.envs import make_battle_env

        agent = build(name, make_battle_env("3m", 2, seed=0, max_steps=4), hidden_size=8)
        env = agent.wrap(make_battle_env("3m", 2, seed=0, max_steps=4))
        batch = next(iter(collecting(agent, env, episodes=True, max_steps=4))).data
    else:
        env = make_env("same_mode", 4, seed=0)
        agent = build(name, env, hidden=(8,))
        batch = env.rollout(1, agent.policy).squeeze(1).detach()
    assert agent.clipped == {}
    agent.update(batch)
    assert agent.clipped == {}, "nothing was clipped, so nothing is counted"
    for limit, share in ((1e-12, 1.0), (1e12, 0.5)):
        agent.update(batch, limit)
        assert set(agent.clipped) == set(agent.optimizers)
        assert [float(value) for value in agent.clipped.values()] == [share] * len(agent.clipped)
