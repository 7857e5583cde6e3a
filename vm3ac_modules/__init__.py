"""Coordination by mutual information: TorchRL/TensorDict components for VM3-AC.

Nothing is imported before it is asked for (PEP 562), so that the parts which need less than
torch, or an optional package, work where the rest is not installed.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

_EXPORTS: dict[str, str] = {
    "CategoricalPredictor": "vm3ac_modules.categorical_predictor",
    "CategoricalPrior": "vm3ac_modules.latent",
    "CentralizedActorCriticLoss": "vm3ac_modules.objectives",
    "GaussianPrior": "vm3ac_modules.latent",
    "Keys": "vm3ac_modules.keys",
    "LatentSampler": "vm3ac_modules.latent",
    "MAACLoss": "vm3ac_modules.objectives",
    "MASACLoss": "vm3ac_modules.objectives",
    "MutualInformationLoss": "vm3ac_modules.objectives",
    "UniformPrior": "vm3ac_modules.latent",
    "VM3ACLoss": "vm3ac_modules.objectives",
    "VariationalPredictor": "vm3ac_modules.predictor",
    "latent_at": "vm3ac_modules.latent",
    "make_action_value": "vm3ac_modules.critic",
    "make_actor": "vm3ac_modules.actor",
    "make_deterministic_actor": "vm3ac_modules.actor",
    "make_env": "vm3ac_modules.envs",
    "make_policy": "vm3ac_modules.actor",
    "make_state_value": "vm3ac_modules.critic",
}

__all__ = [*sorted(_EXPORTS), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return metadata.version("vm3ac-modules")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'vm3ac_modules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
