r"""Games whose mutual information is known exactly, and the linear-Gaussian one.

In each, agents draw their actions independently given one shared latent z, so that whatever they
know of each other went through z. Everything is in nats, differentiable in the policies, and meant
for float64.

Shapes: ``N`` agents, ``A`` action, ``Z`` latent, ``M`` draws. Source: Kim et al. 2023,
arXiv:2303.00451, Eqs. (6)-(9) and (18).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal

__all__ = ["Game", "LinearGaussianGame", "LinearPredictor"]


class Game(ABC):
    """What the exact games have in common: one latent, shared by all agents, and exact terms.

    ``q`` is a conditional density of the game's own kind: a :class:`LinearPredictor`, or a table.
    """

    def __repr__(self) -> str:
        # In full, unlike a tensor's own repr: a falsifying game can be pasted and run again.
        fields = (f"{name}={_literal(value)}" for name, value in vars(self).items())
        return f"{type(self).__name__}({', '.join(fields)})"

    @abstractmethod
    def mutual_information(self, i: int, j: int) -> Tensor:
        """Exact ``I(a_i; a_j)``."""

    @abstractmethod
    def entropy(self, i: int) -> Tensor:
        """Entropy of the marginal policy, Eq. (7): H_K at K = infinity."""

    @abstractmethod
    def conditional_entropy(self, i: int) -> Tensor:
        """Entropy given the latent, ``H(a_i | z)`` = H_0."""

    @abstractmethod
    def expected_log_q(self, i: int, j: int, q: Any) -> Tensor:
        r"""Exact :math:`E \log q(a_j | a_i)`."""

    @abstractmethod
    def gap(self, i: int, j: int, q: Any) -> Tensor:
        r"""What (6) leaves out, Eq. (9): :math:`E_{a_i} KL(p(a_j | a_i) \| q(a_j | a_i))`."""

    @abstractmethod
    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Draw joint actions: ``[M, N, A]``, or int64 ``[M, N]`` where they are discrete."""

    def latent_information(self, i: int) -> Tensor:
        """``I(a_i; z)``, which is at least ``I(a_i; a_j)`` for every j."""
        return self.entropy(i) - self.conditional_entropy(i)

    def bound(self, i: int, j: int, q: Any) -> Tensor:
        r"""Lower bound (6) with the marginal entropy, :math:`H(a_j) + E \log q(a_j | a_i)`."""
        return self.entropy(j) + self.expected_log_q(i, j, q)

    def symmetric_bound(self, i: int, j: int, q_j_given_i: Any, q_i_given_j: Any) -> Tensor:
        """Lower bound (8): the mean of both directions."""
        return 0.5 * (self.bound(i, j, q_j_given_i) + self.bound(j, i, q_i_given_j))

    def surrogate(self, i: int, j: int, q: Any) -> Tensor:
        r"""The form of K = 0, :math:`H(a_j | z) + E \log q \le -I(a_j; z | a_i)`."""
        return self.conditional_entropy(j) + self.expected_log_q(i, j, q)


class LinearPredictor(NamedTuple):
    r"""A linear-Gaussian conditional density, :math:`q(a_t | a_c) = N(M a_c + c, R)`."""

    matrix: Tensor
    """M, ``[A, A]``."""
    offset: Tensor
    """c, ``[A]``."""
    covariance: Tensor
    """R, ``[A, A]``."""

    def log_prob(self, target: Tensor, condition: Tensor) -> Tensor:
        """Log-density of ``target`` given ``condition`` (both ``[M, A]``), ``[M]``."""
        loc = condition @ self.matrix.mT + self.offset
        return MultivariateNormal(loc, self.covariance).log_prob(target)


