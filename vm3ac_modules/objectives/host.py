r"""Whether a host's loss, a policy with a latent and the loss of the information fit together.

Shapes: ``*B`` batch, ``N`` agents. A host is any agent that has its own loss and optimizer. What
goes wrong in the composition is mostly silent: another z than the one of the stored action, a
copied policy, two optimizers on one parameter.

Source: Kim et al. 2023, arXiv:2303.00451; Schulman et al. 2017, arXiv:1707.06347 (the ratio).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torchrl.objectives
from tensordict import TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn

from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import LatentPolicy, StoredLatent
from vm3ac_modules.modules.policy import Policy, policy_leaves
from vm3ac_modules.objectives.base import MultiAgentLoss
from vm3ac_modules.objectives.policy_body import latents_read

__all__ = ["HostError", "check_host"]

# TorchRL's losses that score the actions of the batch; the others draw actions of their own.
_SCORING = ("PPOLoss", "A2CLoss", "ReinforceLoss", "BCLoss", "IQLLoss", "DTLoss", "OnlineDTLoss")


class HostError(ValueError):
    """A host's loss, a policy and a batch that do not fit together."""


def check_host(
    loss: nn.Module,
    policy: TensorDictModuleBase,
    batch: TensorDictBase,
    *,
    optimizers: Iterable[torch.optim.Optimizer] = (),
    mi: MultiAgentLoss | None = None,
    scores_stored: bool | None = None,
    tolerance: float = 1e-3,
) -> None:
    r"""Check a composition once, before training: say in one sentence what is wrong, or nothing.

    A loss that scores stored actions must find the probability ratio 1 on data that the policy has
    just collected:

    .. math:: \exp\big(\log \pi_\theta(a_t | s_t, z_t) - \log \pi_{\mathrm{old}}\big) = 1

    Also checked: the host trains the parameters of this policy and no copy; no parameter has two
    optimizers, and none of the policy has none; keys and entries agree; the policy acts on z.

    References:
        Schulman et al. 2017, https://arxiv.org/abs/1707.06347, Eq. (6).

    Args:
        loss: the host's loss: a TorchRL ``LossModule`` with an ``actor_network``, or one's own
            module (then only what concerns the policy, the batch and the optimizers is checked).
        policy: the policy that collects, sampler included.
        batch: what this policy has just collected, ``[*B]``; not changed.
        optimizers: all optimizers of the training; none to leave them unchecked.
        mi: the loss of the information that is added to the host's.
        scores_stored: whether the host scores the batch's actions (PPO) instead of drawing its own
            (SAC); None to know it by the class of a TorchRL loss, or its ``sample_log_prob`` key.
        tolerance: what rounding may change in the ratio; an action at the edge of its range loses
            digits.

    Raises:
        HostError: names the first thing that does not fit.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl.objectives import ClipPPOLoss
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1)))
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> value = vm.make_state_value(4, 2)
        >>> td = policy(TensorDict({"agents": {"observation": torch.zeros(5, 2, 4)}}, [5]))
        >>> check_host(ClipPPOLoss(policy.replaying(), value), policy, td)
        >>> check_host(ClipPPOLoss(policy.fresh(), value), policy, td)
        Traceback (most recent call last):
        ...
        vm3ac_modules.objectives.host.HostError: ClipPPOLoss scores stored actions under a latent...

    See Also:
        :class:`~vm3ac_modules.modules.LatentPolicy`.
    """
    own = Policy.of(policy)
    _check_latent_is_used(own, batch)
    _check_optimizers(own.module, list(optimizers))
    losses: list[nn.Module] = [loss] if mi is None else [loss, mi]
    for part in losses:
        _check_parameters(part, own.module)
    network = getattr(loss, "actor_network", None)
    if isinstance(network, TensorDictModuleBase) and not isinstance(loss, MultiAgentLoss):
        scores = _scores_stored(loss) if scores_stored is None else scores_stored
        _check_source(loss, network, scores, batch)
        _check_keys(loss, own, scores)
        _check_entries(losses, batch)
        if scores:
            _check_ratio(loss, network, batch, tolerance)
    else:
        _check_entries(losses, batch)


