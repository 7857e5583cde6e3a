r"""Builders of a TorchRL actor over (observation, latent), and of the policy that draws a latent.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``Z`` latent, ``A``
action. Source: Kim et al. 2023, arXiv:2303.00451, Section 5.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torch.distributions import Categorical as Discrete
from torchrl.data import Bounded, OneHot, TensorSpec
from torchrl.data import Categorical as CategoricalSpec
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    ProbabilisticActor,
)

from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.latent_policy import LatentPolicy
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.modules.policy import policy_leaves
from vm3ac_modules.modules.squashed_normal import SquashedNormal
from vm3ac_modules.nn.actors import DeterministicNet, LatentCategoricalNet, LatentGaussianNet

__all__ = [
    "action_bounds",
    "make_actor",
    "make_categorical_actor",
    "make_deterministic_actor",
    "make_policy",
]


def action_bounds(action_spec: TensorSpec) -> tuple[Tensor, Tensor]:
    """Lowest and highest action of every agent, from the leaf spec of a group's action.

    Args:
        action_spec: spec of ``("agents", "action")``, ``[*B, N, A]``.

    Returns:
        ``low`` and ``high``, each ``[N, A]``.

    Raises:
        ValueError: if the spec is discrete, unbounded, or not ``[*B, N, A]``.

    Example:
        >>> from torchrl.data import Bounded
        >>> low, high = action_bounds(Bounded(-1.0, 1.0, (16, 3, 2)))
        >>> low.shape
        torch.Size([3, 2])
    """
    if not isinstance(action_spec, Bounded) or not action_spec.dtype.is_floating_point:
        dtype = getattr(action_spec, "dtype", None)
        raise ValueError(
            f"a squashed Gaussian policy needs a bounded continuous action spec, got "
            f"{type(action_spec).__name__}{f' of dtype {dtype}' if dtype else ''}. Bound the "
            f"action space, or use a categorical policy for discrete actions."
        )
    low, high = action_spec.space.low, action_spec.space.high
    if low.ndim < 2 or low.numel() == 0:
        raise ValueError(
            f"the action spec must be [*B, N, A], none of them 0, got shape {tuple(low.shape)}."
        )
    low, high = low.reshape(-1, *low.shape[-2:])[0], high.reshape(-1, *high.shape[-2:])[0]
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
        raise ValueError(
            f"a squashed Gaussian policy needs finite bounds with low < high, got low "
            f"{low.tolist()} and high {high.tolist()}."
        )
    return low.clone(), high.clone()


def make_actor(
    obs_dim: int,
    latent_dim: int,
    action_spec: TensorSpec,
    *,
    keys: Keys | None = None,
    **net_options: Any,
) -> ProbabilisticActor:
    r"""Build a tanh-Gaussian actor over the observation and the latent.

    .. math:: a_i = c + h \tanh(\mu_i + \sigma_i \epsilon), \quad (\mu_i, \sigma_i) = f(o_i, z)

    It reads the latent; put a :class:`~vm3ac_modules.modules.LatentSampler` before it with
    :func:`make_policy`. Like every TorchRL actor it follows the exploration type: under
    DETERMINISTIC it returns the action at the mean (of this latent).

    Args:
        obs_dim: size O of an agent's observation.
        latent_dim: size Z of the latent; 0 for an actor that reads none.
        action_spec: leaf spec of the group's action ``[*B, N, A]``, bounded and continuous.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.actors.LatentGaussianNet`.

    Returns:
        An actor that writes ``loc``, ``scale``, ``action`` and ``action_log_prob``.

    Raises:
        ValueError: if the action spec is discrete or unbounded.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> actor = make_actor(4, 2, Bounded(-1.0, 1.0, (3, 2)))
        >>> td = TensorDict({"agents": {"observation": torch.zeros(5, 3, 4)},
        ...                  "latent": torch.zeros(5, 2)}, [5])
        >>> actor(td)["agents", "action"].shape
        torch.Size([5, 3, 2])
    """
    keys = Keys() if keys is None else keys
    low, high = action_bounds(action_spec)
    net = LatentGaussianNet(obs_dim, latent_dim, low.shape[-1], low.shape[-2], **net_options)
    in_keys: dict[str, NestedKey] = {"observation": keys.observation}
    if latent_dim > 0:
        in_keys["latent"] = keys.latent
    module = NetworkModule(net, in_keys, [keys.loc, keys.scale])
    return ProbabilisticActor(
        module,
        in_keys={"loc": keys.loc, "scale": keys.scale},
        out_keys=[keys.action],
        distribution_class=SquashedNormal,
        distribution_kwargs={"low": low, "high": high},
        return_log_prob=True,
        log_prob_key=keys.action_log_prob,
    )


def make_categorical_actor(
    obs_dim: int,
    latent_dim: int,
    action_spec: TensorSpec,
    *,
    masked: bool = False,
    keys: Keys | None = None,
    **net_options: Any,
) -> ProbabilisticActor:
    r"""Build a categorical actor over the observation and the latent, for discrete actions.

    .. math:: a_i \sim \mathrm{softmax}\, f(o_i, z)

    Args:
        obs_dim: size O of an agent's observation.
        latent_dim: size Z of the latent; 0 for an actor that reads none.
        action_spec: leaf spec of the group's action: ``OneHot`` ``[*B, N, A]`` or ``Categorical``
            ``[*B, N]``; actions are written as the spec has them.
        masked: also read ``keys.action_mask`` and keep to legal actions.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.actors.LatentCategoricalNet`.

    Returns:
        An actor that writes ``logits``, ``action`` and ``action_log_prob``.

    Raises:
        ValueError: if the action spec is not discrete, or not one of a group.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import OneHot
        >>> actor = make_categorical_actor(4, 2, OneHot(5, shape=(3, 5)))
        >>> td = TensorDict({"agents": {"observation": torch.zeros(8, 3, 4)},
        ...                  "latent": torch.zeros(8, 2)}, [8])
        >>> actor(td)["agents", "action"].shape
        torch.Size([8, 3, 5])
    """
    keys = Keys() if keys is None else keys
    one_hot = isinstance(action_spec, OneHot)
    if not isinstance(action_spec, OneHot | CategoricalSpec):
        raise ValueError(
            f"a categorical policy needs a discrete action spec, OneHot or Categorical, got "
            f"{type(action_spec).__name__}: use make_actor for continuous actions."
        )
    agents = action_spec.shape[:-1] if one_hot else action_spec.shape
    if not agents:
        raise ValueError(f"the action spec must be of a group of agents, got {action_spec.shape}.")
    kinds = (
        (MaskedOneHotCategorical, MaskedCategorical) if masked else (OneHotCategorical, Discrete)
    )
    net = LatentCategoricalNet(obs_dim, latent_dim, action_spec.space.n, agents[-1], **net_options)
    in_keys: dict[str, NestedKey] = {"observation": keys.observation}
    if latent_dim > 0:
        in_keys["latent"] = keys.latent
    return ProbabilisticActor(
        NetworkModule(net, in_keys, [keys.logits]),
        in_keys={"logits": keys.logits, **({"mask": keys.action_mask} if masked else {})},
        out_keys=[keys.action],
        distribution_class=kinds[0 if one_hot else 1],
        return_log_prob=True,
        log_prob_key=keys.action_log_prob,
    )


def make_deterministic_actor(
    obs_dim: int,
    action_spec: TensorSpec,
    *,
    keys: Keys | None = None,
    **net_options: Any,
) -> NetworkModule:
    r"""Build a deterministic actor over the observation, as MADDPG's.

    .. math:: a_i = c + h \tanh f(o_i)

    Exploration is the collector's business: put TorchRL's ``AdditiveGaussianModule`` behind it.

    Args:
        obs_dim: size O of an agent's observation.
        action_spec: leaf spec of the group's action ``[*B, N, A]``, bounded and continuous.
        keys: the tensordict vocabulary.
        net_options: passed to :class:`~vm3ac_modules.nn.actors.DeterministicNet`.

    Returns:
        An actor that writes ``action``.

    Raises:
        ValueError: if the action spec is discrete or unbounded.

    Example:
        >>> from torchrl.data import Bounded
        >>> make_deterministic_actor(4, Bounded(-1.0, 1.0, (3, 2))).out_keys
        [('agents', 'action')]
    """
    keys = Keys() if keys is None else keys
    net = DeterministicNet(obs_dim, *action_bounds(action_spec), **net_options)
    return NetworkModule(net, {"observation": keys.observation}, [keys.action])


def make_policy(
    sampler: TensorDictModuleBase | None, actor: ProbabilisticTensorDictSequential
) -> LatentPolicy:
    """Put the latent's sampler before the actor, for collectors and for this package's losses.

    A stock TorchRL loss is handed ``policy.fresh()`` if it draws actions of its own, so that it
    draws a latent for s and another for s', or ``policy.replaying()`` if it scores stored actions.

    Args:
        sampler: a :class:`~vm3ac_modules.modules.LatentSampler`, or
            :class:`~vm3ac_modules.modules.StoredLatent` where something else writes the latent;
            None for an actor without latent.
        actor: an actor that reads what the sampler writes.

    Returns:
        The policy.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = make_actor(4, 3, Bounded(-1.0, 1.0, (3, 2)))
        >>> make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor).replaying().in_keys
        ['latent', ('agents', 'observation')]
    """
    before = [] if sampler is None else policy_leaves(sampler)
    return LatentPolicy(*before, *actor)