@dataclass(frozen=True, eq=False, repr=False)
class LinearGaussianGame(Game):
    r"""Agents whose actions are linear in a Gaussian latent.

    .. math:: a_i = b_i + W_i z + n_i, \quad z \sim N(0, C), \quad n_i \sim N(0, S_i)

    Args:
        weights: W, ``[N, A, Z]``.
        offset: b, ``[N, A]``.
        noise: covariances S of the agents' own noise, ``[N, A, A]``.
        latent: covariance C of the latent, ``[Z, Z]``.

    Example:
        >>> from vm3ac_modules.testing import LinearGaussianGame
        >>> one = torch.ones(2, 1, 1, dtype=torch.float64)
        >>> game = LinearGaussianGame(one, one[..., 0], one, one[0])
        >>> round(game.mutual_information(0, 1).item(), 4)
        0.1438
    """

    weights: Tensor
    offset: Tensor
    noise: Tensor
    latent: Tensor

    def covariance(self, i: int, j: int) -> Tensor:
        r"""Cov(a_i, a_j) = :math:`W_i C W_j^T`, plus S_i for i = j, Eq. (18); ``[A, A]``."""
        shared = self.weights[i] @ self.latent @ self.weights[j].mT
        return shared + self.noise[i] if i == j else shared

    def mutual_information(self, i: int, j: int) -> Tensor:
        r"""Exact :math:`I(a_i; a_j) = \frac12 \log(|S_{ii}| |S_{jj}| / |S|)`."""
        own_i, own_j, cross = self.covariance(i, i), self.covariance(j, j), self.covariance(i, j)
        joint = torch.cat((torch.cat((own_i, cross), 1), torch.cat((cross.mT, own_j), 1)))
        return 0.5 * (own_i.logdet() + own_j.logdet() - joint.logdet())

    def entropy(self, i: int) -> Tensor:
        """Entropy of the marginal policy, Eq. (7): H_K at K = infinity."""
        return _gaussian_entropy(self.covariance(i, i))

    def conditional_entropy(self, i: int) -> Tensor:
        """Entropy given the latent, H_0."""
        return _gaussian_entropy(self.noise[i])

    def conditional(self, j: int, given: int) -> LinearPredictor:
        """The true ``p(a_j | a_given)``, the predictor that closes the gap."""
        cross = self.covariance(given, j)
        matrix = torch.linalg.solve(self.covariance(given, given), cross).mT
        offset = self.offset[j] - matrix @ self.offset[given]
        return LinearPredictor(matrix, offset, self.covariance(j, j) - matrix @ cross)

    def expected_log_q(self, i: int, j: int, q: LinearPredictor) -> Tensor:
        r"""Exact :math:`E \log q(a_j | a_i)`."""
        cross = q.matrix @ self.covariance(i, j)
        spread = self.covariance(j, j) - cross - cross.mT
        spread = spread + q.matrix @ self.covariance(i, i) @ q.matrix.mT
        bias = self.offset[j] - q.matrix @ self.offset[i] - q.offset
        moment = spread + bias.outer(bias)
        energy = torch.linalg.solve(q.covariance, moment).trace()
        return -0.5 * (len(bias) * math.log(2 * math.pi) + q.covariance.logdet() + energy)

    def gap(self, i: int, j: int, q: LinearPredictor) -> Tensor:
        r"""What (6) leaves out, Eq. (9): :math:`E_{a_i} KL(p(a_j | a_i) \| q(a_j | a_i))`."""
        p = self.conditional(j, given=i)
        matrix, bias = p.matrix - q.matrix, p.offset - q.offset
        mean = matrix @ self.offset[i] + bias
        moment = p.covariance + matrix @ self.covariance(i, i) @ matrix.mT + mean.outer(mean)
        energy = torch.linalg.solve(q.covariance, moment).trace()
        return 0.5 * (energy - len(bias) + q.covariance.logdet() - p.covariance.logdet())

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Draw joint actions, ``[M, N, A]``."""
        num_agents, _, latent_dim = self.weights.shape
        shape, dtype = (num, num_agents, self.offset.shape[1], 1), self.weights.dtype
        z = torch.randn(num, latent_dim, generator=generator, dtype=dtype)
        z = z @ torch.linalg.cholesky(self.latent).mT
        noise = torch.randn(shape, generator=generator, dtype=dtype)
        own = (torch.linalg.cholesky(self.noise) @ noise).squeeze(-1)
        return self.offset + torch.einsum("naz,mz->mna", self.weights, z) + own


def _gaussian_entropy(covariance: Tensor) -> Tensor:
    return 0.5 * (len(covariance) * math.log(2 * math.pi * math.e) + covariance.logdet())


def _literal(value: Tensor | tuple[Tensor, ...]) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_literal(item) for item in value)},)"
    return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
