"""A policy taken apart, so that a loss can run its networks under latents of its own.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``Z`` latent, ``K`` latents. Source: Kim et al.
2023, arXiv:2303.00451, Eqs. (7), (46).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    TensorDictModuleBase,
)
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.latent_policy import StoredLatent
from vm3ac_modules.modules.network import NetworkModule
from vm3ac_modules.modules.policy import policy_leaves
from vm3ac_modules.objectives.common import call_network
from vm3ac_modules.objectives.options import check_choice
from vm3ac_modules.priors import LatentPrior

__all__ = ["Latent", "PolicyBody", "latents_read"]


Latent = Literal["fresh", "stored"]
"""Which latent a loss's actions are drawn under: one of its own, or that of the batch."""


class PolicyBody(ABC):
    """A policy taken apart: the latent's sampler, the networks, and the distribution at the end.

    Losses draw their own latent, so they call the networks between the sampler and the distribution
    directly. The body holds the policy's own modules, no copies.

    Args:
        policy: any TorchRL sequence of an optional :class:`~vm3ac_modules.modules.LatentSampler`,
            networks, and a distribution that the subclass knows.
        latent: ``"fresh"`` to draw one per transition from the sampler's prior, ``"stored"`` to
            take the batch's. An entry is a latent by its name, or that of the network's argument.

    Raises:
        ValueError: if the distribution is missing or not one that the subclass knows; if the policy
            reads a latent that nothing draws, replays a stored one, or has a sampler that holds it
            or whose mode is not ``"sample"``, unless the stored one is meant; if it is meant and
            none is read.
    """

    def __init__(self, policy: TensorDictModuleBase, *, latent: Latent = "fresh") -> None:
        check_choice("latent", latent, get_args(Latent))
        leaves = list(policy_leaves(policy))
        head = leaves[-1]
        if not isinstance(head, ProbabilisticTensorDictModule):
            raise ValueError("the policy must end in a distribution (a TorchRL actor).")
        names = [key if isinstance(key, str) else key[-1] for key in head.dist_keys]
        parameters = dict(zip(names, head.in_keys, strict=True))
        self.wanted: list[NestedKey] = [parameters[name] for name in self._accept(head, names)]
        self.action_key: NestedKey = head.dist_sample_keys[0]
        sources = (LatentSampler, StoredLatent)
        self.body = [leaf for leaf in leaves[:-1] if not isinstance(leaf, sources)]
        produced = {key for module in self.body for key in module.out_keys}
        read = [key for module in self.body for key in module.in_keys]
        read = [key for key in [*read, *self.wanted] if key not in produced]
        source = next((leaf for leaf in leaves if isinstance(leaf, sources)), None)
        self.stored = latent == "stored"
        loose = [key for key in latents_read(self.body) if key in read]
        _check_source(source, loose, self.stored)
        self.prior: LatentPrior | None = None if source is None else source.prior
        known = source if self.prior is not None else None
        self.latent_key: NestedKey | None = known.out_keys[0] if known is not None else None
        self.in_keys: list[NestedKey] = list(
            dict.fromkeys(key for key in read if key != self.latent_key)
        )
        self.broadcasts = all(
            getattr(getattr(module, "net", None), "broadcasts_latent", False)
            for module in self.body
        )

    @property
    def data_keys(self) -> list[NestedKey]:
        """What a loss reads of the batch to draw actions: ``in_keys``, and a stored latent."""
        stored = [self.latent_key] if self.stored and self.latent_key is not None else []
        return [*self.in_keys, *stored]

    def require_prior(self, what: str) -> None:
        """Check that further latents can be drawn, where the latent is not the body's own.

        Args:
            what: what needs them, for the message.

        Raises:
            ValueError: if the stored latent is meant and its prior is not known.
        """
        if self.stored and self.prior is None:
            raise ValueError(
                f"{what} draws further latents, but the law of the stored one is not known: put "
                "StoredLatent(prior) before the actor (make_policy)."
            )

    def noise_latents(
        self, batch: torch.Size, num_latents: int, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`draw_latents` gives; the latent of the actions is empty if stored.

        Args:
            batch: ``*B``.
            num_latents: extra latents K.
            like: gives dtype and device.

        Returns:
            The latent of the actions, ``[*B, Z]`` or ``[*B, 0]``, and extra ones, ``[*B, K, Z]``.
        """
        own, extra = self.draw_latents(batch, num_latents, like)
        return (own[..., :0] if self.stored else own), extra

    def draw_latents(
        self, batch: torch.Size, num_latents: int, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw from the prior, by the device's default generator.

        Args:
            batch: ``*B``.
            num_latents: extra latents K.
            like: gives dtype and device.

        Returns:
            The latent of the actions, ``[*B, Z]``, and extra ones, ``[*B, K, Z]``; empty without a
            prior.
        """
        if self.prior is None:
            return like.new_zeros((*batch, 0)), like.new_zeros((*batch, num_latents, 0))
        extra = (*batch, num_latents)
        return self.prior.sample(batch, like=like), self.prior.sample(extra, like=like)

    @abstractmethod
    def _accept(self, head: ProbabilisticTensorDictModule, names: list[str]) -> Sequence[str]:
        """Names of the distribution's parameters to read; ValueError if it is not known."""

    def _parameters(self, tensordict: TensorDictBase, latent: Tensor) -> tuple[Tensor, ...]:
        """What the distribution is given under one latent, ``[*B, Z]``, or the batch's if empty."""
        inputs = {key: tensordict.get(key) for key in self.in_keys}
        if self.stored and self.latent_key is not None and latent.shape[-1] == 0:
            latent = tensordict.get(self.latent_key)
        return self._run(inputs, latent, tensordict.batch_size)

    def _many_parameters(self, tensordict: TensorDictBase, latents: Tensor) -> tuple[Tensor, ...]:
        """The same under K latents, ``[*B, K, Z]``, in one call: ``[*B, K, N, A]`` each."""
        batch = tensordict.batch_size
        size = batch if self.broadcasts else torch.Size((*batch, latents.shape[-2]))
        inputs = {}
        for key in self.in_keys:
            value = tensordict.get(key).unsqueeze(len(batch))
            inputs[key] = (
                value if self.broadcasts else value.expand(*size, *value.shape[len(size) :])
            )
        found = self._run(inputs, latents, size)
        # What does not depend on the latent has come out once for all of them.
        return tuple(x.expand(*batch, latents.shape[-2], *x.shape[-2:]) for x in found)

    def _run(
        self, inputs: dict[NestedKey, Tensor], latent: Tensor, batch_size: torch.Size
    ) -> tuple[Tensor, ...]:
        if self.latent_key is not None:
            inputs[self.latent_key] = latent
        if len(self.body) == 1:
            return tuple(call_network(self.body[0], inputs, self.wanted, batch_size))
        td = TensorDict(inputs, batch_size)
        for module in self.body:
            td = module(td)
        return tuple(td.get(key) for key in self.wanted)


def latents_read(body: Iterable[TensorDictModuleBase]) -> Iterator[NestedKey]:
    """Entries that networks read as latents, by their argument's or their key's name.

    Args:
        body: the modules of a policy.

    Example:
        >>> from tensordict.nn import TensorDictModule
        >>> keys = ["observation", "latent"]
        >>> net = TensorDictModule(torch.nn.Bilinear(4, 2, 3), keys, ["logits"])
        >>> list(latents_read([net]))
        ['latent']
    """
    for module in body:
        if isinstance(module, NetworkModule):
            yield from (key for name, key in module.arguments.items() if name == "latent")
        else:
            names = ((key, key if isinstance(key, str) else key[-1]) for key in module.in_keys)
            yield from (key for key, name in names if name == "latent")


def _check_source(
    source: LatentSampler | StoredLatent | None, loose: Sequence[NestedKey], stored: bool
) -> None:
    """Refuse a policy whose latent is not the one that is meant; ``loose`` are those it reads."""
    if stored:
        if source is None and not loose:
            raise ValueError(
                "latent='stored' needs a policy that reads a latent: put StoredLatent(prior, key) "
                "before an actor that reads one under a name of its own."
            )
    elif isinstance(source, StoredLatent):
        raise ValueError(
            "the policy replays a stored latent, and the loss draws its own: pass the policy "
            "itself, not policy.replaying(), or latent='stored' if the batch's latent is meant."
        )
    elif source is None and loose:
        raise ValueError(
            f"the policy reads {loose[0]!r} and nothing draws it: put a LatentSampler before the "
            "actor (make_policy), or pass latent='stored' if the batch's latent is meant."
        )
    elif isinstance(source, LatentSampler) and source.held:
        raise ValueError(
            "the policy's latent is held for an episode, and the loss draws its own: pass "
            "latent='stored', with critics that read the latent (latent_dim=...)."
        )
    elif isinstance(source, LatentSampler) and source.mode != "sample":
        raise ValueError(
            f"a loss trains on latents drawn from the prior, but the policy's sampler has mode "
            f"{source.mode!r}: pass the policy with sampler.with_mode('sample')."
        )
