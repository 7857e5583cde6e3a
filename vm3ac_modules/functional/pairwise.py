"""The grid of ordered agent pairs, reductions over it, and the own-gradient joint action.

Shapes: ``*B`` batch, ``N`` agents, ``F`` features. Entry ``[i, j]`` of a pair matrix belongs to
agent i, about its partner j; the diagonal (an agent paired with itself) carries no meaning and is
0 in what these functions return. It is removed by selection, never by a product with zero, so a
NaN on the diagonal reaches neither values nor gradients.

Source: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from vm3ac_modules.functional.kept import kept

__all__ = [
    "fill_diagonal_zero",
    "gather_others",
    "gather_pairs",
    "gather_partners",
    "others_index",
    "own_first",
    "own_gradient_joint_action",
    "pair_mean",
    "pair_sum",
    "partners_at",
    "scatter_offsets",
    "scatter_others",
]


def others_index(num_agents: int, device: torch.device | None = None) -> Tensor:
    """Index of every agent's partners, in ascending order.

    Args:
        num_agents: number of agents N.
        device: where the index lives.

    Returns:
        int64 ``[N, N - 1]``, the caller's own; row i lists all j != i.

    Raises:
        ValueError: if ``num_agents < 1``.

    Example:
        >>> others_index(3).tolist()
        [[1, 2], [0, 2], [0, 1]]
    """
    if num_agents < 1:
        raise ValueError(f"num_agents must be at least 1, got {num_agents}.")
    return _others_index(num_agents, device)


def _others_index(num_agents: int, device: torch.device | None) -> Tensor:
    columns = torch.arange(num_agents - 1, device=device).expand(num_agents, -1)
    rows = torch.arange(num_agents, device=device).unsqueeze(-1)
    return columns + (columns >= rows)


def _diagonal(num_agents: int, device: torch.device | None) -> Tensor:
    return torch.eye(num_agents, dtype=torch.bool, device=device)


# Constants of every call on a hot path; always with the device of a tensor that they go with.
_kept_others_index = kept(_others_index)
_kept_diagonal = kept(_diagonal)


def gather_others(x: Tensor) -> Tensor:
    """For every agent, the entries of its partners in ascending order.

    Args:
        x: one row of features per agent, ``[*B, N, F]``.

    Returns:
        ``[*B, N, N - 1, F]``.

    Example:
        >>> gather_others(torch.tensor([[0.0], [1.0], [2.0]])).squeeze(-1).tolist()
        [[1.0, 2.0], [0.0, 2.0], [0.0, 1.0]]
    """
    return x[..., _kept_others_index(x.shape[-2], x.device), :]


def partners_at(offsets: Tensor, num_agents: int) -> Tensor:
    """Agents that stand so many places behind every agent, round the circle of agents.

    With the same offset for all agents everybody is a partner of exactly one other.

    Args:
        offsets: int64 ``[*B, k]``, each in 1..N - 1.
        num_agents: number of agents N.

    Returns:
        Numbers of agents, int64 ``[*B, N, k]``.

    Example:
        >>> partners_at(torch.tensor([2]), 3).tolist()
        [[2], [0], [1]]
    """
    agents = torch.arange(num_agents, device=offsets.device).unsqueeze(-1)
    return (agents + offsets.unsqueeze(-2)) % num_agents


def gather_partners(x: Tensor, partners: Tensor) -> Tensor:
    """For every agent, the entries of these partners.

    Args:
        x: one row of features per agent, ``[*B, N, F]``.
        partners: numbers of agents, int64 ``[*B, N, k]``; batch dimensions broadcast.

    Returns:
        ``[*B, N, k, F]``.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> gather_partners(x, torch.tensor([[2], [0], [1]])).squeeze(-1).tolist()
        [[2.0], [0.0], [1.0]]
    """
    index = partners.flatten(-2).unsqueeze(-1)
    x = x[(None,) * (index.ndim - x.ndim)]
    rows = torch.take_along_dim(x, index, dim=-2)
    return rows.reshape(*rows.shape[:-2], *partners.shape[-2:], rows.shape[-1])


def scatter_offsets(values: Tensor) -> Tensor:
    """Lay values by offset out as a pair matrix with a zero diagonal.

    Args:
        values: one value per agent and offset 1..N - 1, ``[*B, N, N - 1]``.

    Returns:
        ``[*B, N, N]`` with ``out[i, (i + d) mod N] = values[i, d - 1]``.

    Example:
        >>> scatter_offsets(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).tolist()
        [[0.0, 1.0, 2.0], [4.0, 0.0, 3.0], [5.0, 6.0, 0.0]]
    """
    agents = torch.arange(values.shape[-2], device=values.device)
    offsets = (agents - agents.unsqueeze(-1)) % agents.numel()
    return torch.take_along_dim(pad(values, (1, 0)), offsets.expand(*values.shape[:-2], -1, -1), -1)


def scatter_others(values: Tensor) -> Tensor:
    """Lay a grid of partners out as a pair matrix with a zero diagonal.

    Inverse of the layout of :func:`gather_others`: ``out[i, others[i, k]] = values[i, k]``.

    Args:
        values: one value per agent and partner, ``[*B, N, N - 1]``.

    Returns:
        ``[*B, N, N]``, zero on the diagonal.

    Example:
        >>> scatter_others(torch.tensor([[5.0], [7.0]])).tolist()
        [[0.0, 5.0], [7.0, 0.0]]
    """
    num_agents = values.shape[-2]
    if num_agents == 1:
        return values.new_zeros((*values.shape[:-1], 1))
    # Off the diagonal a matrix in row-major order is N - 1 rows of N, each after a diagonal entry:
    # so a zero behind every row and one in front of all put the diagonal in place.
    rows = values.reshape(*values.shape[:-2], num_agents - 1, num_agents)
    flat = pad(pad(rows, (0, 1)).flatten(-2), (1, 0))
    return flat.reshape(*flat.shape[:-1], num_agents, num_agents)


def gather_pairs(pairs: Tensor) -> Tensor:
    """Take a pair matrix apart into a grid of partners; inverse of :func:`scatter_others`.

    Args:
        pairs: pair matrix ``[*B, N, N]``; the diagonal is left out.

    Returns:
        ``[*B, N, N - 1]``, partners ascending.

    Example:
        >>> gather_pairs(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]])).tolist()
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """
    num_agents = pairs.shape[-1]
    if num_agents == 1:
        return pairs[..., :0]
    # Behind every diagonal entry but the last one there are N entries off the diagonal.
    batch = pairs.shape[:-2]
    rows = pairs.flatten(-2)[..., 1:].reshape(*batch, num_agents - 1, num_agents + 1)
    return rows[..., :-1].reshape(*batch, num_agents, num_agents - 1)


def fill_diagonal_zero(pairs: Tensor) -> Tensor:
    """Replace the diagonal of a pair matrix by zero, by selection.

    Args:
        pairs: pair matrix ``[*B, N, N]``; whatever is on its diagonal is ignored.

    Returns:
        ``[*B, N, N]``.

    Raises:
        ValueError: if the two last dimensions differ.

    Example:
        >>> fill_diagonal_zero(torch.tensor([[float("nan"), 1.0], [2.0, 3.0]])).tolist()
        [[0.0, 1.0], [2.0, 0.0]]
    """
    if pairs.ndim < 2 or pairs.shape[-1] != pairs.shape[-2]:
        raise ValueError(f"a pair matrix is [*B, N, N], got shape {tuple(pairs.shape)}.")
    return pairs.masked_fill(_kept_diagonal(pairs.shape[-1], pairs.device), 0.0)


def pair_mean(pairs: Tensor) -> Tensor:
    """Mean over ordered pairs.

    Args:
        pairs: pair matrix ``[*B, N, N]``; its diagonal is ignored.

    Returns:
        ``[*B]``; 0 for one agent.

    Example:
        >>> pair_mean(torch.tensor([[9.0, 1.0], [2.0, 9.0]]))
        tensor(1.5000)
    """
    num_agents = pairs.shape[-1]
    return fill_diagonal_zero(pairs).sum((-1, -2)) / max(num_agents * (num_agents - 1), 1)


def pair_sum(pairs: Tensor) -> Tensor:
    """Sum over partners, ``sum_{j != i} pairs[i, j]``.

    Args:
        pairs: pair matrix ``[*B, N, N]``, whose diagonal is ignored, or a grid of all partners or
            some, ``[*B, N, k]`` with k < N.

    Returns:
        ``[*B, N]``; zero for N = 1.

    Example:
        >>> pair_sum(torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])).tolist()
        [3.0, 7.0, 11.0]
    """
    if pairs.ndim >= 2 and pairs.shape[-1] < pairs.shape[-2]:
        return pairs.sum(-1)
    return fill_diagonal_zero(pairs).sum(-1)


def own_first(x: Tensor) -> Tensor:
    """Each agent's view of a per-agent quantity: its own row first, then the others ascending.

    Args:
        x: one row per agent, ``[*B, N, F]``.

    Returns:
        ``[*B, N, N, F]``.

    Example:
        >>> own_first(torch.tensor([[0.0], [1.0], [2.0]])).squeeze(-1).tolist()
        [[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 0.0, 1.0]]
    """
    return torch.cat((x.unsqueeze(-2), gather_others(x)), dim=-2)


def own_gradient_joint_action(action: Tensor) -> Tensor:
    r"""Give every agent a joint action through which only its own action is differentiable.

    .. math:: \mathrm{joint}[i, j] = a_j \text{ if } i = j \text{ else } \mathrm{sg}(a_j)

    In Eq. (49) agent i's critic :math:`Q_i(x, a)` may push :math:`\phi_i` only; summing all agents'
    losses over rows of this tensor gives the gradients of N separate losses. Row i is ordered own
    first, then the others ascending, as centralized critics read it.

    Args:
        action: joint action, ``[*B, N, A]``.

    Returns:
        ``[*B, N, N, A]``; in row i, entry 0 is agent i's action and the only one with a gradient.

    Example:
        >>> a = torch.tensor([[1.0], [2.0]], requires_grad=True)
        >>> joint = own_gradient_joint_action(a)
        >>> joint.squeeze(-1).tolist()
        [[1.0, 2.0], [2.0, 1.0]]
        >>> torch.autograd.grad(joint[0].sum(), a)[0].squeeze(-1).tolist()
        [1.0, 0.0]
    """
    return torch.cat((action.unsqueeze(-2), gather_others(action.detach())), dim=-2)
