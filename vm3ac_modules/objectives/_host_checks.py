"""What is checked of a composition, one kind of mistake each; see ``host.py``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    TensorDictModuleBase,
)
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn

from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import LatentPolicy, StoredLatent
from vm3ac_modules.modules.policy import Policy, policy_leaves
from vm3ac_modules.objectives._host_entries import HostError, require
from vm3ac_modules.objectives.policy_body import latents_read

# Latents that a policy is tried under: by chance alike with a probability of 2^-15 at most.
_LATENTS = 16


def check_latent_is_used(policy: Policy, batch: TensorDictBase) -> None:
    """Refuse a policy that does not act on z."""
    leaves = list(policy_leaves(policy.module))
    head = leaves[-1]
    source = next((x for x in leaves if isinstance(x, LatentSampler | StoredLatent)), None)
    if batch.batch_size.numel() == 0:
        raise HostError("the batch is empty: check a composition on what the policy collected.")
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
    laws = _parameters(body, source, batch, head.in_keys)
    if all(torch.equal(law, law[:1].expand_as(law)) for law in laws):
        raise HostError(
            f"the policy does not use z: {_LATENTS} latents of its prior give the same law of "
            f"actions, so the actor does not read {source.out_keys[0]!r} or multiplies it with "
            "zeros, or the prior has a single outcome."
        )


def _parameters(
    body: Sequence[TensorDictModuleBase],
    source: LatentSampler | StoredLatent,
    batch: TensorDictBase,
    keys: Sequence[NestedKey],
) -> list[Tensor]:
    """What the distribution is given under several latents of the prior, ``[K, *B, ..]`` each."""
    assert source.prior is not None
    produced = {key for module in body for key in module.out_keys}
    read = {unravel_key(key) for module in body for key in module.in_keys} - produced
    require(batch, read, "the policy")
    td = batch.select(*read).expand(_LATENTS, *batch.batch_size).clone()
    like = next((x for x in td.values(True, True) if x.is_floating_point()), torch.empty(0))
    td.set(source.out_keys[0], source.prior.sample(td.batch_size, like=like))
    for module in body:
        td = module(td)
    return [td.get(key) for key in keys if key in td.keys(True)]


def check_optimizers(
    trained: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Refuse a parameter with two optimizers, and a policy or predictor that nothing steps."""
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
    if not optimizers:
        return
    for module, cure in zip(
        trained,
        ("the policy: give it the host's actor", "the predictor: give it one of its own"),
        strict=False,
    ):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in owners:
                raise HostError(f"no optimizer steps {name!r} of {cure}.")


def check_parameters(loss: nn.Module, policy: nn.Module) -> None:
    """Refuse a loss that trains a copy of the policy."""
    held = {id(parameter) for parameter in loss.parameters()}
    missing = [name for name, p in policy.named_parameters() if id(p) not in held]
    if held and missing:
        raise HostError(
            f"{type(loss).__name__} does not hold {missing[0]!r} of this policy: it was built with "
            "a copy or with another policy, and its gradient goes there."
        )


def _draws(policy: TensorDictModuleBase) -> bool:
    """Whether it draws a latent of its own; one that is held for an episode is left as it is."""
    return any(_draws_anew(leaf) for leaf in policy_leaves(policy))


def _draws_anew(leaf: nn.Module) -> bool:
    return isinstance(leaf, LatentSampler) and not (leaf.held and leaf.mode == "sample")


def check_source(
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
    samplers = (x for x in policy_leaves(network) if _draws_anew(x))
    drawn = {unravel_key(key) for sampler in samplers for key in sampler.out_keys}
    for attribute, module in vars(loss).items():
        if not attribute.endswith("_network") or attribute == "actor_network":
            continue
        if drawn & {unravel_key(key) for key in getattr(module, "in_keys", ())}:
            raise HostError(
                f"{type(loss).__name__}'s {attribute} reads the latent of the batch and its actor "
                "draws another: hand it policy.replaying(), and let the replay buffer draw one "
                "for batch['next'] (recipes/add_mi_to_discrete_sac.py)."
            )


def check_keys(loss: nn.Module, policy: Policy, scores: bool) -> None:
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


def check_critic(loss: nn.Module) -> None:
    """Refuse a key of state values that the loss's own critic does not write.

    The value estimator then fails at the first advantage, in words of its own.
    """
    critic, keys = getattr(loss, "critic_network", None), getattr(loss, "tensor_keys", None)
    read, written = getattr(keys, "value", None), list(getattr(critic, "out_keys", ()))
    if read is None or not written or unravel_key(read) in map(unravel_key, written):
        return
    raise HostError(
        f"{type(loss).__name__} reads state values at {read!r}, and its critic_network writes "
        f"them at {written[0]!r}: loss.set_keys(value={written[0]!r})."
    )


def check_ratio(
    loss: Any,
    policy: Policy,
    network: TensorDictModuleBase,
    batch: TensorDictBase,
    tolerance: float,
) -> None:
    """Refuse log-probabilities of the batch that are not those of the policy."""
    *_, head = policy_leaves(policy.module)
    keys = getattr(loss, "tensor_keys", None)
    key = getattr(keys, "sample_log_prob", None) or head.log_prob_key
    action = getattr(keys, "action", None) or head.dist_sample_keys[0]
    if isinstance(key, list) or isinstance(action, list) or not hasattr(network, "get_dist"):
        return
    stored, name = batch.get(key, None), type(loss).__name__
    if stored is None:
        if getattr(keys, "sample_log_prob", None) is None:
            return  # a loss without a ratio
        raise HostError(
            f"the batch lacks {key!r}, the log-probabilities that {name} reads: build the actor "
            "with return_log_prob=True."
        )
    parameters = getattr(loss, "actor_network_params", None)
    filled = nullcontext() if parameters is None else parameters.to_module(network)
    require(batch, [*network.in_keys, action], name)
    with filled:
        dist = network.get_dist(batch.clone(False))
    now = dist.log_prob(batch.get(action))
    if now.shape != stored.shape:
        raise HostError(
            f"{name} finds log-probabilities of shape {list(stored.shape)} in the batch and "
            f"computes {list(now.shape)}: both must come from the same distribution."
        )
    worst = float(((now - stored).exp() - 1.0).abs().max())
    if not worst <= tolerance:
        raise HostError(
            f"{name}'s ratio is off by up to {worst:.3g} where it should be 1: the batch is not "
            "what this policy has just collected (other parameters, another latent, or another "
            "distribution)."
        )
