"""Every algorithm's knobs: the library's one table of presets.

The recipes' YAML repeats them with a comment per knob (a test keeps the two equal).

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2; docs/readings.md where the
paper is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ALGORITHMS", "COMMON", "fill_in", "resolve_knobs"]

COMMON: dict[str, Any] = {
    "beta": 0.1,
    "latent_dim": 8,
    "gamma": 0.99,
    "lr": 3e-4,
    "tau": 0.005,
    "reward_scale": 1.0,
    "critic": "emphasized",
    "critic_input": "observations",
    "hidden": [128, 128],
    "share_params": False,
}
"""Knobs of every algorithm: Table 1, and docs/readings.md where the paper is silent.

``beta`` and ``latent_dim`` belong to a task, so every algorithm takes them; those without an
entropy or mutual-information term have no use for ``beta``, those without a latent none for
``latent_dim`` (MAVEN's one-hot latent has that many outcomes).
"""

_ACTOR_CRITIC: dict[str, Any] = {"policy_q": "first", "log_std": "clamp"}
_TEMPERATURE: dict[str, Any] = {"auto_beta": None, "beta_target": None, "beta_lr": 3e-4}
_VM3AC: dict[str, Any] = {
    "prior": "gaussian",
    "latent_gain": 1.0,
    "num_latents": 0,
    "predictor_scale": 0.2,
    "predictor_normalized": False,
    "predictor_components": 1,
    "predictor_share_params": False,
    "predictor_lr": None,
    "pair_weight": "paper",
    "reverse_model": "own",
    **_TEMPERATURE,
    **_ACTOR_CRITIC,
}
_LEARNED_SCALE = {"predictor_scale": "learned", "predictor_normalized": True}
_TIGHT = {
    "num_latents": 16,
    **_LEARNED_SCALE,
    "latent_gain": 3.0,
}
_VARIANTS: dict[str, dict[str, Any]] = {
    "vm3ac_k16": {"num_latents": 16},
    "vm3ac_learned_scale": _LEARNED_SCALE,
    "vm3ac_basin": {"latent_gain": 3.0},
    "vm3ac_mixture": {"predictor_components": 4, **_LEARNED_SCALE},
    "vm3ac_shared": {"share_params": True, "predictor_share_params": True},
    "vm3ac_attention": {"critic": "attention"},
    "vm3ac_pair_mean": {"pair_weight": "mean"},
    "vm3ac_auto_entropy": {"auto_beta": "entropy"},
    "vm3ac_auto_bonus": {**_TIGHT, "auto_beta": "bonus", "beta_target": 0.5},
}

ALGORITHMS: dict[str, dict[str, Any]] = {
    "vm3ac": _VM3AC,
    "vm3ac_tight": {**_VM3AC, **_TIGHT},
    "vm3ac_no_latent": {**_VM3AC, "prior": None},
    **{name: {**_VM3AC, **changes} for name, changes in _VARIANTS.items()},
    "ma_ac": _ACTOR_CRITIC,
    "ma_sac": {**_TEMPERATURE, **_ACTOR_CRITIC},
    "maddpg": {"exploration_noise": 0.1},
    "maven": {
        **_ACTOR_CRITIC,
        "mi_weight": 0.1,
        "mi_mode": "policy",
        "latent_policy": "learned",
        "latent_entropy_weight": 0.01,
        "latent_episodes": 8,
        "latent_lr": 3e-4,
    },
    "si_moa": {
        **_ACTOR_CRITIC,
        "influence_weight": 0.1,
        "influence_start_frames": 10_000,
        "influence_full_frames": 50_000,
        "num_counterfactuals": 16,
        "moa_sigma": 0.5,
        "influence_form": "moments",
    },
}
"""Preset of every algorithm: its own knobs beside the common ones."""


def resolve_knobs(algorithm: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in an algorithm's preset.

    Args:
        algorithm: name of the algorithm.
        knobs: the knobs that differ from the preset.

    Returns:
        Every knob of the algorithm.

    Raises:
        ValueError: for an unknown algorithm or knob; names the valid ones.

    Example:
        >>> resolve_knobs("vm3ac", {"beta": 0.15})["beta"]
        0.15
    """
    return fill_in(algorithm, knobs, COMMON, ALGORITHMS)


def fill_in(
    algorithm: str,
    knobs: Mapping[str, Any],
    common: Mapping[str, Any],
    presets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Common knobs, an algorithm's preset over them, and over both what is given.

    Args:
        algorithm: name of the algorithm.
        knobs: the knobs that differ from the preset.
        common: knobs of every algorithm.
        presets: own knobs of each, by name.

    Returns:
        Every knob of the algorithm.

    Raises:
        ValueError: for an unknown algorithm or knob; names the valid ones.

    Example:
        >>> fill_in("a", {"x": 3}, {"x": 1, "y": 1}, {"a": {"y": 2}})
        {'x': 3, 'y': 2}
    """
    if algorithm not in presets:
        raise ValueError(f"unknown algorithm {algorithm!r}; valid: {', '.join(presets)}.")
    preset = {**common, **presets[algorithm]}
    unknown = sorted(set(knobs) - set(preset))
    if unknown:
        raise ValueError(
            f"unknown knob(s) {', '.join(unknown)} for algorithm {algorithm!r}; valid: "
            f"{', '.join(preset)}."
        )
    return {**preset, **knobs}
