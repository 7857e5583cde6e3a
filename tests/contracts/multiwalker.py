"""Steps of multi-walker, and its bodies, which tests move by hand."""

from __future__ import annotations

import torch
from tensordict import TensorDict

ACTION, REWARD, SEEN = ("agents", "action"), ("agents", "reward"), ("agents", "observation")
GROUND = 3.4


def actions(env, steps, seed=7):
    """Actions from a stream of their own, ``[steps, B, N, 4]``."""
    generator = torch.Generator().manual_seed(seed)
    shape = env.full_action_spec[ACTION].shape
    return torch.rand(steps, *shape, generator=generator) * 2 - 1


def step(env, action=None):
    action = torch.zeros(env.full_action_spec[ACTION].shape) if action is None else action
    return env.step(TensorDict({ACTION: action}, env.batch_size))["next"]


def play(env, joint):
    """The steps that these actions lead to, with resets, ``[B, steps]``."""
    td, seen = env.reset(), []
    for action in joint:
        full, td = env.step_and_maybe_reset(td.set(ACTION, action))
        seen.append(full)
    return torch.stack(seen, dim=1)


def bodies(env, row=0):
    simulator = env.simulators[row].env
    return simulator, simulator.package, [walker.hull for walker in simulator.walkers]
