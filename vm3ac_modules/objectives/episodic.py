r"""What the losses over whole episodes share: reading a padded batch, lambda-returns.

Shapes: ``B`` episodes, ``T`` transitions of the longest, ``N`` agents, ``A`` discrete actions. An
episode batch is a tensordict ``[B, T + 1]``. Slot t holds what was seen at step t, the joint
action, and the reward and end of the transition from t to t + 1; ``mask`` tells which transitions
are real. The slot after an episode's last transition holds what was seen last, for the bootstrap;
later ones are padding and may hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives.value.functional import td_lambda_return_estimate

from vm3ac_modules.functional.episodes import last_transitions, previous_actions
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.objectives.base import MultiAgentLoss
from vm3ac_modules.objectives.common import ordered_keys
from vm3ac_modules.objectives.options import check_shares

__all__ = [
    "SHARED",
    "EpisodeKeys",
    "Episodes",
    "EpisodicLoss",
    "at_slots",
    "chosen",
    "lambda_return",
    "read_episodes",
]


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


SHARED = tuple(EpisodeKeys.__dataclass_fields__)
"""Fields of what every loss over episodes reads."""


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
    first: tuple[Tensor, ...] = ()
    """Further entries of the first slot, as they are, ``[B, ..]`` each."""

    @property
    def final(self) -> Tensor:
        """The slot after every episode's last transition, bool ``[B, T + 1]``."""
        return self.seen & ~torch.nn.functional.pad(self.mask, (0, 1))


def read_episodes(
    td: TensorDictBase,
    keys: EpisodeKeys,
    owner: str,
    *,
    first: Sequence[NestedKey] = (),
    reward_scale: float = 1.0,
) -> Episodes:
    """Check and clean an episode batch.

    Args:
        td: the batch, ``[B, T + 1]``; not changed.
        keys: names of the entries.
        owner: name of the loss, for messages.
        first: further entries, read of the first slot.
        reward_scale: multiplies the rewards.

    Returns:
        Its tensors, without what lies in the padding.

    Raises:
        MissingKeysError: if an entry is missing.
        ValueError: if the batch has no time dimension of two slots or more, or if there is more or
            less than one flag per slot.
    """
    require_keys(td, [*(getattr(keys, name) for name in SHARED), *first], owner)
    if td.ndim != 2 or td.shape[1] < 2:
        raise ValueError(
            f"{owner}: expected episodes [B, T + 1] with T >= 1, got batch {list(td.shape)}."
        )
    for key in (keys.mask, keys.terminated):
        if (flags := td.get(key)).numel() != td.shape.numel():
            raise ValueError(
                f"{owner}: {key!r} must be [B, T + 1, 1], one flag per slot, got "
                f"{list(flags.shape)} in a batch {list(td.shape)}."
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
    reward = (clean("reward")[:, :-1] * reward_scale).flatten(2).mean(-1)
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
        first=tuple(td.get(key)[:, 0] for key in first),
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


def of_slots(values: Tensor, seen: Tensor) -> Tensor:
    """Rows of some slots, those of the first episode first.

    Args:
        values: ``[B, T + 1, ..]``.
        seen: the slots, bool ``[B, T + 1]``, R of them True.

    Returns:
        ``[R, ..]``.

    Example:
        >>> of_slots(torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[True, False, True]]))
        tensor([1., 2.])
    """
    # A gradient of index_select is added by rows; that of a boolean mask is slower.
    return values.flatten(0, 1).index_select(0, seen.flatten().nonzero().squeeze(-1))


def at_slots(values: Tensor, seen: Tensor, dim: int = 0) -> Tensor:
    """Put values that were computed for some slots back in their places.

    Args:
        values: one row for each of the slots, ``[*D, R, ..]``.
        seen: the slots, bool ``[B, T + 1]``, R of them True.
        dim: dimension of the rows, the number of leading dimensions ``*D``.

    Returns:
        ``[*D, B, T + 1, ..]``, zeros in all other slots.

    Example:
        >>> at_slots(torch.tensor([1.0, 2.0]), torch.tensor([[True, False, True]]))
        tensor([[1., 0., 2.]])
    """
    rows = seen.flatten().nonzero().squeeze(-1)
    out = values.new_zeros(*values.shape[:dim], seen.numel(), *values.shape[dim + 1 :])
    return out.index_copy(dim, rows, values).unflatten(dim, seen.shape)


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


class EpisodicLoss(MultiAgentLoss):
    """Base of the losses over padded episodes of discrete actions.

    What a subclass adds to ``_AcceptedKeys`` is read of the episodes' first slots
    (:attr:`Episodes.first`).

    Args:
        gamma: discount per step in [0, 1].
        lam: weight in [0, 1] of the lambda-return.
        reward_scale: multiplies every agent's rewards, > 0.
        keys: the tensordict vocabulary.

    Raises:
        ValueError: for options out of their range; when called, for a batch that is not made of
            episodes or an unknown loss in ``only``.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        See :class:`~vm3ac_modules.objectives.FOPLoss`.
    """

    _AcceptedKeys = EpisodeKeys
    default_keys: type[EpisodeKeys] = EpisodeKeys
    tensor_keys: EpisodeKeys
    on_policy: ClassVar[bool | str] = False
    """Whether a batch is played by the present policy; ``"mixed"`` if a part of it is."""
    gamma: float
    lam: float

    def __init__(
        self,
        *,
        gamma: float = 0.99,
        lam: float = 0.8,
        reward_scale: float = 1.0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(reward_scale=reward_scale, keys=keys)
        check_shares(gamma=gamma, lam=lam)
        self.gamma, self.lam = gamma, lam

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads."""
        return self.tensor_keys.all()

    def read(self, tensordict: TensorDictBase) -> Episodes:
        """Check and clean episodes.

        Args:
            tensordict: episodes ``[B, T + 1]``; not changed.

        Returns:
            Their tensors.
        """
        fields = self.tensor_keys.__dataclass_fields__
        first = [getattr(self.tensor_keys, name) for name in fields if name not in SHARED]
        owner, scale = type(self).__name__, self.reward_scale
        return read_episodes(tensordict, self.tensor_keys, owner, first=first, reward_scale=scale)

    def policies(self, episodes: Episodes) -> Tensor:
        """Log-probabilities of all actions by the present policies (nats), ``[B, T + 1, N, A]``.

        They are 0 in slots that hold nothing.
        """
        seen = episodes.seen
        with self.network("actor").filled():
            memory, _ = self.actor_network.net.unroll(episodes.observation, episodes.last_action)
            log_prob = self.actor_network.log_prob(
                of_slots(memory, seen), episodes.action_mask[seen]
            )
        return at_slots(log_prob, seen)

    def returns(self, episodes: Episodes, bootstrap: Tensor) -> Tensor:
        """:func:`lambda_return` ``[B, T]`` that bootstraps from these values, ``[B, T + 1]``."""
        ends = episodes.reward, bootstrap, episodes.terminated, episodes.mask
        return lambda_return(*ends, gamma=self.gamma, lam=self.lam)
