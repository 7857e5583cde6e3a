r"""Estimates of the mutual information that a policy has, for evaluation (never trained on).

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``Z`` latent, ``K`` extra latents. Everything is
in nats.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (6)-(8); docs/readings.md for the upper side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.functional.information import (
    latent_variance_share,
    leave_one_out_log_prob,
    mixture_log_prob,
    smaller_of_pairs,
    symmetric_bound,
)
from vm3ac_modules.functional.pairwise import fill_diagonal_zero, pair_mean, scatter_others
from vm3ac_modules.functional.squashed import sample_squashed_gaussian
from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.policy import PolicyReader, extra_head_log_prob

__all__ = ["BOUNDS", "Bound", "InformationEstimates", "bracket", "estimate_information"]

# Heads of this many latents are held at once: 64 rows x 128 latents x 4 agents x 128 units = 16 MB.
_CHUNK = 128


class InformationEstimates(NamedTuple):
    """Estimates of one batch (nats), averaged over its transitions unless ``mask`` is given.

    Sizes are those of averages; seeds or transitions come in front, ``*B``.
    """

    lower: Tensor
    """Lower bound (8) of I(a_i; a_j | s) with H_K, ``[N, N]``, zero diagonal."""
    upper: Tensor
    """Upper bound: the smaller of both agents' I(a; z | s), itself from above, ``[N, N]``.

    Chosen on one half of the rows and read on the other, so that noise makes it no smaller."""
    latent_information: Tensor
    """I(a_i; z | s) of every agent from above (exact where the latent is enumerated), ``[N]``."""
    surrogate: Tensor
    """What the K = 0 objective holds instead of the lower bound; never positive at the best q."""
    entropy: Tensor
    """H_K of every agent's action, ``[N]``."""
    conditional_entropy: Tensor
    """H_0 of every agent's action, ``[N]``."""
    latent_share: Tensor
    """Share rho of the pre-squash variance that comes from the latent, ``[N]``."""
    ceiling: float
    """log(K + 1): what the lower bound can reach at most beyond the conditional form."""
    mask: Tensor | None = None
    """Transitions that count, bool ``[*B]``, where there is an estimate for each of them."""

    def mean(self, values: Tensor) -> Tensor:
        """Average over transitions where that was not done yet.

        Args:
            values: an estimate, ``[*B, ..]``.
        """
        return values if self.mask is None else masked_mean(values, self.mask)

    def scalars(self) -> dict[str, Tensor]:
        """The estimates of :data:`BOUNDS`, under the names that are logged (docs/metrics.md)."""
        return {bound.name: self.mean(bound.estimate(self)) for bound in BOUNDS}


class Bound(NamedTuple):
    """One number that is told of the mutual information."""

    name: str
    """As it is logged."""
    estimate: Callable[[InformationEstimates], Tensor]
    """From the estimates of a batch, the mean over pairs or agents."""
    unit: str
    """``"nats"``, or ``"1"`` for a share."""
    meaning: str
    """One line for readers of logs and reports."""
    of_categorical: bool = True
    """Whether categorical policies have it."""


BOUNDS: list[Bound] = [
    Bound(
        "mi_lower_bound",
        lambda found: pair_mean(found.lower),
        "nats",
        "lower bound of the mutual information of two agents' actions, mean over pairs",
    ),
    Bound(
        "mi_upper_bound",
        lambda found: pair_mean(found.upper),
        "nats",
        "upper bound of the mutual information of two agents' actions, mean over pairs",
    ),
    Bound(
        "mi_surrogate",
        lambda found: pair_mean(found.surrogate),
        "nats",
        "what the paper's objective holds in place of the lower bound, mean over pairs",
    ),
    Bound(
        "mi_lower_bound_ceiling",
        lambda found: torch.full_like(found.entropy[..., 0], found.ceiling),
        "nats",
        "the most that the lower bound can show with this number of latents",
    ),
    Bound(
        "latent_share",
        lambda found: found.latent_share.mean(-1),
        "1",
        "share of the action variance that comes from the latent, mean over agents",
        of_categorical=False,
    ),
]
"""What is told of the mutual information; logs, losses and reports read this list."""


