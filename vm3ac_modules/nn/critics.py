r"""Centralized critics: per-agent values of the joint situation.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``X`` state, ``A``
action, ``K`` critics, ``Z`` latent. The joint action is one row per agent,
``[*S, *B, N, N, A]``, own first and the others ascending
(``functional.own_gradient_joint_action``), so that each agent's value may carry its own gradient
rule. Source: Kim et al. 2023, arXiv:2303.00451, Appendix E; the
own-emphasized form follows Kim et al. 2019, "Message-Dropout", arXiv:1902.06527.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from vm3ac_modules.functional.pairwise import gather_others
from vm3ac_modules.nn.blocks import (
    AgentLinear,
    AgentMLP,
    agent_linear,
    check_critic,
    group_agents,
    repeat_input,
)

__all__ = ["CentralizedCriticNet"]

# With so many agents or more running sums take less time (docs/performance.md).
_SUMS_FROM = 16


def _sum_of_others(x: Tensor, weight: Tensor) -> Tensor:
    r"""Multiply every agent's others, ascending, by weights that all agents share.

    .. math:: y_i = \sum_{j < i} x_j W_j + \sum_{j > i} x_j W_{j-1}

    Agent j stands in slot j of the agents behind it and in slot j - 1 of those before it, so 2N
    products and their running sums serve everybody, in place of N(N - 1) products.

    Args:
        x: one row per agent, ``[*S, *B, N, F]``.
        weight: of N - 1 slots, ``[*S, (N - 1) F, out]``.

    Returns:
        ``[*S, *B, N, out]``.
    """
    slots = weight.reshape(*weight.shape[:-2], -1, x.shape[-1], weight.shape[-1])
    before = agent_linear(x[..., :-1, :], slots).cumsum(-2)
    after = agent_linear(x[..., 1:, :], slots).flip(-2).cumsum(-2).flip(-2)
    return pad(before, (0, 0, 1, 0)) + pad(after, (0, 0, 0, 1))


class CentralizedCriticNet(nn.Module):
    r"""K critics :math:`V_i(x)` or :math:`Q_i(x, a)` for every agent.

    ``"emphasized"``: own branch :math:`(o_i, a_i) \to h_1`, others' branch
    :math:`(o_{-i}\text{ or the state}, a_{-i}) \to h_1`, then :math:`2 h_1 \to h_2 \to 1`.
    ``"plain"``: everything concatenated, :math:`h_1 \to h_2 \to 1`. Both outputs are linear: the
    paper's "final activation tanh" cannot mean critics (docs/readings.md).

    Args:
        obs_dim: size O of an agent's observation.
        action_dim: size A of an agent's action; 0 for state values.
        num_agents: number of agents N >= 1.
        state_dim: size X of the state that replaces the others' observations; None to use all
            observations.
        form: ``"emphasized"`` or ``"plain"``.
        latent_dim: size Z of a latent in the own branch's input; 0 for critics that see none
            (VM3-AC's; MAVEN's see the episode's).
        num_critics: independent critics K per agent.
        hidden: widths of the hidden layers, at least one.
        share_params: one network for all agents instead of one each.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: for an unknown ``form``, ``num_critics < 1``, or no hidden layer.

    Example:
        >>> q = CentralizedCriticNet(obs_dim=6, action_dim=2, num_agents=3, num_critics=2)
        >>> q(torch.zeros(5, 3, 6), torch.zeros(5, 3, 3, 2)).shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        num_agents: int,
        *,
        state_dim: int | None = None,
        form: Literal["emphasized", "plain"] = "emphasized",
        latent_dim: int = 0,
        num_critics: int = 1,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_critic(num_agents, num_critics, hidden)
        if form not in ("emphasized", "plain"):
            raise ValueError(f"form must be 'emphasized' or 'plain', got {form!r}.")
        self.num_critics, self.stack_dims = num_critics, len(stack_shape)
        self.has_state = state_dim is not None
        self.latent_dim = latent_dim
        own = obs_dim + action_dim + latent_dim
        rest = state_dim if state_dim is not None else (num_agents - 1) * obs_dim
        others = rest + (num_agents - 1) * action_dim
        stack = (*stack_shape, num_critics)
        if form == "plain" or others == 0:
            self.own_layer, self.others_layer, width = None, None, own + others
            if form == "plain" and self.has_state:
                width = others + action_dim + latent_dim
            trunk_hidden = hidden
        else:
            self.own_layer = AgentLinear(
                own, hidden[0], num_agents, share_params=share_params, stack_shape=stack
            )
            self.others_layer = AgentLinear(
                others, hidden[0], num_agents, share_params=share_params, stack_shape=stack
            )
            width, trunk_hidden = 2 * hidden[0], hidden[1:]
        self.observes_itself = not (form == "plain" and self.has_state)
        self.sums_others = share_params and not self.has_state and num_agents >= _SUMS_FROM
        self.trunk = AgentMLP(
            width,
            1,
            num_agents,
            hidden=trunk_hidden,
            share_params=share_params,
            stack_shape=stack,
        )

    def forward(
        self,
        observation: Tensor,
        joint_action: Tensor | None = None,
        state: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> Tensor:
        """Compute all agents' values.

        Args:
            observation: ``[*S, *B, N, O]``.
            joint_action: ``[*S, *B, N, N, A]``, own first; None for state values.
            state: ``[*S, *B, X]``; needed if ``state_dim`` was given.
            latent: ``[*S, *B, Z]``; needed if ``latent_dim`` is not 0.

        Returns:
            ``[*S, *B, N, K]``.

        Raises:
            ValueError: if the state or latent is missing, or given to a critic built without one.
        """
        if (state is not None) != self.has_state:
            raise ValueError(
                "this critic was built with a state_dim: pass the state."
                if self.has_state
                else "this critic was built without a state_dim: it takes no state."
            )
        if (latent is not None) != (self.latent_dim > 0):
            raise ValueError(f"this critic was built for latent_dim={self.latent_dim}.")
        own = [observation] if self.observes_itself else []
        actions = []
        if joint_action is not None:
            own.append(joint_action[..., 0, :])
            actions.append(joint_action[..., 1:, :].flatten(-2))
        if latent is not None:
            shape = (*observation.shape[:-1], latent.shape[-1])
            own.append(latent.unsqueeze(-2).expand(shape))
        seen = observation
        if state is not None:
            seen = state.unsqueeze(-2).expand(*observation.shape[:-1], state.shape[-1])
        # All stays in the layout of the batched products until the value is out.
        if self.own_layer is None or self.others_layer is None:
            first = cast("AgentLinear", self.trunk.layers[0])
            groups = self.trunk.after_first(self._first(first, own, seen, actions))
        else:
            branches = (
                self.own_layer.grouped(self._group(own, self.own_layer.weight)),
                self._first(self.others_layer, [], seen, actions),
            )
            groups = self.trunk.grouped(torch.cat(branches, dim=-1).relu_())
        return self._ungroup(groups, self._stack(observation))

    def _first(
        self, layer: AgentLinear, own: list[Tensor], seen: Tensor, actions: list[Tensor]
    ) -> Tensor:
        """A first layer on one's own, the others' observations or the state, and their actions."""
        if not self.sums_others:
            others = seen if self.has_state else gather_others(seen).flatten(-2)
            return layer.grouped(self._group([*own, others, *actions], layer.weight))
        assert layer.bias is not None
        before, after = (sum(part.shape[-1] for part in parts) for parts in (own, actions))
        sizes = [before, layer.weight.shape[-2] - before - after, after]
        first, of_others, last = torch.split(layer.weight, sizes, dim=-2)
        sums = _sum_of_others(self._stack(seen), of_others.squeeze(-3))
        bias = layer.bias.flatten(0, -3)
        groups = sums.reshape(bias.shape[0], -1, bias.shape[-1]) + bias
        if not own and not actions:
            return groups
        weight = torch.cat((first, last), dim=-2)
        # In place: what an addition returned is nobody else's.
        return groups.baddbmm_(self._group([*own, *actions], weight), weight.flatten(0, -3))

    def _group(self, parts: list[Tensor], weight: Tensor) -> Tensor:
        return group_agents(self._stack(torch.cat(parts, dim=-1)), weight)

    def _stack(self, x: Tensor) -> Tensor:
        return repeat_input(x, self.stack_dims, self.num_critics)

    def _ungroup(self, groups: Tensor, x: Tensor) -> Tensor:
        """Values ``[S * K * N, B, 1]`` of inputs ``[*S, K, *B, N, in]`` as ``[*S, *B, N, K]``."""
        dims, agents = self.stack_dims, x.shape[-2]
        lead, batch = x.shape[: dims + 1], x.shape[dims + 1 : -2]
        if cast("AgentLinear", self.trunk.layers[0]).weight.shape[-3] == 1:
            return groups.reshape(*lead, *batch, agents).movedim(dims, -1)
        values = groups.reshape(*lead, agents, *batch)
        last = dims + 2 + len(batch)
        return values.permute(*range(dims), *range(dims + 2, last), dims + 1, dims)
