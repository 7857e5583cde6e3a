r"""Entropy and predictions of a policy, for each kind of policy and predictor.

Shapes: ``*S`` seeds, ``*B`` batch, ``N`` agents. :class:`GaussianInformation` draws actions,
:class:`CategoricalInformation` sums over them; the methods are the same, and so is what
:class:`~vm3ac_modules.objectives.MutualInformationLoss` does with what they return.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (8), (49), (50), Appendix G.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.objectives.categorical_diagnostics import estimate_categorical_information
from vm3ac_modules.objectives.categorical_policy import (
    CATEGORICAL,
    CategoricalPolicyReader,
    categorical_pair_terms,
    expected_log_prob,
)
from vm3ac_modules.objectives.diagnostics import InformationEstimates, estimate_information
from vm3ac_modules.objectives.drawn_pairs import check_pairs, draw_offsets, drawn_offsets
from vm3ac_modules.objectives.options import check_choice
from vm3ac_modules.objectives.pairs import (
    REVERSE_MODELS,
    Contrast,
    Estimator,
    PairTerms,
    check_estimator,
    pair_terms,
)
from vm3ac_modules.objectives.policy import (
    PolicyReader,
    contrast_of,
    draw_noise,
    extra_action_noise,
    sample_policy,
)
from vm3ac_modules.objectives.policy_body import Latent, policy_leaves
from vm3ac_modules.objectives.slots import LossNetwork

__all__ = [
    "CategoricalInformation",
    "GaussianInformation",
    "InformationNetworks",
    "InformationValues",
    "information_of",
]


class InformationNetworks(NamedTuple):
    """What a loss's information is computed from: its tensors and keys, as they are at a call."""

    actor: LossNetwork
    """The policy."""
    predictor: LossNetwork
    """The variational predictor."""
    keys: Any
    """The loss's ``tensor_keys``."""
    action_range: tuple[Tensor, Tensor] | None = None
    """Centre and half range of continuous actions, ``[N, A]`` each."""


class InformationValues(NamedTuple):
    """What the loss is the sum of."""

    log_prob: Tensor
    """``log pi_K``, at the drawn action or its expectation: minus H_K (nats), ``[*S, *B, N]``."""
    pairs: PairTerms
    """Predictions of the partners (nats), ``[*S, *B, N, k]`` each, gradients by Eq. (50)."""
    offsets: Tensor | None = None
    """Which partners those are, ``[*S, *B, k]``; None for all, ascending."""


class GaussianInformation:
    """Reparameterized actions of a tanh-Gaussian policy, and a Gaussian predictor.

    Args:
        policy: what :class:`~vm3ac_modules.objectives.policy.PolicyReader` reads.
        num_latents: extra latents K of the entropy family.
        reverse_model: whose model predicts agent i from j.
        latent: ``"fresh"``, or ``"stored"`` for that of the batch.
        estimator: of the mutual information.
        pairs: partners k of every agent that are drawn per transition; None for all.
    """

    wanted: ClassVar = ("a TanhNormal", "VariationalPredictor", "continuous")
    reader: PolicyReader

    def __init__(
        self,
        policy: TensorDictModuleBase,
        num_latents: int,
        reverse_model: Literal["own", "partner"],
        latent: Latent = "fresh",
        estimator: Estimator = "barber_agakov",
        pairs: int | None = None,
    ) -> None:
        self.reader = PolicyReader(policy, latent=latent)
        self.pairs = pairs
        self.num_latents, self.reverse_model = num_latents, reverse_model
        self.contrastive = check_estimator(estimator, num_latents)

    def in_keys(self, predictor: Any, keys: Any) -> list[NestedKey]:
        """The observations that the predictor reads and (for its shape only) the action."""
        return [keys.observation, keys.action]

    def draw_noise(self, tensordict: TensorDictBase, keys: Any) -> TensorDict:
        """Latents and standard normals."""
        noise = draw_noise(self.reader, tensordict, keys.action, self.num_latents)
        noise.update(draw_offsets(noise.get("action"), self.pairs))
        if self.contrastive is not None:
            noise.update(extra_action_noise(noise.get("action"), self.num_latents))
        return noise

    def evaluate(
        self, tensordict: TensorDictBase, noise: TensorDictBase, run: InformationNetworks
    ) -> InformationValues:
        """Draw one joint action and score it."""
        assert run.action_range is not None
        with run.actor.filled():
            sample = sample_policy(self.reader, tensordict, noise, *run.action_range)
        observation = tensordict.get(run.keys.observation)
        contrast = contrast_of(self.contrastive, sample)
        offsets = drawn_offsets(noise, self.pairs)
        pairs = pair_terms(
            run.predictor, sample.action, observation, self.reverse_model, contrast, offsets
        )
        return InformationValues(sample.log_prob, pairs, offsets)

    def diagnose(
        self, tensordict: TensorDictBase, num_latents: int, run: InformationNetworks
    ) -> InformationEstimates:
        """Estimate from draws."""
        self.reader.require_prior("diagnose")
        assert run.action_range is not None
        with run.actor.filled(), run.predictor.filled():
            return estimate_information(
                self.reader,
                run.predictor.module,
                tensordict,
                center=run.action_range[0],
                half_range=run.action_range[1],
                num_latents=num_latents,
                observation_key=run.keys.observation,
            )


