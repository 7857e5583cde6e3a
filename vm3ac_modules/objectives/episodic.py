r"""What the losses over whole episodes share: reading a padded batch, lambda-returns.

Shapes: ``B`` episodes, ``T`` transitions of the longest, ``N`` agents, ``A`` discrete actions. An
episode batch is a tensordict ``[B, T + 1]``. Slot t holds what was seen at step t, the joint
action, and the reward and end of the transition from t to t + 1; ``mask`` tells which transitions
are real. The slot after an episode's last transition holds what was seen last, for the bootstrap;
later ones are padding and may hold anything.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives.value.functional import td_lambda_return_estimate

from vm3ac_modules.functional.episodes import last_transitions, previous_actions
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.objectives.common import ordered_keys

__all__ = ["EpisodeKeys", "Episodes", "lambda_return", "read_episodes", "wanted_losses"]


@dataclass
class EpisodeKeys:
    """Names of the entries of an episode batch: what a loss accepts as ``tensor_keys``."""

    observation: NestedKey = Keys().observation
    action: NestedKey = Keys().action
    action_mask: NestedKey = Keys().action_mask
    reward: NestedKey = Keys().reward
    terminated: NestedKey = Keys().terminated
    mask: NestedKey = Keys().mask
    state: NestedKey = Keys().state

    def all(self) -> list[NestedKey]:
        """The names, each once, in the order of the fields."""
        return ordered_keys(getattr(self, field) for field in self.__dataclass_fields__)

    @classmethod
    def named_by(cls, keys: Keys) -> dict[str, NestedKey]:
        """The vocabulary's names, for ``set_keys``."""
        fields = [name for name in cls.__dataclass_fields__ if hasattr(keys, name)]
        return {name: getattr(keys, name) for name in fields}


def wanted_losses(out_keys: Collection[str], only: Collection[str] | None) -> set[str]:
    """Names of the losses to compute: those asked for, or all.

    Args:
        out_keys: what the loss returns.
        only: names asked for; None for all.

    Returns:
        The names.

    Raises:
        ValueError: for a name that is none of the losses.

    Example:
        >>> wanted_losses(("loss_actor", "entropy"), None)
        {'loss_actor'}
    """
    known = {name for name in out_keys if name.startswith("loss_")}
    wanted = known if only is None else set(only)
    if wanted - known:
        raise ValueError(f"only= takes names of {sorted(known)}, got {sorted(wanted)}.")
    return wanted


class Episodes(NamedTuple):
    """A padded batch of episodes, clean: padding is zeros, with every action legal."""

    observation: Tensor
    """``[B, T + 1, N, O]``."""
    state: Tensor
    """What a mixer sees, ``[B, T + 1, S]``."""
    action: Tensor
    """Actions taken, int64 ``[B, T + 1, N]``."""
    last_action: Tensor
    """One-hot of the actions of the step before, ``[B, T + 1, N, A]``."""
    action_mask: Tensor
    """Legal actions, bool ``[B, T + 1, N, A]``."""
    reward: Tensor
    """Mean over agents of the rewards, ``[B, T]``."""
    terminated: Tensor
    """bool ``[B, T]``."""
    mask: Tensor
    """Real transitions, bool ``[B, T]``."""
    seen: Tensor
    """Slots that hold something real, those for the bootstrap included, bool ``[B, T + 1]``."""


def read_episodes(td: TensorDictBase, keys: EpisodeKeys, owner: str) -> Episodes:
    """Check and clean an episode batch.

    Args:
        td: the batch, ``[B, T + 1]``; not changed.
        keys: names of the entries.
        owner: name of the loss, for messages.

    Returns:
        Its tensors, without what lies in the padding.

    Raises:
        MissingKeysError: if an entry is missing.
        ValueError: if the batch has no time dimension of two slots or more.
    """
    names = ("observation", "action", "action_mask", "reward", "terminated", "mask", "state")
    require_keys(td, [getattr(keys, name) for name in names], owner)
    if td.ndim != 2 or td.shape[1] < 2:
        raise ValueError(
            f"{owner}: expected episodes [B, T + 1] with T >= 1, got batch {list(td.shape)}."
        )
    real = td.get(keys.mask).reshape(td.shape).bool()
    mask = real[:, :-1]
    seen = real.clone()
    # The slot after the last transition was seen too, but no transition starts there.
    seen[:, 1:] |= mask

    def clean(name: str) -> Tensor:
        value = td.get(getattr(keys, name))
        rows = seen.reshape(*seen.shape, *(1,) * (value.ndim - 2))
        return torch.where(rows, value, torch.zeros_like(value))

    action = clean("action")
    legal = td.get(keys.action_mask).bool() | ~seen[..., None, None]
    reward = clean("reward")[:, :-1].flatten(2).mean(-1)
    return Episodes(
        observation=clean("observation"),
        state=clean("state"),
        action=action,
        last_action=previous_actions(action, legal.shape[-1]),
        action_mask=legal,
        reward=torch.where(mask, reward, torch.zeros_like(reward)),
        terminated=td.get(keys.terminated).reshape(td.shape).bool()[:, :-1] & mask,
        mask=mask,
        seen=seen,
    )


def lambda_return(
    reward: Tensor,
    value: Tensor,
    terminated: Tensor,
    mask: Tensor,
    *,
    gamma: float | Tensor,
    lam: float,
) -> Tensor:
    r"""TD(lambda) return of padded episodes, bootstrapping where one was cut off.

    .. math:: G_t = r_t + \gamma (1 - d_t) [ (1 - \lambda_t) b_{t+1} + \lambda_t G_{t+1} ]

    with :math:`\lambda_t = \lambda` inside an episode and 0 at its last transition, so that an
    episode that ran into a time limit bootstraps from the value of what was seen last, wherever in
    the batch it ends. (The form of the PyMARL family is wrong there unless that is the last slot.)

    Args:
        reward: of each transition, ``[B, T]``.
        value: bootstrap value b of each slot, ``[B, T + 1]``.
        terminated: bool ``[B, T]``: the game is over, nothing follows.
        mask: bool ``[B, T]`` of the real transitions.
        gamma: discount per step.
        lam: weight lambda in [0, 1] of what lies further ahead.

    Returns:
        ``[B, T]``; 0 where masked.

    Example:
        >>> one, real = torch.ones(1, 2), torch.tensor([[True, True]])
        >>> over = torch.tensor([[False, True]])
        >>> lambda_return(one, 10 * torch.ones(1, 3), over, real, gamma=0.5, lam=1.0)
        tensor([[1.5000, 1.0000]])
    """
    done = (terminated & mask) | last_transitions(mask) | ~mask
    real = mask.to(reward.dtype)
    returns: Tensor = td_lambda_return_estimate(
        gamma,
        lam,
        torch.where(mask, value[:, 1:], torch.zeros_like(reward)).unsqueeze(-1),
        torch.where(mask, reward, torch.zeros_like(reward)).unsqueeze(-1),
        done.unsqueeze(-1),
        (terminated | ~mask).unsqueeze(-1),
    )
    return returns.squeeze(-1) * real
