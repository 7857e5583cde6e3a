"""Environments and players of cooperative navigation."""

from __future__ import annotations

import itertools

import torch

from vm3ac_modules.envs import CooperativeNavigation, VMASEnv

ACTION, REWARD = ("agents", "action"), ("agents", "reward")


def build(rows, agents=3, seed=0, **options):
    return VMASEnv(CooperativeNavigation(), num_envs=rows, num_agents=agents, seed=seed, **options)


def act(env, action):
    return env.step(env.fake_tensordict().set(ACTION, action))


def random_action(env, generator):
    return torch.rand(env.full_action_spec[ACTION].shape, generator=generator) * 2 - 1


def still(env, _generator=None):
    return env.full_action_spec[ACTION].zero()


def greedy(env, _generator=None):
    """To the landmarks, by the assignment with the shortest way."""
    positions, landmarks = env.scenario.positions, env.scenario.landmarks
    orders = torch.tensor(list(itertools.permutations(range(positions.shape[1]))))
    orders = orders.to(positions.device)
    ways = (positions.unsqueeze(1) - landmarks[:, orders]).norm(dim=-1).sum(-1)
    goal = torch.take_along_dim(landmarks, orders[ways.argmin(1)].unsqueeze(-1), 1)
    return (2 * (goal - positions) - 0.5 * env.scenario.velocities).clamp(-1, 1)


def play(env, policy, steps=50, fresh=True):
    """Rewards of the agents, ``[T, B, N]``, and the metrics at the end."""
    generator = torch.Generator().manual_seed(0)
    if fresh:
        env.reset()
    rewards = []
    for _ in range(steps):
        td = act(env, policy(env, generator))["next"]
        rewards.append(td[REWARD].squeeze(-1))
    return torch.stack(rewards), td["agents", "info"][:, 0]
