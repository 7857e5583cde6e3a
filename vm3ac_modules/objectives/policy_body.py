"""A policy taken apart, so that a loss can run its networks under latents of its own.

Shapes: ``*B`` batch, ``N`` agents, ``A`` action, ``Z`` latent, ``K`` latents. Source: Kim et al.
2023, arXiv:2303.00451, Eqs. (7), (46).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    TensorDictModuleBase,
)
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.modules.latent import LatentSampler
from vm3ac_modules.modules.policy import policy_leaves
from vm3ac_modules.objectives.common import call_network

__all__ = ["PolicyBody"]


class PolicyBody(ABC):
    """A policy taken apart: the latent's sampler, the networks, and the distribution at the end.

    Losses draw their own latent, so they call the networks between the sampler and the distribution
    directly. The body holds the policy's own modules, no copies.

    Args:
        policy: any TorchRL sequence of an optional :class:`~vm3ac_modules.modules.LatentSampler`,
            networks, and a distribution that the subclass knows.

    Raises:
        ValueError: if the sampler's mode is not ``"sample"``, or the distribution is missing or
            not one that the subclass knows.
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        leaves = list(policy_leaves(policy))
        samplers = [leaf for leaf in leaves if isinstance(leaf, LatentSampler)]
        self.sampler: LatentSampler | None = samplers[0] if samplers else None
        if self.sampler is not None and self.sampler.mode != "sample":
            raise ValueError(
                f"a loss trains on latents drawn from the prior, but the policy's sampler has mode "
                f"{self.sampler.mode!r}: pass the policy with sampler.with_mode('sample')."
            )
        head = leaves[-1]
        if not isinstance(head, ProbabilisticTensorDictModule):
            raise ValueError("the policy must end in a distribution (a TorchRL actor).")
        names = [key if isinstance(key, str) else key[-1] for key in head.dist_keys]
        parameters = dict(zip(names, head.in_keys, strict=True))
        self.wanted: list[NestedKey] = [parameters[name] for name in self._accept(head, names)]
        self.action_key: NestedKey = head.dist_sample_keys[0]
        self.body = [leaf for leaf in leaves[:-1] if not isinstance(leaf, LatentSampler)]
        self.latent_key: NestedKey | None = self.sampler.out_keys[0] if self.sampler else None
        produced = {key for module in self.body for key in module.out_keys} | {self.latent_key}
        read = [key for module in self.body for key in module.in_keys]
        self.in_keys: list[NestedKey] = list(
            dict.fromkeys(key for key in [*read, *self.wanted] if key not in produced)
        )
        self.broadcasts = all(
            getattr(getattr(module, "net", None), "broadcasts_latent", False)
            for module in self.body
        )

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
            sampler.
        """
        if self.sampler is None:
            return like.new_zeros((*batch, 0)), like.new_zeros((*batch, num_latents, 0))
        prior = self.sampler.prior
        return prior.sample(batch, like=like), prior.sample((*batch, num_latents), like=like)

    @abstractmethod
    def _accept(self, head: ProbabilisticTensorDictModule, names: list[str]) -> Sequence[str]:
        """Names of the distribution's parameters to read; ValueError if it is not known."""

    def _parameters(self, tensordict: TensorDictBase, latent: Tensor) -> tuple[Tensor, ...]:
        """What the distribution is given under one latent, ``[*B, Z]``."""
        inputs = {key: tensordict.get(key) for key in self.in_keys}
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
