r"""How the mutual-information loss is computed for each kind of policy.

Shapes: ``*S`` seeds, ``*B`` batch, ``N`` agents. The loss chooses one object by the distribution at
the end of its policy; what it does with the terms is the same for both.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (8), (49), (50), Appendix G.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.modules.policy import policy_leaves
from vm3ac_modules.objectives.categorical_diagnostics import estimate_categorical_information
from vm3ac_modules.objectives.categorical_policy import (
    CATEGORICAL,
    CategoricalPolicyReader,
    categorical_pair_terms,
    expected_log_prob,
)
from vm3ac_modules.objectives.diagnostics import InformationEstimates, estimate_information
from vm3ac_modules.objectives.pairs import check_predictor, pair_terms
from vm3ac_modules.objectives.policy import PolicyReader, draw_noise, sample_policy
from vm3ac_modules.objectives.regularizers import PairTerms

if TYPE_CHECKING:
    from vm3ac_modules.modules.predictor import VariationalPredictor
    from vm3ac_modules.objectives.mutual_information import MutualInformationLoss

__all__ = [
    "CategoricalTerms",
    "GaussianTerms",
    "InformationTerms",
    "TermValues",
    "information_terms",
]


class TermValues(NamedTuple):
    """What the loss is the sum of."""

    log_prob: Tensor
    """``log pi_K``, at the drawn action or its expectation: minus H_K (nats), ``[*S, *B, N]``."""
    pairs: PairTerms
    """Predictions of the partners (nats), ``[*S, *B, N, N - 1]`` each."""


class InformationTerms(ABC):
    """What the loss needs from one kind of policy. Holds no tensors: the loss hands in itself."""

    reader: PolicyReader | CategoricalPolicyReader
    diagnostics: tuple[str, ...] = (
        "mi_lower_bound",
        "mi_upper_bound",
        "mi_surrogate",
        "mi_lower_bound_ceiling",
    )
    """What :meth:`diagnose` has to say, under the names that are logged."""

    @abstractmethod
    def check(self, predictor: object, reverse_model: str, seed_dims: int, owner: str) -> None:
        """Check the predictor and the options; ValueError says what to build."""

    @abstractmethod
    def in_keys(self, loss: MutualInformationLoss) -> list[NestedKey]:
        """Entries that a call reads beside those of the policy."""

    @abstractmethod
    def draw_noise(self, loss: MutualInformationLoss, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs."""

    @abstractmethod
    def evaluate(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, noise: TensorDictBase
    ) -> TermValues:
        """Compute the terms, with the gradient rule of Eq. (50)."""

    @abstractmethod
    def diagnose(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, num_latents: int
    ) -> InformationEstimates:
        """Estimate the information; the networks hold the loss's parameters."""


class GaussianTerms(InformationTerms):
    """Reparameterized actions of a tanh-Gaussian policy, and a Gaussian predictor.

    Args:
        policy: a policy that :class:`~vm3ac_modules.objectives.policy.PolicyReader` reads.
    """

    diagnostics = (*InformationTerms.diagnostics, "latent_share")

    def __init__(self, policy: TensorDictModuleBase) -> None:
        self.reader: PolicyReader = PolicyReader(policy)

    def check(self, predictor: object, reverse_model: str, seed_dims: int, owner: str) -> None:
        """Check that there is a predictor of continuous actions."""
        if isinstance(predictor, CategoricalPredictor):
            raise ValueError(
                f"{owner}: the policy is a TanhNormal and the predictor a CategoricalPredictor; "
                "build a VariationalPredictor for continuous actions."
            )
        check_predictor(predictor, reverse_model, owner)

    def in_keys(self, loss: MutualInformationLoss) -> list[NestedKey]:
        """The observations that the predictor reads and (for its shape only) the action."""
        return [loss.tensor_keys.observation, loss.tensor_keys.action]

    def draw_noise(self, loss: MutualInformationLoss, tensordict: TensorDictBase) -> TensorDict:
        """Latents and standard normals."""
        return draw_noise(self.reader, tensordict, loss.tensor_keys.action, loss.num_latents)

    def evaluate(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, noise: TensorDictBase
    ) -> TermValues:
        """Draw one joint action and score it."""
        with loss.slots["actor_network"].filled(loss.actor_network_params):
            sample = sample_policy(self.reader, tensordict, noise, loss.center, loss.half_range)
        pairs = pair_terms(
            cast("VariationalPredictor", loss.predictor_network),
            loss.slots["predictor_network"],
            loss.predictor_network_params,
            sample.action,
            tensordict.get(loss.tensor_keys.observation),
            loss.reverse_model,
        )
        return TermValues(sample.log_prob, pairs)

    def diagnose(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, num_latents: int
    ) -> InformationEstimates:
        """Estimate from draws."""
        return estimate_information(
            self.reader,
            cast("VariationalPredictor", loss.predictor_network),
            tensordict,
            center=loss.center,
            half_range=loss.half_range,
            num_latents=num_latents,
            observation_key=loss.tensor_keys.observation,
        )


