r"""VM3-AC over discrete actions: FOP with a latent, and with mutual information for its entropy.

Shapes: ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``Z`` outcomes of the
latent. Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (46), (49), (50) and Appendix G.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from vm3ac_modules.functional.categorical import draw_categorical, expectation
from vm3ac_modules.functional.correlation import (
    action_latent_information,
    marginal_log_prob,
    predicted_pairs,
)
from vm3ac_modules.functional.episodes import masked_mean
from vm3ac_modules.functional.pairwise import pair_mean
from vm3ac_modules.functional.soft_value import pair_weight as weight_of_pairs
from vm3ac_modules.modules.categorical_predictor import CategoricalPredictor
from vm3ac_modules.modules.factorized_critic import FactorizedCritic
from vm3ac_modules.modules.recurrent_actor import RecurrentActor
from vm3ac_modules.nn.hypernetworks import HyperPairNet
from vm3ac_modules.objectives.categorical_diagnostics import (
    enumerated_entropies,
    expected_prediction,
)
from vm3ac_modules.objectives.diagnostics import InformationEstimates, bracket
from vm3ac_modules.objectives.episodic import Episodes, at_slots, chosen, of_slots
from vm3ac_modules.objectives.fop import FOPLoss, PolicyView
from vm3ac_modules.objectives.options import check_shares
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
        predictor_network: the variational predictor of the state: a
            :class:`~vm3ac_modules.nn.HyperPairNet`, or a
            :class:`~vm3ac_modules.modules.CategoricalPredictor` around one.
        prior: prior of the latent.
        num_latents: 0, or ``"all"`` outcomes for the entropy of the marginal policy.
        entropy_mix: share in [0, 1] of the marginal policy's entropy; with ``"all"`` only.
        exact_latent: train the policies on all outcomes instead of the one that was drawn.
        pair_weight: ``"paper"`` or ``"mean"``.
        options: those of FOP.

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

    diagnostics = (*FOPLoss.diagnostics, "pair_log_prob", "latent_information")

    predictor_network: HyperPairNet | CategoricalPredictor
    log_prior: Tensor
    support: Tensor

    def __init__(
        self,
        actor_network: RecurrentActor,
        qvalue_network: FactorizedCritic,
        predictor_network: HyperPairNet | CategoricalPredictor,
        prior: CategoricalPrior,
        *,
        num_latents: Literal[0, "all"] = 0,
        entropy_mix: float = 1.0,
        exact_latent: bool = False,
        pair_weight: Literal["paper", "mean"] = "paper",
        **options: Any,
    ) -> None:
        super().__init__(actor_network, qvalue_network, **options)
        if num_latents not in (0, "all"):
            raise ValueError(f"num_latents must be 0 or 'all', got {num_latents!r}.")
        check_shares(entropy_mix=entropy_mix)
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
        self.add_network("predictor", predictor_network)

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
    def diagnose(self, tensordict: TensorDictBase) -> InformationEstimates:
        r"""How far the policies are coordinated along these episodes, by enumeration (nats).

        Args:
            tensordict: episodes ``[B, T + 1]``.

        Returns:
            The estimates of every transition, ``[B, T, ..]``, and which of them are real:
            ``upper`` is :math:`I(a_i; a_j | \tau)` itself, ``ceiling`` the log of the number of
            outcomes.
        """
        episodes = self.read(tensordict)
        outcomes = self._outcomes(episodes)
        predictions = self._per_slice(
            episodes, outcomes, lambda table, x: expected_prediction(x, self.log_prior, table)
        )[:, :-1]
        outcomes = outcomes[:, :, :-1]
        found = bracket(
            *enumerated_entropies(outcomes, self.log_prior),
            (predictions, predictions.mT),
            math.log(len(self.log_prior)),
        )
        return found._replace(mask=episodes.mask)

    def _outcomes(self, episodes: Episodes) -> Tensor:
        """Policies under every outcome of the latent, ``[Z, B, T + 1, N, A]``.

        Log-probabilities are 0 in slots that hold nothing.
        """
        actor, seen = self.actor_network, episodes.seen
        with self.network("actor").filled():
            memory, _ = actor.net.unroll(episodes.observation, episodes.last_action)
            legal = episodes.action_mask[seen]
            log_prob = actor.log_prob(of_slots(memory, seen), legal, self.support.unsqueeze(1))
        return at_slots(log_prob, seen, 1)

    def view(self, episodes: Episodes, noise: TensorDictBase) -> PolicyView:
        """Look at the policies under every outcome, and draw under the drawn one.

        Args:
            episodes: the batch.
            noise: what :meth:`draw_noise` returned.

        Returns:
            Log-probabilities, a fresh joint action at every slot, and predictions from it.
        """
        outcomes = self._outcomes(episodes)
        # One-hot, so the policy under the drawn outcome is a choice among these.
        index = noise.get("latent").argmax(-1)[None, ..., None, None]
        drawn = outcomes.gather(0, index.expand(1, *outcomes.shape[1:])).squeeze(0)
        action = draw_categorical(drawn.detach(), noise.get("action"))
        actions = None
        if self.exact_latent and self.policy_critic == "joint":
            # Everyone's draws belong to one outcome; the noise is the same for all of them.
            actions = draw_categorical(outcomes.detach(), noise.get("action"))
        return PolicyView(drawn, outcomes, action, self._predictions(episodes, action), actions)

    def _predictions(self, episodes: Episodes, action: Tensor) -> Tensor:
        """Log-probabilities of everyone's action given each one's; 0 where nothing was seen."""
        seen = episodes.seen
        with self.network("predictor").filled():
            found = self.predictor_network.predict(
                action[seen], episodes.state[seen], episodes.action_mask[seen]
            )
        return at_slots(found, seen)

    def losses(self, episodes: Episodes, view: PolicyView) -> dict[str, Tensor]:
        """FOP's with the predictor's.

        Args:
            episodes: the batch.
            view: the policies along it.

        Returns:
            A scalar per name of ``out_keys``.
        """
        out = super().losses(episodes, view)
        assert view.log_q is not None
        # Exact over the partner's action, given the drawn one of the owner: [.., i, j].
        fit = expectation(view.log_prob.detach().unsqueeze(-3), view.log_q)
        out["loss_predictor"] = -masked_mean(pair_mean(fit)[:, :-1], episodes.mask)
        out["pair_log_prob"] = -out["loss_predictor"].detach()
        assert view.outcomes is not None
        ceiling = action_latent_information(view.outcomes.detach(), self.log_prior)
        out["latent_information"] = masked_mean(ceiling[:, :-1], episodes.mask)
        return out

    def _entropy_log_prob(self, view: PolicyView) -> Tensor:
        r""":math:`\log \pi_K` of every action under the drawn latent, ``[B, T + 1, N, A]``."""
        if self.num_latents == 0:
            return view.log_prob
        assert view.outcomes is not None
        marginal = marginal_log_prob(view.outcomes.detach(), self.log_prior)
        return torch.lerp(view.log_prob, marginal, self.entropy_mix)

    @torch.no_grad()
    def soft_bonus(self, view: PolicyView) -> Tensor:
        """What the target adds to the return.

        Args:
            view: the policies, their fresh actions and predictions from them.

        Returns:
            ``[B, T + 1]``, nats.
        """
        log_pi = chosen(self._entropy_log_prob(view), view.action)
        assert view.log_q is not None
        pairs = predicted_pairs(view.log_q, view.action)
        weight = weight_of_pairs(pairs.shape[-1], self.pair_weight)
        # Summed over all pairs, both directions are the matrix and its transpose.
        return -log_pi.mean(-1) + weight * 2.0 * pairs.sum((-1, -2)) / pairs.shape[-1]

    def policy_objective(self, episodes: Episodes, view: PolicyView, values: Tensor) -> Tensor:
        """What the policies minimize.

        Args:
            episodes: the batch.
            view: the policies along it.
            values: what :meth:`policy_values` returned.

        Returns:
            ``[B, T + 1, N]``.
        """
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
        r""":math:`w \sum_{j \ne i} \sum_b \pi_j(b|z) \log q(b | a, s)`, ``[Z, B, T + 1, N, A]``."""
        num_agents = policies.shape[-2]
        others = 1.0 - torch.eye(num_agents, device=policies.device, dtype=policies.dtype)

        def bonus(table: Tensor, outcomes: Tensor) -> Tensor:
            fit = (table * outcomes.exp()[..., None, None, :, :]).sum(-1)
            return (fit * others.unsqueeze(1)).sum(-1).movedim(0, 1)

        found = self._per_slice(episodes, policies, bonus).movedim(2, 0).contiguous()
        return weight_of_pairs(num_agents, self.pair_weight) * found

    def _per_slice(
        self,
        episodes: Episodes,
        outcomes: Tensor,
        compute: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Something of the table of all pairs of actions at every slot, ``[B, T + 1, ..]``.

        It is computed for the slots that hold something, in slices, so that the table stays small.
        """
        seen = episodes.seen
        state, mask = episodes.state[seen], episodes.action_mask[seen]
        num_agents, num_actions = mask.shape[-2:]
        width = self.predictor_network.embed_dim
        rows = max(1, TABLE_ENTRIES // ((num_agents * num_actions) * num_agents * width))
        slices = state.split(rows), mask.split(rows), outcomes[:, seen].split(rows, 1)
        with self.network("predictor").filled():
            parts = [
                compute(self.predictor_network.table(at, legal), x)
                for at, legal, x in zip(*slices, strict=True)
            ]
        return at_slots(torch.cat(parts), seen)
