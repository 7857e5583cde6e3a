"""The latent inside an agent's program: computed from the time, given, or one number for ever.

Source: Kim et al. 2023, arXiv:2303.00451, Section 5 (synchronized latents) and Appendix H.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from vm3ac_modules.functional.counter import normal_icdf, normal_table, uniforms_at
from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, LatentPrior, UniformPrior

__all__ = ["LatentInput", "LatentSource"]

LatentInput = Literal["synchronized", "given", "mean", "constant", "none"]
"""Where an exported agent has its latent from; ``"none"`` for a policy without one."""


class LatentSource(nn.Module):
    """The latent of a step, inside the program of an agent.

    Args:
        source: ``"synchronized"`` computes :func:`~vm3ac_modules.modules.latent_at` from seed,
            episode and step; ``"given"`` reads it; ``"mean"`` and ``"constant"`` hold one number
            for ever; ``"none"`` has none.
        prior: the prior; may be None for ``"given"`` and ``"none"``.

    Raises:
        ValueError: for an unknown source, a missing prior, or a mean outside the support.

    Example:
        >>> source = LatentSource("synchronized", GaussianPrior(3))
        >>> source.inputs
        ('seed', 'episode', 'step')
        >>> source(5, torch.tensor(0), torch.tensor([1]), torch.tensor([2])).shape
        torch.Size([1, 3])
    """

    def __init__(self, source: LatentInput, prior: LatentPrior | None) -> None:
        super().__init__()
        if source not in get_args(LatentInput):
            raise ValueError(
                f"unknown latent source {source!r}; valid: {', '.join(get_args(LatentInput))}."
            )
        if prior is None and source not in ("given", "none"):
            raise ValueError(f"the latent source {source!r} needs the prior of the latent.")
        self.source = source
        # Not as a submodule: a program keeps what its graph reads, and that is put here.
        self._prior = [prior]
        for name, value in _numbers(source, prior).items():
            self.register_buffer(name, value, persistent=False)

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
        """Names of what the program returns of it: the latent that it computed by itself."""
        return () if self.source in ("none", "given") else ("used_latent",)

    def written(self, latent: Tensor | None) -> tuple[Tensor, ...]:
        """The tensors of :attr:`outputs`; a copy, since programs do not return what they hold."""
        return (cast("Tensor", latent).clone(),) if self.outputs else ()

    def forward(self, rows: int, *given: Tensor) -> Tensor | None:
        """The latent ``[R, Z]``.

        Args:
            rows: number of rows R.
            given: a tensor per name of :attr:`inputs`: seed int64 ``[]`` (64 bits), episode and
                step int64 ``[R]``; or the latent ``[R, Z]``.
        """
        if self.source == "none":
            return None
        if self.source == "given":
            return given[0]
        if self.source in ("mean", "constant"):
            return cast("Tensor", self.value).expand(rows, -1)
        prior = cast("LatentPrior", self._prior[0])
        seed, episode, step = given
        uniforms = uniforms_at(seed, episode, step, prior.num_uniforms)
        return self._draw(uniforms, prior.dim).to(torch.float32)

    def _draw(self, u: Tensor, dim: int) -> Tensor:
        """What the prior makes of uniforms, with its numbers as float64 tensors."""
        buffers = cast("dict[str, Tensor]", self._buffers)
        if "table" in buffers:
            return normal_icdf(u, buffers["table"])
        if "span" in buffers:
            scaled = u * buffers["span"]
            return scaled + buffers["low"]
        outcome = (u >= buffers["edges"]).sum(-1, keepdim=True)
        return (outcome == torch.arange(dim)).to(torch.float64)


def _numbers(source: LatentInput, prior: LatentPrior | None) -> dict[str, Tensor]:
    """The tensors that a program needs of a prior.

    Not Python's numbers: ONNX's exporter rounds those to float32, also beside float64 tensors.
    """
    if prior is None or source in ("given", "none"):
        return {}
    if source in ("mean", "constant"):
        value = prior.mean() if source == "mean" else prior.constant()
        return {"value": value.float().cpu()}
    if isinstance(prior, GaussianPrior):
        return {"table": normal_table()}
    if isinstance(prior, UniformPrior):
        ends = {"span": prior.high - prior.low, "low": prior.low}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in ends.items()}
    if isinstance(prior, CategoricalPrior):
        return {"edges": torch.tensor(prior.edges, dtype=torch.float64)}
    raise ValueError(
        f"a {type(prior).__name__} cannot be computed inside a program: export with latent 'given'."
    )
