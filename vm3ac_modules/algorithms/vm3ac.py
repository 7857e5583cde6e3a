"""VM3-AC: the return plus a variational lower bound of the actions' mutual information.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (11), (45)-(50), Tables 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.shared_latent import SharedLatent
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.predictor import VariationalPredictor
from vm3ac_modules.objectives import VM3ACLoss
from vm3ac_modules.objectives.pairs import ESTIMATORS

__all__ = ["PRESETS", "VM3AC"]


@dataclass(frozen=True, kw_only=True)
class VM3AC(SharedLatent):
    """VM3-AC in the paper's form."""

    predictor_scale: float | str = option(
        0.2,
        "standard deviation of the predictor",
        unit="half ranges of the action",
        above=0,
        choices=("learned",),
    )
    predictor_normalized: bool = option(
        False, "include the density's normalizer, a constant per step, in the bonus"
    )
    predictor_components: int = option(1, "Gaussians of the predictor's mixture", least=1)
    predictor_share_params: bool = option(False, "one predictor for all agents")
    predictor_lr: float | None = option(
        None, "learning rate of the predictor; null: that of the policies", above=0
    )
    pair_weight: str = option(
        "paper",
        "weight of the sum over partners: 1/N, or 1/(N - 1)",
        choices=("paper", "mean"),
        source="Eq. (11)",
    )
    reverse_model: str = option(
        "own",
        "whose model predicts agent i from j; partner costs half",
        choices=("own", "partner"),
        source="Eq. (50)",
    )
    estimator: str = option(
        "barber_agakov",
        "of the mutual information; all but the first need num_latents >= 1, 2, 2",
        choices=ESTIMATORS,
        source="Eq. (6)",
    )
    pairs: int | None = option(
        None,
        "partners of every agent, drawn anew per transition, that enter the sum over partners; "
        "null: all N - 1",
        least=1,
    )

    def build(self, plan: Plan) -> Agent:
        """VM3-AC, with or without a latent."""
        policy = self.latent_policy(plan)
        predictor = VariationalPredictor(
            plan.sizes.obs_dim,
            plan.action_spec,
            scale=cast("Any", self.predictor_scale),
            num_components=self.predictor_components,
            normalized=self.predictor_normalized,
            share_params=self.predictor_share_params,
            keys=plan.keys,
            **self.net_options(plan, shared=False),
        )
        names = ("policy_q", "beta", "num_latents", "pair_weight", "reverse_model", "estimator")
        options = self.loss_options(plan, *names, "pairs") | self.latent_options(plan)
        loss = VM3ACLoss(policy, *self.critics(plan, self.held_dim), predictor, **options)
        rates = {"loss_predictor": self.predictor_lr}
        agent = self.agent(plan, policy, loss, rates=rates, **self.transforms(policy))
        return self.with_learner(plan, agent)


PAPER = VM3AC()
LEARNED_SCALE = replace(PAPER, predictor_scale="learned", predictor_normalized=True)
TIGHT = replace(LEARNED_SCALE, num_latents=16, latent_gain=3.0)

PRESETS = {
    "vm3ac": Preset(PAPER, "the paper's form: conditional entropy (K = 0), predictor of scale 0.2"),
    "vm3ac_tight": Preset(
        TIGHT, "marginal entropy from below (K = 16), learned scale, latent's first weights times 3"
    ),
    "vm3ac_no_latent": Preset(replace(PAPER, prior=None), "no latent: independent policies"),
    "vm3ac_k16": Preset(
        replace(PAPER, num_latents=16),
        "the entropy of the mixture over K = 16 extra latents (one part of vm3ac_tight)",
    ),
    "vm3ac_learned_scale": Preset(
        LEARNED_SCALE,
        "the predictor learns its scale, its normalizer included (one part of vm3ac_tight)",
    ),
    "vm3ac_basin": Preset(
        replace(PAPER, latent_gain=3.0),
        "the latent's first weights times 3 (one part of vm3ac_tight)",
    ),
    "vm3ac_mixture": Preset(
        replace(LEARNED_SCALE, predictor_components=4),
        "the predictor is a mixture of four Gaussians (against vm3ac_learned_scale)",
    ),
    "vm3ac_shared": Preset(
        replace(PAPER, share_params=True, predictor_share_params=True),
        "all agents share policy, critics and predictor",
    ),
    "vm3ac_attention": Preset(
        replace(PAPER, critic="attention"), "critics attend to the other agents, for many agents"
    ),
    "vm3ac_pair_mean": Preset(
        replace(PAPER, pair_weight="mean"), "pairs are weighed by 1/(N - 1) instead of 1/N"
    ),
    "vm3ac_auto_entropy": Preset(
        replace(PAPER, auto_beta="entropy"),
        "beta is learned so that the entropy stays at minus the number of action dimensions",
    ),
    "vm3ac_auto_bonus": Preset(
        replace(TIGHT, auto_beta="bonus", beta_target=0.5),
        "vm3ac_tight with beta learned so that the bonus per beta stays at 0.5 nats",
    ),
}
