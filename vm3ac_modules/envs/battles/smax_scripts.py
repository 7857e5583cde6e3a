"""Scripted players of SMAX, as references for what a learned policy should beat."""

from __future__ import annotations

import torch
from torch import Tensor

from vm3ac_modules.envs.battles.smax import SMAXEnv

__all__ = ["focus_fire_action"]

FIRST_ATTACK = 5


def focus_fire_action(env: SMAXEnv) -> Tensor:
    """Attack the weakest enemy in reach; with none in reach walk towards the nearest one.

    All allies rank the enemies alike, by the fraction of health left, so that those who reach the
    same enemies shoot at the same one. The script sees the whole battle, which the agents do not.

    Args:
        env: the environment, reset already.

    Returns:
        Legal actions, int64 ``[B, N]``.

    Example:
        >>> import pytest
        >>> from importlib.util import find_spec
        >>> _ = find_spec("jaxmarl") or pytest.skip("needs the extra smax")
        >>> from vm3ac_modules.envs import SMAXEnv, focus_fire_action
        >>> env = SMAXEnv("3s_vs_3z", num_envs=2, seed=0)
        >>> td = env.reset()
        >>> focus_fire_action(env)
        tensor([[1, 1, 1],
                [1, 1, 1]])
    """
    units, n = env.units, env.num_agents
    mask = env.action_mask
    ally, enemy = units.positions[:, :n], units.positions[:, n:]
    alive = units.alive[:, n:].unsqueeze(1)
    health = units.health[:, n:].unsqueeze(1).expand(-1, n, -1)
    reachable = mask[..., FIRST_ATTACK:]
    target = health.masked_fill(~reachable, torch.inf).argmin(-1)
    distance = torch.cdist(ally, enemy).masked_fill(~alive, torch.inf)
    nearest = distance.argmin(-1, keepdim=True)
    way = enemy.gather(1, nearest.expand(-1, -1, 2)) - ally
    # north, east, south, west
    steps = torch.stack([way[..., 1], way[..., 0], -way[..., 1], -way[..., 0]], dim=-1)
    action = torch.where(reachable.any(-1), FIRST_ATTACK + target, steps.argmax(-1))
    stop = FIRST_ATTACK - 1
    return action.where(units.alive[:, :n], torch.full_like(action, stop))
