"""Scenarios draw from streams of their own, which a seed starts."""

from __future__ import annotations

import torch

from vm3ac_modules.envs import VMASEnv


def check_seeds(build, play):
    """``build(rows, seed=...)`` makes an environment, ``play(env)`` gives its rewards."""

    def run(seed, disturb=lambda: None):
        env = build(4, seed=seed)
        env.reset()
        disturb()
        return play(env)

    def disturb():
        build(3, seed=5).rollout(3)
        VMASEnv("simple_spread", num_envs=2, seed=1).rollout(2)
        torch.rand(3)

    first = run(0)
    assert torch.equal(first, run(0, disturb))
    assert not torch.equal(first, run(1))
    env = build(4, seed=1)
    env.set_seed(0, static_seed=True)
    [generator] = env.scenario.generators
    stream = generator.get_state()
    env.to("cpu").reset()
    assert not torch.equal(stream, generator.get_state())  # its own was drawn from
    assert torch.equal(first, play(env))
