r"""The variational predictor q as a tensordict module: log-densities of actions given actions.

Shapes: ``*S`` stacked copies, ``*B`` batch, ``N`` agents, ``O`` observation, ``A`` action. q never
sees the latent. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (46), (49), (50), Appendix F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import TensorSpec

from vm3ac_modules.functional.information import gaussian_log_density
from vm3ac_modules.functional.pairwise import gather_others, gather_partners, scatter_others
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.actors import action_bounds
from vm3ac_modules.nn.predictors import PairNet

__all__ = ["PairLogProb", "VariationalPredictor"]


class PairLogProb(NamedTuple):
    """Log-densities per agent and partner (nats), ``[*B, N, k]`` each."""

    partner: Tensor
    """``log q_i(a_j | a_i)``: the model owned by agent i predicts j from i."""
    own: Tensor
    """``log q_i(a_i | a_j)``: the same owner predicts itself from j."""


class VariationalPredictor(TensorDictModuleBase):
    r"""Every agent's Gaussian model of every partner's action.

    .. math:: q_{\xi_i}(a_t | a_c, o_c, o_t) = N(\mu_{\xi_i}, (\sigma h)^2), \quad
        \mu_{\xi_i} = c + h \tanh f_{\xi_i}(a_c, o_c, o_t, t, c)

    with the centre c and half range h of the predicted agent's action space.

    Args:
        obs_dim: size O of an agent's observation.
        action_spec: leaf spec of the group's action ``[*B, N, A]``, bounded and continuous.
        scale: the standard deviation in half ranges: a positive number (the paper keeps it
            constant) or ``"learned"`` (diagonal, smoothly mapped into ``scale_range``).
        scale_range: floor and ceiling of a learned scale, in half ranges. The floor restricts the
            family only, so the bound stays valid; without it the bonus has no upper limit.
        num_components: Gaussians M of a mixture :math:`\sum_m w_m N(\mu_m, (\sigma_m h)^2)`, for
            partners whose action has several modes; 1 is the paper's single Gaussian.
        normalized: include the normalizer of the density (see
            :func:`~vm3ac_modules.functional.gaussian_log_density`). Estimates of information
            always include it.
        hidden: widths of the hidden layers.
        share_params: one network for all owners instead of one each.
        keys: the tensordict vocabulary.
        stack_shape: leading dimensions ``*S`` of independently initialized copies.

    Raises:
        ValueError: for ``scale <= 0``, a scale range that is not 0 < floor < ceiling < infinity,
            ``num_components < 1``, ``normalized=False`` with a learned scale, or an unbounded or
            discrete action spec.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> predictor = VariationalPredictor(4, Bounded(-1.0, 1.0, (3, 2)), scale=0.2)
        >>> td = TensorDict({"agents": {"observation": torch.zeros(5, 3, 4),
        ...                             "action": torch.zeros(5, 3, 2)}}, [5])
        >>> predictor(td)["agents", "pair_log_prob"].shape
        torch.Size([5, 3, 3])
    """

    def __init__(
        self,
        obs_dim: int,
        action_spec: TensorSpec,
        *,
        scale: float | Literal["learned"] = 0.2,
        scale_range: tuple[float, float] = (0.05, 1.0),
        num_components: int = 1,
        normalized: bool = True,
        hidden: Sequence[int] = (128, 128),
        share_params: bool = False,
        keys: Keys | None = None,
        stack_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        low, high = action_bounds(action_spec)
        self.num_agents, action_dim = low.shape
        self.learns_scale = scale == "learned"
        self._check_scale(scale, scale_range, normalized)
        if num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {num_components}.")
        self.normalized, self.num_components = normalized, num_components
        features = (2 if self.learns_scale else 1) * action_dim
        self.keys = Keys() if keys is None else keys
        self.in_keys = [self.keys.action, self.keys.observation]
        self.out_keys = [self.keys.pair_log_prob]
        self.net = PairNet(
            obs_dim,
            action_dim,
            # Each component's features and, if there are several, its logit.
            num_components * (features + (1 if num_components > 1 else 0)),
            self.num_agents,
            hidden=hidden,
            share_params=share_params,
            stack_shape=stack_shape,
        )
        # Ranges of the predicted agents, per owner: its partners, then itself for each of them.
        center, half_range = 0.5 * (low + high), 0.5 * (high - low)
        self.register_buffer("center", self._of_predicted(center, None, True), persistent=False)
        self.register_buffer(
            "half_range", self._of_predicted(half_range, None, True), persistent=False
        )
        self.constant_scale = math.nan if self.learns_scale else float(scale)
        self.log_scale_range = (math.log(scale_range[0]), math.log(scale_range[1]))

    @staticmethod
    def _of_predicted(x: Tensor, partners: Tensor | None, both: bool) -> Tensor:
        """Rows of the predicted agents, ``[*B, N, A]`` to ``[*B, N, R, A]``."""
        predicted = gather_others(x) if partners is None else gather_partners(x, partners)
        if not both:
            return predicted
        return torch.cat((predicted, x.unsqueeze(-2).expand_as(predicted)), dim=-2)

    def _check_scale(
        self, scale: float | str, scale_range: tuple[float, float], normalized: bool
    ) -> None:
        if isinstance(scale, str) and scale != "learned":
            raise ValueError(f"scale must be a positive number or 'learned', got {scale!r}.")
        if not isinstance(scale, str) and not 0.0 < scale < math.inf:
            raise ValueError(f"the predictor's scale must be positive and finite, got {scale}.")
        floor, ceiling = scale_range
        if not 0.0 < floor < ceiling < math.inf:
            raise ValueError(f"scale_range must be 0 < floor < ceiling < inf, got {scale_range}.")
        if self.learns_scale and not normalized:
            raise ValueError(
                "normalized=False needs a constant scale: without its normalizer a learned scale "
                "grows without limit. Pass scale=<number> or normalized=True."
            )

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``log q_i(a_j | a_i)`` of the actions in the tensordict, ``[*B, N, N]``."""
        require_keys(tensordict, self.in_keys, type(self).__name__)
        action = tensordict.get(self.keys.action)
        observation = tensordict.get(self.keys.observation)
        pairs = self.partner_log_prob(action, action, observation)
        return tensordict.set(self.keys.pair_log_prob, scatter_others(pairs))

    def partner_log_prob(
        self,
        condition: Tensor,
        target: Tensor | None,
        observation: Tensor,
        normalized: bool | None = None,
        partners: Tensor | None = None,
    ) -> Tensor:
        """Log-density of partners' actions given one's own.

        Args:
            condition: the actions that are conditioned on, ``[*S, *B, N, A]``.
            target: the actions that are scored, ``[*S, *B, N, A]``; None for what no action's
                log-density exceeds, the peak.
            observation: ``[*S, *B, N, O]``.
            normalized: overrides the predictor's own setting.
            partners: numbers of every agent's partners, int64 ``[*S, *B, N, k]``; None for all
                k = N - 1, ascending.

        Returns:
            ``log q_i(target_j | condition_i)`` in nats, ``[*S, *B, N, k]``; of all partners
            :func:`~vm3ac_modules.functional.scatter_others` makes it a matrix.
        """
        return self._score(condition, target, observation, normalized, partners, both=False)

    def pair_log_prob(
        self,
        condition: Tensor,
        target: Tensor | None,
        observation: Tensor,
        normalized: bool | None = None,
        partners: Tensor | None = None,
    ) -> PairLogProb:
        """Log-densities in both directions of every pair, in one pass.

        Args:
            condition: the actions that are conditioned on, ``[*S, *B, N, A]``.
            target: the actions that are scored, ``[*S, *B, N, A]``; None for the peaks.
            observation: ``[*S, *B, N, O]``.
            normalized: overrides the predictor's own setting.
            partners: numbers of every agent's partners, int64 ``[*S, *B, N, k]``; None for all
                k = N - 1, ascending.

        Returns:
            Both directions, ``[*S, *B, N, k]`` each.
        """
        scores = self._score(condition, target, observation, normalized, partners, both=True)
        return PairLogProb(*scores.unflatten(-1, (2, scores.shape[-1] // 2)).unbind(-2))

    def _score(
        self,
        condition: Tensor,
        target: Tensor | None,
        observation: Tensor,
        normalized: bool | None,
        partners: Tensor | None,
        *,
        both: bool,
    ) -> Tensor:
        """Log-density of the predicted actions or its peak, ``[*S, *B, N, R]``."""
        out = self.net(condition, observation, both=both, partners=partners)
        normalized = self.normalized if normalized is None else normalized
        center, half_range = self.center[:, : out.shape[-2]], self.half_range[:, : out.shape[-2]]
        if partners is not None:
            # Of the rows of the predicted agents the last one is the agent itself.
            own = self.center[:, -1], self.half_range[:, -1]
            center, half_range = (self._of_predicted(x, partners, both) for x in own)
        if target is not None:
            target = self._of_predicted(target, partners, both)
        if self.num_components > 1:
            out = out.unflatten(-1, (self.num_components, -1))
            out, logits = out[..., :-1], out[..., -1]
            center, half_range = center.unsqueeze(-2), half_range.unsqueeze(-2)
            # The sum of the components' peaks, for which no target is needed, is a peak of the sum.
            target = None if target is None else target.unsqueeze(-2)
            density = self._component(out, target, center, half_range, normalized)
            return torch.logsumexp(density + logits.log_softmax(-1), dim=-1)
        return self._component(out, target, center, half_range, normalized)

    def _component(
        self,
        out: Tensor,
        target: Tensor | None,
        center: Tensor,
        half_range: Tensor,
        normalized: bool,
    ) -> Tensor:
        if self.learns_scale:
            out, raw_scale = out.chunk(2, dim=-1)
            floor, ceiling = self.log_scale_range
            scale = half_range * torch.exp(floor + (ceiling - floor) * raw_scale.sigmoid())
        else:
            scale = half_range * self.constant_scale
        loc = torch.addcmul(center, half_range, out.tanh())
        target = loc if target is None else target
        return gaussian_log_density(target, loc, scale, normalized=normalized)