def _check_latent_is_used(policy: Policy, batch: TensorDictBase) -> None:
    """Refuse a policy that does not act on z."""
    leaves = list(policy_leaves(policy.module))
    head = leaves[-1]
    source = next((x for x in leaves if isinstance(x, LatentSampler | StoredLatent)), None)
    if source is None:
        if not list(latents_read(leaves)):
            raise HostError(
                "the policy has no latent: put a LatentSampler before an actor that reads one "
                "(make_policy)."
            )
        return
    if isinstance(source, LatentSampler) and source.mode != "sample":
        raise HostError(
            f"the policy's sampler has mode {source.mode!r}, and a host trains on latents drawn "
            "from the prior: collect and train with mode 'sample', keep other modes for evaluation."
        )
    if source.prior is None or not isinstance(head, ProbabilisticTensorDictModule):
        return
    body = [StoredLatent.instead_of(leaf) for leaf in leaves[:-1]]
    first, second = (_parameters(body, source, batch, head.in_keys) for _ in range(2))
    if all(torch.equal(x, y) for x, y in zip(first, second, strict=True)):
        raise HostError(
            "the policy does not use z: two latents give the same law of actions, so the actor "
            f"does not read {source.out_keys[0]!r} or multiplies it with zeros."
        )


@torch.no_grad()
def _parameters(
    body: Sequence[TensorDictModuleBase],
    source: LatentSampler | StoredLatent,
    batch: TensorDictBase,
    keys: Sequence[NestedKey],
) -> list[Tensor]:
    """What the distribution is given under a latent of the prior."""
    assert source.prior is not None
    produced = {key for module in body for key in module.out_keys}
    read = {unravel_key(key) for module in body for key in module.in_keys} - produced
    _require(batch, read, "the policy")
    td = batch.select(*read)
    like = next((x for x in td.values(True, True) if x.is_floating_point()), torch.empty(0))
    td.set(source.out_keys[0], source.prior.sample(td.batch_size, like=like))
    for module in body:
        td = module(td)
    return [td.get(key) for key in keys if key in td.keys(True)]


