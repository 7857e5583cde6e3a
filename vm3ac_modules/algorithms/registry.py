"""One way to every algorithm: a name and an environment in, a trainable agent out.

Algorithms are told apart by their name and the kind of action. Every module of this package with
``PRESETS`` is found, so a new algorithm is a file of its own; so is what other installed packages
name as entry points, and :func:`register` adds one while a program runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import Any, get_args

import torch
from torchrl.envs import EnvBase

import vm3ac_modules.algorithms
from vm3ac_modules.algorithms.base import Algorithm, Kind, Plan, Preset
from vm3ac_modules.envs.checks import check_homogeneous_continuous
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.policy import Sizes
from vm3ac_modules.options import OptionsError, meant

__all__ = ["build", "build_from", "find_preset", "group_sizes", "presets", "register"]

ENTRY_POINTS = "vm3ac_modules.algorithms"
"""Entry points of installed packages by this name are algorithms: a :class:`Preset` each."""
_REGISTERED: dict[tuple[Kind, str], Preset] = {}


@cache
def _own() -> dict[tuple[Kind, str], Preset]:
    found = {}
    for module in pkgutil.iter_modules(vm3ac_modules.algorithms.__path__):
        loaded = importlib.import_module(f"vm3ac_modules.algorithms.{module.name}")
        for name, preset in getattr(loaded, "PRESETS", {}).items():
            found[preset.options.kind, name] = preset
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        preset = entry.load()
        if found.setdefault((preset.options.kind, entry.name), preset) is not preset:
            raise ValueError(f"{entry.value}: there is an algorithm {entry.name!r} already.")
    return found


def register(name: str, preset: Preset) -> None:
    """Register an algorithm of your own under a name.

    Args:
        name: its name.
        preset: its options and a line on what it is.

    Raises:
        ValueError: if there is another algorithm of that name for the same kind of actions.
    """
    key = (preset.options.kind, name)
    if key in _own() or key in _REGISTERED:
        raise ValueError(f"there is an algorithm {name!r} for {key[0]} actions already.")
    _REGISTERED[key] = preset


def presets(kind: Kind) -> dict[str, Preset]:
    """Every algorithm for a kind of actions, by name.

    Args:
        kind: ``"continuous"`` or ``"discrete"``.

    Example:
        >>> [name for name in sorted(presets("discrete")) if not name.endswith("_cpu")]
        ['dop', 'fop', 'lica', 'maven', 'vdac', 'vm3ac']
    """
    return {name: p for (of, name), p in {**_own(), **_REGISTERED}.items() if of == kind}


def find_preset(name: str, kind: Kind) -> Preset:
    """An algorithm by name.

    Args:
        name: its name.
        kind: kind of actions.

    Raises:
        OptionsError: if there is none; says which there are, and for which actions.
    """
    known = presets(kind)
    if name in known:
        return known[name]
    valid = f"valid for {kind} actions: {', '.join(known)}"
    for other in get_args(Kind):
        if name in presets(other):
            raise OptionsError(f"{name} is for {other} actions; {valid}.")
    raise OptionsError(f"unknown algorithm {name!r}{meant(name, known)}; {valid}.")


def group_sizes(env: EnvBase, keys: Keys) -> Sizes:
    """Read the sizes of a group of agents from an environment's specs.

    Args:
        env: the environment.
        keys: names the group.

    Returns:
        The sizes.

    Raises:
        ValueError: if the group is not homogeneous; if continuous actions are not bounded; if
            there is no state or no mask of legal actions where actions are discrete.
    """
    specs = env.observation_spec
    present = set(specs.keys(True, True))
    action = env.full_action_spec.get(keys.action, None)
    if action is None or action.dtype.is_floating_point:
        check_homogeneous_continuous(env, keys.group)
        num_agents, obs_dim = specs[keys.observation].shape[-2:]
        state = specs[keys.state].shape[-1] if keys.state in present else None
        actions = env.full_action_spec[keys.action].shape[-1]
        return Sizes(num_agents, obs_dim, actions, state_dim=state)
    missing = [k for k in (keys.observation, keys.action_mask, keys.state) if k not in present]
    if missing:
        raise ValueError(
            f"the environment has no entry {missing[0]}: discrete algorithms need observations, a "
            "mask of legal actions and a state (see vm3ac_modules.envs.SMAXEnv)."
        )
    num_agents, num_actions = specs[keys.action_mask].shape[-2:]
    obs_dim, state_dim = specs[keys.observation].shape[-1], specs[keys.state].shape[-1]
    return Sizes(num_agents, obs_dim, num_actions, discrete=True, state_dim=state_dim)


def build(
    algorithm: str,
    env: EnvBase,
    *,
    keys: Keys | None = None,
    device: torch.device | str = "cpu",
    seeds: int = 1,
    **options: Any,
) -> Agent:
    """Build an algorithm for an environment, of continuous or discrete actions.

    Args:
        algorithm: its name, see :func:`presets`.
        env: an environment with a homogeneous group of agents.
        keys: the tensordict vocabulary.
        device: where the networks live.
        seeds: number of independent runs S to train at once (continuous actions only); the
            environment then has ``S * B`` rows, seed by seed, and the loss takes ``[S, B]``.
        options: what differs from the preset.

    Returns:
        The agent.

    Raises:
        OptionsError: for an unknown algorithm or option, or a value that is not allowed.
        ValueError: for an environment that does not fit, or a number of seeds that does not.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs import make_env
        >>> agent = build("vm3ac", make_env("predator_prey_2", 4, seed=0), beta=0.15)
        >>> list(agent.optimizers)
        ['loss_actor', 'loss_qvalue', 'loss_value', 'loss_predictor']
    """
    keys = Keys() if keys is None else keys
    sizes = group_sizes(env, keys)
    preset = find_preset(algorithm, "discrete" if sizes.discrete else "continuous")
    chosen = preset.options.changed(options, algorithm)
    return build_from(chosen, env, name=algorithm, keys=keys, device=device, seeds=seeds)


def build_from(
    options: Algorithm,
    env: EnvBase,
    *,
    name: str,
    keys: Keys | None = None,
    device: torch.device | str = "cpu",
    seeds: int = 1,
) -> Agent:
    """Build the algorithm that these options belong to.

    Args:
        options: every option.
        env: an environment with a homogeneous group of agents.
        name: what the agent's algorithm is called.
        keys: the tensordict vocabulary.
        device: where the networks live.
        seeds: number of independent runs to train at once.

    Returns:
        The agent.

    Raises:
        ValueError: for an environment or a number of seeds that does not fit.
    """
    keys = Keys() if keys is None else keys
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}.")
    if seeds > 1 and options.kind == "discrete":
        raise ValueError(f"{name} trains one seed at a time, got seeds={seeds}.")
    sizes, spec = group_sizes(env, keys), env.full_action_spec[keys.action]
    agent = options.build(Plan(sizes, spec, keys, seeds, torch.device(device)))
    return replace(agent, algorithm=name)
