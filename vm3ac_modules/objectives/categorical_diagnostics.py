r"""Mutual information that categorical policies have, for evaluation (never trained on).

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``Z`` outcomes of the latent, ``K`` extra
latents. Everything is in nats, and exact over actions.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (5)-(8), Appendix G.
"""

from __future__ import annotations

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.functional.categorical import categorical_entropy, expectation
from vm3ac_modules.functional.correlation import marginal_log_prob, pairwise_information
from vm3ac_modules.functional.information import (
    leave_one_out_log_prob,
    mixture_log_prob,
    smaller_of_pairs,
)
from vm3ac_modules.objectives.categorical_policy import CategoricalPolicyReader
from vm3ac_modules.objectives.diagnostics import InformationEstimates, bracket
from vm3ac_modules.priors import CategoricalPrior

__all__ = [
    "enumerated_entropies",
    "estimate_categorical_information",
    "expected_prediction",
]

# Heads of this many latents are held at once, as in diagnostics.py.
_CHUNK = 128


@torch.no_grad()
def estimate_categorical_information(
    reader: CategoricalPolicyReader,
    table: Tensor,
    tensordict: TensorDictBase,
    num_latents: int = 1024,
) -> InformationEstimates:
    r"""Bracket the mutual information of every pair on an evaluation batch.

    .. math:: \tfrac12 \{ H(a_i) + H(a_j) + E[\log q(a_j|a_i) + \log q(a_i|a_j)] \}
        \le I(a_i; a_j|s)

    A categorical latent (or none) is enumerated: ``entropy`` is then the marginal policy's, the
    lower bound is exact but for the predictor, ``upper`` is :math:`I(a_i; a_j|s)` itself, and
    ``ceiling`` is the log of the number of outcomes. Of another latent K + 1 are drawn, and the
    fields are those of Gaussian policies: H_K, and for ``upper`` the smaller :math:`I(a; z|s)`.

    ``latent_share`` is nan: it is a share of a variance, which the index of an action has not.

    Args:
        reader: the policy's reader.
        table: log q, ``[*B, N, A, N, A]``.
        tensordict: holds what the policy reads, ``[*B]``.
        num_latents: extra latents K >= 2; without effect where the latent is enumerated.

    Returns:
        The estimates, means over the batch.

    Raises:
        ValueError: if ``num_latents < 2``.

    Example:
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.modules import OneHotCategorical, ProbabilisticActor
        >>> key = ("agents", "logits")
        >>> net = TensorDictModule(torch.nn.Linear(4, 5), [("agents", "observation")], [key])
        >>> policy = ProbabilisticActor(net, {"logits": key}, [("agents", "action")],
        ...                             distribution_class=OneHotCategorical)
        >>> td = TensorDict({"agents": {"observation": torch.zeros(8, 2, 4)}}, [8])
        >>> table = torch.full((8, 2, 5, 2, 5), 0.2).log()
        >>> found = estimate_categorical_information(CategoricalPolicyReader(policy), table, td)
        >>> found.upper.shape, found.ceiling
        (torch.Size([2, 2]), 0.0)
    """
    if num_latents < 2:
        raise ValueError(f"the estimates need at least two extra latents, got {num_latents}.")

    def mean(x: Tensor, keep: int) -> Tensor:
        return x.reshape(-1, *x.shape[x.ndim - keep :]).mean(0)

    support = _support(reader, table)
    if support is not None:
        values, log_prior = support
        latents = values.expand(*tensordict.batch_size, *values.shape)
        outcomes = reader.many_log_prob(tensordict, latents).movedim(-3, 0)
        entropy, conditional, exact = enumerated_entropies(outcomes, log_prior)
        upper = mean(exact, 2)
        of_latent, ceiling = entropy - conditional, math.log(len(log_prior))
    else:
        latent, extras = reader.draw_latents(tensordict.batch_size, num_latents, table)
        own = reader.log_prob(tensordict, latent)
        parts = [reader.many_log_prob(tensordict, part) for part in extras.split(_CHUNK, dim=-2)]
        extra = torch.cat(parts, dim=-3).movedim(-3, -1)
        entropy = -expectation(own, mixture_log_prob(own, extra))
        conditional = categorical_entropy(own)
        of_latent = -expectation(own, leave_one_out_log_prob(extra)) - conditional
        # In each row noise would choose the smaller one.
        upper = smaller_of_pairs(of_latent.reshape(-1, of_latent.shape[-1]))
        ceiling = math.log(num_latents + 1)
        outcomes, log_prior = own.unsqueeze(0), table.new_zeros(1)
    partner = expected_prediction(outcomes, log_prior, table)
    entropy, conditional, partner = mean(entropy, 1), mean(conditional, 1), mean(partner, 2)
    found = bracket(entropy, conditional, upper, (partner, partner.mT), ceiling)
    return found._replace(latent_information=mean(of_latent, 1))


def enumerated_entropies(outcomes: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies and information of policies under every outcome of a latent, exact.

    Args:
        outcomes: log-probabilities under every outcome, ``[Z, *B, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.

    Returns:
        Entropy of the marginal policies and of the conditional ones, ``[*B, N]`` each, and
        :math:`I(a_i; a_j|s)`, ``[*B, N, N]`` (nats).

    Example:
        >>> outcomes = torch.eye(2).log().clamp_min(-1e9)[:, None].expand(2, 2, 2)
        >>> enumerated_entropies(outcomes, torch.full((2,), 0.5).log())[0]
        tensor([0.6931, 0.6931])
    """
    entropy = categorical_entropy(marginal_log_prob(outcomes, log_prior))
    conditional = torch.tensordot(log_prior.exp(), categorical_entropy(outcomes), dims=1)
    return entropy, conditional, pairwise_information(outcomes, log_prior)


def _support(reader: CategoricalPolicyReader, like: Tensor) -> tuple[Tensor, Tensor] | None:
    """All latents and their log-probabilities, if they can be enumerated."""
    if reader.prior is None:
        return like.new_zeros((1, 0)), like.new_zeros(1)
    prior = reader.prior
    if not isinstance(prior, CategoricalPrior):
        return None
    values = prior.support().to(like)
    return values, prior.log_prob(values)


def expected_prediction(outcomes: Tensor, log_prior: Tensor, table: Tensor) -> Tensor:
    """Expected log q of a_j given a_i over the joint policy.

    Args:
        outcomes: log-probabilities under every outcome, ``[Z, *B, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``.
        table: log q, ``[*B, N, A, N, A]``.

    Returns:
        ``[*B, N, N]``, nats; for i = j it has no meaning.

    Example:
        >>> outcomes = torch.full((1, 2, 3), 1 / 3).log()
        >>> expected_prediction(outcomes, torch.zeros(1), -torch.ones(2, 3, 2, 3))[0, 1]
        tensor(-1.0000)
    """
    probs = outcomes.exp()
    joint = torch.einsum("z,z...ia,z...jb->...iajb", log_prior.exp(), probs, probs)
    return (joint * table).sum((-3, -1))
