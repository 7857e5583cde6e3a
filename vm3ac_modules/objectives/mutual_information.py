r"""The mutual-information loss that attaches to any agent with a latent-conditioned actor.

Shapes: ``*S`` seeds (absent in an ordinary run), ``*B`` batch, ``N`` agents, ``A`` action, ``K``
extra latents. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (8), (49), (50).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from vm3ac_modules.functional.pairwise import pair_sum, scatter_others
from vm3ac_modules.functional.soft_value import pair_weight as weight_of_pairs
from vm3ac_modules.keys import Keys, require_keys
from vm3ac_modules.objectives.common import (
    REDUCTIONS,
    matrix_mean,
    ordered_keys,
    reduce_loss,
    valid_mask,
    without_masked,
)
from vm3ac_modules.objectives.diagnostics import InformationEstimates, estimate_information
from vm3ac_modules.objectives.pairs import check_predictor, pair_terms, predictor_loss
from vm3ac_modules.objectives.policy import PolicyReader, draw_noise, sample_policy
from vm3ac_modules.objectives.slots import ParameterSlots
from vm3ac_modules.predictor import VariationalPredictor

__all__ = ["MutualInformationLoss"]


class MutualInformationLoss(LossModule):
    r"""Reward coordination of an agent that has its own loss, optimizer and critics.

    .. math:: L_{mi} = -w_{mi} \frac1N \sum_i \Big[ c\, H_K(a_i|s)
        + \frac1N \sum_{j \ne i} \log q_{\xi_i}(\mathrm{sg}\, a_j | a_i) \Big]

    Add ``loss_mi`` to the host's actor loss and let the host's actor optimizer step both: the
    policy has ONE optimizer. Only ``loss_predictor`` has its own. The host's critics do not see
    the bonus of Eq. (46): their values stay those of the host's objective, which makes the term a
    regularizer of each step's policy, not a reward that is planned for.

    References:
        Kim et al. 2023, https://arxiv.org/abs/2303.00451, Eqs. (8), (49), (50).

    Args:
        actor_network: the policy, sampler included (:func:`~vm3ac_modules.actor.make_policy`): any
            TorchRL sequence of a :class:`~vm3ac_modules.latent.LatentSampler`, networks that write
            ``loc`` and ``scale``, and a ``TanhNormal``.
        predictor_network: the variational predictor.
        weight: weight >= 0 of the term (nats to loss).
        entropy_weight: weight c of the entropy; 0 where the host has an entropy bonus of its own,
            1 where it has none.
        num_latents: extra latents K >= 0 of the entropy family.
        pair_weight: ``"paper"`` for 1/N over the sum of partners, ``"mean"`` for 1/(N - 1).
        reverse_model: whose model predicts agent i from j: ``"own"`` (the paper) or ``"partner"``.
        diagnostic_latents: K >= 2 of the bracket of the mutual information in every call, drawn
            apart from the call's noise; 0 leaves it to :meth:`diagnose`. Not with seeds.
        reduction: ``"mean"`` or ``"sum"`` over the batch, ``"none"`` for ``[*S, *B]``.
        seed_dims: number of leading seed dimensions of the networks and batches.
        keys: the tensordict vocabulary.

    Returns:
        ``forward`` returns ``loss_mi`` and ``loss_predictor``, and detached diagnostics:
        ``entropy`` (nats per agent, of pi_K), ``pair_log_prob`` and ``pair_log_prob_matrix``
        ``[*S, N, N]`` (nats); with ``diagnostic_latents`` also ``mi_lower_bound``,
        ``mi_upper_bound``, ``mi_surrogate`` and ``mi_lower_bound_ceiling`` (nats, means over pairs)
        and ``latent_share``.

    Raises:
        ValueError: for negative weights or K, unknown options, a sampler whose mode is not
            ``"sample"``, or (when called) a predictor built for another number of agents.
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

    See Also:
        ``recipes/add_mi_to_sac.py`` for the whole of a host, and
        :func:`~vm3ac_modules.objectives.estimate_information` for what the policy really has.
    """

    @dataclass
    class _AcceptedKeys:
        observation: NestedKey = Keys().observation  # what the predictor reads
        action: NestedKey = Keys().action

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys

    actor_network: TensorDictModuleBase
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    predictor_network: VariationalPredictor
    predictor_network_params: TensorDictParams
    target_predictor_network_params: TensorDictParams
    center: Tensor
    half_range: Tensor

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        predictor_network: VariationalPredictor,
        *,
        weight: float = 0.1,
        entropy_weight: float = 0.0,
        num_latents: int = 0,
        pair_weight: Literal["paper", "mean"] = "paper",
        reverse_model: Literal["own", "partner"] = "own",
        diagnostic_latents: int = 0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        seed_dims: int = 0,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        for name, value in {
            "weight": weight,
            "entropy_weight": entropy_weight,
            "num_latents": num_latents,
            "diagnostic_latents": diagnostic_latents,
        }.items():
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}.")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}.")
        if diagnostic_latents == 1 or (diagnostic_latents and seed_dims):
            raise ValueError(
                "diagnostic_latents must be 0 or at least 2, and 0 with seed_dims: call diagnose "
                f"per seed instead (got {diagnostic_latents} with seed_dims={seed_dims})."
            )
        weight_of_pairs(1, pair_weight)
        check_predictor(predictor_network, reverse_model, type(self).__name__)
        self.weight, self.entropy_weight, self.pair_weight = weight, entropy_weight, pair_weight
        self.num_latents, self.diagnostic_latents = num_latents, diagnostic_latents
        self.reverse_model, self.reduction, self.seed_dims = reverse_model, reduction, seed_dims
        self.reader = PolicyReader(actor_network)
        self.reader.register_range(self)
        self.convert_to_functional(actor_network, "actor_network")
        self.convert_to_functional(predictor_network, "predictor_network")
        self.slots = {
            name: ParameterSlots(getattr(self, name), getattr(self, f"{name}_params"))
            for name in ("actor_network", "predictor_network")
        }
        if keys is not None:
            self.set_keys(observation=keys.observation, action=keys.action)

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        return None

    @property
    def in_keys(self) -> list[NestedKey]:
        """Entries that ``forward`` reads (of the action, its shape only)."""
        keys = self.tensor_keys
        return ordered_keys([*self.reader.in_keys, keys.observation, keys.action])

    @property
    def out_keys(self) -> list[str]:
        """Entries that ``forward`` returns."""
        out = ["loss_mi", "loss_predictor", "entropy", "pair_log_prob", "pair_log_prob_matrix"]
        if self.diagnostic_latents:
            out += ["mi_lower_bound", "mi_upper_bound", "mi_surrogate", "mi_lower_bound_ceiling"]
            out += ["latent_share"]
        return out

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains; ``loss_mi`` belongs to the host's actor optimizer."""
        return {
            "loss_mi": list(self.actor_network_params.parameters()),
            "loss_predictor": list(self.predictor_network_params.parameters()),
        }

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs: latents and standard normals (noise is data)."""
        with self.slots["actor_network"].filled(self.actor_network_params):
            return draw_noise(self.reader, tensordict, self.tensor_keys.action, self.num_latents)

    def forward(
        self, tensordict: TensorDictBase, noise: TensorDictBase | None = None
    ) -> TensorDict:
        """Compute both losses; the input is not changed.

        Args:
            tensordict: observations ``[*S, *B]`` with the entries of :attr:`in_keys`.
            noise: what :meth:`draw_noise` returns; drawn if None.

        Returns:
            Losses and diagnostics, see the class.
        """
        keys = self.in_keys
        require_keys(tensordict, keys, type(self).__name__)
        mask = valid_mask(self, tensordict, self.center.device)
        tensordict = without_masked(tensordict, mask, keys)
        noise = self.draw_noise(tensordict) if noise is None else noise
        observation = tensordict.get(self.tensor_keys.observation)
        with self.slots["actor_network"].filled(self.actor_network_params):
            sample = sample_policy(self.reader, tensordict, noise, self.center, self.half_range)
        pairs = pair_terms(
            self.predictor_network,
            self.slots["predictor_network"],
            self.predictor_network_params,
            sample.action,
            observation,
            self.reverse_model,
        )
        num_agents = observation.shape[-2]
        bonus = weight_of_pairs(num_agents, self.pair_weight) * pair_sum(pairs.policy)
        if self.entropy_weight:
            bonus = bonus - self.entropy_weight * sample.log_prob
        losses = {"loss_mi": -self.weight * bonus.mean(-1), "loss_predictor": predictor_loss(pairs)}
        out = {
            name: reduce_loss(values, mask, self.seed_dims, self.reduction)
            for name, values in losses.items()
        }
        matrix = scatter_others(matrix_mean(pairs.partner.detach(), mask, self.seed_dims))
        num_pairs = max(num_agents * (num_agents - 1), 1)
        entropy = -sample.log_prob.detach().mean(-1)
        out["entropy"] = reduce_loss(entropy, mask, self.seed_dims, "mean")
        out["pair_log_prob"] = matrix.sum((-1, -2)) / num_pairs
        out["pair_log_prob_matrix"] = matrix
        if self.diagnostic_latents:
            valid = tensordict if mask is None else tensordict[mask]
            out.update(self.diagnose(valid, self.diagnostic_latents).scalars())
        return TensorDict(out, [])

    def diagnose(self, tensordict: TensorDictBase, num_latents: int = 1024) -> InformationEstimates:
        """Bracket the mutual information of every pair on an evaluation batch (nats).

        Args:
            tensordict: observations, ``[*B]``; tens of rows.
            num_latents: extra latents K; their ceiling log(K + 1) comes with the estimates.

        Returns:
            The estimates of :func:`~vm3ac_modules.objectives.diagnostics.estimate_information`.
        """
        require_keys(tensordict, [*self.reader.in_keys, self.tensor_keys.observation], "diagnose")
        with (
            self.slots["actor_network"].filled(self.actor_network_params),
            self.slots["predictor_network"].filled(self.predictor_network_params),
        ):
            return estimate_information(
                self.reader,
                self.predictor_network,
                tensordict,
                center=self.center,
                half_range=self.half_range,
                num_latents=num_latents,
                observation_key=self.tensor_keys.observation,
            )