@torch.no_grad()
def estimate_information(
    reader: PolicyReader,
    predictor: VariationalPredictor | None,
    tensordict: TensorDictBase,
    *,
    center: Tensor,
    half_range: Tensor,
    num_latents: int = 1024,
    observation_key: NestedKey | None = None,
    seed_dims: int = 0,
) -> InformationEstimates:
    r"""Bracket the mutual information of every pair on a batch of observations.

    .. math:: \tfrac12 \{ H_K(a_i) + H_K(a_j) + E[\log q_i(a_j|a_i) + \log q_i(a_i|a_j)] \}
        \le I(a_i; a_j|s) \le \min_{k \in \{i, j\}} [ H_{up,K}(a_k|s) - H_0(a_k|s, z) ]

    in expectation over the draws: which of the two agents is the smaller one is chosen on one half
    of the rows and read on the other (:func:`~vm3ac_modules.functional.smaller_of_pairs`). The
    predictor's density is normalized here, whatever its own setting. Meant for an evaluation batch
    of tens of rows: the cost grows with rows times K.

    Args:
        reader: the policy's reader.
        predictor: the variational predictor; None leaves the lower bound and the surrogate nan.
        tensordict: observations, ``[*B]``.
        center: centre of the action range, ``[N, A]``.
        half_range: half of the action range, ``[N, A]``.
        num_latents: extra latents K >= 2.
        observation_key: what the predictor reads; its own key by default.
        seed_dims: number of leading seed dimensions, which are not averaged over.

    Returns:
        The estimates.

    Raises:
        ValueError: if ``num_latents < 2``.
        MissingKeysError: if the observations are missing.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> sampler = vm.LatentSampler(vm.GaussianPrior(3))
        >>> policy = vm.make_policy(sampler, vm.make_actor(4, 3, spec))
        >>> td = TensorDict({"agents": {"observation": torch.zeros(8, 2, 4)}}, [8])
        >>> estimate_information(PolicyReader(policy), vm.VariationalPredictor(4, spec), td,
        ...                      center=torch.zeros(2, 1), half_range=torch.ones(2, 1),
        ...                      num_latents=16).lower.shape
        torch.Size([2, 2])

    See Also:
        :func:`~vm3ac_modules.functional.symmetric_bound`, the bound itself.
    """
    if num_latents < 2:
        raise ValueError(f"the estimates need at least two extra latents, got {num_latents}.")
    key = observation_key
    if key is None and predictor is not None:
        key = predictor.keys.observation
    read = [*reader.in_keys, *([] if key is None else [key])]
    require_keys(tensordict, read, "estimate_information")
    like = tensordict.get(read[-1])
    latent, extras = reader.draw_latents(tensordict.batch_size, num_latents, like)
    loc, scale = reader.heads(tensordict, latent)
    draw = sample_squashed_gaussian(loc, scale, torch.randn_like(loc), center, half_range)
    chunks = [
        extra_head_log_prob(reader, tensordict, part, draw.pre_squash, half_range)
        for part in extras.split(_CHUNK, dim=-2)
    ]
    extra_log_prob = torch.cat(chunks, dim=-1)

    def mean(x: Tensor, keep: int) -> Tensor:
        seeds, kept = x.shape[:seed_dims], x.shape[x.ndim - keep :]
        return x.reshape(*seeds, -1, *kept).mean(seed_dims)

    entropy = -mean(mixture_log_prob(draw.log_prob, extra_log_prob), 1)
    conditional = -mean(draw.log_prob, 1)
    marginal = leave_one_out_log_prob(extra_log_prob)
    of_latent = -mean(marginal, 1) - conditional
    partner = own = torch.full_like(entropy, torch.nan).unsqueeze(-1)
    if predictor is not None:
        observation = tensordict.get(key)
        pairs = predictor.pair_log_prob(draw.action, draw.action, observation, normalized=True)
        partner, own = (mean(scatter_others(part), 2) for part in pairs)
    heads = reader.many_heads(tensordict, extras[..., :_CHUNK, :])
    rows = draw.log_prob - marginal
    upper = smaller_of_pairs(rows.reshape(*of_latent.shape[:-1], -1, of_latent.shape[-1]))
    found = bracket(entropy, conditional, upper, (partner, own), math.log(num_latents + 1))
    share = mean(latent_variance_share(*heads), 1)
    return found._replace(latent_information=of_latent, latent_share=share)


def bracket(
    entropy: Tensor,
    conditional: Tensor,
    upper: Tensor,
    predictions: tuple[Tensor, Tensor],
    ceiling: float,
) -> InformationEstimates:
    r"""Put entropies and predictions together: Eq. (8), and what holds its place for K = 0.

    Args:
        entropy: H_K of every agent's action, ``[*B, N]``.
        conditional: H_0 of every agent's action, ``[*B, N]``.
        upper: upper bound of every pair, ``[*B, N, N]``.
        predictions: expected log q of j given i, and of i given j, ``[*B, N, N]`` each.
        ceiling: log(K + 1).

    Returns:
        The estimates; ``latent_information`` is ``entropy - conditional``, ``latent_share`` nan.

    Example:
        >>> ones = torch.ones(2)
        >>> bracket(ones, ones, torch.ones(2, 2), (-torch.ones(2, 2),) * 2, 0.0).lower
        tensor([[0., 0.],
                [0., 0.]])
    """

    def bound(h: Tensor) -> Tensor:
        rows, columns = h.unsqueeze(-1), h.unsqueeze(-2)
        return fill_diagonal_zero(symmetric_bound(rows, columns, *predictions).total)

    return InformationEstimates(
        lower=bound(entropy),
        upper=fill_diagonal_zero(upper),
        latent_information=entropy - conditional,
        surrogate=bound(conditional),
        entropy=entropy,
        conditional_entropy=conditional,
        latent_share=torch.full_like(entropy, torch.nan),
        ceiling=ceiling,
    )
