"""A script that plays battles, to hold learned play against.

Shapes: ``B`` rows, ``N`` agents, ``M`` enemies, ``A`` actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vm3ac_modules.envs.battles._smaclite_game import FIRST_TARGET
from vm3ac_modules.envs.battles.smaclite import SMACliteEnv

__all__ = ["focus_fire"]

FIRST_MOVE = 2
"""Number of the first action that moves, northward."""


def focus_fire(env: SMACliteEnv) -> Tensor:
    """Attack the weakest enemy in reach, else walk towards the nearest one.

    The script sees the whole battle, which no agent does.

    Args:
        env: a battle that was reset.

    Returns:
        Legal actions, int64 ``[B, N]``.

    Example:
        >>> from vm3ac_modules.testing import SMACliteStub
        >>> env = SMACliteEnv("2s3z", 2, seed=0, make_battle=SMACliteStub)
        >>> mask = env.reset()["agents", "action_mask"]
        >>> mask.gather(-1, focus_fire(env).unsqueeze(-1)).all()
        tensor(True)
    """
    units, n, mask = env.units, env.num_agents, env.action_mask
    enemies, alive = units.positions[:, n:], units.alive[:, n:]
    reach = mask[..., FIRST_TARGET : FIRST_TARGET + enemies.shape[1]]
    health = units.health[:, n:].masked_fill(~alive, torch.inf).unsqueeze(1).expand(reach.shape)
    target = health.masked_fill(~reach, torch.inf).argmin(-1)
    away = torch.cdist(units.positions[:, :n], enemies).masked_fill(~alive.unsqueeze(1), torch.inf)
    nearest = away.argmin(-1, keepdim=True)
    way = enemies.gather(1, nearest.expand(-1, -1, 2)) - units.positions[:, :n]
    # North, south, east, west.
    moves = torch.stack([way[..., 1], -way[..., 1], way[..., 0], -way[..., 0]], -1)
    moves = moves.masked_fill(~mask[..., FIRST_MOVE:FIRST_TARGET], -torch.inf)
    action = torch.where(reach.any(-1), FIRST_TARGET + target, FIRST_MOVE + moves.argmax(-1))
    legal = mask.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    # Who can neither attack nor walk stops; the dead do nothing.
    return torch.where(legal, action, torch.where(mask[..., 0], 0, 1))
