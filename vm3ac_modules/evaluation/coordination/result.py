"""The measured coordination of a policy, and its form in JSON.

Shapes: ``N`` agents, ``A`` action, ``P = N A`` components of the joint action.

Source: Kim et al. 2023, arXiv:2303.00451, Eqs. (5)-(8); docs/metrics.md for every quantity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vm3ac_modules.functional import Dependence, largest_canonical_correlation

__all__ = ["Coordination"]


@dataclass(frozen=True)
class Coordination:
    """The measured coordination of a policy; None where there is nothing to measure.

    Args:
        num_agents: N.
        states: states that were looked at.
        draws: joint actions drawn in each; None where all outcomes were enumerated.
        num_latents: extra latents K of the estimates; None where enumerated.
        lower: mutual information of every pair from below, ``[N, N]``, zero diagonal.
        upper: the same from above; enumerated, both are the exact value.
        lower_error: standard error over states, ``[N, N]``.
        upper_error: the same of the upper side, that of the agent who follows the latent less.
        ceiling: most nats that the estimates can reach.
        latent_information: information of each agent's action about the latent, from above,
            ``[N]``.
        latent_share: share rho of each agent's action variance that is the latent's, ``[N]``.
        correlation: action correlation given the state, ``[P, P]``; of discrete actions the
            normalized information, ``[N, N]``.
        independent: the same with a latent of its own for every agent: what is left is noise.
        note: why something is missing.
    """

    num_agents: int
    states: int = 0
    draws: int | None = None
    num_latents: int | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None
    lower_error: Tensor | None = None
    upper_error: Tensor | None = None
    ceiling: float | None = None
    latent_information: Tensor | None = None
    latent_share: Tensor | None = None
    correlation: Dependence | None = None
    independent: Dependence | None = None
    note: str = ""

    def summary(self) -> dict[str, Any]:
        """All of it as JSON takes it: nested lists, null for what is undefined, axis labels."""
        size = 0 if self.correlation is None else len(self.correlation.matrix)
        agents = [f"agent {i}" for i in range(self.num_agents)]
        each = size // self.num_agents
        exact = self.states > 0 and self.draws is None
        actions = [f"{agent} action {a}" for agent in agents for a in range(each)]
        return {
            "states": self.states,
            "draws": self.draws,
            "num_latents": self.num_latents,
            "exact": exact,
            "agents": agents,
            "components": agents if exact else actions,
            "mi_lower_bound": _plain(self.lower),
            "mi_lower_bound_error": _plain(self.lower_error),
            "mi_upper_bound": _plain(self.upper),
            "mi_upper_bound_error": _plain(self.upper_error),
            "mi_lower_bound_ceiling": self.ceiling,
            "latent_information": _plain(self.latent_information),
            "latent_share": _plain(self.latent_share),
            "common": self._correlations(self.correlation),
            "independent": self._correlations(self.independent),
            "note": self.note or None,
        }

    def _correlations(self, found: Dependence | None) -> dict[str, Any] | None:
        if found is None:
            return None
        return {
            "action_correlation": _plain(found.matrix),
            "action_correlation_error": _plain(found.error),
            "agent_correlation": _plain(
                largest_canonical_correlation(found.matrix, self.num_agents)
            ),
        }


def _plain(values: Tensor | None) -> Any:
    """Nested lists; None for what is not a number, and for all if nothing is."""
    if values is None:
        return None

    def plain(x: Any) -> Any:
        if isinstance(x, list):
            return [plain(part) for part in x]
        return x if math.isfinite(x) else None

    return plain(values.tolist())
