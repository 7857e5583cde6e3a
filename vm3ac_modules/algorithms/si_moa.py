"""SI-MOA on MA-AC: agents are rewarded for influence on what the others do next.

Sources: Jaques et al. 2019, arXiv:1810.08647; Kim et al. 2023, arXiv:2303.00451, Section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.transitions import ActorCritic
from vm3ac_modules.baselines import NextAction, SIMOALoss, SocialInfluence
from vm3ac_modules.functional.influence import INFLUENCE_FORMS
from vm3ac_modules.functional.schedules import linear_schedule
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.hooks import Schedule
from vm3ac_modules.nn import NextActionNet
from vm3ac_modules.options import OptionsError

__all__ = ["PRESETS", "SIMOA"]


@dataclass(frozen=True, kw_only=True)
class SIMOA(ActorCritic):
    """Social influence with models of other agents."""

    influence_weight: float = option(
        0.1, "weight of the influence in the reward", unit="reward per nat", least=0
    )
    influence_start_frames: int = option(
        10_000, "until then the influence counts nothing", unit="environment steps", least=0
    )
    influence_full_frames: int = option(
        50_000, "from then on it counts in full", unit="environment steps", least=0
    )
    num_counterfactuals: int = option(16, "counterfactual actions of the marginal", least=1)
    moa_sigma: float = option(
        0.5, "standard deviation of the models of other agents", unit="half ranges", above=0
    )
    influence_form: str = option(
        "moments",
        "how the marginal over counterfactual actions is described",
        choices=INFLUENCE_FORMS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.influence_start_frames > self.influence_full_frames:
            raise OptionsError(
                "influence_start_frames must be between 0 and influence_full_frames, got "
                f"{self.influence_start_frames} and {self.influence_full_frames}."
            )

    def build(self, plan: Plan) -> Agent:
        """SI-MOA; a transform of the replay adds the next action."""
        sizes, keys = plan.sizes, plan.keys
        policy = self.actor(plan)
        dims = sizes.obs_dim, sizes.action_dim, sizes.num_agents
        models = NextActionNet(*dims, **self.net_options(plan, shared=False))
        names = ("influence_weight", "num_counterfactuals", "moa_sigma", "influence_form")
        options = self.loss_options(plan, "policy_q", *names)
        loss = SIMOALoss(policy, *self.critics(plan), models, **options)
        return self.agent(
            plan,
            policy,
            loss,
            hooks=[self.rising(loss)],
            replay_transforms=lambda: [NextAction(keys)],
            added_by_replay=(keys.next_action, keys.next_action_valid),
        )

    def rising(self, loss: SIMOALoss) -> Schedule:
        r"""The hook that raises the influence's weight while its models learn.

        .. math:: \lambda(t) = \lambda\, \mathrm{clip}((t - t_0) / (t_1 - t_0), 0, 1)
        """
        term, start = loss.term(SocialInfluence), self.influence_start_frames
        span = self.influence_full_frames - start
        ramp = partial(linear_schedule, start=0.0, end=float(term.weight), duration=span)
        term.weight.zero_()

        def law(frames: int) -> float:
            # The ramp is over before it begins if it has no length.
            return 0.0 if frames < start else ramp(frames - start)

        return Schedule(None, law, lambda: [term.weight], late=True)


PRESETS = {"si_moa": Preset(SIMOA(), "MA-AC with influence on the others' next actions rewarded")}
