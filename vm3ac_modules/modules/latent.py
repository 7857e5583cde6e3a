"""The latent that agents share: one draw per environment and step, at the root of the tensordict.

:func:`latent_at` computes the latent of a step from (seed, episode, step) alone, so that agents
agree on it without communication; :class:`LatentSampler` is the module that opens a policy.

Source: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

import operator
from typing import Literal, get_args

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.counter import uniforms_at
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.priors import CategoricalPrior, GaussianPrior, LatentPrior, UniformPrior

__all__ = [
    "CategoricalPrior",
    "GaussianPrior",
    "LatentMode",
    "LatentPrior",
    "LatentSampler",
    "UniformPrior",
    "latent_at",
]

LatentMode = Literal["sample", "mean", "constant", "synchronized", "independent"]
"""How a latent comes about."""


def latent_at(seed: int, episode: Tensor | int, step: Tensor | int, prior: LatentPrior) -> Tensor:
    """Compute the latent of one step of one episode: no state to lose, no drift after a skip.

    ``z = prior(Philox4x32-10(counter = (block, step, episode), key = seed))``.

    References:
        Kim et al. 2023, arXiv:2303.00451, Appendix H; Salmon et al. 2011, "Parallel random
        numbers: as easy as 1, 2, 3".

    Args:
        seed: the run's seed, ``0 <= seed < 2^64``.
        episode: number of the episode, ``>= 0``; a number or int64, broadcast with step to ``*B``.
        step: number of the step within the episode, ``0 <= step < 2^32``.
        prior: the prior of the latent.

    Returns:
        float32 ``[*B, Z]``, the same bits in torch and NumPy, on every machine.

    Raises:
        ValueError: the seed, an episode or a step is outside its range (values of tensors are
            checked on the CPU only, where it costs no synchronization).
        TypeError: an episode or a step is neither a number nor int64.

    Example:
        >>> from vm3ac_modules.modules.latent import GaussianPrior, latent_at
        >>> prior = GaussianPrior(8)
        >>> latent_at(0, episode=5, step=7, prior=prior).shape
        torch.Size([8])
        >>> all_steps = latent_at(0, episode=5, step=torch.arange(10), prior=prior)
        >>> bool((all_steps[7] == latent_at(0, 5, 7, prior)).all())
        True

    See Also:
        :func:`vm3ac_modules.functional.counter.uniforms_at`.
    """
    device = next((x.device for x in (episode, step) if isinstance(x, Tensor)), None)
    episode = _as_count("episode", episode, 2**63, device)
    step = _as_count("step", step, 2**32, device)
    return prior.from_uniforms(uniforms_at(seed, episode, step, prior.num_uniforms))


def _as_count(name: str, value: Tensor | int, limit: int, device: torch.device | None) -> Tensor:
    if isinstance(value, Tensor):
        if value.dtype != torch.int64:
            raise TypeError(f"latent_at: {name} must be int64, got {value.dtype}.")
        # On an accelerator, reading the values would wait for it at every step.
        checked = value.device.type == "cpu" and value.numel() > 0
        low, high = (int(value.min()), int(value.max())) if checked else (0, 0)
    else:
        try:
            low = high = value = operator.index(value)  # NumPy's integers too
        except TypeError:
            raise TypeError(
                f"latent_at: {name} must be an integer or int64, got {type(value).__name__}."
            ) from None
    if low < 0 or high >= limit:
        bound = f"2^{limit.bit_length() - 1}"
        raise ValueError(
            f"latent_at: {name} must satisfy 0 <= {name} < {bound}, got {low if low < 0 else high}."
        )
    return value if isinstance(value, Tensor) else torch.tensor(value, device=device)


class LatentSampler(TensorDictModuleBase):
    """Write the shared latent ``z_t``: the first module of a policy.

    One ``z ~ P_Z`` per environment and step, the same for all agents, so that a host loss that
    runs the policy draws a fresh one for ``s`` and for ``s'``. A latent that is already in the
    tensordict is replaced. The mode is fixed here and never follows TorchRL's exploration type:
    a ``LossModule`` runs its networks under ``DETERMINISTIC``, which would train with ``E[z]``.

    References:
        Kim et al. 2023, arXiv:2303.00451, Section 4 and Appendix H.

    Args:
        prior: the prior of the latent, shared by the modules that :meth:`with_mode` returns.
        mode: ``"sample"`` draws (training); ``"mean"`` writes ``E[z]``; ``"constant"`` one agreed
            outcome; ``"synchronized"`` writes :func:`latent_at` of the episode and step in the
            tensordict; ``"independent"`` draws one z per agent, a control and not a method.
        num_agents: N, needed by ``"independent"`` only.
        batch_from: an entry to declare as input, ``[*B, ...]`` at the root or ``[*B, N, ...]``
            under the group. ``*B`` is the batch size of the tensordict; where that is empty, as
            in a policy called with keyword arguments, the leading dimensions of this entry (all
            but the last, and but the agents' under the group). Its device is used too.
        keys: the tensordict vocabulary.
        out_key: where the latent is written; ``keys.latent`` by default.
        seed: seed of ``"synchronized"``, ``0 <= seed < 2^64``.
        force_mean: accept ``mode="mean"`` for a categorical prior.
        held: whether a latent lives for an episode. ``"sample"`` then leaves the one that
            :class:`~vm3ac_modules.envs.EpisodeLatent` wrote at the reset, ``"synchronized"``
            writes that of the episode's step 0, and ``"independent"`` gives agent i that of its
            step i.

    Raises:
        ValueError: the mode is unknown, lacks num_agents, or is a mean outside the support; or
            the seed is outside its range.
        MissingKeysError: in ``forward``, the tensordict lacks an entry of ``in_keys``.

    Example:
        >>> from tensordict import TensorDict
        >>> from vm3ac_modules.modules.latent import GaussianPrior, LatentSampler
        >>> sampler = LatentSampler(GaussianPrior(8))
        >>> sampler(TensorDict(batch_size=[64]))["latent"].shape
        torch.Size([64, 8])
        >>> sampler.with_mode("constant").prior is sampler.prior
        True

    See Also:
        :func:`latent_at`.
    """

    def __init__(
        self,
        prior: LatentPrior,
        *,
        mode: LatentMode = "sample",
        num_agents: int | None = None,
        batch_from: NestedKey | None = None,
        keys: Keys | None = None,
        out_key: NestedKey | None = None,
        seed: int = 0,
        force_mean: bool = False,
        held: bool = False,
    ) -> None:
        super().__init__()
        if mode not in get_args(LatentMode):
            raise ValueError(
                f"LatentSampler: unknown mode {mode!r}; choose one of "
                f"{', '.join(get_args(LatentMode))}."
            )
        if mode == "independent" and (num_agents is None or num_agents < 1):
            raise ValueError(
                f"LatentSampler: mode 'independent' needs num_agents >= 1, got {num_agents}."
            )
        if mode == "mean":
            prior.mean(force=force_mean)
        if not 0 <= seed < 2**64:
            raise ValueError(f"LatentSampler: seed must satisfy 0 <= seed < 2^64, got {seed}.")
        self.prior = prior
        self.mode = mode
        self.num_agents = num_agents
        self._agents_shape = (num_agents,) if num_agents and mode == "independent" else ()
        self.batch_from = batch_from
        self.keys = Keys() if keys is None else keys
        self.seed = seed
        self.force_mean, self.held = force_mean, held
        self.out_keys = [self.keys.latent if out_key is None else out_key]
        self.out_sizes = (prior.dim,)
        read: dict[str, list[NestedKey]] = {"synchronized": [self.keys.episode]}
        if held:
            read |= {"sample": self.out_keys, "independent": [self.keys.episode]}
        else:
            read["synchronized"] = [self.keys.episode, self.keys.step_count]
        self.in_keys = [*([] if batch_from is None else [batch_from]), *read.get(mode, [])]

    def with_mode(
        self,
        mode: LatentMode,
        *,
        num_agents: int | None = None,
        force_mean: bool | None = None,
        seed: int | None = None,
    ) -> LatentSampler:
        """Return another sampler of the same prior object.

        Args:
            mode: the mode of the new module.
            num_agents: N; this module's by default.
            force_mean: accept the mean of a categorical prior; this module's by default.
            seed: seed of ``"synchronized"``; this module's by default.
        """
        return LatentSampler(
            self.prior,
            mode=mode,
            num_agents=self.num_agents if num_agents is None else num_agents,
            batch_from=self.batch_from,
            keys=self.keys,
            out_key=self.out_keys[0],
            seed=self.seed if seed is None else seed,
            force_mean=self.force_mean if force_mean is None else force_mean,
            held=self.held,
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the latent, ``[*B, Z]`` (``[*B, N, Z]`` if independent), at ``out_keys[0]``."""
        require_keys(tensordict, self.in_keys, f"LatentSampler(mode={self.mode!r})")
        return tensordict.set(self.out_keys[0], self._latent(tensordict))

    def _latent(self, tensordict: TensorDictBase) -> Tensor:
        like = self._like(tensordict)
        batch = self._batch_shape(tensordict)
        if self.mode == "synchronized":
            episode = tensordict.get(self.keys.episode)
            step = 0 if self.held else tensordict.get(self.keys.step_count)[..., 0]
            return latent_at(self.seed, episode[..., 0], step, self.prior).to(like)
        if self.mode == "mean":
            return self.prior.mean(force=self.force_mean).to(like).expand(*batch, -1).clone()
        if self.mode == "constant":
            return self.prior.constant().to(like).expand(*batch, -1).clone()
        if self.held and self.mode == "independent":
            agents = torch.arange(*self._agents_shape, device=like.device)
            return latent_at(self.seed, tensordict.get(self.keys.episode), agents, self.prior)
        if self.held:
            return tensordict.get(self.out_keys[0])
        return self.prior.sample((*batch, *self._agents_shape), like=like)

    def _batch_shape(self, tensordict: TensorDictBase) -> torch.Size:
        if self.batch_from is None or tensordict.batch_size:
            return tensordict.batch_size
        under_group = isinstance(self.batch_from, tuple) and self.batch_from[0] == self.keys.group
        return tensordict.get(self.batch_from).shape[: -2 if under_group else -1]

    def _like(self, tensordict: TensorDictBase) -> Tensor:
        device = tensordict.device
        if device is None and self.in_keys:
            device = tensordict.get(self.in_keys[0]).device
        return self.prior.constant().new_empty(0, device=device)