class CategoricalInformation:
    """Exact sums over the actions of a categorical policy, and a categorical predictor.

    One table of log q over all pairs of actions, ``[*B, N, A, N, A]``, serves the policies and the
    predictor; one model predicts both directions, so ``reverse_model`` makes no difference.

    Args:
        policy: what
            :class:`~vm3ac_modules.objectives.categorical_policy.CategoricalPolicyReader` reads.
        num_latents: extra latents K of the entropy family.
        latent: ``"fresh"``, or ``"stored"`` for that of the batch.
        estimator: of the mutual information.
    """

    wanted: ClassVar = ("categorical", "CategoricalPredictor", "discrete")
    reader: CategoricalPolicyReader

    def __init__(
        self,
        policy: TensorDictModuleBase,
        num_latents: int,
        latent: Latent = "fresh",
        estimator: Estimator = "barber_agakov",
    ) -> None:
        self.reader = CategoricalPolicyReader(policy, latent=latent)
        self.num_latents = num_latents
        self.contrastive = check_estimator(estimator, num_latents)

    def in_keys(self, predictor: CategoricalPredictor, keys: Any) -> list[NestedKey]:
        """What the predictor reads: the situation and, if it is masked, the legal actions."""
        mask = predictor.mask_key
        return [self._situation_key(predictor, keys), *([] if mask is None else [mask])]

    def draw_noise(self, tensordict: TensorDictBase, keys: Any) -> TensorDict:
        """Latents alone: actions are summed over."""
        return self.reader.draw_noise(tensordict, self.num_latents)

    def evaluate(
        self, tensordict: TensorDictBase, noise: TensorDictBase, run: InformationNetworks
    ) -> InformationValues:
        """Sum over all actions under the drawn latent."""
        with run.actor.filled():
            log_prob = self.reader.log_prob(tensordict, noise.get("latent"))
            extra = self._extra(tensordict, noise.get("extra_latents"), log_prob)
        with run.predictor.filled():
            table = self._table(tensordict, run)
        if table.shape[-2:] != log_prob.shape[-2:]:
            raise ValueError(
                f"the predictor was built for (agents, actions) {tuple(table.shape[-2:])}, but "
                f"the policy has {tuple(log_prob.shape[-2:])}."
            )
        minus_entropy = expected_log_prob(log_prob, extra)
        contrast = None
        if self.contrastive is not None:
            contrast = Contrast(self.contrastive, extra, minus_entropy.detach())
        return InformationValues(minus_entropy, categorical_pair_terms(log_prob, table, contrast))

    def diagnose(
        self, tensordict: TensorDictBase, num_latents: int, run: InformationNetworks
    ) -> InformationEstimates:
        """Enumerate a categorical latent, draw another one."""
        self.reader.require_prior("diagnose")
        with run.actor.filled(), run.predictor.filled():
            table = self._table(tensordict, run)
            return estimate_categorical_information(self.reader, table, tensordict, num_latents)

    @torch.no_grad()
    def _extra(self, tensordict: TensorDictBase, latents: Tensor, like: Tensor) -> Tensor:
        """Policies under the extra latents, constants, ``[*B, K, N, A]``."""
        if latents.shape[-2] == 0:
            return like.unsqueeze(-3)[..., :0, :, :]
        return self.reader.many_log_prob(tensordict, latents)

    @staticmethod
    def _situation_key(predictor: CategoricalPredictor, keys: Any) -> NestedKey:
        # set_keys(observation=...) renames what a predictor reads; the state is the predictor's.
        of_agents = predictor.situation == "observations"
        return keys.observation if of_agents else predictor.situation_key

    def _table(self, tensordict: TensorDictBase, run: InformationNetworks) -> Tensor:
        predictor = run.predictor.module
        mask = None if predictor.mask_key is None else tensordict.get(predictor.mask_key)
        return predictor.table(tensordict.get(self._situation_key(predictor, run.keys)), mask)


