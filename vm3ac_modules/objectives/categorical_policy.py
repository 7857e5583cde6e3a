r"""The mutual-information terms of categorical policies, exact over actions.

Shapes: ``*B`` batch, ``N`` agents, ``A`` actions, ``Z`` latent, ``K`` extra latents. With finitely
many actions every expectation over them is a sum, so nothing is sampled but the latent and the
gradient needs no reparameterization. Everything is in nats.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (7), (49), (50), Appendix G.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule
from torch import Tensor
from torch.distributions import Categorical
from torchrl.modules import MaskedCategorical, MaskedOneHotCategorical, OneHotCategorical

from vm3ac_modules.functional.categorical import expectation, masked_log_softmax
from vm3ac_modules.functional.information import mixture_log_prob
from vm3ac_modules.functional.pairwise import gather_pairs
from vm3ac_modules.objectives.pairs import Contrast, PairTerms
from vm3ac_modules.objectives.policy_body import PolicyBody

__all__ = [
    "CATEGORICAL",
    "CategoricalPolicyReader",
    "categorical_pair_terms",
    "expected_log_prob",
]

CATEGORICAL: tuple[type, ...] = (
    Categorical,
    OneHotCategorical,
    MaskedCategorical,
    MaskedOneHotCategorical,
)
"""Distributions that :class:`CategoricalPolicyReader` knows; subclasses may read logits otherwise.
"""


class CategoricalPolicyReader(PolicyBody):
    """Read a policy ``(LatentSampler, networks, categorical distribution)`` part by part.

    Args:
        policy: any TorchRL sequence of an optional :class:`~vm3ac_modules.modules.LatentSampler`,
            networks that write ``logits`` ``[*B, N, A]``, and one of :data:`CATEGORICAL`, a masked
            one with an entry for its ``mask`` ``[*B, N, A]``.
        latent: ``"fresh"``, or ``"stored"`` for that of the batch.

    Raises:
        ValueError: if the policy's latent is not the one that is meant (see
            :class:`~vm3ac_modules.objectives.policy_body.PolicyBody`), or the distribution is
            another one or is not given by ``logits`` (and ``mask``).

    Example:
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.modules import ProbabilisticActor
        >>> key = ("agents", "logits")
        >>> net = TensorDictModule(torch.nn.Linear(4, 5), [("agents", "observation")], [key])
        >>> policy = ProbabilisticActor(net, {"logits": key}, [("agents", "action")],
        ...                             distribution_class=torch.distributions.Categorical)
        >>> CategoricalPolicyReader(policy).in_keys
        [('agents', 'observation')]
    """

    def _accept(self, head: ProbabilisticTensorDictModule, names: list[str]) -> Sequence[str]:
        distribution = head.distribution_class
        masked = isinstance(distribution, type) and issubclass(distribution, MaskedCategorical)
        needed = ["logits", "mask"] if masked else ["logits"]
        if distribution not in CATEGORICAL or set(names) != set(needed):
            known = ", ".join(kind.__name__ for kind in CATEGORICAL)
            raise ValueError(
                f"a categorical policy must be one of {known}, given by entries for "
                f"{' and '.join(needed)}, got {getattr(distribution, '__name__', distribution)} "
                f"given by {', '.join(names)}."
            )
        return needed

    def log_prob(self, tensordict: TensorDictBase, latent: Tensor) -> Tensor:
        """Log-probabilities of every agent's actions under one latent per transition.

        Args:
            tensordict: holds what the networks read, and the mask, ``[*B]``.
            latent: ``[*B, Z]``.

        Returns:
            ``[*B, N, A]``, nats; -1e9 where illegal. An agent without a legal action counts all as
            legal.
        """
        return self._normalized(self._parameters(tensordict, latent))

    def many_log_prob(self, tensordict: TensorDictBase, latents: Tensor) -> Tensor:
        """The same under K latents per transition, in one call.

        Args:
            tensordict: holds what the networks read, and the mask, ``[*B]``.
            latents: ``[*B, K, Z]``.

        Returns:
            ``[*B, K, N, A]``, nats.
        """
        return self._normalized(self._many_parameters(tensordict, latents))

    def draw_noise(self, tensordict: TensorDictBase, num_latents: int) -> TensorDict:
        """Draw all that a loss needs, from the device's default generator.

        Args:
            tensordict: holds what the networks read, ``[*B]``.
            num_latents: extra latents K.

        Returns:
            ``latent`` ``[*B, Z]`` and ``extra_latents`` ``[*B, K, Z]``.
        """
        batch, values = tensordict.batch_size, [tensordict.get(key) for key in self.in_keys]
        own = torch.empty(0, device=values[0].device)
        like = next((x for x in values if x.is_floating_point()), own)
        latent, extra = self.noise_latents(batch, num_latents, like)
        return TensorDict({"latent": latent, "extra_latents": extra}, batch)

    @staticmethod
    def _normalized(parameters: tuple[Tensor, ...]) -> Tensor:
        logits, *mask = parameters
        # A network may have masked by itself. NaN stays: it must not look like an illegal action.
        legal = logits != -torch.inf
        return masked_log_softmax(logits, legal & mask[0].bool() if mask else legal)


def expected_log_prob(own: Tensor, extra: Tensor) -> Tensor:
    r"""Minus the entropy of the family :math:`H_K`, exact over actions.

    .. math:: -H_K(i) = \sum_a \pi_i(a|z_0) \log \frac{1}{K+1} \sum_{k=0}^{K} \pi_i(a|z_k)

    For K >= 1 the log is a constant: its explicit gradient has zero mean over the exchangeable
    latents, as in :func:`~vm3ac_modules.objectives.policy.sample_policy`. For K = 0 it is kept.

    Args:
        own: log-probabilities under the drawn latent, ``[*B, N, A]``.
        extra: under K more latents, ``[*B, K, N, A]``.

    Returns:
        ``[*B, N]``, nats.

    Example:
        >>> own = torch.tensor([[1.0, 0.0]]).log().clamp_min(-1e9)
        >>> expected_log_prob(own, own.flip(-1).unsqueeze(0))
        tensor([-0.6931])
    """
    if extra.shape[-3] == 0:
        return expectation(own, own)
    return expectation(own, mixture_log_prob(own.detach(), extra.detach().movedim(-3, -1)))


def categorical_pair_terms(
    log_prob: Tensor, table: Tensor, contrast: Contrast | None = None
) -> PairTerms:
    r"""Expected log-predictions of all ordered pairs, with the gradient rule of Eq. (50).

    .. math:: \sum_a \pi_i(a|z) \sum_b \pi_j(b|z) \log q(b | a, s)

    The policies' side holds the partner's policy and q constant, the predictor's side holds both
    policies constant. One network serves all pairs, so the reverse of (i, j) is the forward of
    (j, i).

    Args:
        log_prob: the policies under the drawn latent, ``[*B, N, A]``.
        table: log q of :meth:`~vm3ac_modules.modules.CategoricalPredictor.table`,
            ``[*B, N, A, N, A]``.
        contrast: the policies under other latents and what compares with them, instead of log q;
            mismatched actions are summed over, latent by latent.

    Returns:
        Expected log-probabilities (nats), ``[*B, N, N - 1]`` each, partners ascending.

    Example:
        >>> log_prob = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log().clamp_min(-1e9)
        >>> categorical_pair_terms(log_prob, torch.zeros(2, 2, 2, 2) - 0.5).partner
        tensor([[-0.5000],
                [-0.5000]])
    """
    probs = log_prob.exp()
    fixed = probs.detach()
    # Entry [i, a, j]: how well partner j is predicted from a. An illegal b has weight exactly 0.
    if contrast is not None:
        # e^score under each other latent, from a: [i, a, j, k]. Not 0, whose log has no gradient.
        means = torch.einsum("...iajb,...kjb->...iajk", table.exp(), contrast.others.exp())
        mismatched = means.clamp_min(torch.finfo(means.dtype).tiny).log().unsqueeze(-2)
        peak = [table.amax(-1, keepdim=True)] if contrast.estimator.needs_peak else []
        table = contrast.estimator.bound(table, mismatched, *peak)
        table = table + contrast.log_prob[..., None, None, :, None]
    scores = torch.einsum("...iajb,...jb->...iaj", table, fixed)
    policy = torch.einsum("...ia,...iaj->...ij", probs, scores.detach())
    partner = torch.einsum("...ia,...iaj->...ij", fixed, scores)
    own = partner.transpose(-1, -2)
    return PairTerms(gather_pairs(policy), gather_pairs(partner), gather_pairs(own))
