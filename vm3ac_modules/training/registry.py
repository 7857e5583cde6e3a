"""One door to every algorithm: a name and an environment in, policy, loss and optimizers out.

Recipes, evaluation and notebooks build agents here and nowhere else. Presets are given in full;
the recipes' YAML repeats them with a comment per knob (a test keeps the two equal).

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase
from torchrl.objectives import LossModule
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.actor import make_actor, make_policy
from vm3ac_modules.critic import make_action_value, make_state_value
from vm3ac_modules.envs.factory import check_homogeneous_continuous
from vm3ac_modules.keys import Keys
from vm3ac_modules.latent import CategoricalPrior, GaussianPrior, LatentSampler, UniformPrior
from vm3ac_modules.objectives import MAACLoss, MASACLoss, VM3ACLoss
from vm3ac_modules.predictor import VariationalPredictor
from vm3ac_modules.training.target import FusedSoftUpdate

__all__ = ["ALGORITHMS", "Agent", "Sizes", "build", "group_sizes", "resolve_knobs"]

PRIORS: dict[str | None, Any] = {
    "gaussian": GaussianPrior,
    "uniform": UniformPrior,
    "categorical": CategoricalPrior,
}

COMMON: dict[str, Any] = {
    "beta": 0.1,
    "latent_dim": 8,
    "gamma": 0.99,
    "lr": 3e-4,
    "tau": 0.005,
    "reward_scale": 1.0,
    "critic": "emphasized",
    "critic_input": "observations",
    "policy_q": "first",
    "hidden": [128, 128],
    "share_params": False,
    "log_std": "clamp",
}
"""Knobs of every algorithm: Table 1, and docs/readings.md where the paper is silent.

``beta`` and ``latent_dim`` belong to a task, so every algorithm takes them; MA-AC has use for
neither, MA-SAC and VM3-AC without a latent for no ``latent_dim``.
"""

_VM3AC: dict[str, Any] = {
    "prior": "gaussian",
    "latent_gain": 1.0,
    "num_latents": 0,
    "predictor_scale": 0.2,
    "predictor_normalized": False,
    "predictor_share_params": False,
    "predictor_lr": None,
    "pair_weight": "paper",
    "reverse_model": "own",
}
_TIGHT = {
    "num_latents": 16,
    "predictor_scale": "learned",
    "predictor_normalized": True,
    "latent_gain": 3.0,
}

ALGORITHMS: dict[str, dict[str, Any]] = {
    "vm3ac": _VM3AC,
    "vm3ac_tight": {**_VM3AC, **_TIGHT},
    "vm3ac_no_latent": {**_VM3AC, "prior": None},
    "ma_ac": {},
    "ma_sac": {},
}
"""Preset of every algorithm: its own knobs beside the common ones."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a group of agents, read from an environment's specs."""

    num_agents: int
    obs_dim: int
    action_dim: int
    state_dim: int | None


@dataclass
class Agent:
    """What :func:`build` returns.

    Args:
        policy: the policy to collect with, latent sampler included.
        loss: the loss module over the same parameters.
        optimizers: one per loss key, over disjoint parameters.
        target_updater: call ``step()`` after the optimizers.
        algorithm: name of the algorithm.
        knobs: every knob, defaults included; JSON-serializable.
    """

    policy: TensorDictModuleBase
    loss: LossModule
    optimizers: dict[str, torch.optim.Optimizer]
    target_updater: TargetNetUpdater
    algorithm: str
    knobs: dict[str, Any]


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
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}; valid: {', '.join(ALGORITHMS)}.")
    preset = {**COMMON, **ALGORITHMS[algorithm]}
    unknown = sorted(set(knobs) - set(preset))
    if unknown:
        raise ValueError(
            f"unknown knob(s) {', '.join(unknown)} for algorithm {algorithm!r}; valid: "
            f"{', '.join(preset)}."
        )
    return {**preset, **knobs}


def group_sizes(env: EnvBase, keys: Keys) -> Sizes:
    """Read the sizes of a group of agents from an environment's specs.

    Args:
        env: the environment.
        keys: names the group.

    Returns:
        Number of agents and sizes of an observation, an action and the state (None without one).

    Raises:
        ValueError: if the group is not homogeneous, or its actions not bounded and continuous.
    """
    check_homogeneous_continuous(env, keys.group)
    num_agents, obs_dim = env.observation_spec[keys.observation].shape[-2:]
    has_state = keys.state in env.observation_spec.keys(True, True)
    return Sizes(
        num_agents=num_agents,
        obs_dim=obs_dim,
        action_dim=env.full_action_spec[keys.action].shape[-1],
        state_dim=env.observation_spec[keys.state].shape[-1] if has_state else None,
    )


