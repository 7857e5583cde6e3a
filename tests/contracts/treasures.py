"""Environments and players of treasure collection."""

from __future__ import annotations

import torch
from torchrl.envs.utils import step_mdp

from vm3ac_modules.envs import TreasureCollection, VMASEnv

ACTION, REWARD = ("agents", "action"), ("agents", "reward")


def build(rows, agents=4, seed=0, **options):
    return VMASEnv(TreasureCollection(), num_envs=rows, num_agents=agents, seed=seed, **options)


def act(env, td, action):
    return env.step(td.clone().set(ACTION, action))


def random_action(env, generator):
    return torch.rand(env.full_action_spec[ACTION].shape, generator=generator) * 2 - 1


def greedy(env, _generator=None):
    """Hunters go to the nearest treasure or to their bank, banks to the nearest holder."""
    scenario = env.scenario
    hunters, banks = scenario.positions.tensor_split((scenario.num_hunters,), dim=1)
    nearest = torch.cdist(hunters, scenario.treasures).argmin(-1, keepdim=True)
    treasure = torch.take_along_dim(scenario.treasures, nearest, 1)
    bank = torch.take_along_dim(banks, scenario.hold.clamp(min=0).unsqueeze(-1), 1)
    goals = [torch.where((scenario.hold < 0).unsqueeze(-1), treasure, bank)]
    for color in range(2):
        holds = scenario.hold == color
        distance = (hunters - banks[:, color, None]).norm(dim=-1).masked_fill(~holds, 9.0)
        holder = torch.take_along_dim(hunters, distance.argmin(-1)[:, None, None], 1)
        crowd = hunters.mean(1, keepdim=True)
        goals.append(torch.where(holds.any(-1)[:, None, None], holder, crowd))
    return (10 * (torch.cat(goals, 1) - scenario.positions)).clamp(-1, 1)


def play(env, policy, steps=100, td=None):
    """Rewards of the agents, ``[T, B, N]``, and the metrics at the end; from ``td`` if given."""
    generator = torch.Generator().manual_seed(0)
    td, rewards = env.reset() if td is None else td, []
    for _ in range(steps):
        td = act(env, td, policy(env, generator))
        rewards.append(td["next", *REWARD].squeeze(-1))
        td = step_mdp(td)
    return torch.stack(rewards), td["agents", "info"][:, 0]
