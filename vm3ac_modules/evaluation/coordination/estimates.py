r"""Information between the agents' simultaneous actions, and their correlation, in given states.

Shapes: ``S`` states, ``G`` groups of states, ``D`` joint actions drawn in each state, ``N`` agents,
``A`` action, ``Z`` outcomes of a categorical latent. Information is in nats.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (5)-(8); docs/metrics.md for every quantity.
"""

from __future__ import annotations

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vm3ac_modules.evaluation.coordination.result import Coordination
from vm3ac_modules.functional import (
    ILLEGAL,
    action_latent_information,
    fill_diagonal_zero,
    information_with_entropy,
    marginal_log_prob,
    normalized_dependence,
    smaller_of_pairs,
    squash,
    within_state_covariance,
)
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives import PolicyReader, estimate_information

__all__ = ["categorical_coordination", "gaussian_coordination"]

# Groups of states whose spread gives the errors of the estimates of information.
_GROUPS = 16


@torch.no_grad()
def gaussian_coordination(
    reader: PolicyReader,
    states: TensorDictBase,
    *,
    predictor: VariationalPredictor | None = None,
    num_latents: int = 1024,
    draws: int = 64,
) -> Coordination:
    r"""Measure a tanh-Gaussian policy on given states.

    .. math:: C_{(ia)(jb)} = E_s \mathrm{Cov}(a_{ia}, a_{jb} | s) /
        \sqrt{E_s \mathrm{Var}(a_{ia} | s)\, E_s \mathrm{Var}(a_{jb} | s)}

    The bounds are those of :func:`~vm3ac_modules.objectives.estimate_information`.

    Args:
        reader: the policy's reader.
        states: what the policy and the predictor read, ``[S]``.
        predictor: the variational predictor; without one there is no lower bound.
        num_latents: extra latents K.
        draws: joint actions D per state, each under a fresh common latent.

    Returns:
        Bounds, shares and correlations with their errors.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> sampler = vm.LatentSampler(vm.GaussianPrior(3))
        >>> policy = vm.make_policy(sampler, vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1))))
        >>> td = TensorDict({"agents": {"observation": torch.zeros(8, 2, 4)}}, [8])
        >>> gaussian_coordination(PolicyReader(policy), td, num_latents=8).upper.shape
        torch.Size([2, 2])
    """
    actions = _drawn(reader, states, draws)
    correlation = normalized_dependence(within_state_covariance(actions))
    independent = None
    if reader.prior is not None:
        alone = _drawn(reader, states, draws, independent=True)
        independent = normalized_dependence(within_state_covariance(alone))
    size = actions.shape[-2:]
    groups = min(_GROUPS, len(states))
    each = len(states) // groups
    found = estimate_information(
        reader,
        predictor,
        states[: groups * each].reshape(groups, each),
        center=reader.center.to(actions).expand(size),
        half_range=reader.half_range.to(actions).expand(size),
        num_latents=num_latents,
        seed_dims=1,
    )
    of_latent = found.latent_information.mean(0)
    upper = fill_diagonal_zero(smaller_of_pairs(found.latent_information))
    upper_error = _error_of_smaller(of_latent, _error(found.latent_information))
    return Coordination(
        num_agents=size[0],
        states=len(states),
        draws=draws,
        num_latents=num_latents,
        lower=None if predictor is None else found.lower.mean(0),
        lower_error=None if predictor is None else _error(found.lower),
        upper=upper,
        upper_error=upper_error,
        ceiling=found.ceiling,
        latent_information=of_latent,
        latent_share=found.latent_share.mean(0),
        correlation=correlation,
        independent=independent,
    )


@torch.no_grad()
def categorical_coordination(outcomes: Tensor, log_prior: Tensor) -> Coordination:
    r"""Measure a categorical policy with a categorical latent, exactly, by enumeration.

    .. math:: C_{ij} = E_s I(a_i; a_j | s) / \sqrt{E_s H(a_i | s)\, E_s H(a_j | s)}

    Information is averaged over the states in which both agents have a choice: more than one legal
    action, which the dead have not.

    Args:
        outcomes: log-probabilities under every outcome, -1e9 where illegal, ``[Z, S, N, A]``.
        log_prior: log-probabilities of the outcomes, ``[Z]``; one outcome for no latent.

    Returns:
        Exact information, the same from both sides, and its normalized form for a correlation.

    Example:
        >>> outcomes = torch.eye(3).log().clamp_min(-1e9)[:, None, None].expand(3, 1, 2, 3)
        >>> found = categorical_coordination(outcomes, torch.zeros(3).log_softmax(0))
        >>> found.lower.float(), found.correlation.matrix.float()
        (tensor([[0.0000, 1.0986],
                [1.0986, 0.0000]]), tensor([[1., 1.],
                [1., 1.]]))
    """
    parts = information_with_entropy(outcomes, log_prior)
    # Marginal policies alone: what agents do whose latents are their own.
    marginal = marginal_log_prob(outcomes, log_prior).unsqueeze(0)
    alone = information_with_entropy(marginal, log_prior.new_zeros(1))
    choice = (outcomes.amax(0) > 0.5 * ILLEGAL).sum(-1) > 1
    pairs = fill_diagonal_zero(parts)
    mean, error = _mean_where(pairs, choice.unsqueeze(-1) & choice.unsqueeze(-2))
    of_latent, _ = _mean_where(action_latent_information(outcomes, log_prior), choice)
    states, num_agents = choice.shape
    return Coordination(
        num_agents=num_agents,
        states=states,
        lower=mean,
        upper=mean,
        lower_error=error,
        upper_error=error,
        ceiling=math.log(len(log_prior)),
        latent_information=of_latent,
        correlation=normalized_dependence(parts),
        independent=normalized_dependence(alone),
    )


def _drawn(
    reader: PolicyReader, states: TensorDictBase, draws: int, *, independent: bool = False
) -> Tensor:
    """Joint actions in every state, ``[S, D, N, A]``; one latent for all agents, or one each."""
    read = states.select(*reader.in_keys)
    every = read.unsqueeze(1).expand(len(states), draws)
    like = states.get(reader.in_keys[0])
    latent, _ = reader.draw_latents(every.batch_size, 0, like)
    if independent and reader.prior is not None:
        num_agents = reader.heads(read[:1], latent[:1, 0])[0].shape[-2]
        latent = reader.prior.sample((*every.batch_size, num_agents), like=like)
    loc, scale = reader.heads(every, latent)
    center, half_range = reader.center.to(loc), reader.half_range.to(loc)
    return squash(loc + scale * torch.randn_like(loc), center, half_range)


def _error_of_smaller(means: Tensor, errors: Tensor) -> Tensor:
    """Of every pair of agents the error of the smaller mean; the larger error of a tie."""
    row, column = means.unsqueeze(-1), means
    larger = torch.maximum(errors.unsqueeze(-1), errors)
    error = torch.where(column < row, errors, larger)
    error = torch.where(row < column, errors.unsqueeze(-1), error)
    return fill_diagonal_zero(error)


def _error(groups: Tensor) -> Tensor:
    """Standard error of the mean over groups of states; nan for a single group."""
    if len(groups) < 2:
        return torch.full_like(groups[0], torch.nan)
    return groups.std(0) / math.sqrt(len(groups))


def _mean_where(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the chosen states and its standard error; nan where there are too few."""
    count = chosen.sum(0)
    mean = torch.where(chosen, values, 0.0).sum(0) / count
    spread = torch.where(chosen, values - mean, 0.0).square().sum(0) / (count - 1).clamp_min(0)
    return mean, (spread / count).sqrt()
