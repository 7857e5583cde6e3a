"""Steps of SMAX, and a scripted player."""

from __future__ import annotations

import torch
from tensordict import TensorDict

ACTION, REWARD, SEEN = ("agents", "action"), ("agents", "reward"), ("agents", "observation")
MASK, ALIVE = ("agents", "action_mask"), ("agents", "alive")
MAP, ROWS, STOP = "3s_vs_3z", 6, 4


def step(env, action):
    return env.step(TensorDict({ACTION: action}, env.batch_size))["next"]


def play(env, steps=None, policy=None, after=None):
    """One episode of each row, or some steps of it, ``[B, T]``; rows that are over wait."""
    generator = torch.Generator().manual_seed(5)
    td, seen = env.reset(), []
    while (not td["done"].all()) if steps is None else len(seen) < steps:
        draw = td[MASK] + torch.rand(td[MASK].shape, generator=generator)
        action = draw.argmax(-1) if policy is None else policy(env)
        full = env.step(td.set(ACTION, action))
        seen.append(full)
        td = full["next"].exclude(REWARD)
        if after is not None:
            after(full)
    return torch.stack(seen, dim=1)


def same(one, other):
    return bool((one == other).all())


def focus_fire_action(env):
    """Attack the weakest enemy in reach; with none in reach walk towards the nearest one.

    All allies rank the enemies alike, by the fraction of health left, so that those who reach the
    same enemies shoot at the same one. The script sees the whole battle, which the agents do not.
    """
    units, n = env.units, env.num_agents
    mask = env.action_mask
    ally, enemy = units.positions[:, :n], units.positions[:, n:]
    alive = units.alive[:, n:].unsqueeze(1)
    health = units.health[:, n:].unsqueeze(1).expand(-1, n, -1)
    reachable = mask[..., STOP + 1 :]
    target = health.masked_fill(~reachable, torch.inf).argmin(-1)
    distance = torch.cdist(ally, enemy).masked_fill(~alive, torch.inf)
    nearest = distance.argmin(-1, keepdim=True)
    way = enemy.gather(1, nearest.expand(-1, -1, 2)) - ally
    # north, east, south, west
    steps = torch.stack([way[..., 1], way[..., 0], -way[..., 1], -way[..., 0]], dim=-1)
    action = torch.where(reachable.any(-1), STOP + 1 + target, steps.argmax(-1))
    return action.where(units.alive[:, :n], torch.full_like(action, STOP))
