r"""The tabular game: mutual information and the whole entropy family by enumeration.

Shapes: ``A_i`` actions of agent i, ``Z`` outcomes of the latent, ``K`` extra latents, ``M`` draws.
Everything is in nats, differentiable in the tables, and meant for float64. Source: Kim et al.
2023, arXiv:2303.00451, Eqs. (6)-(9).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from vm3ac_modules.testing.oracles import Game

__all__ = ["TabularGame"]


@dataclass(frozen=True, eq=False, repr=False)
class TabularGame(Game):
    r"""Agents with finitely many actions and a latent with finitely many outcomes.

    Args:
        latent: probabilities of the outcomes of z, ``[Z]``.
        policies: one table of :math:`\pi_i(a | z)` per agent, ``[Z, A_i]``; rows add up to one.

    Example:
        >>> from vm3ac_modules.testing import TabularGame
        >>> coordinated = torch.eye(2, dtype=torch.float64)
        >>> game = TabularGame(torch.tensor([0.5, 0.5]).double(), (coordinated, coordinated))
        >>> round(game.mutual_information(0, 1).exp().item(), 4)
        2.0
    """

    latent: Tensor
    policies: tuple[Tensor, ...]

    def joint(self, i: int, j: int) -> Tensor:
        """Probabilities of both actions, ``[A_i, A_j]``; i and j are different agents."""
        return torch.einsum("z,za,zb->ab", self.latent, self.policies[i], self.policies[j])

    def marginal(self, i: int) -> Tensor:
        """The marginal policy, Eq. (7), ``[A_i]``."""
        return self.latent @ self.policies[i]

    def mutual_information(self, i: int, j: int) -> Tensor:
        """Exact ``I(a_i; a_j)``, from the definition."""
        joint, product = self.joint(i, j), torch.outer(self.marginal(i), self.marginal(j))
        return _expected_log(joint, joint) - _expected_log(joint, product)

    def entropy(self, i: int) -> Tensor:
        """Entropy of the marginal policy: H_K at K = infinity."""
        return -_expected_log(self.marginal(i), self.marginal(i))

    def conditional_entropy(self, i: int) -> Tensor:
        """Entropy given the latent, H_0."""
        return -_expected_log(self.latent.unsqueeze(-1) * self.policies[i], self.policies[i])

    def entropy_lower(self, i: int, num_latents: int) -> Tensor:
        """H_K: K + 1 latents, the first of which generated the action."""
        total = self.latent.new_zeros(())
        for weight, heads in self._heads(i, num_latents + 1):
            total = total - weight * _expected_log(heads[0], heads.mean(0))
        return total

    def entropy_upper(self, i: int, num_latents: int) -> Tensor:
        """H_up,K: K >= 1 latents, none of which generated the action."""
        total = self.latent.new_zeros(())
        for weight, heads in self._heads(i, num_latents):
            total = total - weight * _expected_log(self.marginal(i), heads.mean(0))
        return total

    def _heads(self, i: int, num_latents: int) -> Iterator[tuple[Tensor, Tensor]]:
        # Z^num_latents of them: the games are meant to be small.
        for drawn in itertools.product(range(len(self.latent)), repeat=num_latents):
            yield self.latent[list(drawn)].prod(), self.policies[i][list(drawn)]

    def conditional(self, j: int, given: int) -> Tensor:
        """The true table ``p(a_j | a_given)``, ``[A_given, A_j]``; uniform where undefined."""
        joint = self.joint(given, j)
        mass = joint.sum(-1, keepdim=True)
        uniform = torch.full_like(joint, 1.0 / joint.shape[-1])
        return torch.where(mass > 0, joint / mass.clamp(min=torch.finfo(mass.dtype).tiny), uniform)

    def expected_log_q(self, i: int, j: int, q: Tensor) -> Tensor:
        r"""Exact :math:`E \log q(a_j | a_i)` of a table ``[A_i, A_j]``."""
        return _expected_log(self.joint(i, j), q)

    def gap(self, i: int, j: int, q: Tensor) -> Tensor:
        r"""What (6) leaves out, Eq. (9): :math:`E_{a_i} KL(p(a_j | a_i) \| q(a_j | a_i))`."""
        p = self.conditional(j, given=i)
        divergence = torch.special.xlogy(p, p) - torch.special.xlogy(p, q)
        return self.marginal(i) @ divergence.sum(-1)

    def sample(self, num: int, generator: Generator | None = None) -> Tensor:
        """Draw joint actions, int64 ``[M, N]``."""
        z = torch.multinomial(self.latent, num, replacement=True, generator=generator)
        draws = [torch.multinomial(table[z], 1, generator=generator) for table in self.policies]
        return torch.cat(draws, dim=-1)


def _expected_log(weight: Tensor, density: Tensor) -> Tensor:
    return torch.special.xlogy(weight, density).sum()
