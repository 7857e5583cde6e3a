r"""The mutual-information loss that attaches to any agent with a latent-conditioned actor.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``A`` action, ``K``
extra latents. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (8), (49), (50).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from vm3ac_modules.functional.pairwise import pair_sum
from vm3ac_modules.functional.soft_value import pair_weight as weight_of_pairs
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives.base import MultiAgentLoss, Transitions
from vm3ac_modules.objectives.common import ordered_keys, reduce_loss
from vm3ac_modules.objectives.diagnostics import BOUNDS, InformationEstimates
from vm3ac_modules.objectives.drawn_pairs import logged_pairs
from vm3ac_modules.objectives.information import InformationNetworks, information_of
from vm3ac_modules.objectives.options import check_count, check_not_negative
from vm3ac_modules.objectives.pairs import (
    Estimator,
    bonus_weight,
    pair_estimates,
    predictor_loss,
)
from vm3ac_modules.objectives.policy import PolicyReader
from vm3ac_modules.objectives.policy_body import Latent

__all__ = ["MutualInformationLoss"]


class MutualInformationLoss(MultiAgentLoss):
    r"""Reward coordination of an agent that has its own loss, optimizer and critics.

    .. math:: L_{mi} = -w_{mi} \frac1N \sum_i \Big[ c\, H_K(a_i|s)
        + \frac1N \sum_{j \ne i} \log q_{\xi_i}(\mathrm{sg}\, a_j | a_i) \Big]

    Actions of a categorical policy are summed over instead of drawn: :math:`\log q` is then
    :math:`\sum_a \pi_i(a|z) \sum_b \mathrm{sg}[\pi_j(b|z) \log q(b|a, s)]`, under a drawn z.

    Add ``loss_mi`` to the host's actor loss and let the host's actor optimizer step both: the
    policy has ONE optimizer. Only ``loss_predictor`` has its own. The host's critics do not see
    the bonus of Eq. (46): their values stay those of the host's objective, which makes the term a
    regularizer of each step's policy, not a reward that is planned for.

    References:
        Kim et al. 2023, https://arxiv.org/abs/2303.00451, Eqs. (8), (49), (50).

    Args:
        actor_network: the policy, sampler included (:func:`~vm3ac_modules.modules.make_policy`): a
            TorchRL sequence of a :class:`~vm3ac_modules.modules.LatentSampler`, networks that write
            ``loc`` and ``scale``, and a ``TanhNormal``; or networks that write ``logits``, and a
            ``Categorical``, ``OneHotCategorical`` or ``MaskedCategorical`` (with its ``mask``).
        predictor_network: a :class:`~vm3ac_modules.modules.VariationalPredictor`; for a
            categorical policy a :class:`~vm3ac_modules.modules.CategoricalPredictor`,
            whose table of all pairs of actions costs (N A)^2 numbers per transition.
        weight: weight >= 0 of the term (nats to loss).
        entropy_weight: weight c of the entropy; 0 where the host has an entropy bonus of its own,
            1 where it has none.
        num_latents: extra latents K >= 0 of the entropy family.
        pair_weight: ``"paper"`` for 1/N over the sum of partners, ``"mean"`` for 1/(N - 1).
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``;
            the same for the one model of a categorical predictor.
        latent: ``"fresh"``: the loss draws its own, whatever the batch holds; ``"stored"`` if the
            batch's is meant, e.g. one that the environment draws per episode. Extra latents then
            need ``StoredLatent(prior)`` before the actor.
        estimator: of the mutual information. ``"barber_agakov"``, the paper's, is the log-density
            of Eq. (6). ``"infonce"``, ``"nwj"`` and ``"donsker_varadhan"`` (which is biased upward)
            use the predictor's log q as the score of a pair, and compare the partner's action
            with one in the same state under each extra latent: ``num_latents`` of at least 1, 2, 2.
            Their estimate, less H_K, holds the place of log q
            (:mod:`vm3ac_modules.objectives.pairs`), and trains the predictor as well.
        pairs: partners k of every agent, drawn anew for every transition, that enter the sum over
            j, weighed by (N - 1)/k: both losses and their gradients keep their expectation. None
            for all, the only choice with a categorical policy.
        diagnostic_latents: K >= 2 of the bracket of the mutual information in every call, drawn
            apart from the call's noise; 0 leaves it to :meth:`diagnose`. Not with seeds.
        reduction: ``"mean"`` or ``"sum"`` over the batch, ``"none"`` for ``[*S, *B]``.
        seed_dims: number of leading seed dimensions of the networks and batches; 0 with a
            categorical policy.
        keys: the tensordict vocabulary; the state and mask of a categorical predictor are named by
            the predictor's own.

    Returns:
        ``forward`` returns ``loss_mi`` and ``loss_predictor``, and detached diagnostics:
        ``entropy`` (nats per agent, of pi_K), ``pair_log_prob`` and ``pair_log_prob_matrix``
        ``[*S, N, N]`` (nats; 0 for a pair that was not drawn); with ``diagnostic_latents``
        also ``mi_lower_bound``, ``mi_upper_bound``, ``mi_surrogate`` and
        ``mi_lower_bound_ceiling`` (nats, means over pairs) and, for Gaussian policies,
        ``latent_share``; with a contrastive estimator also ``mi_estimate`` and
        ``mi_estimate_matrix``, what it makes of the batch (nats).

    Raises:
        ValueError: for negative weights or K, unknown options, too few latents for the estimator, a
            latent that nothing draws or that is replayed although a fresh one is meant, a predictor
            of the other kind of actions, or
            (when called) a predictor built for another number of agents.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> spec = Bounded(-1.0, 1.0, (2, 1))
        >>> sampler = vm.LatentSampler(vm.GaussianPrior(3))
        >>> policy = vm.make_policy(sampler, vm.make_actor(4, 3, spec))
        >>> mi = vm.MutualInformationLoss(policy, vm.VariationalPredictor(4, spec), weight=0.1)
        >>> td = TensorDict({"agents": {"observation": torch.zeros(8, 2, 4),
        ...                             "action": torch.zeros(8, 2, 1)}}, [8])
        >>> mi(td)["loss_mi"].shape
        torch.Size([])

        Discrete actions, here of a network that maps observation and latent to 5 logits:

        >>> from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule
        >>> from torchrl.modules import OneHotCategorical, ProbabilisticActor
        >>> class Net(torch.nn.Linear):
        ...     def forward(self, observation, latent):
        ...         latent = latent.unsqueeze(-2).expand(*observation.shape[:-1], 3)
        ...         return super().forward(torch.cat((observation, latent), -1))
        >>> logits, action = ("agents", "logits"), ("agents", "action")
        >>> net = TensorDictModule(Net(4 + 3, 5), [("agents", "observation"), "latent"], [logits])
        >>> actor = ProbabilisticActor(net, {"logits": logits}, [action],
        ...                            distribution_class=OneHotCategorical)
        >>> policy = vm.make_policy(vm.LatentSampler(vm.CategoricalPrior(3)), actor)
        >>> predictor = vm.CategoricalPredictor(4, 2, 5, situation="observations")
        >>> vm.MutualInformationLoss(policy, predictor, weight=0.1)(td)["loss_mi"].shape
        torch.Size([])

    See Also:
        ``recipes/add_mi_to_sac.py`` for the whole of a host, and
        :func:`~vm3ac_modules.objectives.estimate_information` for what the policy really has.
    """

    @dataclass
    class _AcceptedKeys:
        observation: NestedKey = Keys().observation  # what the predictor reads
        action: NestedKey = Keys().action  # of Gaussian policies only

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys

    actor_network: TensorDictModuleBase
    predictor_network: VariationalPredictor | CategoricalPredictor
    # The range of continuous actions.
    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        predictor_network: VariationalPredictor | CategoricalPredictor,
        *,
        weight: float = 0.1,
        entropy_weight: float = 0.0,
        num_latents: int = 0,
        pair_weight: Literal["paper", "mean"] = "paper",
        reverse_model: Literal["own", "partner"] = "own",
        latent: Latent = "fresh",
        estimator: Estimator = "barber_agakov",
        pairs: int | None = None,
        diagnostic_latents: int = 0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        seed_dims: int = 0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(reduction=reduction, seed_dims=seed_dims, keys=keys)
        check_not_negative(weight=weight, entropy_weight=entropy_weight)
        check_count(num_latents=num_latents, diagnostic_latents=diagnostic_latents)
        if diagnostic_latents == 1 or (diagnostic_latents and seed_dims):
            raise ValueError(
                "diagnostic_latents must be 0 or at least 2, and 0 with seed_dims: call diagnose "
                f"per seed instead (got {diagnostic_latents} with seed_dims={seed_dims})."
            )
        weight_of_pairs(1, pair_weight)
        self.information = information_of(
            actor_network,
            predictor_network,
            num_latents=num_latents,
            reverse_model=reverse_model,
            latent=latent,
            estimator=estimator,
            pairs=pairs,
            owner=type(self).__name__,
        )
        self.reader = self.information.reader
        if isinstance(self.reader, PolicyReader):
            self.reader.register_range(self)
        elif seed_dims:
            raise ValueError(
                f"{type(self).__name__}: seed_dims must be 0 with a categorical policy, got "
                f"{seed_dims}: the weights of a CategoricalPredictor are outputs of networks, "
                "which do not stack. Build one loss per seed."
            )
        self.weight, self.entropy_weight, self.pair_weight = weight, entropy_weight, pair_weight
        self.diagnostic_latents = diagnostic_latents
        self.add_network("actor", actor_network, loss="loss_mi")
        self.add_network("predictor", predictor_network)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads (of a continuous action, its shape only)."""
        return ordered_keys(
            [
                *self.reader.data_keys,
                *self.information.in_keys(self.predictor_network, self.tensor_keys),
            ]
        )

    @property
    def diagnostics(self) -> list[str]:  # type: ignore[override]
        """What ``forward`` returns beside the losses."""
        out = ["entropy", "pair_log_prob", "pair_log_prob_matrix"]
        if self.information.contrastive is not None:
            out += ["mi_estimate", "mi_estimate_matrix"]
        return [*out, *self._bounds()] if self.diagnostic_latents else out

    def _bounds(self) -> list[str]:
        """Names of the bounds that this kind of policy has."""
        continuous = isinstance(self.reader, PolicyReader)
        return [bound.name for bound in BOUNDS if continuous or bound.of_categorical]

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs: latents and, of Gaussian policies, standard normals."""
        with self.network("actor").filled():
            return self.information.draw_noise(tensordict, self.tensor_keys)

    def _run(self) -> InformationNetworks:
        continuous = isinstance(self.reader, PolicyReader)
        action_range = (self.center, self.half_range) if continuous else None
        networks = self.network("actor"), self.network("predictor")
        return InformationNetworks(*networks, self.tensor_keys, action_range)

    def compute(
        self, batch: Transitions, noise: TensorDictBase, wanted: set[str]
    ) -> dict[str, Tensor]:
        """Both losses and diagnostics."""
        td, mask = batch
        log_prob, pairs, offsets = self.information.evaluate(td, noise, self._run())
        bonus = bonus_weight(pairs, self.pair_weight) * pair_sum(pairs.policy)
        if self.entropy_weight:
            bonus = bonus - self.entropy_weight * log_prob
        losses = {"loss_mi": -self.weight * bonus.mean(-1), "loss_predictor": predictor_loss(pairs)}
        out = self.reduce(losses, mask)
        entropy = -log_prob.detach().mean(-1)
        out["entropy"] = reduce_loss(entropy, mask, self.seed_dims, "mean")
        logged = {"pair_log_prob": pairs.partner.detach()}
        if self.information.contrastive is not None:
            logged["mi_estimate"] = pair_estimates(pairs, log_prob, offsets)
        out |= logged_pairs(logged, offsets, mask, self.seed_dims)
        if self.diagnostic_latents:
            rows = td if mask is None else td[mask]
            none = rows.batch_size.numel() == 0
            # Of nothing there is no estimate: 0, as every other diagnostic of an empty batch.
            zeros = dict.fromkeys(self._bounds(), torch.zeros_like(out["entropy"]))
            found = zeros if none else self.diagnose(rows, self.diagnostic_latents).scalars()
            out |= {name: found[name] for name in self._bounds()}
        return out

    def diagnose(self, tensordict: TensorDictBase, num_latents: int = 1024) -> InformationEstimates:
        """Bracket the mutual information of every pair on an evaluation batch (nats).

        Args:
            tensordict: observations, ``[*B]``; tens of rows.
            num_latents: extra latents K; their ceiling log(K + 1) comes with the estimates. A
                categorical latent of a categorical policy is enumerated instead.

        Returns:
            The estimates of :func:`~vm3ac_modules.objectives.diagnostics.estimate_information`;
            for a categorical policy those of
            :func:`~vm3ac_modules.objectives.categorical_diagnostics.estimate_categorical_information`:
            ``upper`` is then the mutual information itself if the latent is categorical, and
            ``latent_share`` is nan.
        """
        needed = [key for key in self.in_keys if key != self.tensor_keys.action]
        require_keys(tensordict, needed, "diagnose")
        return self.information.diagnose(tensordict, num_latents, self._run())
