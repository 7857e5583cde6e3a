r"""Recurrent policies over discrete actions: a GRU per agent, heads that may see a latent.

Shapes: ``*B`` rows, ``T`` steps, ``N`` agents, ``O`` observation, ``A`` actions, ``H`` memory,
``Z`` latent. Sources: Cho et al. 2014, arXiv:1406.1078 (GRU); Kim et al. 2023, arXiv:2303.00451,
Appendix G.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vm3ac_modules.nn.blocks import AgentLinear

__all__ = ["AgentGRU", "LatentInput", "RecurrentPolicyNet"]

LatentInput = Literal["head", "input"]
"""Where the latent enters a recurrent policy."""


class AgentGRU(nn.Module):
    r"""One gated recurrent unit per agent, all agents' steps in one batched product.

    .. math::
        r &= \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}) \\
        u &= \sigma(W_{iu} x + b_{iu} + W_{hu} h + b_{hu}) \\
        n &= \tanh(W_{in} x + b_{in} + r (W_{hn} h + b_{hn})) \\
        h' &= (1 - u)\, n + u\, h

    Args:
        in_features: size of the input.
        hidden_size: size H of the memory.
        num_agents: number of agents N.
        share_params: one set of weights for all agents.

    Example:
        >>> memory, last = AgentGRU(4, 8, num_agents=3)(torch.zeros(5, 7, 3, 4))
        >>> memory.shape, last.shape
        (torch.Size([5, 7, 3, 8]), torch.Size([5, 3, 8]))
    """

    def __init__(
        self, in_features: int, hidden_size: int, num_agents: int, *, share_params: bool = False
    ) -> None:
        super().__init__()
        self.hidden_size, self.num_agents = hidden_size, num_agents
        # As torch.nn.GRU: both maps start in the range that the memory's size gives.
        options: dict[str, Any] = {"share_params": share_params, "fan_in": hidden_size}
        self.input_map = AgentLinear(in_features, 3 * hidden_size, num_agents, **options)
        self.memory_map = AgentLinear(hidden_size, 3 * hidden_size, num_agents, **options)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, is_init: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            x: inputs, ``[*B, T, N, in]``.
            memory: what was remembered before, ``[*B, N, H]``; zeros if None.
            is_init: bool ``[*B, T]`` or ``[*B, T, 1]``: True at the first step of an episode, where
                the memory starts from zeros whatever lies before; None if there is none inside.

        Returns:
            Memory after every step, ``[*B, T, N, H]``, and after the last, ``[*B, N, H]``.

        Raises:
            ValueError: for a memory of another shape.
        """
        shape = (*x.shape[:-3], *x.shape[-2:-1], self.hidden_size)
        memory = x.new_zeros(shape) if memory is None else memory
        if memory.shape != shape:
            raise ValueError(
                f"AgentGRU: expected a memory {list(shape)}, got {list(memory.shape)}."
            )
        keep = None
        if is_init is not None:
            keep = (~is_init.reshape(x.shape[:-2])).to(x.dtype)[..., None, None].unbind(-3)
        steps = []
        for t, gates in enumerate(self.input_map(x).unbind(-3)):
            memory = memory if keep is None else memory * keep[t]
            memory = self._step(gates, memory)
            steps.append(memory)
        return torch.stack(steps, dim=-3), memory

    def _step(self, gates: Tensor, memory: Tensor) -> Tensor:
        size = self.hidden_size
        recalled = self.memory_map(memory)
        both = torch.sigmoid(gates[..., : 2 * size] + recalled[..., : 2 * size])
        reset, update = both.chunk(2, dim=-1)
        new = torch.tanh(torch.addcmul(gates[..., 2 * size :], reset, recalled[..., 2 * size :]))
        return torch.lerp(new, memory, update)


