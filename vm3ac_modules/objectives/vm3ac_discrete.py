r"""VM3-AC over discrete actions: FOP with a latent, and with mutual information for its entropy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``Z`` outcomes of the
latent. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (46), (49), (50) and Appendix G.
"""

from __future__ import annotations

from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from torch import Tensor, nn

from vm3ac_modules.functional.categorical import draw_categorical, expectation
from vm3ac_modules.functional.correlation import (
    action_latent_information,
    marginal_log_prob,
    pairwise_information,
)
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.functional.pairwise import fill_diagonal_zero
from vm3ac_modules.functional.soft_value import pair_weight as weight_of_pairs
from vm3ac_modules.keys import Keys
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.hypernetworks import HyperPairNet
from vm3ac_modules.objectives.episodic import Episodes, read_episodes
from vm3ac_modules.objectives.fop import FOPLoss, PolicyView
from vm3ac_modules.objectives.slots import ParameterSlots
from vm3ac_modules.priors import CategoricalPrior

__all__ = ["VM3FOPLoss"]

TABLE_ENTRIES = 2**22


class VM3FOPLoss(FOPLoss):
    r"""FOP with two pieces replaced: the soft bonus of the target and the policies' regularizer.

    With :math:`c_i = \log \pi_K(a_i)` (below) and a fresh latent per step, the same for all agents,

    .. math::
        y_t &= G_t + \frac{\alpha}{N} \sum_i \Big[ -c_i + w \sum_{j \ne i} \big(
            \log q(a'_i | a'_j, s) + \log q(a'_j | a'_i, s) \big) \Big]_{t+1} \\
        L_\pi &= E_z \sum_a \pi_i(a|z) \Big( \alpha\, c_i(a) - \min_k Q^k_i(a)
            - \alpha w \sum_{j \ne i} \sum_b \mathrm{sg}[\pi_j(b|z)\, \log q(b | a, s)] \Big) \\
        L_q &= -E \sum_b \mathrm{sg}[\pi_j(b|z)] \log q(b | a'_i, s)

    with w = 1/N (``"paper"``) or 1/(N - 1). Only the prediction of the partner from one's own
    action is in the policies' loss, and the partner's policy is a constant there; the predictor is
    trained apart. Critics never see the latent. :math:`\log \pi_K` is
    :math:`\log \pi_i(a | \tau_i, z)` for ``num_latents=0`` and, all outcomes being enumerated,
    ``entropy_mix`` times the marginal policy's plus the rest of the conditional's for ``"all"``.
    With the marginal alone the optimum is deterministic given z, and exploration shrinks to as many
    joint actions as z has outcomes.

    References:
        Kim et al. 2023, https://arxiv.org/abs/2303.00451, Appendix G.

    Args:
        actor_network: the recurrent actor, with the latent behind its memory.
        qvalue_network: individual critics and mixers.
        predictor_network: the variational predictor.
        prior: prior of the latent.
        num_latents: 0, or ``"all"`` outcomes for the entropy of the marginal policy.
        entropy_mix: share in [0, 1] of the marginal policy's entropy; with ``"all"`` only.
        exact_latent: train the policies on all outcomes instead of the one that was drawn.
        pair_weight: ``"paper"`` or ``"mean"``.
        temperature: alpha > 0 (reward per nat), a buffer that a schedule may change in place.
        gamma: discount per step.
        lam: weight of the lambda-return.
        strict_soft: the bonus inside the bootstrap value.
        mask_soft_values: sum only over legal actions in :math:`V_i`.
        keys: the tensordict vocabulary.

    Returns:
        What FOP returns (``soft_bonus`` is then the bonus above, nats), ``loss_predictor``, and the
        detached means ``pair_log_prob`` (``log q(a_j | a_i, s)`` of fresh pairs, nats) and
        ``latent_information`` (:math:`I(a_i; z | \tau_i)`, nats; an upper bound of the mutual
        information of two agents' actions).

    Raises:
        ValueError: for options out of their range, or a latent that enters before the memory.
        MissingKeysError: when called with a tensordict that lacks an entry.

    Example:
        >>> from vm3ac_modules.nn import FOPMixer, HyperPairNet, RecurrentPolicyNet
        >>> actor = RecurrentActor(RecurrentPolicyNet(4, 5, num_agents=3, latent_dim=3))
        >>> critic = FactorizedCritic(4, 5, 3, FOPMixer(7, num_agents=3, num_actions=5))
        >>> predictor = HyperPairNet(7, num_agents=3, num_actions=5)
        >>> loss = VM3FOPLoss(actor, critic, predictor, CategoricalPrior(3))
        >>> list(loss.parameter_groups())
        ['loss_actor', 'loss_qvalue', 'loss_predictor']

    See Also:
        :class:`~vm3ac_modules.objectives.FOPLoss` for the form of a batch.
    """

    out_keys: tuple[str, ...] = (
        *("loss_actor", "loss_qvalue", "loss_predictor"),
        *("entropy", "state_action_value", "qvalue_target", "soft_bonus"),
        *("pair_log_prob", "latent_information"),
    )
    phases = (("loss_actor", "loss_qvalue", "loss_predictor"),)

    predictor_network: HyperPairNet
    predictor_network_params: TensorDictParams
    target_predictor_network_params: TensorDictParams
    log_prior: Tensor
    support: Tensor

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: FactorizedCritic,
        predictor_network: HyperPairNet,
        prior: CategoricalPrior,
        *,
        num_latents: Literal[0, "all"] = 0,
        entropy_mix: float = 1.0,
        exact_latent: bool = False,
        pair_weight: Literal["paper", "mean"] = "paper",
        temperature: float = 0.5,
        gamma: float = 0.99,
        lam: float = 0.8,
        strict_soft: bool = False,
        mask_soft_values: bool = False,
        keys: Keys | None = None,
    ) -> None:
        host = {"temperature": temperature, "gamma": gamma, "lam": lam, "keys": keys}
        soft = {"strict_soft": strict_soft, "mask_soft_values": mask_soft_values}
        super().__init__(actor_network, qvalue_network, **host, **soft)  # type: ignore[arg-type]
        if num_latents not in (0, "all"):
            raise ValueError(f"num_latents must be 0 or 'all', got {num_latents!r}.")
        if not 0.0 <= entropy_mix <= 1.0:
            raise ValueError(f"entropy_mix must be in [0, 1], got {entropy_mix}.")
        if actor_network.net.latent_input != "head":
            raise ValueError(
                "VM3FOPLoss draws fresh latents for replayed histories, so the latent must enter "
                "behind the memory: build the network with latent_input='head'."
            )
        if actor_network.net.latent_dim != len(prior.constant()):
            raise ValueError(
                f"the actor reads a latent of size {actor_network.net.latent_dim}, but the prior "
                f"has {len(prior.constant())} outcomes."
            )
        weight_of_pairs(1, pair_weight)
        self.num_latents, self.entropy_mix = num_latents, entropy_mix
        self.exact_latent, self.pair_weight = exact_latent or num_latents == "all", pair_weight
        self.prior = prior
        support = prior.support()
        self.register_buffer("support", support)
        self.register_buffer("log_prior", prior.log_prob(support))
        self.convert_to_functional(predictor_network, "predictor_network")
        name = "predictor_network"
        self.slots[name] = ParameterSlots(getattr(self, name), getattr(self, f"{name}_params"))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that each loss trains, disjoint."""
        predictor = list(self.predictor_network_params.parameters())
        return {**super().parameter_groups(), "loss_predictor": predictor}

    def draw_noise(self, tensordict: TensorDictBase) -> TensorDict:
        """Draw all that one call needs (noise is data).

        Args:
            tensordict: the batch, ``[B, T + 1]``.

        Returns:
            ``action``, Gumbel noise ``[B, T + 1, N, A]``, and ``latent`` ``[B, T + 1, Z]``.
        """
        noise = super().draw_noise(tensordict)
        latent = self.prior.sample(tensordict.batch_size, like=noise.get("action"))
        return noise.set("latent", latent)

    @torch.no_grad()
    def diagnose(self, tensordict: TensorDictBase) -> dict[str, Tensor]:
        r"""How far the policies are coordinated along these episodes, by enumeration (nats).

        Args:
            tensordict: episodes ``[B, T + 1]``.

        Returns:
            ``mutual_information``: exact mean over pairs of :math:`I(a_i; a_j | \tau)`, and its
            ceiling ``latent_information``: mean over agents of :math:`I(a_i; z | \tau)`.
        """
        episodes = read_episodes(tensordict, self.tensor_keys, type(self).__name__)
        with self.slots["actor_network"].filled(self.actor_network_params):
            memory, _ = self.actor_network.net.unroll(episodes.observation, episodes.last_action)
            outcomes = self._outcomes(memory, episodes.action_mask)[:, :, :-1]
        pairs = pairwise_information(outcomes, self.log_prior)
        num_agents = pairs.shape[-1]
        mean = pairs.sum((-1, -2)) / max(num_agents * (num_agents - 1), 1)
        ceiling = action_latent_information(outcomes, self.log_prior)
        return {
            "mutual_information": masked_mean(mean, episodes.mask),
            "latent_information": masked_mean(ceiling, episodes.mask),
        }

    def _outcomes(self, memory: Tensor, action_mask: Tensor) -> Tensor:
        """Policies under every outcome of the latent, ``[Z, B, T + 1, N, A]``."""
        support = self.support[:, None, None]
        return self.actor_network.log_prob(memory, action_mask, support)

    def _policies(self, episodes: Episodes, noise: TensorDictBase) -> PolicyView:
        net = self.actor_network.net
        memory, _ = net.unroll(episodes.observation, episodes.last_action)
        outcomes = self._outcomes(memory, episodes.action_mask)
        # One-hot, so the policy under the drawn outcome is a choice among these.
        index = noise.get("latent").argmax(-1)[None, ..., None, None]
        drawn = outcomes.gather(0, index.expand(1, *outcomes.shape[1:])).squeeze(0)
        action = draw_categorical(drawn.detach(), noise.get("action"))
        return PolicyView(drawn, outcomes, action, self._predictions(episodes, action))

    def _predictions(self, episodes: Episodes, action: Tensor) -> Tensor:
        """Log-probabilities of everyone's action given each one's; 0 where nothing was seen."""
        seen = episodes.seen
        with self.slots["predictor_network"].filled(self.predictor_network_params):
            found = self.predictor_network(
                action[seen], episodes.state[seen], episodes.action_mask[seen]
            )
        out = found.new_zeros(*seen.shape, *found.shape[1:])
        return out.index_put((seen,), found)

    def _losses(
        self, episodes: Episodes, view: PolicyView, noise: TensorDictBase
    ) -> dict[str, Tensor]:
        out = super()._losses(episodes, view, noise)
        assert view.log_q is not None
        # Exact over the partner's action, given the drawn one of the owner: [.., i, j].
        fit = expectation(view.log_prob.detach().unsqueeze(-3), view.log_q)
        off_diagonal = self._pair_mean(fit)[:, :-1]
        out["loss_predictor"] = -masked_mean(off_diagonal, episodes.mask)
        out["pair_log_prob"] = -out["loss_predictor"].detach()
        assert view.outcomes is not None
        ceiling = action_latent_information(view.outcomes.detach(), self.log_prior)
        out["latent_information"] = masked_mean(ceiling[:, :-1], episodes.mask)
        return out

    @staticmethod
    def _pair_mean(pairs: Tensor) -> Tensor:
        num_agents = pairs.shape[-1]
        total = fill_diagonal_zero(pairs).sum((-1, -2))
        return total / max(num_agents * (num_agents - 1), 1)

    def _entropy_log_prob(self, view: PolicyView) -> Tensor:
        r""":math:`\log \pi_K` of every action under the drawn latent, ``[B, T + 1, N, A]``."""
        if self.num_latents == 0:
            return view.log_prob
        assert view.outcomes is not None
        marginal = marginal_log_prob(view.outcomes.detach(), self.log_prior)
        return torch.lerp(view.log_prob, marginal, self.entropy_mix)

    @torch.no_grad()
    def _soft_bonus(self, episodes: Episodes, view: PolicyView) -> Tensor:
        """Bonus of the target at every slot, ``[B, T + 1]``, nats."""
        log_pi = self._entropy_log_prob(view).gather(-1, view.action.unsqueeze(-1)).squeeze(-1)
        assert view.log_q is not None
        index = view.action[..., None, :, None].expand(*view.log_q.shape[:-1], 1)
        pairs = fill_diagonal_zero(view.log_q.gather(-1, index).squeeze(-1))
        weight = weight_of_pairs(pairs.shape[-1], self.pair_weight)
        # Summed over all pairs, both directions are the matrix and its transpose.
        return -log_pi.mean(-1) + weight * 2.0 * pairs.sum((-1, -2)) / pairs.shape[-1]

    def _policy_objective(self, episodes: Episodes, view: PolicyView, values: Tensor) -> Tensor:
        """What the policies minimize at every slot, ``[B, T + 1, N]``."""
        assert view.outcomes is not None
        policies = view.outcomes if self.exact_latent else view.log_prob.unsqueeze(0)
        weights = self.log_prior.exp() if self.exact_latent else self.log_prior.new_ones(1)
        if self.num_latents == 0:
            scores = policies
        else:
            marginal = marginal_log_prob(view.outcomes, self.log_prior).detach()
            scores = torch.lerp(policies, marginal.expand_as(policies), self.entropy_mix)
        bonus = self._partner_bonus(episodes, policies.detach())
        cost = self.temperature * (scores - bonus) - values
        return torch.tensordot(weights, expectation(policies, cost), dims=1)

    @torch.no_grad()
    def _partner_bonus(self, episodes: Episodes, policies: Tensor) -> Tensor:
        r""":math:`w \sum_{j \ne i} \sum_b \pi_j(b|z) \log q(b | a, s)`, ``[Z, B, T + 1, N, A]``.

        Computed for the slots that hold something, in slices, so that the table of all pairs of
        actions stays small.
        """
        state, mask = episodes.state[episodes.seen], episodes.action_mask[episodes.seen]
        num_agents, num_actions = mask.shape[-2:]
        width = self.predictor_network.embed_dim
        rows = max(1, TABLE_ENTRIES // ((num_agents * num_actions) * num_agents * width))
        others = 1.0 - torch.eye(num_agents, device=state.device, dtype=state.dtype)
        probs, parts = policies[:, episodes.seen].exp(), []
        slices = state.split(rows), mask.split(rows), probs.split(rows, 1)
        with self.slots["predictor_network"].filled(self.predictor_network_params):
            for at, legal, prob in zip(*slices, strict=True):
                fit = (self.predictor_network.table(at, legal) * prob[..., None, None, :, :]).sum(
                    -1
                )
                parts.append((fit * others.unsqueeze(1)).sum(-1))
        out = torch.zeros_like(policies)
        if parts:
            out[:, episodes.seen] = torch.cat(parts, dim=1)
        return weight_of_pairs(num_agents, self.pair_weight) * out
