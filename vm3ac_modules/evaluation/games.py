r"""Value of a frozen team against the best response of an adversary.

Shapes: ``D`` draws, ``N`` agents.

Source: Celli and Gatti 2018, "Computational results for extensive-form adversarial team games".
"""

from __future__ import annotations

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import set_exploration_type

from vm3ac_modules.envs.guard import GuardEnv
from vm3ac_modules.evaluation.protocol import EXPLORATION, Actions
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.latent import LatentMode
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.testing.games import guard_value

__all__ = ["evaluate_guard", "guard_actions"]


def evaluate_guard(
    policy: TensorDictModuleBase,
    game: GuardEnv,
    *,
    latent: LatentMode | None = None,
    actions: Actions = "mean",
    draws: int = 4096,
) -> float:
    r"""Value of a frozen policy in the guard game: the guard knows it, and not its latent.

    .. math:: \sum_m p_m - \max_m p_m, \qquad p_m = P(\text{all agents choose } m)

    Args:
        policy: the team's policy, sampler included.
        game: the game; its own guard is neither asked nor changed.
        latent: how z is played: ``"sample"`` common to all, ``"independent"``, ``"mean"``; None for
            the policy's own way.
        actions: ``"mean"`` for the action at the mean (the likeliest), ``"drawn"`` as in training.
        draws: joint actions D.

    Returns:
        The share of draws in which the team meets unguarded, in [0, 1 - 1/M].

    Raises:
        ValueError: for another word than the two, less than one draw, or a game without a guard.

    Example:
        >>> import vm3ac_modules as vm
        >>> game = GuardEnv(num_envs=1)
        >>> actor = vm.make_actor(1, 3, game.full_action_spec["agents", "action"])
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> 0.0 <= evaluate_guard(policy, game, draws=64) <= 0.75
        True

    See Also:
        :func:`~vm3ac_modules.testing.independent_guard_value`, what no independent policies exceed.
    """
    if not game.guarded:
        raise ValueError(
            "this game has no guard, so a policy has no value against one: read its return."
        )
    played = guard_actions(policy, game, latent=latent, actions=actions, draws=draws)
    return guard_value(game.choices(played), game.num_modes)


@torch.no_grad()
def guard_actions(
    policy: TensorDictModuleBase,
    game: GuardEnv,
    *,
    latent: LatentMode | None = None,
    actions: Actions = "mean",
    draws: int = 4096,
) -> Tensor:
    """Joint actions of a frozen policy in the guard game.

    Args:
        policy: the team's policy, sampler included.
        game: the game; its own guard is neither asked nor changed.
        latent: how z is played; None for the policy's own way.
        actions: ``"mean"`` or ``"drawn"``.
        draws: joint actions D.

    Returns:
        ``[D, N, 2]``, or one-hot ``[D, N, M]``.

    Raises:
        ValueError: for another word than the two, or less than one draw.

    Example:
        >>> import vm3ac_modules as vm
        >>> game = GuardEnv(num_envs=1)
        >>> actor = vm.make_actor(1, 3, game.full_action_spec["agents", "action"])
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> guard_actions(policy, game, latent="independent", draws=5).shape
        torch.Size([5, 2, 2])
    """
    if actions not in EXPLORATION or draws < 1:
        raise ValueError(
            f"actions must be 'mean' or 'drawn' and draws at least 1, got {actions!r} and {draws}."
        )
    team = Policy.of(policy)
    team = team if latent is None else team.with_latent(latent)
    ones = torch.ones(draws, game.num_agents, 1, device=game.device)
    seen = {"agents": TensorDict({"observation": ones}, ones.shape[:2]), "state": ones[:, 0]}
    with set_exploration_type(EXPLORATION[actions]):
        td = team(TensorDict(seen, [draws], device=game.device))
    played: Tensor = td.get(Keys().action)
    return played
