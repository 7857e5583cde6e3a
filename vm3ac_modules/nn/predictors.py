r"""The network of the variational predictor: every owner's model of every partner.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``A`` action, ``H``
hidden. Agent i's network predicts in both directions of each of its pairs: j from i, and itself
from j. Source: Kim et al. 2023, arXiv:2303.00451, Eq. (50) and Appendix F.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.pairwise import gather_others, gather_partners
from vm3ac_modules.nn.blocks import AgentMLP, check_agents

__all__ = ["PairNet"]


class PairNet(nn.Module):
    r"""Features of agent t's action given agent c's, by the model of an owner i in {c, t}.

    .. math:: f_{\xi_i}(a_c, o_c, \mathrm{onehot}_N(c), o_t, \mathrm{onehot}_N(t))

    c conditions, t is predicted. The paper has the one-hot of j only; as one owner predicts in
    both directions the second one tells the direction.

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
        >>> net(torch.zeros(5, 3, 2), torch.zeros(5, 3, 6)).shape
        torch.Size([5, 3, 4, 2])
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
        self.num_agents, self.sizes = num_agents, (action_dim, obs_dim)
        self.net = AgentMLP(
            action_dim + 2 * obs_dim + 2 * num_agents,
            out_features,
            num_agents,
            hidden=hidden,
            share_params=share_params,
            stack_shape=stack_shape,
        )

    def forward(
        self,
        action: Tensor,
        observation: Tensor,
        *,
        both: bool = True,
        partners: Tensor | None = None,
    ) -> Tensor:
        """Predict partners from oneself and, with ``both``, oneself from each of them.

        Args:
            action: the conditioning actions, ``[*S, *B, N, A]``.
            observation: ``[*S, *B, N, O]``.
            both: also compute the reverse direction.
            partners: numbers of every agent's partners, int64 ``[*S, *B, N, k]``; None for all
                k = N - 1, ascending.

        Returns:
            ``[*S, *B, N, R, F]`` of owner i: the first k rows are about its partners from a_i, the
            k further ones, with ``both``, about itself from each a_j.

        Raises:
            ValueError: if the number of agents or a size is not the one it was built for.
        """
        if action.shape[-2] != self.num_agents:
            raise ValueError(
                f"the predictor was built for {self.num_agents} agents, got actions of "
                f"{action.shape[-2]} agents (shape {tuple(action.shape)})."
            )
        if (action.shape[-1], observation.shape[-1]) != self.sizes:
            raise ValueError(
                "the predictor was built for actions and observations of sizes "
                f"{self.sizes}, got {(action.shape[-1], observation.shape[-1])}."
            )
        rows = self._rows(action, observation, both=both, partners=partners)
        # The rows of an owner's pairs are further batch rows of its network.
        out: Tensor = self.net(rows)
        return out.transpose(-3, -2)

    def _rows(
        self, action: Tensor, observation: Tensor, *, both: bool, partners: Tensor | None
    ) -> Tensor:
        """Inputs of every owner's pairs, ``[*S, *B, R, N, in]``: partners, then itself."""
        ids = torch.eye(self.num_agents, dtype=action.dtype, device=action.device)
        seen = torch.cat((observation, ids.expand(*observation.shape[:-1], -1)), dim=-1)
        other = self._others(seen, partners)
        own = seen.unsqueeze(-3).expand(other.shape)
        acting = action.unsqueeze(-3).expand(*other.shape[:-1], -1)
        rows = torch.cat((acting, own, other), dim=-1)
        if not both:
            return rows
        reverse = torch.cat((self._others(action, partners), other, own), dim=-1)
        return torch.cat((rows, reverse), dim=-3)

    @staticmethod
    def _others(x: Tensor, partners: Tensor | None) -> Tensor:
        """Entries of the partners, ``[*S, *B, N, F]`` to ``[*S, *B, R, N, F]``."""
        others = gather_others(x) if partners is None else gather_partners(x, partners)
        return others.transpose(-3, -2)
