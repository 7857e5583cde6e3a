r"""Whether a host's loss, a policy with a latent and the loss of the information fit together.

Shapes: ``*B`` batch, ``N`` agents. A host is any agent that has its own loss and optimizer. What
goes wrong in the composition is mostly silent: another z than the one of the stored action, a
copied policy, two optimizers on one parameter.

Source: Kim et al. 2023, arXiv:2303.00451; Schulman et al. 2017, arXiv:1707.06347 (the ratio).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    TensorDictModuleBase,
    TensorDictSequential,
)
from torch import nn
from torch.random import fork_rng

from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import StoredLatent
from vm3ac_modules.modules.policy import Policy, policy_leaves
from vm3ac_modules.objectives._host_checks import (
    check_critic,
    check_keys,
    check_latent_is_used,
    check_optimizers,
    check_parameters,
    check_ratio,
    check_source,
)
from vm3ac_modules.objectives._host_entries import (
    HostError,
    check_entries,
    check_outcomes,
    known_to_score,
)
from vm3ac_modules.objectives.base import MultiAgentLoss

__all__ = ["HostError", "check_host"]


def check_host(
    loss: nn.Module,
    policy: TensorDictModuleBase,
    batch: TensorDictBase,
    *,
    optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] = (),
    mi: MultiAgentLoss | None = None,
    scores_stored: bool | None = None,
    tolerance: float = 1e-3,
) -> None:
    r"""Check a composition once, before training: say in one sentence what is wrong, or nothing.

    A loss that scores stored actions must find the probability ratio 1 on data that the policy has
    just collected:

    .. math:: \exp\big(\log \pi_\theta(a_t | s_t, z_t) - \log \pi_{\mathrm{old}}\big) = 1

    Also checked: the host trains the parameters of this policy and no copy; no parameter has two
    optimizers, and none of the policy has none; keys and entries agree; the policy acts on z; a
    loss that makes its own target (SAC, TD3) finds reward, done and terminated, of one shape.

    References:
        Schulman et al. 2017, https://arxiv.org/abs/1707.06347, Eq. (6).

    Args:
        loss: the host's loss: a TorchRL ``LossModule``, a value estimator with a policy
            (``VTrace``), or one's own module that holds a part of the policy, or that part itself.
        policy: the policy that collects, sampler included.
        batch: what this policy has just collected, ``[*B]``; not changed.
        optimizers: all optimizers of the training; none to leave them unchecked.
        mi: the loss of the information that is added to the host's.
        scores_stored: whether the host scores the batch's actions (PPO) instead of drawing its own
            (SAC). None to know it by the class, where the loss is TorchRL's or derived from one of
            its; of one's own loss which latent it sees is then not checked.
        tolerance: what rounding may change in the ratio; an action at the edge of its range loses
            digits.

    Raises:
        HostError: names the first thing that does not fit.
        ValueError: for a tolerance or optimizers that are none, or ``scores_stored`` without a
            policy to check.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl.objectives import ClipPPOLoss
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1)))
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> value = vm.make_state_value(4, 2)
        >>> td = policy(TensorDict({"agents": {"observation": torch.zeros(5, 2, 4)}}, [5]))
        >>> loss = ClipPPOLoss(policy.replaying(), value)
        >>> loss.set_keys(value=("agents", "state_value"))
        >>> check_host(loss, policy, td)
        >>> check_host(ClipPPOLoss(policy.fresh(), value), policy, td)
        Traceback (most recent call last):
        ...
        vm3ac_modules.objectives.host.HostError: ClipPPOLoss scores stored actions under a latent...

    See Also:
        :class:`~vm3ac_modules.modules.LatentPolicy`.
    """
    if not 0.0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be positive and finite, got {tolerance}.")
    if not isinstance(optimizers, torch.optim.Optimizer | Iterable):
        raise ValueError(
            f"optimizers must be an optimizer or several, got {optimizers!r}: leave it out to have "
            "them unchecked."
        )
    owners = [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else list(optimizers)
    own = Policy.of(policy)
    losses: list[nn.Module] = [loss] if mi is None else [loss, mi]
    with _unchanged([own, *losses]):
        check_latent_is_used(own, batch)
        trained = [own.module] if mi is None else [own.module, *_networks_of(mi)]
        check_optimizers(trained, owners)
        for part in losses:
            check_parameters(part, own.module)
        if not isinstance(loss, MultiAgentLoss):
            _check_actor(loss, own, batch, scores_stored, tolerance)
        check_entries(losses, batch)
        check_outcomes(loss, batch)


def _check_actor(
    loss: nn.Module,
    policy: Policy,
    batch: TensorDictBase,
    scores_stored: bool | None,
    tolerance: float,
) -> None:
    """Check the part of the policy that a host holds, by what the host does with it."""
    network = _actor_of(loss)
    if network is None:
        if scores_stored is not None:
            raise ValueError(
                f"scores_stored was given, and no policy was found in {type(loss).__name__}: give "
                "it the policy's part as actor_network, or pass that part as the loss."
            )
        return
    scores = known_to_score(loss) if scores_stored is None else scores_stored
    if scores is None:
        return  # one's own loss, of which nothing is known
    check_source(loss, network, scores, batch)
    check_keys(loss, policy, scores)
    check_critic(loss)
    if scores:
        check_ratio(loss, policy, network, batch, tolerance)


def _actor_of(loss: nn.Module) -> TensorDictModuleBase | None:
    """The policy's part that a host holds: its ``actor_network``, itself, or one inside of it."""
    network = getattr(loss, "actor_network", None)
    if isinstance(network, TensorDictModuleBase):
        return network
    for module in loss.modules():
        if isinstance(module, TensorDictSequential):
            leaves = policy_leaves(module)
            if any(isinstance(leaf, LatentSampler | StoredLatent) for leaf in leaves):
                return module
    return None


def _networks_of(mi: MultiAgentLoss) -> list[nn.Module]:
    """What the loss of the information trains besides the policy."""
    names = {name for trained in mi.networks().values() for name in trained} - {"actor_network"}
    return [getattr(mi, f"{name}_params") for name in sorted(names)]


@contextmanager
def _unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Leave random numbers and buffers (statistics of a normalization) as they are."""
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    with fork_rng(), torch.no_grad():
        try:
            yield
        finally:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
