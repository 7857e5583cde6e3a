"""The tensordict vocabulary shared by every component, and checks made at the boundary.

Per-agent entries are nested under their group (``("agents", "action")``, ``[*B, N, A]``); entries
shared by all agents are at the root (``"latent"``, ``[*B, Z]``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key

__all__ = ["Keys", "MissingKeysError", "require_keys"]


class MissingKeysError(KeyError):
    """A tensordict lacks entries that a component reads."""

    def __str__(self) -> str:
        # KeyError would print the repr of the message, with its quotes and escapes.
        return str(self.args[0])


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

    @property
    def observation(self) -> tuple[str, str]:
        """Observations, ``[*B, N, O]``."""
        return self.of_agents("observation")

    @property
    def action(self) -> tuple[str, str]:
        """Actions in the environment's own range, ``[*B, N, A]``."""
        return self.of_agents("action")

    @property
    def action_mask(self) -> tuple[str, str]:
        """Legal discrete actions, bool ``[*B, N, A]``."""
        return self.of_agents("action_mask")

    @property
    def alive(self) -> tuple[str, str]:
        """Agents that still act, bool ``[*B, N]``."""
        return self.of_agents("alive")

    @property
    def logits(self) -> tuple[str, str]:
        """Log-probabilities of discrete actions (nats), illegal ones -1e9, ``[*B, N, A]``."""
        return self.of_agents("logits")

    @property
    def hidden(self) -> tuple[str, str]:
        """Memory of recurrent policies, ``[*B, N, H]``."""
        return self.of_agents("hidden")

    @property
    def last_action(self) -> tuple[str, str]:
        """Discrete actions of the step before, -1 at the start of an episode, ``[*B, N]``."""
        return self.of_agents("last_action")

    @property
    def next_action(self) -> tuple[str, str]:
        """Actions of the following step in the same episode, ``[*B, N, A]``."""
        return self.of_agents("next_action")

    @property
    def next_action_valid(self) -> tuple[str, str]:
        """Whether there was a following step in the episode, bool ``[*B, N, 1]``."""
        return self.of_agents("next_action_valid")

    @property
    def episode_reward(self) -> tuple[str, str]:
        """Sum of an agent's rewards since the reset, ``[*B, N, 1]``."""
        return self.of_agents("episode_reward")

    @property
    def reward(self) -> tuple[str, str]:
        """Per-agent rewards, ``[*B, N, 1]``."""
        return self.of_agents("reward")

    @property
    def loc(self) -> tuple[str, str]:
        """Location of the pre-squash Gaussian policy, ``[*B, N, A]``."""
        return self.of_agents("loc")

    @property
    def scale(self) -> tuple[str, str]:
        """Standard deviation of the pre-squash Gaussian policy, ``[*B, N, A]``."""
        return self.of_agents("scale")

    @property
    def action_log_prob(self) -> tuple[str, str]:
        """Log-density of the action in the environment's range (nats), ``[*B, N]``."""
        return self.of_agents("action_log_prob")

    @property
    def joint_action(self) -> tuple[str, str]:
        """Joint action as each agent's critic reads it, own first, ``[*B, N, N, A]``."""
        return self.of_agents("joint_action")

    @property
    def pair_log_prob(self) -> tuple[str, str]:
        """Pair matrix ``log q_i(a_j | a_i)`` (nats), ``[*B, N, N]``, diagonal 0."""
        return self.of_agents("pair_log_prob")

    @property
    def state_action_value(self) -> tuple[str, str]:
        """Action values of the K critics, ``[*B, N, K]``."""
        return self.of_agents("state_action_value")

    @property
    def state_value(self) -> tuple[str, str]:
        """State values, ``[*B, N, 1]``."""
        return self.of_agents("state_value")


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
