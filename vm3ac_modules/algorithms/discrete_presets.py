"""Knobs of the algorithms over discrete actions: the library's one table of presets.

The recipes' YAML repeats them with a comment per knob (a test keeps the two equal).

Sources: Kim et al. 2023, arXiv:2303.00451, Appendix G; the baselines' codes (docs/algorithms.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm3ac_modules.algorithms.presets import fill_in

__all__ = ["DISCRETE_ALGORITHMS", "DISCRETE_COMMON", "resolve_discrete_knobs"]

DISCRETE_COMMON: dict[str, Any] = {
    "gamma": 0.99,
    "lr": 5e-4,
    "reward_scale": 1.0,
    "hidden_size": 64,
    "share_params": True,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "epsilon_frames": 50_000,
    "target_interval": 200,
}
"""Knobs of every algorithm; the exploration floor falls over environment steps."""

_FOP: dict[str, Any] = {
    "lam": 0.8,
    "critic_hidden": [64, 64],
    "mixer_weights": "none",
    "unit_dim": None,
    "temperature_start": 0.5,
    "temperature_end": 0.05,
    "temperature_frames": 200_000,
    "temperature_schedule": "paper",
    "strict_soft": False,
    "mask_soft_values": False,
}

DISCRETE_ALGORITHMS: dict[str, dict[str, Any]] = {
    "vm3ac": {
        **_FOP,
        "latent_dim": 3,
        "num_latents": 0,
        "entropy_mix": 1.0,
        "exact_latent": False,
        "pair_weight": "paper",
        "predictor_embed": 32,
        "predictor_smoothing": 1e-3,
        "predictor_lr": None,
    },
    "fop": _FOP,
    "dop": {
        "lam": 0.8,
        "tree_backup_lam": 0.93,
        "tree_backup_steps": 5,
        "critic_hidden": [256, 256],
        "critic_lr": 1e-4,
        "epsilon_start": 0.5,
        "epsilon_frames": 500_000,
        "target_interval": 50,
    },
    "lica": {
        "lam": 0.8,
        "lr": 2.5e-3,
        "critic_lr": 5e-4,
        "entropy_weight": 0.06,
        "critic_embed": 64,
        "critic_bottleneck": None,
        "epsilon_start": 0.0,
        "epsilon_end": 0.0,
    },
    "vdac": {
        "lam": 0.8,
        "mixer": "qmix",
        "value_weight": 0.1,
        "entropy_weight": 0.0,
        "epsilon_start": 0.5,
        "epsilon_end": 0.01,
        "epsilon_frames": 100_000,
    },
    "maven": {
        "latent_dim": 16,
        "latent_policy": "learned",
        "latent_entropy_weight": 1e-3,
        "latent_episodes": 8,
        "latent_lr": 5e-4,
        "mi_weight": 0.01,
        "recurrent_discriminator": True,
    },
}
"""Preset of every algorithm: its own knobs beside the common ones, and those that it changes."""


def resolve_discrete_knobs(algorithm: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in an algorithm's preset.

    Args:
        algorithm: name of the algorithm.
        knobs: the knobs that differ from the preset.

    Returns:
        Every knob of the algorithm.

    Raises:
        ValueError: for an unknown algorithm or knob; names the valid ones.

    Example:
        >>> resolve_discrete_knobs("fop", {"lam": 0.6})["lam"]
        0.6
    """
    return fill_in(algorithm, knobs, DISCRETE_COMMON, DISCRETE_ALGORITHMS)
