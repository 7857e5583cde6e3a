"""Priors of the shared latent: what can be drawn, and what the agents can agree on.

Source: Kim et al. 2023, "A Variational Approach to Mutual Information-Based Coordination for
Multi-Agent Reinforcement Learning", arXiv:2303.00451, Section 4 and Appendix H.
"""

from __future__ import annotations

from vm3ac_modules.priors.base import LatentPrior
from vm3ac_modules.priors.categorical import CategoricalPrior
from vm3ac_modules.priors.continuous import GaussianPrior, UniformPrior

__all__ = ["CategoricalPrior", "GaussianPrior", "LatentPrior", "UniformPrior"]
