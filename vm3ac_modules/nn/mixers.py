r"""Mixing networks: agents' values and the state in, values of the team out.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``S`` state, ``E`` embedding, ``K`` critics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP

__all__ = ["FOPMixer", "LinearMixer", "QMixer", "hypernetwork"]

FLOOR = 1e-10


def hypernetwork(
    state_dim: int, out_features: int, *, layers: int = 1, hidden_size: int = 64
) -> nn.Module:
    """A network that gives the weights of another one from the state.

    Args:
        state_dim: size S of the state.
        out_features: number of weights.
        layers: 1 for one linear map, 2 for one hidden layer with ReLU.
        hidden_size: width of the hidden layer.

    Returns:
        The network, ``[*B, S]`` to ``[*B, out_features]``.

    Raises:
        ValueError: for another number of layers.

    Example:
        >>> hypernetwork(4, 6, layers=2)(torch.zeros(5, 4)).shape
        torch.Size([5, 6])
    """
    if layers not in (1, 2):
        raise ValueError(f"a hypernetwork has 1 or 2 layers, got {layers}.")
    if layers == 1:
        return nn.Linear(state_dim, out_features)
    return nn.Sequential(
        nn.Linear(state_dim, hidden_size), nn.ReLU(), nn.Linear(hidden_size, out_features)
    )


class QMixer(nn.Module):
    r"""Monotone mixing of values of agents by weights that the state gives.

    .. math:: V = \mathrm{ELU}(v\,|W_1(s)| + b_1(s))\,|W_2(s)| + b_2(s), \qquad
        \partial V / \partial v_i \ge 0

    TorchRL's ``QMixer`` has hypernetworks of one layer only; VDAC and later versions of QMIX use
    two.

    References:
        Rashid et al. 2018, "QMIX", arXiv:1803.11485.

    Args:
        state_dim: size S of what the hypernetworks read.
        num_agents: number of agents N.
        embed_dim: width E of the mixing layer.
        hypernet_layers: 1 or 2 layers for the weights :math:`W_1, W_2`.
        hypernet_hidden: width of a hypernetwork's hidden layer.

    Example:
        >>> QMixer(7, num_agents=3)(torch.zeros(5, 3), torch.zeros(5, 7)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        state_dim: int,
        num_agents: int,
        *,
        embed_dim: int = 32,
        hypernet_layers: int = 2,
        hypernet_hidden: int = 64,
    ) -> None:
        super().__init__()
        self.num_agents, self.embed_dim = num_agents, embed_dim
        deep: dict[str, Any] = {"layers": hypernet_layers, "hidden_size": hypernet_hidden}
        self.w1 = hypernetwork(state_dim, num_agents * embed_dim, **deep)
        self.b1 = hypernetwork(state_dim, embed_dim)
        self.w2 = hypernetwork(state_dim, embed_dim, **deep)
        self.b2 = hypernetwork(state_dim, 1, layers=2, hidden_size=embed_dim)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Mix.

        Args:
            values: one per agent, ``[*B, N]``.
            state: ``[*B, S]``.

        Returns:
            Value of the team, ``[*B]``.
        """
        w1 = self.w1(state).abs().unflatten(-1, (self.num_agents, self.embed_dim))
        hidden = F.elu((values.unsqueeze(-2) @ w1).squeeze(-2) + self.b1(state))
        mixed: Tensor = (hidden * self.w2(state).abs()).sum(-1) + self.b2(state).squeeze(-1)
        return mixed


class LinearMixer(nn.Module):
    r"""Linear mixing by shares: :math:`Q = \sum_i k_i(s) Q_i`, :math:`k_i \ge 0`, sum 1.

    .. math:: k(s) \propto |W_1(s)|\,|W_2(s)|

    Being linear, it makes the expectation over joint actions a sum over agents. (The additive term
    of DOP's paper is computed but not added in its code, and left out here.)

    References:
        Wang et al. 2021, "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients",
        arXiv:2007.12322.

    Args:
        state_dim: size S of the state.
        num_agents: number of agents N.
        embed_dim: width E of the product.

    Example:
        >>> LinearMixer(7, num_agents=3).shares(torch.zeros(5, 7)).shape
        torch.Size([5, 3])
    """

    def __init__(self, state_dim: int, num_agents: int, *, embed_dim: int = 32) -> None:
        super().__init__()
        self.num_agents, self.embed_dim = num_agents, embed_dim
        self.w1 = nn.Linear(state_dim, num_agents * embed_dim)
        self.w2 = nn.Linear(state_dim, embed_dim)

    def shares(self, state: Tensor) -> Tensor:
        """Shares of the agents, ``[*B, S]`` to ``[*B, N]``."""
        w1 = self.w1(state).abs().unflatten(-1, (self.num_agents, self.embed_dim))
        raw = (w1 @ self.w2(state).abs().unsqueeze(-1)).squeeze(-1) + FLOOR
        shares: Tensor = raw / raw.sum(-1, keepdim=True)
        return shares

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Mix values ``[*B, N]`` with the state ``[*B, S]`` into ``[*B]``."""
        return (self.shares(state) * values).sum(-1)


class FOPMixer(nn.Module):
    r"""FOP's factorization: individual values, a state value and weighed advantages.

    .. math::
        Q_{tot}(s, a) &= \sum_i Q_i(a_i) + V(s)
            + \sum_i (\lambda_i(s, a) - 1)\,\mathrm{sg}[Q_i(a_i) - V_i] \\
        \lambda_i(s, a) &= \sum_{h=1}^{H} |k_h(s)|\,\sigma(g_h(s))_i\,\sigma(u_h(s, a))_i > 0

    The advantages are constants, so :math:`\partial Q_{tot} / \partial Q_i = 1` and the weights
    learn by their own factor. With ``weights="qatten"`` :math:`Q_i` is first multiplied by an
    attention weight of the state, as the first of FOP's public versions did (its regularizer of
    the scores, 1e-3, is left out),
    :math:`\sum_h \mathrm{softmax}_i(\langle q_h(s), k_h(\mathrm{unit}_i) \rangle / \sqrt E)`.

    References:
        Zhang et al. 2021, "FOP: Factorizing Optimal Joint Policy of Maximum-Entropy Multi-Agent
        Reinforcement Learning", ICML; its code, in the version of July 2021.

    Args:
        state_dim: size S of the state.
        num_agents: number of agents N.
        num_actions: number of actions A.
        num_critics: mixers K side by side, one per critic.
        num_heads: heads H.
        embed_dim: width E of the state value's hidden layer and of the attention.
        weights: ``"none"`` (every weight 1) or ``"qatten"``.
        unit_dim: size of an agent's block of the state, which begins with those of all agents;
            ``"qatten"`` needs it.

    Raises:
        ValueError: for an unknown ``weights``, or blocks that the state cannot hold.

    Example:
        >>> mixer = FOPMixer(7, num_agents=3, num_actions=4)
        >>> q, v = torch.zeros(5, 2, 3), torch.zeros(5, 2, 3)
        >>> mixer(q, v, torch.zeros(5, 7), torch.zeros(5, 3, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        state_dim: int,
        num_agents: int,
        num_actions: int,
        *,
        num_critics: int = 2,
        num_heads: int = 4,
        embed_dim: int = 32,
        weights: Literal["none", "qatten"] = "none",
        unit_dim: int | None = None,
    ) -> None:
        super().__init__()
        if weights not in ("none", "qatten"):
            raise ValueError(f"weights must be 'none' or 'qatten', got {weights!r}.")
        if weights == "qatten" and not 0 < (unit_dim or 0) * num_agents <= state_dim:
            raise ValueError(
                f"weights='qatten' needs unit_dim, the size of an agent's block of the state "
                f"({state_dim} for {num_agents} agents), got {unit_dim}."
            )
        self.num_agents, self.num_critics, self.num_heads = num_agents, num_critics, num_heads
        self.unit_dim, self.embed_dim = unit_dim or 0, embed_dim
        # The critics take the place of agents in the batched layers.
        joint = state_dim + num_agents * num_actions
        self.key = AgentLinear(state_dim, num_heads, num_critics)
        self.agents = AgentLinear(state_dim, num_heads * num_agents, num_critics)
        self.actions = AgentLinear(joint, num_heads * num_agents, num_critics)
        self.value = AgentMLP(state_dim, 1, num_critics, hidden=(embed_dim,))
        self.query: AgentLinear | None = None
        if weights == "qatten":
            self.query = AgentLinear(state_dim, num_heads * embed_dim, num_critics, bias=False)
            self.unit = AgentLinear(self.unit_dim, num_heads * embed_dim, num_critics, bias=False)

    def forward(self, chosen: Tensor, soft: Tensor, state: Tensor, action: Tensor) -> Tensor:
        """Value of a joint action.

        Args:
            chosen: values :math:`Q_i(a_i)` of the actions taken, ``[*B, K, N]``.
            soft: soft values :math:`V_i`, ``[*B, K, N]``.
            state: ``[*B, S]``.
            action: one-hot joint action, ``[*B, N, A]``.

        Returns:
            ``[*B, K]``.
        """
        at = self._copies(state)
        if self.query is not None:
            chosen, soft = (self.attention(state) * value for value in (chosen, soft))
        credit = self.credit(state, action) - 1.0
        advantage = (chosen - soft).detach()
        total: Tensor = chosen.sum(-1) + self.value(at).squeeze(-1) + (credit * advantage).sum(-1)
        return total

    def credit(self, state: Tensor, action: Tensor) -> Tensor:
        r"""The weights :math:`\lambda_i`, ``[*B, K, N]``, positive.

        Args:
            state: ``[*B, S]``.
            action: one-hot joint action, ``[*B, N, A]``.
        """
        at, heads = self._copies(state), (self.num_heads, self.num_agents)
        joint = self._copies(torch.cat((state, action.flatten(-2)), dim=-1))
        key = self.key(at).abs().unsqueeze(-1) + FLOOR
        agents, actions = self.agents(at).sigmoid(), self.actions(joint).sigmoid()
        both: Tensor = key * agents.unflatten(-1, heads) * actions.unflatten(-1, heads)
        return both.sum(-2)

    def attention(self, state: Tensor) -> Tensor:
        """Attention weights of the agents' values, ``[*B, K, N]``, summing to the heads."""
        if self.query is None:
            raise ValueError("this mixer was built with weights='none'.")
        shape = (self.num_heads, self.embed_dim)
        blocks = state[..., : self.num_agents * self.unit_dim]
        units = blocks.reshape(*blocks.shape[:-1], self.num_agents, self.unit_dim)
        query = self.query(self._copies(state)).unflatten(-1, shape)
        key = self.unit(units.unsqueeze(-2).expand(*units.shape[:-1], self.num_critics, -1))
        score = torch.einsum("...khe,...nkhe->...khn", query, key.unflatten(-1, shape))
        weights: Tensor = (score * self.embed_dim**-0.5).softmax(-1).sum(-2) + FLOOR
        return weights

    def _copies(self, x: Tensor) -> Tensor:
        shape: Sequence[int] = (*x.shape[:-1], self.num_critics, x.shape[-1])
        return x.unsqueeze(-2).expand(shape)
