r"""The network of the variational predictor: every owner's model of every partner.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``A`` action, ``H``
hidden. Agent i's network predicts in both directions of each of its pairs: j from i, and itself
from j. Source: Kim et al. 2023, arXiv:2303.00451, Eq. (50) and Appendix F.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.pairwise import others_index
from vm3ac_modules.nn.blocks import AgentLinear, AgentMLP, check_agents

__all__ = ["PairNet"]


class PairNet(nn.Module):
    r"""Features of agent t's action given agent c's, by the model of an owner i in {c, t}.

    .. math:: f_{\xi_i}(a_c, o_c, o_t, \mathrm{onehot}_N(c), \mathrm{onehot}_N(t))

    c conditions, t is predicted. The paper has the one-hot of j only; as one owner predicts in
    both directions the second one tells the direction. The first layer is kept as a sum over its
    inputs (the same function as one layer over their concatenation), so each agent's part is
    computed once for all of its pairs.

    Args:
        obs_dim: size O of an agent's observation.
        action_dim: size A of an agent's action.
        out_features: size F of the output per pair and direction.
        num_agents: number of agents N >= 1.
        hidden: widths of the hidden layers, at least one.
        share_params: one network for all owners instead of one each.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: if ``num_agents < 1`` or there is no hidden layer.

    Example:
        >>> net = PairNet(obs_dim=6, action_dim=2, out_features=2, num_agents=3)
        >>> partner, own = net(torch.zeros(5, 3, 2), torch.zeros(5, 3, 6))
        >>> partner.shape, own.shape
        (torch.Size([5, 3, 2, 2]), torch.Size([5, 3, 2, 2]))
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        out_features: int,
        num_agents: int,
        *,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_agents(num_agents)
        if not hidden:
            raise ValueError("the predictor needs at least one hidden layer.")
        self.num_agents, self.num_stack = num_agents, len(stack_shape)
        width = hidden[0]
        fan_in = action_dim + 2 * obs_dim + 2 * num_agents

        def layer(in_features: int, *, bias: bool = False) -> AgentLinear:
            return AgentLinear(
                in_features,
                width,
                num_agents,
                share_params=share_params,
                bias=bias,
                fan_in=fan_in,
                stack_shape=stack_shape,
            )

        self.condition_layer = layer(action_dim + obs_dim, bias=True)
        self.target_layer = layer(obs_dim)
        # A one-hot times a matrix is a row of it: [*S, owner, agent, H].
        self.condition_row = layer(num_agents)
        self.target_row = layer(num_agents)
        self.trunk = AgentMLP(
            width,
            out_features,
            num_agents,
            hidden=hidden[1:],
            share_params=share_params,
            stack_shape=stack_shape,
        )

    def forward(
        self, action: Tensor, observation: Tensor, *, both: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Predict every partner from oneself and, with ``both``, oneself from every partner.

        Args:
            action: the conditioning actions, ``[*S, *B, N, A]``.
            observation: ``[*S, *B, N, O]``.
            both: also compute the reverse direction.

        Returns:
            ``[*S, *B, N, N - 1, F]`` of owner i about partner j from a_i, and the same shape of
            owner i about itself from a_j (None without ``both``). Partners ascend.

        Raises:
            ValueError: if the number of agents is not the one the network was built for.
        """
        if action.shape[-2] != self.num_agents:
            raise ValueError(
                f"the predictor was built for {self.num_agents} agents, got actions of "
                f"{action.shape[-2]} agents (shape {tuple(action.shape)})."
            )
        hidden = self._first_layer(action, observation, both=both)
        # The rows of an owner's pairs are further batch rows of its network.
        out: Tensor = self.trunk(hidden.relu().transpose(-3, -2)).transpose(-3, -2)
        if not both:
            return out, None
        # Not chunk(2): it returns a single piece where there are no partners.
        partner, own = out.tensor_split(2, dim=-2)
        return partner, own

    def _first_layer(self, action: Tensor, observation: Tensor, *, both: bool) -> Tensor:
        """Sum of the parts for every owner and row, ``[*S, *B, N, R, H]``."""
        partners = others_index(self.num_agents, action.device)
        owners = torch.arange(self.num_agents, device=action.device)
        condition_in = torch.cat((action, observation), dim=-1)
        condition_row = self._owner_rows(self.condition_row.weight)
        target_row = self._owner_rows(self.target_row.weight)
        own = owners.unsqueeze(-1)
        target = self._every_owner(self.target_layer, observation)
        forward_part: Tensor = (
            self.condition_layer(condition_in).unsqueeze(-2)
            + target[..., own, partners, :]
            + self._batched(
                condition_row[..., own, own, :] + target_row[..., own, partners, :], target
            )
        )
        if not both:
            return forward_part
        condition = self._every_owner(self.condition_layer, condition_in)
        reverse_part = (
            condition[..., own, partners, :]
            + target[..., own, own, :]
            + self._batched(
                condition_row[..., own, partners, :] + target_row[..., own, own, :], target
            )
        )
        return torch.cat((forward_part, reverse_part), dim=-2)

    def _every_owner(self, layer: AgentLinear, x: Tensor) -> Tensor:
        """Apply every owner's layer to every agent's row, ``[*S, *B, owner, N, H]``."""
        rows = x.unsqueeze(-2).expand(*x.shape[:-1], self.num_agents, -1)  # [.., agent, owner, F]
        out: Tensor = layer(rows).transpose(-3, -2)
        return out

    def _owner_rows(self, weight: Tensor) -> Tensor:
        """Rows of a one-hot's weights for every owner, ``[*S, N, N, H]``."""
        return weight.expand(*weight.shape[:-3], self.num_agents, -1, -1)

    def _batched(self, rows: Tensor, like: Tensor) -> Tensor:
        """Insert the batch dimensions of ``like`` behind the stacked copies."""
        batch_dims = like.ndim - 3 - self.num_stack
        return rows.reshape(*rows.shape[: self.num_stack], *(1,) * batch_dims, *rows.shape[-3:])