class CategoricalTerms(InformationTerms):
    """Exact sums over the actions of a categorical policy, and a categorical predictor.

    One table of log q over all pairs of actions, ``[*B, N, A, N, A]``, serves the policies and the
    predictor.

    Args:
        policy: a policy that
            :class:`~vm3ac_modules.objectives.categorical_policy.CategoricalPolicyReader` reads.
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        self.reader: CategoricalPolicyReader = CategoricalPolicyReader(policy)

    def check(self, predictor: object, reverse_model: str, seed_dims: int, owner: str) -> None:
        """Check that there is a predictor of discrete actions, and one seed."""
        if not isinstance(predictor, CategoricalPredictor):
            given = "None" if predictor is None else f"a {type(predictor).__name__}"
            raise ValueError(
                f"{owner}: the policy is categorical and the predictor {given}; build a "
                "CategoricalPredictor for discrete actions."
            )
        check_predictor(predictor, reverse_model, owner)
        if seed_dims:
            raise ValueError(
                f"{owner}: seed_dims must be 0 with a categorical policy, got {seed_dims}: the "
                "weights of a CategoricalPredictor are outputs of networks, which do not stack. "
                "Build one loss per seed."
            )

    def in_keys(self, loss: MutualInformationLoss) -> list[NestedKey]:
        """What the predictor reads: the situation and, if it is masked, the legal actions."""
        mask = self._predictor(loss).mask_key
        return [self._situation_key(loss), *([] if mask is None else [mask])]

    def draw_noise(self, loss: MutualInformationLoss, tensordict: TensorDictBase) -> TensorDict:
        """Latents alone: actions are summed over."""
        return self.reader.draw_noise(tensordict, loss.num_latents)

    def evaluate(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, noise: TensorDictBase
    ) -> TermValues:
        """Sum over all actions under the drawn latent."""
        with loss.slots["actor_network"].filled(loss.actor_network_params):
            log_prob = self.reader.log_prob(tensordict, noise.get("latent"))
            extra = self._extra(tensordict, noise.get("extra_latents"), log_prob)
        with loss.slots["predictor_network"].filled(loss.predictor_network_params):
            table = self._table(loss, tensordict)
        if table.shape[-2:] != log_prob.shape[-2:]:
            raise ValueError(
                f"the predictor was built for (agents, actions) {tuple(table.shape[-2:])}, but "
                f"the policy has {tuple(log_prob.shape[-2:])}."
            )
        minus_entropy = expected_log_prob(log_prob, extra)
        return TermValues(minus_entropy, categorical_pair_terms(log_prob, table))

    def diagnose(
        self, loss: MutualInformationLoss, tensordict: TensorDictBase, num_latents: int
    ) -> InformationEstimates:
        """Enumerate a categorical latent, draw another one."""
        table = self._table(loss, tensordict)
        return estimate_categorical_information(self.reader, table, tensordict, num_latents)

    @torch.no_grad()
    def _extra(self, tensordict: TensorDictBase, latents: Tensor, like: Tensor) -> Tensor:
        """Policies under the extra latents, constants, ``[*B, K, N, A]``."""
        if latents.shape[-2] == 0:
            return like.unsqueeze(-3)[..., :0, :, :]
        return self.reader.many_log_prob(tensordict, latents)

    @staticmethod
    def _predictor(loss: MutualInformationLoss) -> CategoricalPredictor:
        return cast("CategoricalPredictor", loss.predictor_network)

    def _situation_key(self, loss: MutualInformationLoss) -> NestedKey:
        # set_keys(observation=...) renames what a predictor reads; the state is the predictor's.
        predictor = self._predictor(loss)
        of_agents = predictor.situation == "observations"
        return loss.tensor_keys.observation if of_agents else predictor.situation_key

    def _table(self, loss: MutualInformationLoss, tensordict: TensorDictBase) -> Tensor:
        predictor = self._predictor(loss)
        mask = None if predictor.mask_key is None else tensordict.get(predictor.mask_key)
        return predictor.table(tensordict.get(self._situation_key(loss)), mask)


def information_terms(policy: TensorDictModuleBase) -> InformationTerms:
    """Choose by the distribution at the end of a policy.

    Args:
        policy: the policy, sampler included.

    Returns:
        :class:`CategoricalTerms` for a categorical policy, else :class:`GaussianTerms`.

    Raises:
        ValueError: if the policy is of neither kind.

    Example:
        >>> from torchrl.data import Bounded
        >>> from vm3ac_modules.modules.actors import make_actor
        >>> type(information_terms(make_actor(4, 0, Bounded(-1.0, 1.0, (3, 2))))).__name__
        'GaussianTerms'
    """
    *_, head = policy_leaves(policy)
    if getattr(head, "distribution_class", None) in CATEGORICAL:
        return CategoricalTerms(policy)
    return GaussianTerms(policy)
