"""Steps of SMAX."""

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
