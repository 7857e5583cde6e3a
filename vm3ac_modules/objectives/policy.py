r"""What a loss needs from a policy: heads for a given latent, draws, and the family :math:`H_K`.

Shapes: ``*B`` batch (stacked copies included), ``N`` agents, ``A`` action, ``Z`` latent, ``K``
extra latents. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (7), (46), (49).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.modules import TanhNormal

from vm3ac_modules.functional.contrastive import Contrastive
from vm3ac_modules.functional.information import gaussian_log_density, mixture_log_prob
from vm3ac_modules.functional.squashed import sample_squashed_gaussian, squash_log_det
from vm3ac_modules.keys import require_keys
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.pairs import Contrast
from vm3ac_modules.objectives.policy_body import Latent, PolicyBody

__all__ = [
    "PolicyReader",
    "PolicySample",
    "contrast_of",
    "draw_noise",
    "extra_action_noise",
    "extra_head_log_prob",
    "sample_policy",
]


class PolicySample(NamedTuple):
    """One joint draw of all agents' actions under a common latent."""

    action: Tensor
    """Reparameterized actions in the environment's range, ``[*B, N, A]``."""
    pre_squash: Tensor
    """The Gaussian samples u, ``[*B, N, A]``."""
    log_prob: Tensor
    """``log pi_K(a_i | o_i)``, the log of the bracket of H_K (nats), ``[*B, N]``."""
    conditional_log_prob: Tensor
    """``log pi(a_i | o_i, z)`` of the generating latent (nats), ``[*B, N]``."""
    loc: Tensor
    """Mean of the pre-squash Gaussian, ``[*B, N, A]``."""
    scale: Tensor
    """Standard deviation of the pre-squash Gaussian, ``[*B, N, A]``."""
    others: Tensor | None = None
    """Constant actions in the same states under the extra latents, ``[*B, K, N, A]``, where the
    noise has normals for them."""


