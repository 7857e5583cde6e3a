r"""The variational predictor q of discrete actions as a tensordict module.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``S`` state, ``O`` observation. q never sees the
latent. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (49), (50), Appendix G.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.correlation import predicted_pairs
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.nn.hypernetworks import HyperPairNet

__all__ = ["CategoricalPredictor"]


class CategoricalPredictor(TensorDictModuleBase):
    r"""Model of every partner's discrete action, one network for all ordered pairs.

    .. math:: \log q(a_j | a_i, s), \quad i \ne j

    with the weights made from the situation s by :class:`~vm3ac_modules.nn.HyperPairNet`.

    References:
        Kim et al. 2023, https://arxiv.org/abs/2303.00451, Appendix G.

    Args:
        situation_dim: size S of the state, or size O of one agent's observation.
        num_agents: number of agents N.
        num_actions: number of actions A.
        situation: ``"state"`` (``keys.state``, ``[*B, S]``), or ``"observations"`` of all agents
            side by side (``keys.observation``, ``[*B, N, O]``) where the environment has no state.
        masked: also read ``keys.action_mask`` and predict legal actions only. The policies must
            keep to that mask: an action that they take and q holds for illegal costs 1e9 nats.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.HyperPairNet` (``embed_dim``,
            ``hypernet_hidden``, ``smoothing``).

    Raises:
        ValueError: for an unknown ``situation``, or when called with a situation or mask of
            another size.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> predictor = CategoricalPredictor(6, num_agents=3, num_actions=4)
        >>> td = TensorDict({"state": torch.zeros(5, 6),
        ...                  "agents": {"action": torch.zeros(5, 3, dtype=torch.long)}}, [5])
        >>> predictor(td)["agents", "pair_log_prob"].shape
        torch.Size([5, 3, 3])

    See Also:
        :class:`~vm3ac_modules.modules.VariationalPredictor` for continuous actions.
    """

    def __init__(
        self,
        situation_dim: int,
        num_agents: int,
        num_actions: int,
        *,
        situation: Literal["state", "observations"] = "state",
        masked: bool = False,
        keys: Keys | None = None,
        **net_options: Any,
    ) -> None:
        super().__init__()
        if situation not in ("state", "observations"):
            raise ValueError(f"situation must be 'state' or 'observations', got {situation!r}.")
        self.num_agents, self.num_actions = num_agents, num_actions
        self.situation, self.masked = situation, masked
        self.keys = Keys() if keys is None else keys
        self.shape = (situation_dim,) if situation == "state" else (num_agents, situation_dim)
        size = situation_dim if situation == "state" else num_agents * situation_dim
        self.net = HyperPairNet(size, num_agents, num_actions, **net_options)
        self.embed_dim = self.net.embed_dim
        self.situation_key: NestedKey = (
            self.keys.state if situation == "state" else self.keys.observation
        )
        self.mask_key: NestedKey | None = self.keys.action_mask if masked else None
        read = [self.keys.action, self.situation_key, self.mask_key]
        self.in_keys = [key for key in read if key is not None]
        self.out_keys = [self.keys.pair_log_prob]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``log q(a_j | a_i, s)`` of the actions in the tensordict, ``[*B, N, N]``.

        Actions are int64 ``[*B, N]`` or ``[*B, N, 1]``, or one-hot ``[*B, N, A]``; the diagonal of
        what is written is 0.
        """
        require_keys(tensordict, self.in_keys, type(self).__name__)
        situation = tensordict.get(self.situation_key)
        mask = None if self.mask_key is None else tensordict.get(self.mask_key)
        action = tensordict.get(self.keys.action)
        if action.ndim > situation.ndim - len(self.shape) + 1:
            # Of integers, for TorchRL's specs of one-hot actions are of truth values.
            action = action.squeeze(-1) if action.shape[-1] == 1 else action.long().argmax(-1)
        log_q = self.predict(action, situation, mask)
        return tensordict.set(self.out_keys[0], predicted_pairs(log_q, action))

    def predict(self, action: Tensor, situation: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predictions of every partner's action from one action of every agent.

        Args:
            action: what each agent did, int64 ``[*B, N]``.
            situation: the state, ``[*B, S]``, or all observations, ``[*B, N, O]``.
            mask: legal actions, bool ``[*B, N, A]``; all if None.

        Returns:
            ``[*B, N, N, A]`` (nats): entry ``[i, j, b]`` is log q of ``a_j = b`` given ``a_i``. For
            i = j it has no meaning.

        Raises:
            ValueError: if the situation or the mask has another size than was declared.
        """
        return self.net.predict(action, *self._inputs(situation, mask))

    def table(self, situation: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predictions of every partner's action from every action.

        Args:
            situation: the state, ``[*B, S]``, or all observations, ``[*B, N, O]``.
            mask: legal actions, bool ``[*B, N, A]``; all if None.

        Returns:
            ``[*B, N, A, N, A]`` (nats): entry ``[i, a, j, b]`` is log q of ``a_j = b`` given
            ``a_i = a``; -1e9 where b is illegal. For i = j it has no meaning.

        Raises:
            ValueError: if the situation or the mask has another size than was declared.
        """
        return self.net.table(*self._inputs(situation, mask))

    def _inputs(self, situation: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inputs of the network: the flat situation and a mask."""
        if situation.shape[-len(self.shape) :] != self.shape:
            raise ValueError(
                f"{type(self).__name__}: the {self.situation} must end in {list(self.shape)}, got "
                f"shape {list(situation.shape)}."
            )
        flat = situation if self.situation == "state" else situation.flatten(-2)
        shape = (*flat.shape[:-1], self.num_agents, self.num_actions)
        if mask is None:
            return flat, torch.ones(shape, dtype=torch.bool, device=flat.device)
        if mask.shape != shape:
            raise ValueError(
                f"{type(self).__name__}: the action mask must be {list(shape)}, got shape "
                f"{list(mask.shape)}."
            )
        return flat, mask.bool()
