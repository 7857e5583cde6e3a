"""A replay transform that adds the action of the following step."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import Transform

from vm3ac_modules.keys import Keys, require_keys

__all__ = ["NextAction"]


class NextAction(Transform):
    """Store with every transition what all agents did in the following step of the episode.

    Steps of all rows, always in the same order, go in; a step comes out when the next one is there.
    A pair never crosses an episode's end: there the action is zero and not valid.

    Append it to the replay buffer, as ``MultiStepTransform``.

    Args:
        keys: the tensordict vocabulary.

    Example:
        >>> from tensordict import TensorDict
        >>> def step(action, done):
        ...     return TensorDict({"agents": {"action": torch.full((1, 2, 1), action)},
        ...                        "next": {"done": torch.tensor([[done]])}}, [1])
        >>> transform = NextAction()
        >>> transform.inv(step(1.0, False)) is None
        True
        >>> transform.inv(step(2.0, True))["agents", "next_action"].flatten()
        tensor([2., 2.])
        >>> transform.inv(step(3.0, False))["agents", "next_action_valid"].flatten()
        tensor([False, False])
    """

    def __init__(self, keys: Keys | None = None) -> None:
        super().__init__()
        self.keys = Keys() if keys is None else keys
        self._held: TensorDictBase | None = None

    def state(self) -> dict[str, Tensor]:
        """The step that is held back, by entry, for a checkpoint; empty if there is none."""
        flat = {} if self._held is None else self._held.flatten_keys(".")
        return {str(key): value.clone() for key, value in flat.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave.

        Args:
            state: the step; an empty one leaves nothing held back.
        """
        rows = next(iter(state.values())).shape[:1] if state else []
        self._held = TensorDict(state, rows).unflatten_keys(".") if state else None

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase | None:
        keys = self.keys
        require_keys(tensordict, [keys.action, ("next", keys.done)], "NextAction")
        held, self._held = self._held, tensordict.copy()
        if held is None:
            return None
        action = tensordict.get(keys.action)
        if held.batch_size != tensordict.batch_size:
            raise ValueError(
                f"NextAction: steps of {tuple(held.batch_size)} rows were followed by "
                f"{tuple(tensordict.batch_size)}: extend the replay by one step of all rows at a "
                "time."
            )
        goes_on = ~held.get(("next", keys.done)).unsqueeze(-2)
        goes_on = goes_on.expand(*action.shape[:-1], 1)
        held.set(keys.next_action, torch.where(goes_on, action, 0.0))
        held.set(keys.next_action_valid, goes_on.clone())
        return held

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave what is sampled as it is."""
        return tensordict
