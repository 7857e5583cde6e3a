"""VDAC: advantages of a decomposed state value.

Source: Su et al. 2021, "Value-Decomposition Multi-Agent Actor-Critics", arXiv:2007.12306.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vm3ac_modules.algorithms.base import Plan, Preset, option
from vm3ac_modules.algorithms.episodes import EpisodeAlgorithm
from vm3ac_modules.algorithms.searched import best
from vm3ac_modules.baselines import VDACLoss
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.sources import OnPolicy
from vm3ac_modules.nn import QMixer, ValueHead

__all__ = ["PRESETS", "VDAC"]


@dataclass(frozen=True, kw_only=True)
class VDAC(EpisodeAlgorithm):
    """VDAC."""

    epsilon_start: float = 0.5
    epsilon_end: float = 0.01
    epsilon_frames: int = 100_000
    lam: float = option(0.8, "weight of the lambda-return", least=0, most=1)
    mixer: str = option(
        "qmix", "how agents' values are joined: monotone network, or sum", choices=("qmix", "sum")
    )
    value_weight: float = option(0.1, "weight of the value's loss", least=0)
    entropy_weight: float = option(0.0, "weight of the policies' entropy", least=0)

    def build(self, plan: Plan) -> Agent:
        """VDAC."""
        sizes = plan.sizes
        assert sizes.state_dim is not None
        actor = self.actor(plan)
        mixer = QMixer(sizes.state_dim, sizes.num_agents) if self.mixer == "qmix" else None
        values = ValueHead(
            self.hidden_size, sizes.num_agents, mixer, share_params=self.share_params
        )
        names = ("lam", "value_weight", "entropy_weight")
        loss = VDACLoss(actor, values, **self.loss_options(plan, *names))
        return self.agent(plan, actor, loss, source=OnPolicy)


PRESETS = {
    "vdac": Preset(VDAC(), "advantages of a decomposed state value, on policy"),
    "vdac_cpu": Preset(
        replace(VDAC(), **best("vdac", loop=False)),
        "the same with the searched setting of the highest return; none of them won",
    ),
}
