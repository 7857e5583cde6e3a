r"""Predictor of discrete actions whose weights the state gives.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``S`` state, ``E`` embedding. Source: Kim et al.
2023, arXiv:2303.00451, Appendix G.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vm3ac_modules.functional.categorical import ILLEGAL
from vm3ac_modules.nn.mixers import hypernetwork

__all__ = ["HyperPairNet"]


class HyperPairNet(nn.Module):
    r"""Log-probabilities :math:`\log q(a_j | a_i, s)` of all ordered pairs of agents.

    .. math:: q(\cdot | a_i, s) = \mathrm{softmax}(
        \mathrm{ELU}([e_{a_i}, e_i, e_j] W_1(s) + b_1(s))\, W_2(s) + b_2(s))

    over the actions that are legal for j, which is information of training time: what a dead agent
    does is then predicted for certain. QMIX's layout without its absolute values, which would
    forbid a negative association. The input is one-hot, so its product with :math:`W_1` is a choice
    of rows. One network serves all pairs.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix G; the layout is docs/readings.md's.

    Args:
        state_dim: size S of the state.
        num_agents: number of agents N.
        num_actions: number of actions A.
        embed_dim: width E of the hidden layer.
        hypernet_hidden: width of the hypernetworks' hidden layers.
        smoothing: weight in [0, 1) of the uniform distribution over the legal actions of j, which
            bounds log q from below while it stays normalized.

    Raises:
        ValueError: for a smoothing outside [0, 1).

    Example:
        >>> net = HyperPairNet(6, num_agents=3, num_actions=4)
        >>> legal = torch.ones(5, 3, 4, dtype=torch.bool)
        >>> net(torch.zeros(5, 3, dtype=torch.long), torch.zeros(5, 6), legal).shape
        torch.Size([5, 3, 3, 4])
    """

    def __init__(
        self,
        state_dim: int,
        num_agents: int,
        num_actions: int,
        *,
        embed_dim: int = 32,
        hypernet_hidden: int = 64,
        smoothing: float = 1e-3,
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}.")
        self.num_agents, self.num_actions = num_agents, num_actions
        self.embed_dim, self.smoothing = embed_dim, smoothing
        rows = num_actions + 2 * num_agents
        deep: dict[str, Any] = {"layers": 2, "hidden_size": hypernet_hidden}
        self.w1 = hypernetwork(state_dim, rows * embed_dim, **deep)
        self.b1 = hypernetwork(state_dim, embed_dim)
        self.w2 = hypernetwork(state_dim, embed_dim * num_actions, **deep)
        self.b2 = hypernetwork(state_dim, num_actions, layers=2, hidden_size=embed_dim)

    def forward(self, action: Tensor, state: Tensor, mask: Tensor) -> Tensor:
        """Predictions from one action of every agent.

        Args:
            action: what each agent did, int64 ``[*B, N]``.
            state: ``[*B, S]``.
            mask: legal actions, bool ``[*B, N, A]``.

        Returns:
            ``[*B, N, N, A]`` (nats): entry ``[i, j, b]`` is log q of ``a_j = b`` given ``a_i``. The
            diagonal is a prediction of oneself, which nothing uses.
        """
        own, pairs, w2, b2 = self._weights(state)
        index = action.unsqueeze(-1).expand(*action.shape, self.embed_dim)
        rows = own.gather(-2, index)
        hidden = F.elu(rows.unsqueeze(-2) + pairs)
        return self._log_q(hidden, w2, b2, mask.unsqueeze(-3))

    predict = forward
    """The same, under the name that :class:`~vm3ac_modules.modules.CategoricalPredictor` has."""

    def table(self, state: Tensor, mask: Tensor) -> Tensor:
        """Predictions from every action of every agent.

        Args:
            state: ``[*B, S]``.
            mask: legal actions, bool ``[*B, N, A]``.

        Returns:
            ``[*B, N, A, N, A]`` (nats): entry ``[i, a, j, b]`` is log q of ``a_j = b`` given
            ``a_i = a``.
        """
        own, pairs, w2, b2 = self._weights(state)
        hidden = F.elu(own[..., None, :, None, :] + pairs.unsqueeze(-3))
        return self._log_q(hidden, w2, b2, mask[..., None, None, :, :])

    def _weights(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of actions, sums of rows of pairs with the bias, and the second layer."""
        first = self.w1(state).unflatten(-1, (-1, self.embed_dim))
        own, i, j = first.split((self.num_actions, self.num_agents, self.num_agents), dim=-2)
        pairs = i.unsqueeze(-2) + j.unsqueeze(-3) + self.b1(state)[..., None, None, :]
        w2 = self.w2(state).unflatten(-1, (self.embed_dim, self.num_actions))
        return own, pairs, w2, self.b2(state)

    def _log_q(self, hidden: Tensor, w2: Tensor, b2: Tensor, mask: Tensor) -> Tensor:
        """Second layer and normalization, ``[*B, .., N, E]`` to ``[*B, .., N, A]``."""
        # The actions stand before the rows: a softmax over a short last dimension is many times
        # slower on a CPU.
        lead = w2.ndim - 2
        count, each = math.prod(w2.shape[:lead]), math.prod(hidden.shape[lead:-1])
        rows = hidden.reshape(count, each, self.embed_dim).transpose(1, 2)
        maps = w2.reshape(count, *w2.shape[-2:]).transpose(1, 2)
        logits = torch.baddbmm(b2.reshape(count, self.num_actions, 1), maps, rows)
        logits = logits.reshape(*w2.shape[:-2], self.num_actions, *hidden.shape[lead:-1])
        legal = (mask | ~mask.any(-1, keepdim=True)).movedim(-1, lead)
        barred = torch.where(legal, 0.0, ILLEGAL)
        logits = logits + barred
        if self.smoothing == 0.0:
            return torch.log_softmax(logits, dim=lead).movedim(lead, -1)
        uniform = self.smoothing / legal.sum(lead, keepdim=True).to(logits.dtype)
        mixed = torch.softmax(logits, dim=lead) * (1.0 - self.smoothing) + uniform
        return (mixed.log() + barred).movedim(lead, -1)