def build(
    algorithm: str,
    env: EnvBase,
    *,
    keys: Keys | None = None,
    device: torch.device | str = "cpu",
    **knobs: Any,
) -> Agent:
    """Build an algorithm for an environment.

    Args:
        algorithm: ``"vm3ac"``, ``"vm3ac_tight"``, ``"vm3ac_no_latent"``, ``"ma_ac"`` or
            ``"ma_sac"``.
        env: an environment with a homogeneous group of agents with bounded continuous actions.
        keys: the tensordict vocabulary.
        device: where the networks live.
        knobs: what differs from the preset (:data:`COMMON`, :data:`ALGORITHMS`).

    Returns:
        Policy, loss, optimizers and target updater.

    Raises:
        ValueError: for an unknown algorithm or knob, or an environment that does not fit.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs import make_env
        >>> agent = build("vm3ac", make_env("predator_prey_2", 4, seed=0), beta=0.15)
        >>> list(agent.optimizers)
        ['loss_actor', 'loss_qvalue', 'loss_value', 'loss_predictor']
    """
    keys = Keys() if keys is None else keys
    resolved = resolve_knobs(algorithm, knobs)
    sizes = group_sizes(env, keys)
    action_spec = env.full_action_spec[keys.action]
    policy = _policy(resolved, sizes, action_spec, keys)
    loss = _loss(algorithm, resolved, policy, sizes, action_spec, keys)
    policy.to(device)
    loss.to(device)
    rates = {"loss_predictor": resolved.get("predictor_lr")}
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(parameters, lr=rates.get(name) or resolved["lr"], fused=True)
        for name, parameters in loss.parameter_groups().items()
    }
    return Agent(
        policy, loss, optimizers, FusedSoftUpdate(loss, tau=resolved["tau"]), algorithm, resolved
    )


def _policy(
    knobs: Mapping[str, Any], sizes: Sizes, action_spec: Any, keys: Keys
) -> TensorDictModuleBase:
    prior_name = knobs.get("prior")
    if prior_name is not None and prior_name not in PRIORS:
        raise ValueError(f"unknown prior {prior_name!r}; valid: {', '.join(map(str, PRIORS))}.")
    if knobs["latent_dim"] < 0:
        raise ValueError(f"latent_dim must not be negative, got {knobs['latent_dim']}.")
    latent_dim = knobs["latent_dim"] if prior_name is not None else 0
    actor = make_actor(
        sizes.obs_dim,
        latent_dim,
        action_spec,
        keys=keys,
        hidden=knobs["hidden"],
        share_params=knobs["share_params"],
        log_std=knobs["log_std"],
        latent_gain=knobs.get("latent_gain", 1.0),
    )
    if latent_dim == 0:
        return actor
    sampler = LatentSampler(PRIORS[prior_name](latent_dim), num_agents=sizes.num_agents, keys=keys)
    return make_policy(sampler, actor)


def _loss(
    algorithm: str,
    knobs: Mapping[str, Any],
    policy: TensorDictModuleBase,
    sizes: Sizes,
    action_spec: Any,
    keys: Keys,
) -> LossModule:
    q_value, value = _critics(knobs, sizes, keys)
    options: dict[str, Any] = {n: knobs[n] for n in ("gamma", "reward_scale", "policy_q")}
    options["keys"] = keys
    if algorithm == "ma_ac":
        return MAACLoss(policy, q_value, value, **options)
    if algorithm == "ma_sac":
        return MASACLoss(policy, q_value, value, beta=knobs["beta"], **options)
    predictor = VariationalPredictor(
        sizes.obs_dim,
        action_spec,
        scale=knobs["predictor_scale"],
        normalized=knobs["predictor_normalized"],
        hidden=knobs["hidden"],
        share_params=knobs["predictor_share_params"],
        keys=keys,
    )
    for name in ("beta", "num_latents", "pair_weight", "reverse_model"):
        options[name] = knobs[name]
    return VM3ACLoss(policy, q_value, value, predictor, **options)


def _critics(
    knobs: Mapping[str, Any], sizes: Sizes, keys: Keys
) -> tuple[TensorDictModuleBase, TensorDictModuleBase]:
    options = {
        "critic_input": knobs["critic_input"],
        "state_dim": sizes.state_dim,
        "form": knobs["critic"],
        "hidden": knobs["hidden"],
        "share_params": knobs["share_params"],
        "keys": keys,
    }
    q_value = make_action_value(sizes.obs_dim, sizes.action_dim, sizes.num_agents, **options)
    return q_value, make_state_value(sizes.obs_dim, sizes.num_agents, **options)
