r"""Targets and objectives of VM3-AC: Eqs. (45)-(50).

Shapes: ``*B`` batch, ``N`` agents. ``log_q[i, j]`` = :math:`\log q_{\xi_i}(a_j | a_i)` is the
model owned by agent i predicting j from i; ``log_q_rev[i, j]`` = :math:`\log q_{\xi_i}(a_i | a_j)`
the same owner predicting itself from j. Both are ``[*B, N, N]`` in nats; their diagonal is ignored.
``beta`` is a number or one per agent, ``[N]``.

Source: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Eqs. (45)-(50).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from vm3ac_modules.functional.pairwise import pair_sum

__all__ = [
    "PolicyObjective",
    "SoftValueTarget",
    "action_value_target",
    "pair_weight",
    "policy_objective",
    "soft_bonus",
    "soft_value_target",
    "squared_error",
]


class SoftValueTarget(NamedTuple):
    """Target of the state value (46) and its parts, each ``[*B, N]``."""

    total: Tensor
    """``q_term + entropy_term + correlation_term``."""
    q_term: Tensor
    """Minimum over critics of the action value."""
    entropy_term: Tensor
    """``-beta * log pi_K(a_i)``."""
    correlation_term: Tensor
    """``beta * pair_weight * sum_j (log_q + log_q_rev)``."""


class PolicyObjective(NamedTuple):
    """Loss of the policy (49) and its parts, each ``[*B, N]``; the total is to be minimized."""

    total: Tensor
    """``-q_term - entropy_term - correlation_term``."""
    q_term: Tensor
    """Action value of the critic that trains the policy."""
    entropy_term: Tensor
    """``-beta * log pi_K(a_i)``."""
    correlation_term: Tensor
    """``beta * pair_weight * sum_j (log_q + sg log_q_rev)``."""


def pair_weight(num_agents: int, kind: Literal["paper", "mean"] = "paper") -> float:
    r"""Weight of the sum over partners: 1/N (the paper) or 1/(N - 1) (the exact sum of Eq. (8)).

    Args:
        num_agents: number of agents N.
        kind: ``"paper"`` for 1/N, ``"mean"`` for 1/(N - 1) (0 for N = 1, which has no pairs).

    Returns:
        The weight.

    Raises:
        ValueError: for ``num_agents < 1`` or an unknown ``kind``.

    Example:
        >>> pair_weight(4), pair_weight(3, "mean")
        (0.25, 0.5)
    """
    if num_agents < 1:
        raise ValueError(f"num_agents must be at least 1, got {num_agents}.")
    if kind == "paper":
        return 1.0 / num_agents
    if kind == "mean":
        return 1.0 / (num_agents - 1) if num_agents > 1 else 0.0
    raise ValueError(f"pair_weight must be 'paper' (1/N) or 'mean' (1/(N-1)), got {kind!r}.")


def soft_bonus(
    log_prob: Tensor, pairs: Tensor, *, beta: float | Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    r"""What (46) and (49) add to the action value.

    .. math:: -\beta \log\pi_K(a_i|o_i), \qquad \beta w \sum_{j \ne i} \mathrm{pairs}_{ij}

    Args:
        log_prob: log-density of each agent's fresh action (nats), ``[*B, N]``.
        pairs: log-densities of both directions, added up, ``[*B, N, N]`` (or a grid
            ``[*B, N, N - 1]``).
        beta: temperature, number or ``[N]``.
        weight: weight of the sum over partners, :func:`pair_weight`.

    Returns:
        Entropy term and correlation term, ``[*B, N]`` each.

    Example:
        >>> import torch
        >>> soft_bonus(torch.zeros(2), torch.full((2, 2), -2.0), beta=0.5, weight=0.5)[1].tolist()
        [-0.5, -0.5]
    """
    return -beta * log_prob, beta * weight * pair_sum(pairs)


def soft_value_target(
    q_min: Tensor,
    log_prob: Tensor,
    log_q: Tensor,
    log_q_rev: Tensor,
    *,
    beta: float | Tensor,
    weight: float,
) -> SoftValueTarget:
    r"""Target of the state value, Eq. (46).

    .. math:: \hat V_i = \min_k Q_{i,k}(x, a) - \beta \log\pi_K(a_i|o_i)
        + \beta w \sum_{j \ne i} [\log q_{\xi_i}(a_j|a_i) + \log q_{\xi_i}(a_i|a_j)]

    Args:
        q_min: minimum of the critics at the fresh joint action, ``[*B, N]``.
        log_prob: log-density of each agent's fresh action (nats), ``[*B, N]``.
        log_q: pair matrix of i predicting j, ``[*B, N, N]`` (or its grid ``[*B, N, N - 1]``).
        log_q_rev: the same of i predicting itself from j.
        beta: temperature, number or ``[N]``.
        weight: weight of the sum over partners, :func:`pair_weight`.

    Returns:
        The target and its parts, each ``[*B, N]``.

    Example:
        >>> import torch
        >>> pairs = torch.full((2, 2), -1.0)
        >>> soft_value_target(torch.ones(2), torch.zeros(2), pairs, pairs, beta=0.5,
        ...                   weight=0.5).total.tolist()
        [0.5, 0.5]
    """
    terms = soft_bonus(log_prob, log_q + log_q_rev, beta=beta, weight=weight)
    return SoftValueTarget(q_min + terms[0] + terms[1], q_min, *terms)


def action_value_target(
    reward: Tensor, terminated: Tensor, next_value: Tensor, *, gamma: float | Tensor
) -> Tensor:
    r"""Target of the action values, Eq. (48) with the terminal mask that the text leaves out.

    .. math:: \hat Q_i = r_i + \gamma (1 - \mathrm{terminated}) V_{\bar\psi_i}(x')

    A time limit is a truncation and does not cut the bootstrap.

    Args:
        reward: per-agent reward, ``[*B, N]``.
        terminated: terminal flag, bool (or 0 and 1), broadcastable to ``[*B, N]``.
        next_value: target state value at the next state, ``[*B, N]``.
        gamma: discount per step.

    Returns:
        ``[*B, N]``.

    Example:
        >>> import torch
        >>> action_value_target(torch.ones(2), torch.tensor([False, True]), torch.ones(2),
        ...                     gamma=0.5).tolist()
        [1.5, 1.0]
    """
    return reward + gamma * terminated.logical_not().to(reward.dtype) * next_value


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Half squared error of Eqs. (45) and (47), :math:`\tfrac12 (p - \mathrm{sg}\, t)^2`.

    Args:
        prediction: ``[*B, N]``.
        target: ``[*B, N]``; no gradient flows into it.

    Returns:
        ``[*B, N]``.

    Example:
        >>> import torch
        >>> squared_error(torch.tensor([3.0]), torch.tensor([1.0])).tolist()
        [2.0]
    """
    return 0.5 * (prediction - target.detach()).square()


def policy_objective(
    q_value: Tensor,
    log_prob: Tensor,
    log_q: Tensor,
    log_q_rev: Tensor | None = None,
    *,
    beta: float | Tensor,
    weight: float,
    stop_reverse: bool = True,
) -> PolicyObjective:
    r"""Loss of the policies, Eq. (49), with the gradient rule of Eq. (50).

    .. math:: L_i = -Q_{i,1}(x, a) + \beta \log\pi_K(a_i|o_i)
        - \beta w \sum_{j \ne i} [\log q_{\xi_i}(a_j|a_i) + \mathrm{sg} \log q_{\xi_i}(a_i|a_j)]

    Term (b), ``log_q``, carries the gradient through its conditioning side: the caller hands it in
    with the predicted action detached. Term (a), ``log_q_rev``, sends nothing to a policy.

    Args:
        q_value: action value at the own-gradient joint action, ``[*B, N]``.
        log_prob: log-density of each agent's fresh action (nats), ``[*B, N]``.
        log_q: pair matrix of i predicting j, ``[*B, N, N]`` (or its grid ``[*B, N, N - 1]``).
        log_q_rev: the same of i predicting itself from j; None leaves out what is a constant for
            the policies.
        beta: temperature, number or ``[N]``.
        weight: weight of the sum over partners, :func:`pair_weight`.
        stop_reverse: stop the gradient through ``log_q_rev`` (the paper). With False the objective
            has its maximum at no coordination (docs/readings.md).

    Returns:
        The loss per agent and its parts, each ``[*B, N]``.

    Example:
        >>> import torch
        >>> pairs = torch.full((2, 2), -1.0)
        >>> policy_objective(torch.ones(2), torch.zeros(2), pairs, beta=0.5, weight=0.5
        ...                  ).total.tolist()
        [-0.75, -0.75]
    """
    pairs = log_q
    if log_q_rev is not None:
        pairs = pairs + (log_q_rev.detach() if stop_reverse else log_q_rev)
    terms = soft_bonus(log_prob, pairs, beta=beta, weight=weight)
    return PolicyObjective(-(q_value + terms[0] + terms[1]), q_value, *terms)