class PolicyReader(PolicyBody):
    """Read a policy ``(LatentSampler, network, TanhNormal)`` part by part.

    Args:
        policy: a policy of :func:`~vm3ac_modules.modules.make_policy`, or a TorchRL sequence of an
            optional :class:`~vm3ac_modules.modules.LatentSampler`, networks that write ``loc`` and
            ``scale``, and a ``TanhNormal``.
        latent: ``"fresh"``, or ``"stored"`` for that of the batch.

    Raises:
        ValueError: if the policy's latent is not the one that is meant (see
            :class:`~vm3ac_modules.objectives.policy_body.PolicyBody`), or the distribution is
            missing or not a plain ``TanhNormal``.

    Example:
        >>> from torchrl.data import Bounded
        >>> from vm3ac_modules.modules.actors import make_actor
        >>> PolicyReader(make_actor(4, 0, Bounded(-1.0, 1.0, (3, 2)))).loc_key
        ('agents', 'loc')
    """

    def __init__(self, policy: TensorDictModuleBase, *, latent: Latent = "fresh") -> None:
        super().__init__(policy, latent=latent)
        self.loc_key, self.scale_key = self.wanted

    def _accept(self, head: ProbabilisticTensorDictModule, names: list[str]) -> Sequence[str]:
        options = dict(head.distribution_kwargs)
        if not issubclass(head.distribution_class, TanhNormal) or options.get("tanh_loc", False):
            raise ValueError(
                f"the policy's distribution must be a TanhNormal with tanh_loc=False, got "
                f"{getattr(head.distribution_class, '__name__', head.distribution_class)}."
            )
        low = torch.as_tensor(options.get("low", -1.0), dtype=torch.get_default_dtype())
        high = torch.as_tensor(options.get("high", 1.0), dtype=torch.get_default_dtype())
        self.center, self.half_range = 0.5 * (low + high), 0.5 * (high - low)
        return ["loc", "scale"]

    def heads(self, tensordict: TensorDictBase, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of every agent's pre-squash Gaussian under one latent per transition.

        Args:
            tensordict: holds what the networks read, ``[*B]``.
            latent: ``[*B, Z]``.

        Returns:
            ``loc`` and ``scale``, ``[*B, N, A]``.
        """
        loc, scale = self._parameters(tensordict, latent)
        return loc, scale

    def many_heads(self, tensordict: TensorDictBase, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters under K latents per transition, in one call.

        Args:
            tensordict: holds what the networks read, ``[*B]``.
            latents: ``[*B, K, Z]``.

        Returns:
            ``loc`` and ``scale``, ``[*B, K, N, A]``.
        """
        loc, scale = self._many_parameters(tensordict, latents)
        return loc, scale

    def check_predictor(self, predictor: object) -> None:
        """Check that a predictor was built for the actions of this policy.

        Args:
            predictor: a :class:`~vm3ac_modules.modules.VariationalPredictor`; others are not known.

        Raises:
            ValueError: if the number of agents, the size of an action or its range is another.
        """
        if not isinstance(predictor, VariationalPredictor) or predictor.num_agents < 2:
            return
        # Of the rows of the predicted agents the last one is the agent itself.
        center, half_range = predictor.center[:, -1], predictor.half_range[:, -1]
        own, of_predictor = self.center.shape[-2:], center.shape
        if own and own != of_predictor:
            raise ValueError(
                f"the predictor was built for [N, A] = {list(of_predictor)}, the policy acts in "
                f"{list(own)}: give both the same action spec."
            )
        pairs = ((self.center.to(center), center), (self.half_range.to(center), half_range))
        if not all(torch.allclose(x.expand_as(y), y) for x, y in pairs):
            raise ValueError(
                "the predictor was built for another range of actions than the policy's: give both "
                "the same action spec."
            )

    def register_range(self, module: nn.Module) -> None:
        """Give a loss the centre and half range of the actions as buffers."""
        module.register_buffer("center", self.center.clone())
        module.register_buffer("half_range", self.half_range.clone())


def extra_action_noise(action: Tensor, num_latents: int) -> dict[str, Tensor]:
    """Normals for one more action of every agent under every extra latent.

    Args:
        action: actions ``[*B, N, A]``; only shape, type and device are read.
        num_latents: extra latents K.

    Returns:
        ``extra_action`` ``[*B, K, N, A]``.
    """
    shape = (*action.shape[:-2], num_latents, *action.shape[-2:])
    return {"extra_action": torch.randn(shape, dtype=action.dtype, device=action.device)}


def draw_noise(
    reader: PolicyReader, tensordict: TensorDictBase, action_key: NestedKey, num_latents: int
) -> TensorDict:
    """Draw all that a loss needs, from the device's default generator.

    Args:
        reader: the policy's reader.
        tensordict: the batch, ``[*B]``.
        action_key: where the batch holds its actions ``[*B, N, A]``; only their shape is read.
        num_latents: extra latents K.

    Returns:
        ``latent`` ``[*B, Z]`` (``[*B, 0]`` if the batch's is meant), ``extra_latents``
        ``[*B, K, Z]`` and ``action`` ``[*B, N, A]`` (standard normal).
    """
    require_keys(tensordict, [action_key], "draw_noise")
    action, batch = tensordict.get(action_key), tensordict.batch_size
    latent, extra = reader.noise_latents(batch, num_latents, action)
    return TensorDict(
        {"latent": latent, "extra_latents": extra, "action": torch.randn_like(action)}, batch
    )


def extra_head_log_prob(
    reader: PolicyReader,
    tensordict: TensorDictBase,
    latents: Tensor,
    pre_squash: Tensor,
    half_range: Tensor,
) -> Tensor:
    """Log-density of given actions under K further latents, at the same pre-squash sample.

    The heads are constants: see the gradient note of :func:`sample_policy`.

    Args:
        reader: the policy's reader.
        tensordict: the batch, ``[*B]``.
        latents: ``[*B, K, Z]``.
        pre_squash: samples u, ``[*B, N, A]``; the gradient flows through them.
        half_range: half of the action range, ``[N, A]``.

    Returns:
        ``[*B, N, K]``, nats.
    """
    with torch.no_grad():
        heads = reader.many_heads(tensordict, latents)
    return _head_log_prob(heads, pre_squash, half_range)


def _head_log_prob(heads: tuple[Tensor, Tensor], pre_squash: Tensor, half_range: Tensor) -> Tensor:
    normal = gaussian_log_density(pre_squash.unsqueeze(-3), *heads)
    log_det = squash_log_det(pre_squash, half_range)
    return normal.movedim(-2, -1) - log_det.unsqueeze(-1)


def contrast_of(estimator: Contrastive | None, sample: PolicySample) -> Contrast | None:
    """What a contrastive estimator compares a draw with.

    Args:
        estimator: None for one that compares nothing.
        sample: the draw, with the agents' other actions.

    Returns:
        The comparison, or None.
    """
    if estimator is None:
        return None
    if sample.others is None:
        raise ValueError(
            "the noise lacks 'extra_action', the normals of the agents' actions under the extra "
            "latents: draw it by the loss's draw_noise."
        )
    return Contrast(estimator, sample.others, sample.log_prob.detach())


def sample_policy(
    reader: PolicyReader,
    tensordict: TensorDictBase,
    noise: TensorDictBase,
    center: Tensor,
    half_range: Tensor,
) -> PolicySample:
    r"""Draw all agents' actions under a common latent and score them with :math:`\pi_K`.

    For K >= 1 the heads inside the log are constants and the gradient flows through u alone: the
    explicit gradient of all K + 1 heads TOGETHER has zero mean, so it may be dropped as a whole
    (dropping that of the extra heads only would bias the rest; docs/readings.md). For K = 0 it is
    kept, as in SAC.

    Args:
        reader: the policy's reader.
        tensordict: the batch, ``[*B]``.
        noise: what :func:`draw_noise` returned, with what :func:`extra_action_noise` did if the
            agents' other actions are wanted.
        center: centre of the action range, ``[N, A]``.
        half_range: half of the action range, ``[N, A]``.

    Returns:
        The draw and its log-densities.
    """
    loc, scale = reader.heads(tensordict, noise.get("latent"))
    draw = sample_squashed_gaussian(loc, scale, noise.get("action"), center, half_range)
    extra_latents = noise.get("extra_latents")
    if extra_latents.shape[-2] == 0:
        return PolicySample(draw.action, draw.pre_squash, draw.log_prob, draw.log_prob, loc, scale)
    u = draw.pre_squash
    log_det = squash_log_det(u, half_range)
    own = gaussian_log_density(u, loc.detach(), scale.detach()) - log_det
    with torch.no_grad():
        heads = reader.many_heads(tensordict, extra_latents)
    log_prob = mixture_log_prob(own, _head_log_prob(heads, u, half_range))
    others, normals = None, noise.get("extra_action", None)
    if normals is not None:
        others = sample_squashed_gaussian(*heads, normals, center, half_range).action
    return PolicySample(draw.action, u, log_prob, draw.log_prob, loc, scale, others)
