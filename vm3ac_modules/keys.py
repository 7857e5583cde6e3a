"""The tensordict vocabulary shared by every component, and checks made at the boundary.

Per-agent entries are nested under their group (``("agents", "action")``, ``[*B, N, A]``); entries
shared by all agents are at the root (``"latent"``, ``[*B, Z]``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor

__all__ = ["Keys", "MissingKeysError", "require_dtypes", "require_keys"]


class MissingKeysError(KeyError):
    """A tensordict lacks entries that a component reads."""

    def __str__(self) -> str:
        # KeyError would print the repr of the message, with its quotes and escapes.
        return str(self.args[0])


class _Entry(property):
    """The key of a per-agent entry, ``(group, name)``."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda keys: keys.of_agents(name))

    if TYPE_CHECKING:

        def __get__(self, keys: Any, owner: Any = None, /) -> tuple[str, str]: ...  # type: ignore[override]


@dataclass(frozen=True)
class Keys:
    """Names of the entries of one group of agents.

    Args:
        group: name of the group of agents; ``"agents"`` by default.

    Example:
        >>> from vm3ac_modules.keys import Keys
        >>> Keys("walkers").action
        ('walkers', 'action')
        >>> Keys().latent
        'latent'
    """

    group: str = "agents"
    latent: NestedKey = "latent"
    latent_log_prob: NestedKey = "latent_log_prob"
    situation: NestedKey = "situation"
    state: NestedKey = "state"
    done: NestedKey = "done"
    terminated: NestedKey = "terminated"
    truncated: NestedKey = "truncated"
    step_count: NestedKey = "step_count"
    episode: NestedKey = "episode"
    mask: NestedKey = "mask"

    def of_agents(self, name: str) -> tuple[str, str]:
        """The key of a per-agent entry, ``(group, name)``."""
        return (self.group, name)

    observation = _Entry("observation")
    """Observations, ``[*B, N, O]``, in the environment's own units."""
    action = _Entry("action")
    """Actions in the environment's own range, ``[*B, N, A]``."""
    action_mask = _Entry("action_mask")
    """Legal discrete actions, bool ``[*B, N, A]``."""
    alive = _Entry("alive")
    """Agents that still act, bool ``[*B, N]``."""
    logits = _Entry("logits")
    """Log-probabilities of discrete actions (nats), illegal ones -1e9, ``[*B, N, A]``."""
    hidden = _Entry("hidden")
    """Memory of recurrent policies, ``[*B, N, H]``."""
    last_action = _Entry("last_action")
    """Discrete actions of the step before, -1 at the start of an episode, ``[*B, N]``."""
    next_action = _Entry("next_action")
    """Actions of the following step in the same episode, ``[*B, N, A]``."""
    next_action_valid = _Entry("next_action_valid")
    """Whether there was a following step in the episode, bool ``[*B, N, 1]``."""
    episode_reward = _Entry("episode_reward")
    """Sum of an agent's rewards since the reset, ``[*B, N, 1]``."""
    raw_observation = _Entry("raw_observation")
    """Observations before an environment's normalizer, ``[*B, N, O]``."""
    task_reward = _Entry("task_reward")
    """Rewards before transforms of the environment change them, ``[*B, N, 1]``."""
    reward = _Entry("reward")
    """Per-agent rewards, ``[*B, N, 1]``."""
    loc = _Entry("loc")
    """Location of the pre-squash Gaussian policy, ``[*B, N, A]``."""
    scale = _Entry("scale")
    """Standard deviation of the pre-squash Gaussian policy, ``[*B, N, A]``."""
    action_log_prob = _Entry("action_log_prob")
    """Log-density of the action in the environment's range (nats), ``[*B, N]``."""
    joint_action = _Entry("joint_action")
    """Joint action as each agent's critic reads it, own first, ``[*B, N, N, A]``."""
    pair_log_prob = _Entry("pair_log_prob")
    """Pair matrix ``log q_i(a_j | a_i)`` (nats), ``[*B, N, N]``, diagonal 0."""
    state_action_value = _Entry("state_action_value")
    """Action values of the K critics, ``[*B, N, K]``."""
    state_value = _Entry("state_value")
    """State values, ``[*B, N, 1]``."""


def require_keys(td: TensorDictBase, keys: Iterable[NestedKey], owner: str) -> None:
    """Check that a tensordict holds every key that a component reads.

    Args:
        td: the tensordict given by the caller.
        keys: the keys that are read.
        owner: the component's name, for the message.

    Raises:
        MissingKeysError: names the missing keys and those that are present.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.keys import require_keys
        >>> require_keys(TensorDict(latent=0.0), ["latent"], "VM3ACLoss")
    """
    missing = [key for key in keys if td.get(key, None) is None]
    if missing:
        present = sorted(str(key) for key in td.keys(True, True))
        raise MissingKeysError(
            f"{owner}: the tensordict lacks {[unravel_key(key) for key in missing]}; "
            f"present: {', '.join(present) or 'nothing'}. Rename with set_keys(...) or add them."
        )


def require_dtypes(
    td: TensorDictBase,
    keys: Iterable[NestedKey],
    owner: str,
    dtype: torch.dtype,
    *,
    numbers: Collection[str] = ("observation", "state", "latent"),
) -> None:
    """Check that entries are of the type that networks compute in; not asked under autocast.

    Args:
        td: the tensordict given by the caller.
        keys: the keys that are read.
        owner: the component's name, for the message.
        dtype: of the networks.
        numbers: last names of entries that no whole numbers or flags may stand for.

    Raises:
        ValueError: names the entry, its type, and what to do.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.keys import require_dtypes
        >>> td = TensorDict(latent=torch.zeros(2, dtype=torch.float64))
        >>> require_dtypes(td, ["latent"], "VM3ACLoss", torch.float32)
        Traceback (most recent call last):
        ...
        ValueError: VM3ACLoss: 'latent' is torch.float64, but the networks compute in ...
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return
    for key in keys:
        value = td.get(key, None)
        if not isinstance(value, Tensor) or value.dtype == dtype:
            continue
        name = key if isinstance(key, str) else key[-1]
        if value.is_floating_point() or value.is_complex() or name in numbers:
            how = "in_keys=[], in_keys_inv=" if name == "action" else "in_keys="
            raise ValueError(
                f"{owner}: {unravel_key(key)!r} is {value.dtype}, but the networks compute in "
                f"{dtype}: cast it, in the environment by torchrl.envs.DTypeCastTransform"
                f"({value.dtype}, {dtype}, {how}[{unravel_key(key)!r}])."
            )