def information_of(
    policy: TensorDictModuleBase,
    predictor: Any,
    *,
    num_latents: int = 0,
    reverse_model: Literal["own", "partner"] = "own",
    latent: Latent = "fresh",
    estimator: Estimator = "barber_agakov",
    pairs: int | None = None,
    owner: str = "the loss",
) -> GaussianInformation | CategoricalInformation:
    """Choose by the distribution at the end of a policy, and check the predictor.

    Args:
        policy: the policy, sampler included.
        predictor: its predictor.
        num_latents: extra latents K of the entropy family.
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``.
        latent: ``"fresh"``, or ``"stored"`` for that of the batch.
        estimator: of the mutual information.
        pairs: partners k of every agent that enter per transition; None for all, the only choice
            with a categorical policy.
        owner: name of the loss, for messages.

    Returns:
        :class:`CategoricalInformation` for a categorical policy, else
        :class:`GaussianInformation`.

    Raises:
        ValueError: if the policy is of neither kind, the predictor of the other,
            or built for other actions, ``reverse_model`` or ``estimator`` unknown,
            ``num_latents`` too small for it, or ``pairs`` not a number of partners.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (3, 2))
        >>> found = information_of(vm.make_actor(4, 0, spec), vm.VariationalPredictor(4, spec))
        >>> type(found).__name__
        'GaussianInformation'
    """
    check_choice("reverse_model", reverse_model, REVERSE_MODELS)
    *_, head = policy_leaves(policy)
    categorical = getattr(head, "distribution_class", None) in CATEGORICAL
    found: GaussianInformation | CategoricalInformation
    if categorical:
        if pairs is not None:
            raise ValueError(
                f"{owner}: pairs must be None with a categorical policy, got {pairs}: one table "
                "predicts all pairs of actions at once, so leaving some out would save nothing."
            )
        found = CategoricalInformation(policy, num_latents, latent, estimator)
    else:
        drawn = check_pairs(pairs, predictor)
        found = GaussianInformation(policy, num_latents, reverse_model, latent, estimator, drawn)
    if num_latents:
        found.reader.require_prior(f"num_latents={num_latents}")
    if predictor is None or isinstance(predictor, CategoricalPredictor) != categorical:
        kind, predictor_kind, actions = found.wanted
        given = "None" if predictor is None else f"a {type(predictor).__name__}"
        raise ValueError(
            f"{owner} needs a predictor_network: the policy is {kind} and the predictor {given}; "
            f"build a {predictor_kind} for {actions} actions."
        )
    if isinstance(found, GaussianInformation):
        found.reader.check_predictor(predictor)
    return found
