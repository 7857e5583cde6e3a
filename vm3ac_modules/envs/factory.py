"""``make_env``: every environment by name, with the same keys and the same time limit."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torchrl.data import Bounded, Composite, TensorSpec
from torchrl.data.tensor_specs import Stacked, StackedComposite
from torchrl.envs import Compose, EnvBase, StepCounter, TransformedEnv

from vm3ac_modules.envs.transforms import AgentInfoToRoot, EpisodeCounter
from vm3ac_modules.keys import Keys, require_extra

__all__ = [
    "available_environments",
    "check_homogeneous_continuous",
    "make_env",
    "vmas_scenarios",
]

# (N, M, C) of Kim et al. (2023), arXiv:2303.00451.
PREDATOR_PREY: dict[str, dict[str, int]] = {
    "predator_prey_2": {"num_agents": 2, "num_preys": 16, "captures_needed": 1},
    "predator_prey_3": {"num_agents": 3, "num_preys": 16, "captures_needed": 1},
    "predator_prey_4": {"num_agents": 4, "num_preys": 16, "captures_needed": 2},
}
VMAS_PREFIX = "vmas/"


def make_env(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    max_steps: int = 100,
    **kwargs: Any,
) -> TransformedEnv:
    """Build an environment by name.

    Every environment has one group ``"agents"`` of ``N`` agents and these entries:
    ``("agents", "observation")`` ``[B, N, O]``, ``("agents", "action")`` ``[B, N, A]``,
    ``("agents", "reward")`` ``[B, N, 1]``; ``"done"``, ``"terminated"``, ``"truncated"``,
    ``"step_count"`` and ``"episode"`` ``[B, 1]``; metrics under ``"info"``; and ``"state"``
    ``[B, S]`` where the task has one. The time limit truncates and never terminates.

    Args:
        name: ``"predator_prey_2"``, ``"predator_prey_3"``, ``"predator_prey_4"``, or
            ``"vmas/<scenario>"`` for a scenario of VMAS.
        num_envs: number of rows simulated at once, ``B``.
        device: device of the simulation.
        seed: seed of the environment's own streams; without one it is drawn from torch's default
            generator.
        max_steps: time limit.
        **kwargs: options of the scenario, e.g. ``growth="double"``.

    Returns:
        The environment, with batch size ``[B]``.

    Raises:
        ValueError: unknown name or option, or agents that are not alike and continuous.
        ImportError: the simulator is not installed; names the extra to install.

    Example:
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", num_envs=8, seed=0)
        >>> env.rollout(3)["next", "agents", "reward"].shape
        torch.Size([8, 3, 2, 1])
    """
    if num_envs < 1:
        raise ValueError(f"make_env: num_envs must be at least 1, got {num_envs}")
    if max_steps < 1:
        raise ValueError(f"make_env: max_steps must be at least 1, got {max_steps}")
    if name not in PREDATOR_PREY and not name.startswith(VMAS_PREFIX):
        raise _unknown(name)
    require_extra("vmas", "vmas", f"make_env({name!r})")
    if name not in available_environments():
        raise _unknown(name)
    # After the check, so that a missing simulator is reported as such.
    from vm3ac_modules.envs.vmas import VMASEnv

    if name in PREDATOR_PREY:
        from vm3ac_modules.envs.scenarios.predator_prey import PredatorPrey

        scenario: Any = PredatorPrey()
        kwargs = {**PREDATOR_PREY[name], **kwargs}
    else:
        scenario = name.removeprefix(VMAS_PREFIX)
    base = VMASEnv(scenario, num_envs=num_envs, device=device, seed=seed, **kwargs)
    check_homogeneous_continuous(base, Keys().group)
    transforms = Compose(
        AgentInfoToRoot(Keys().group),
        StepCounter(max_steps),
        EpisodeCounter(base.batch_size),
    )
    return TransformedEnv(base, transforms.to(base.device))


def _unknown(name: str) -> ValueError:
    names = ", ".join(available_environments())
    hint = "" if find_spec("vmas") else " (vmas/<scenario> once the extra 'vmas' is installed)"
    return ValueError(f"make_env: unknown environment {name!r}; valid names: {names}{hint}")


def vmas_scenarios() -> list[str]:
    """Names of the scenarios that the installed VMAS brings; empty where it is not installed.

    Read from the files, since importing each would be slow.

    Example:
        >>> from vm3ac_modules.envs.factory import vmas_scenarios
        >>> "balance" in vmas_scenarios()
        True
    """
    spec = find_spec("vmas")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "scenarios"
    return sorted({path.stem for path in folder.rglob("*.py")} - {"__init__"})


def available_environments() -> list[str]:
    """All names that :func:`make_env` takes here.

    Example:
        >>> from vm3ac_modules.envs import available_environments
        >>> available_environments()[:2]
        ['predator_prey_2', 'predator_prey_3']
    """
    return [*PREDATOR_PREY, *(VMAS_PREFIX + name for name in vmas_scenarios())]


def check_homogeneous_continuous(env: EnvBase, group: str = "agents") -> None:
    """Check that the agents of a group have the same sizes and bounded continuous actions.

    Args:
        env: any environment.
        group: the group of agents.

    Raises:
        ValueError: says what is wrong, where, and what to do.

    Example:
        >>> from vm3ac_modules.envs import check_homogeneous_continuous, make_env
        >>> check_homogeneous_continuous(make_env("predator_prey_2", num_envs=1))
    """
    groups = [str(key) for key in env.full_action_spec.keys()]  # noqa: SIM118
    if group not in groups:
        raise ValueError(f"no group {group!r} in {env}: its groups are {groups}; name one of them")
    action = env.full_action_spec[group]
    action = action.get("action", None) if isinstance(action, Composite) else None
    observation = env.full_observation_spec.get(group, None)
    if isinstance(observation, Composite):
        observation = observation.get("observation", None)
    for name, spec in (("action", action), ("observation", observation)):
        _check_same_size(group, name, spec)
    assert action is not None  # for the type checker: checked just above
    if not isinstance(action, Bounded) or not action.dtype.is_floating_point:
        kind = f"{type(action).__name__} of {action.dtype}"
        raise ValueError(
            f"({group!r}, 'action') is {kind}, not a bounded continuous action; give the "
            "environment continuous actions with finite bounds (VMAS: continuous_actions=True)"
        )
    if not bool(action.space.low.isfinite().all() & action.space.high.isfinite().all()):
        raise ValueError(
            f"({group!r}, 'action') has an infinite bound, but squashed policies need finite ones; "
            "append a torchrl ActionScaling or clip the space of the wrapped environment"
        )


def _check_same_size(group: str, name: str, spec: TensorSpec | None) -> None:
    key = f"({group!r}, {name!r})"
    if spec is None:
        raise ValueError(f"the environment has no {key}; rename its entry with RenameTransform")
    if isinstance(spec, (Stacked, StackedComposite)) or -1 in spec.shape:
        raise ValueError(
            f"the agents of group {group!r} differ in the size of their {name}; pad them to one "
            "size, or put each kind of agent in a group of its own (group_map)"
        )
    if isinstance(spec, Composite):
        raise ValueError(
            f"{key} is a dictionary of {sorted(map(str, spec.keys()))}; join its entries into one "
            "tensor (CatTensors, or an option of the scenario)"
        )
