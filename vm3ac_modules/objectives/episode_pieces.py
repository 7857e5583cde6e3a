"""Small pieces that the losses over episodes of discrete actions share.

Shapes: ``B`` episodes, ``T`` transitions of the longest, ``N`` agents, ``A`` discrete actions.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from vm3ac_modules.functional.categorical import gumbel_noise
from vm3ac_modules.keys import require_keys
from vm3ac_modules.objectives.episodic import Episodes
from vm3ac_modules.objectives.slots import ParameterSlots

__all__ = [
    "check_shares",
    "chosen",
    "final_slots",
    "first_slot_noise",
    "network_slots",
]


def check_shares(**values: float) -> None:
    """Refuse options that are no shares.

    Args:
        values: an option per name.

    Raises:
        ValueError: unless each lies in [0, 1].

    Example:
        >>> check_shares(gamma=0.99, lam=0.8)
    """
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {value}.")


def network_slots(loss: LossModule, *names: str) -> dict[str, ParameterSlots]:
    """Where networks of a loss keep their parameters.

    Args:
        loss: the loss, after ``convert_to_functional``.
        names: of its networks.

    Returns:
        The slots of each.
    """
    return {
        name: ParameterSlots(getattr(loss, name), getattr(loss, f"{name}_params")) for name in names
    }


def chosen(values: Tensor, action: Tensor) -> Tensor:
    """Entries of the actions.

    Args:
        values: of all actions, ``[*B, N, A]``.
        action: int64 ``[*B, N]``.

    Returns:
        ``[*B, N]``.

    Example:
        >>> chosen(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
        tensor([2., 3.])
    """
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def final_slots(episodes: Episodes) -> Tensor:
    """The slot after every episode's last transition.

    Args:
        episodes: the batch.

    Returns:
        bool ``[B, T + 1]``.
    """
    goes_on = torch.nn.functional.pad(episodes.mask, (0, 1))
    return episodes.seen & ~goes_on


def first_slot_noise(tensordict: TensorDictBase, key: NestedKey, owner: str) -> TensorDict:
    """Gumbel noise for one joint action per episode.

    Args:
        tensordict: the batch, ``[B, T + 1]``.
        key: of the masks of legal actions, which tell the shape.
        owner: name of the loss, for messages.

    Returns:
        ``action`` ``[B, N, A]``.

    Raises:
        MissingKeysError: if the masks are missing.
    """
    require_keys(tensordict, [key], owner)
    mask = tensordict.get(key)[:, 0]
    noise = gumbel_noise(mask.to(torch.get_default_dtype()))
    return TensorDict({"action": noise}, tensordict.batch_size[:1])