def _check_optimizers(policy: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Refuse a parameter with two optimizers, and a policy that nothing steps."""
    owners: dict[int, int] = {}
    for index, optimizer in enumerate(optimizers):
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            first = owners.setdefault(id(parameter), index)
            if first != index:
                raise HostError(
                    f"optimizers {first} and {index} both step a parameter of shape "
                    f"{list(parameter.shape)}: add loss_mi to the host's actor loss, and give an "
                    "optimizer of its own to the predictor alone "
                    "(mi.parameter_groups()['loss_predictor'])."
                )
    left = [name for name, p in policy.named_parameters() if id(p) not in owners]
    if optimizers and left:
        raise HostError(f"no optimizer steps {left[0]!r} of the policy: give it the host's actor.")


def _check_parameters(loss: nn.Module, policy: nn.Module) -> None:
    """Refuse a loss that trains a copy of the policy."""
    held = {id(parameter) for parameter in loss.parameters()}
    missing = [name for name, p in policy.named_parameters() if id(p) not in held]
    if held and missing:
        raise HostError(
            f"{type(loss).__name__} does not hold {missing[0]!r} of this policy: it was built with "
            "a copy or with another policy, and its gradient goes there."
        )


def _scores_stored(loss: nn.Module) -> bool:
    kinds = tuple(getattr(torchrl.objectives, name, ()) for name in _SCORING)
    if type(loss).__module__.startswith("torchrl."):
        return isinstance(loss, tuple(kind for kind in kinds if kind))
    return hasattr(getattr(loss, "tensor_keys", None), "sample_log_prob")


def _draws(policy: TensorDictModuleBase) -> bool:
    return any(isinstance(leaf, LatentSampler) for leaf in policy_leaves(policy))


def _check_source(
    loss: nn.Module, network: TensorDictModuleBase, scores: bool, batch: TensorDictBase
) -> None:
    """Refuse a loss that is handed the wrong one of ``fresh()`` and ``replaying()``."""
    name, draws = type(loss).__name__, _draws(network)
    # The policy that V-trace asks for its weights.
    estimator = getattr(getattr(loss, "_value_estimator", None), "actor_network", None)
    latents = {*latents_read(policy_leaves(network))} | {
        key for x in policy_leaves(network) if isinstance(x, StoredLatent) for key in x.in_keys
    }
    if draws and not scores:
        _check_critics(loss, network)
    # A latent of the environment's own holds for the next state too.
    of_next = all(batch.get(("next", key), None) is not None for key in latents)
    if scores and draws:
        raise HostError(
            f"{name} scores stored actions under a latent of its own, so its ratio is not 1 on "
            "fresh data: hand it policy.replaying()."
        )
    if not scores and not draws and not of_next:
        raise HostError(
            f"{name} draws actions of its own under the latent of the batch, which is that of "
            "other actions and of no next state: hand it policy.fresh()."
        )
    if isinstance(network, LatentPolicy):
        raise HostError(f"{name} is handed the policy as it is: hand it policy.fresh().")
    if estimator is not None and _draws(estimator):
        raise HostError(
            f"the value estimator of {name} weighs stored actions under a latent of its own: hand "
            "it policy.replaying()."
        )


def _check_critics(loss: nn.Module, network: TensorDictModuleBase) -> None:
    """Refuse a critic that judges actions under another latent than they are drawn with."""
    drawn = {unravel_key(k) for x in policy_leaves(network) for k in x.out_keys}
    for attribute, module in vars(loss).items():
        if not attribute.endswith("_network") or attribute == "actor_network":
            continue
        if drawn & set(latents_read([module])):
            raise HostError(
                f"{type(loss).__name__}'s {attribute} reads the latent of the batch and its actor "
                "draws another: hand it policy.replaying(), and let the replay buffer draw one "
                "for batch['next'] (recipes/add_mi_to_discrete_sac.py)."
            )


def _check_keys(loss: nn.Module, policy: Policy, scores: bool) -> None:
    """Refuse keys of actions and log-probabilities that the policy does not write."""
    *_, head = policy_leaves(policy.module)
    keys = getattr(loss, "tensor_keys", None)
    if not isinstance(head, ProbabilisticTensorDictModule) or keys is None:
        return
    name = type(loss).__name__
    wanted = [("action", "action", list(head.dist_sample_keys))]
    if scores and head.return_log_prob:
        wanted.append(("sample_log_prob", "log-probabilities", list(head.log_prob_keys)))
    for argument, what, written in wanted:
        read = getattr(keys, argument, None)
        if read is None or isinstance(read, list):
            continue
        if unravel_key(read) not in map(unravel_key, written):
            raise HostError(
                f"{name} reads {what} at {read!r}, and the policy writes them at {written[0]!r}: "
                f"loss.set_keys({argument}={written[0]!r})."
            )


def _check_entries(losses: Sequence[nn.Module], batch: TensorDictBase) -> None:
    """Refuse a batch that lacks what the losses read of the policy's and the environment's."""
    for loss in losses:
        network = getattr(loss, "actor_network", None)
        keys = getattr(loss, "tensor_keys", None)
        read = list(getattr(network, "in_keys", []))
        read = [key for key in read if not isinstance(loss, MultiAgentLoss) or key in loss.in_keys]
        read += [key for key in (getattr(keys, "action", None),) if key is not None]
        _require(batch, read, type(loss).__name__)


def _require(batch: TensorDictBase, keys: Iterable[NestedKey], owner: str) -> None:
    missing = [key for key in keys if batch.get(key, None) is None]
    if missing:
        hint = ""
        if any((key if isinstance(key, str) else key[-1]) == "latent" for key in missing):
            hint = ": collect with the whole policy, sampler included, and keep its latent"
        raise HostError(f"the batch lacks {missing[0]!r}, which {owner} reads{hint}.")


@torch.no_grad()
def _check_ratio(
    loss: Any, network: TensorDictModuleBase, batch: TensorDictBase, tolerance: float
) -> None:
    """Refuse log-probabilities of the batch that are not those of the policy."""
    key = getattr(loss.tensor_keys, "sample_log_prob", None)
    if key is None or isinstance(key, list):
        return
    stored, name = batch.get(key, None), type(loss).__name__
    if stored is None:
        raise HostError(
            f"the batch lacks {key!r}, the log-probabilities that {name} reads: build the actor "
            "with return_log_prob=True."
        )
    parameters = getattr(loss, "actor_network_params", None)
    filled = nullcontext() if parameters is None else parameters.to_module(network)
    with filled:
        dist = network.get_dist(batch.clone(False))
    now = dist.log_prob(batch.get(loss.tensor_keys.action))
    if now.shape != stored.shape:
        raise HostError(
            f"{name} finds log-probabilities of shape {list(stored.shape)} in the batch and "
            f"computes {list(now.shape)}: both must come from the same distribution."
        )
    ratio = (now - stored).exp()
    worst = float((ratio - 1.0).abs().max())
    if not worst <= tolerance:
        raise HostError(
            f"{name}'s ratio is off by up to {worst:.3g} where it should be 1: the batch is not "
            "what this policy has just collected (other parameters, another latent, or another "
            "distribution)."
        )