class RecurrentNet(nn.Module, ABC):
    r"""Base of recurrent policies: what an agent has seen, which a subclass scores actions from.

    .. math:: h_t = \mathrm{GRU}(\mathrm{ReLU}(W [o_t, a_{t-1}, i]), h_{t-1})
    """

    identity: Tensor

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        num_agents: int,
        *,
        latent_dim: int,
        hidden_size: int,
        share_params: bool,
        latent_input: LatentInput = "head",
    ) -> None:
        super().__init__()
        self.obs_dim, self.num_agents = obs_dim, num_agents
        self.num_actions, self.latent_dim, self.hidden_size = num_actions, latent_dim, hidden_size
        self.latent_input: LatentInput = latent_input
        self.register_buffer("identity", torch.eye(num_agents))
        size = obs_dim + num_actions + num_agents + (latent_dim if latent_input == "input" else 0)
        self.embed = AgentLinear(size, hidden_size, num_agents, share_params=share_params)
        self.gru = AgentGRU(hidden_size, hidden_size, num_agents, share_params=share_params)

    def unroll(
        self,
        observation: Tensor,
        last_action: Tensor,
        latent: Tensor | None = None,
        memory: Tensor | None = None,
        is_init: Tensor | None = None,
        *,
        per_agent: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Memories over a sequence of steps.

        Args:
            observation: ``[*B, T, N, O]``.
            last_action: one-hot of the previous actions, or zeros, ``[*B, T, N, A]``.
            latent: ``[*B, T, Z]``, read with ``latent_input="input"`` only; ``[*B, T, N, Z]`` with
                ``per_agent``.
            memory: what was remembered before, ``[*B, N, H]``; zeros if None.
            is_init: see :class:`AgentGRU`.
            per_agent: every agent has a latent of its own.

        Returns:
            Memory after every step, ``[*B, T, N, H]``, and after the last, ``[*B, N, H]``.

        Raises:
            ValueError: if the network reads a latent and none is given.
        """
        parts = [observation, last_action, self.identity.expand(*observation.shape[:-1], -1)]
        if self.latent_input == "input" and self.latent_dim:
            if latent is None:
                raise ValueError("latent_input='input' needs the latent of every step.")
            parts.append(latent if per_agent else self._for_agents(latent))
        embedded = self.embed(torch.cat(parts, dim=-1)).relu()
        memories: tuple[Tensor, Tensor] = self.gru(embedded, memory, is_init)
        return memories

    @abstractmethod
    def score(
        self, memory: Tensor, latent: Tensor | None = None, *, per_agent: bool = False
    ) -> Tensor:
        """Scores of all actions.

        Args:
            memory: ``[*B, N, H]``.
            latent: broadcastable to ``[*L, *B, Z]``, or ``[*L, *B, N, Z]`` with ``per_agent``.
            per_agent: every agent has a latent of its own.

        Returns:
            ``[*L, *B, N, A]``; legality is not looked at.

        Raises:
            ValueError: if the network reads a latent and none is given.
        """

    def _for_agents(self, latent: Tensor) -> Tensor:
        return latent.unsqueeze(-2).expand(*latent.shape[:-1], len(self.identity), -1)


class RecurrentPolicyNet(RecurrentNet):
    r"""Scores of discrete actions from what an agent has seen, and a latent.

    .. math::
        h_t = \mathrm{GRU}(\mathrm{ReLU}(W [o_t, a_{t-1}, i]), h_{t-1}), \qquad
        \ell_t = W_2 \mathrm{ReLU}(W_1 [h_t, z_t])

    The latent enters after the GRU, so that memories do not depend on earlier latents: a replayed
    history fits any fresh one, and all outcomes of a categorical latent cost one small head each.
    Without a latent the head is one linear map, the skeleton of the PyMARL family.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix G.

    Args:
        obs_dim: size O of an observation.
        num_actions: number of actions A.
        num_agents: number of agents N.
        latent_dim: size Z of the latent; 0 for none.
        hidden_size: width of every layer and of the memory.
        share_params: one set of weights for all agents, who are told apart by their index.
        latent_input: ``"head"``, or ``"input"`` for a latent that enters with the observation (it
            must then be stored and replayed).
        latent_gain: factor on the initial weights of a latent that enters at the head: with a large
            one the policies of its outcomes are unlike each other from the start.

    Raises:
        ValueError: for an unknown ``latent_input``, or a gain that is not positive and finite.

    Example:
        >>> net = RecurrentPolicyNet(4, 5, num_agents=2, latent_dim=3)
        >>> memory, _ = net.unroll(torch.zeros(6, 7, 2, 4), torch.zeros(6, 7, 2, 5))
        >>> net.score(memory, torch.eye(3)[:, None, None]).shape
        torch.Size([3, 6, 7, 2, 5])
    """

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        num_agents: int,
        *,
        latent_dim: int = 0,
        hidden_size: int = 64,
        share_params: bool = True,
        latent_input: LatentInput = "head",
        latent_gain: float = 1.0,
    ) -> None:
        if latent_input not in get_args(LatentInput):
            raise ValueError(
                f"latent_input must be one of {get_args(LatentInput)}, got {latent_input!r}."
            )
        if not 0.0 < latent_gain < math.inf:
            raise ValueError(f"latent_gain must be positive and finite, got {latent_gain}.")
        share: dict[str, Any] = {"share_params": share_params}
        super().__init__(
            obs_dim,
            num_actions,
            num_agents,
            latent_dim=latent_dim,
            hidden_size=hidden_size,
            latent_input=latent_input,
            **share,
        )
        self.from_memory: AgentLinear | None = None
        self.from_latent: AgentLinear | None = None
        if latent_dim and latent_input == "head":
            # One layer over [h, z], in two parts: all outcomes of z share the part of h.
            both = {**share, "fan_in": hidden_size + latent_dim}
            self.from_memory = AgentLinear(hidden_size, hidden_size, num_agents, **both)
            self.from_latent = AgentLinear(latent_dim, hidden_size, num_agents, bias=False, **both)
            with torch.no_grad():
                self.from_latent.weight.mul_(latent_gain)
        self.head = AgentLinear(hidden_size, num_actions, num_agents, **share)

    def score(
        self, memory: Tensor, latent: Tensor | None = None, *, per_agent: bool = False
    ) -> Tensor:
        """Logits of all actions, see :meth:`RecurrentNet.score`."""
        if self.from_memory is None or self.from_latent is None:
            scores: Tensor = self.head(memory)
            return scores
        if latent is None:
            raise ValueError("the policy reads a latent: give one.")
        mixed = self.from_memory(memory) + self.from_latent(
            latent if per_agent else self._for_agents(latent)
        )
        scores = self.head(mixed.relu())
        return scores


def one_hot_or_zeros(index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """One-hot rows of ``[*B]``, ``[*B, size]``; zeros where the index is negative."""
    return (index.unsqueeze(-1) == torch.arange(size, device=index.device)).to(dtype)
