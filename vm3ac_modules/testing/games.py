r"""Values of games with an adversary in closed form, and the best response to a frozen policy.

Shapes: ``D`` draws, ``N`` agents, ``M`` modes.

Source: von Stengel and Koller 1997, "Team-maxmin equilibria"; Celli and Gatti 2018, "Computational
results for extensive-form adversarial team games".
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "correlated_guard_value",
    "correlated_prey_value",
    "guard_value",
    "independent_guard_value",
    "independent_prey_value",
]


def guard_value(choices: Tensor, num_modes: int) -> float:
    r"""What a frozen policy is worth against a guard that knows it, but not its latent.

    .. math:: \sum_m p_m - \max_m p_m, \qquad p_m = P(\text{all agents choose } m)

    Args:
        choices: the modes of joint draws, int64 ``[D, N]``.
        num_modes: number of modes M >= 2.

    Returns:
        The share of draws in which the team meets where the best response does not guard.

    Raises:
        ValueError: if there is no draw, or a choice is none of the modes.

    Example:
        >>> guard_value(torch.tensor([[0, 0], [1, 1], [1, 1], [0, 1]]), num_modes=2)
        0.25
    """
    if choices.ndim != 2 or not len(choices):
        raise ValueError(f"choices must be [D, N] with D >= 1, got {list(choices.shape)}.")
    if choices.min() < 0 or choices.max() >= num_modes:
        raise ValueError(f"choices must lie in 0..{num_modes - 1}, got up to {choices.max()}.")
    together = (choices == choices[:, :1]).all(-1)
    met = torch.bincount(choices[together, 0], minlength=num_modes)
    return float(met.sum() - met.max()) / len(choices)


def correlated_guard_value(num_modes: int) -> float:
    r"""The most that a team with a common random z can reach: :math:`1 - 1/M`.

    Args:
        num_modes: number of modes M.

    Example:
        >>> correlated_guard_value(4)
        0.75
    """
    return 1.0 - 1.0 / num_modes


def independent_guard_value(num_agents: int, num_modes: int) -> float:
    r"""The most that independent policies can reach: :math:`2^{-N}` for two agents or more.

    .. math:: \max_{2 \le k \le M} \frac{k - 1}{k^N}

    With :math:`x_m = \prod_i p_i(m)` Hoelder's inequality gives
    :math:`\sum_m x_m^{1/N} \le 1`. Where mode 1 is the likeliest, :math:`\sum_{m > 1} x_m` is
    convex in :math:`x^{1/N}`, so it is largest at an extreme point: uniform over k modes. A single
    agent needs no partner: 1 - 1/M.

    Args:
        num_agents: number of agents N >= 1.
        num_modes: number of modes M >= 2.

    Example:
        >>> independent_guard_value(2, 4), independent_guard_value(1, 4)
        (0.25, 0.75)
    """
    return max((k - 1) / k**num_agents for k in range(2, num_modes + 1))


def correlated_prey_value(num_modes: int) -> float:
    r"""How often a team with a common random z can catch a prey that knows it: :math:`1/M`.

    .. math:: \max \min_m p_m, \qquad p_m = P(\text{all agents wait at exit } m)

    Args:
        num_modes: number of exits M.

    Example:
        >>> correlated_prey_value(4)
        0.25
    """
    return 1.0 / num_modes


def independent_prey_value(num_agents: int, num_modes: int) -> float:
    r"""How often independent policies can: :math:`M^{-N}`.

    With :math:`x_m = \prod_i p_i(m)` Hoelder's inequality gives :math:`\sum_m x_m^{1/N} \le 1`, so
    the least of M terms is at most :math:`M^{-N}`; uniform policies attain it.

    Args:
        num_agents: number of agents N >= 1.
        num_modes: number of exits M.

    Example:
        >>> independent_prey_value(2, 4)
        0.0625
    """
    return float(num_modes) ** -num_agents
