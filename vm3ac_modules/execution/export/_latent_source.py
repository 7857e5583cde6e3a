"""The latent of an agent's program: computed from the time, given, or constant.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (synchronized latents) and Appendix H.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from torch import Tensor, nn

from vm3ac_modules.functional.counter import uniforms_at
from vm3ac_modules.priors import LatentPrior

LatentInput = Literal["synchronized", "given", "mean", "constant", "none"]
"""Source of an exported agent's latent; ``"none"`` for a policy without one."""


class LatentSource(nn.Module):
    """Compute or read the latent of a step inside an agent's program.

    ``"synchronized"`` computes it from seed, episode and step (the episode's step 0 if it is
    ``held``), ``"given"`` reads it, ``"mean"`` and ``"constant"`` are constants of the prior.
    """

    def __init__(
        self, source: LatentInput, prior: LatentPrior | None, *, held: bool = False
    ) -> None:
        super().__init__()
        if source not in get_args(LatentInput):
            raise ValueError(
                f"unknown latent source {source!r}; valid: {', '.join(get_args(LatentInput))}."
            )
        kept: dict[str, Tensor] = {}
        if source not in ("given", "none"):
            if prior is None:
                raise ValueError(f"the latent source {source!r} needs the prior of the latent.")
            if source == "synchronized":
                kept = prior.numbers()
            else:
                value = prior.mean() if source == "mean" else prior.constant()
                kept = {"value": value.float().cpu()}
        self.source, self.held = source, held
        # Not a submodule: a program holds only the buffers that its graph reads.
        self._prior = [prior]
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that the program reads for it."""
        named: dict[str, tuple[str, ...]] = {
            "synchronized": ("seed", "episode", "step"),
            "given": ("latent",),
        }
        return named.get(self.source, ())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that hold the latent; empty where it is given."""
        return () if self.source in ("none", "given") else ("used_latent",)

    def written(self, latent: Tensor | None) -> tuple[Tensor, ...]:
        """The tensors of :attr:`outputs`, copied: a program cannot return its own buffers."""
        return (cast("Tensor", latent).clone(),) if self.outputs else ()

    def forward(self, rows: int, *given: Tensor) -> Tensor | None:
        """The latent ``[R, Z]`` from a tensor per name of :attr:`inputs`."""
        if self.source == "none":
            return None
        if self.source == "given":
            return given[0]
        if self.source in ("mean", "constant"):
            return cast("Tensor", self.value).expand(rows, -1)
        prior = cast("LatentPrior", self._prior[0])
        seed, episode, step = given
        # Not a constant: programs must read what agents hand them.
        step = step - step if self.held else step
        uniforms = uniforms_at(seed, episode, step, prior.num_uniforms)
        return prior.from_uniforms(uniforms, cast("dict[str, Tensor]", self._buffers))
