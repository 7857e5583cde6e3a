"""What a composition's batch must hold: what losses read of it, and the outcomes of a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import nn
from torchrl import objectives
from torchrl.objectives.value import ValueEstimatorBase

from vm3ac_modules.objectives.base import MultiAgentLoss

# TorchRL's losses that score the actions of the batch; the others draw actions of their own.
_SCORING = ("PPOLoss", "A2CLoss", "ReinforceLoss", "BCLoss", "IQLLoss", "DTLoss", "OnlineDTLoss")


class HostError(ValueError):
    """A host's loss, a policy and a batch that do not fit together."""

    __module__ = "vm3ac_modules.objectives.host"


def known_to_score(loss: nn.Module) -> bool | None:
    """Whether a loss scores stored actions; None where that cannot be known."""
    scoring = tuple(found for name in _SCORING if (found := getattr(objectives, name, None)))
    if isinstance(loss, (*scoring, ValueEstimatorBase)):
        return True
    # A loss of TorchRL's, or derived from one, that is none of those draws its own.
    kinds = (kind for kind in type(loss).__mro__ if kind is not objectives.LossModule)
    if any(kind.__module__.startswith("torchrl.objectives") for kind in kinds):
        return False
    return None


def check_entries(losses: Sequence[nn.Module], batch: TensorDictBase) -> None:
    """Refuse a batch that lacks what the losses read of the policy's and the environment's."""
    for loss in losses:
        network = getattr(loss, "actor_network", None)
        keys = getattr(loss, "tensor_keys", None)
        read = list(getattr(network, "in_keys", []))
        read = [key for key in read if not isinstance(loss, MultiAgentLoss) or key in loss.in_keys]
        read += [key for key in (getattr(keys, "action", None),) if key is not None]
        require(batch, read, type(loss).__name__)


def check_outcomes(loss: nn.Module, batch: TensorDictBase) -> None:
    """Refuse a batch without the rewards, ends and next entries of which a loss makes its target.

    A loss that reads an advantage may be checked before anybody estimates one, with the keys of the
    estimator unset in the loss: its own outcomes stay unchecked then.
    """
    keys, name = getattr(loss, "tensor_keys", None), type(loss).__name__
    scores, estimates = known_to_score(loss), isinstance(loss, ValueEstimatorBase)
    if isinstance(loss, MultiAgentLoss) or scores is None:
        return
    if hasattr(keys, "advantage") and not estimates:
        return
    shapes = {}
    for part in ("reward", "done", "terminated"):
        key = getattr(keys, part, None)
        if key is None:
            continue
        found = batch.get(("next", key), None)
        if found is None:
            raise HostError(
                f"the batch lacks {_next(key)!r}, which {name} reads as {part}: "
                f"{_outcome_cure(part, batch, estimates)}."
            )
        shapes[part] = found.shape
    for part in ("done", "terminated"):
        if part in shapes and shapes[part] != shapes.get("reward", shapes[part]):
            raise HostError(
                f"{name} reads {part} of shape {list(shapes[part])} beside a reward of shape "
                f"{list(shapes['reward'])}: {_outcome_cure(part, batch, estimates)}."
            )
    actor = getattr(loss, "actor_network", None)
    # Who bootstraps looks at the next state, by the policy's actions there or by a state value.
    ahead = getattr(loss, "value_network", None) if scores else actor
    read = [_next(key) for key in getattr(ahead, "in_keys", ())]
    drawn = {unravel_key(key) for key in getattr(actor, "out_keys", ())}
    for critic in (getattr(loss, f"{kind}_network", None) for kind in ("qvalue", "value")):
        read += [k for k in getattr(critic, "in_keys", ()) if unravel_key(k) not in drawn]
    require(batch, read, name)


def _next(key: NestedKey) -> NestedKey:
    found: NestedKey = unravel_key(("next", key))
    return found


def _outcome_cure(part: str, batch: TensorDictBase, estimates: bool) -> str:
    """Where a batch has the entry that a loss looks for in vain, or how it gets one."""
    owner = "estimator" if estimates else "loss"
    reward = [k for k in batch.keys(True, True) if k[0] == "next" and k[-1] == "reward"]
    there = [k[1:] for k in batch.keys(True, True) if k[0] == "next" and k[-1] == part]
    fitting = [
        key
        for key in there
        if part == "reward" or not reward or batch["next", *key].shape == batch[reward[-1]].shape
    ]
    if fitting:
        key = fitting[-1][0] if len(fitting[-1]) == 1 else fitting[-1]
        return f"{owner}.set_keys({part}={key!r}) names the entry of the batch"
    if part == "reward":
        return "collect with the environment, and keep its next entries"
    return (
        "let the environment write one per agent (ExpandDone), and name it by "
        f"{owner}.set_keys({part}=...)"
    )


def require(batch: TensorDictBase, keys: Iterable[NestedKey], owner: str) -> None:
    """Refuse a batch that lacks an entry which its owner reads."""
    missing = [key for key in keys if batch.get(key, None) is None]
    if missing:
        hint = ""
        if any((key if isinstance(key, str) else key[-1]) == "latent" for key in missing):
            hint = ": collect with the whole policy, sampler included, and keep its latent"
        raise HostError(f"the batch lacks {missing[0]!r}, which {owner} reads{hint}.")
