"""What an environment must be for the recipes, checked where it enters."""

from __future__ import annotations

import torch
from tensordict.utils import NestedKey
from torchrl.data import Bounded, Composite, TensorSpec
from torchrl.data.tensor_specs import Stacked, StackedComposite
from torchrl.envs import EnvBase

from vm3ac_modules.keys import Keys

__all__ = ["check_homogeneous_continuous"]


def check_homogeneous_continuous(
    env: EnvBase, group: str = "agents", *, dtypes: bool = True
) -> None:
    """Check that the agents of a group have the same sizes and bounded continuous actions.

    Args:
        env: any environment.
        group: the group of agents.
        dtypes: also that what networks read is of torch's default float type.

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
    state = env.full_observation_spec.get(Keys(group).state, None)
    if state is not None:
        check_vectors(env, Keys(group).state, state, 1)
    if dtypes:
        check_dtypes(env, group)
    assert action is not None  # for the type checker: checked just above
    if not isinstance(action, Bounded) or not action.dtype.is_floating_point:
        kind = f"{type(action).__name__} of {action.dtype}"
        raise ValueError(
            f"({group!r}, 'action') is {kind}, not a bounded continuous action; give the "
            "environment a Bounded action_spec with finite bounds (VMAS: continuous_actions=True)"
        )
    if not bool(action.space.low.isfinite().all() & action.space.high.isfinite().all()):
        raise ValueError(
            f"({group!r}, 'action') has an infinite bound, but squashed policies need finite ones; "
            "give the environment a finite action_spec of its own (torchrl.data.Bounded)"
        )
    for name, spec in (("action", action), ("observation", observation)):
        check_vectors(env, (group, name), spec, 2)


def _check_same_size(group: str, name: str, spec: TensorSpec | None) -> None:
    key = f"({group!r}, {name!r})"
    if spec is None:
        raise ValueError(
            f"the environment has no {key}; rename its entry with RenameTransform, "
            "or join several into one tensor under that name (CatTensors)"
        )
    if isinstance(spec, (Stacked, StackedComposite)) or -1 in spec.shape:
        raise ValueError(
            f"the agents of group {group!r} differ in the size of their {name}; pad them to one "
            "size in an environment of your own (python:...), whose group holds agents that are "
            "alike, and let it play the others"
        )
    if isinstance(spec, Composite):
        raise ValueError(
            f"{key} is a dictionary of {sorted(map(str, spec.keys()))}; rename it "
            "(RenameTransform), then join its entries into one tensor under this name "
            "(CatTensors), or look for an option of the scenario"
        )


def check_vectors(env: EnvBase, key: NestedKey, spec: TensorSpec | None, dims: int) -> None:
    """Check that an entry is a vector per agent ``[*B, N, X]``, or per row ``[*B, X]`` (dims 1)."""
    assert spec is not None
    shape = list(spec.shape)
    if len(shape) != len(env.batch_size) + dims or 0 in shape[-1:]:
        wanted = "[*B, agents, size]" if dims == 2 else "[*B, size]"
        raise ValueError(
            f"{key!r} has shape {shape} in an environment of batch {list(env.batch_size)}, but a "
            f"vector is needed, {wanted} with a size of at least 1: flatten images and scalars "
            "(torchrl.envs.FlattenObservation, UnsqueezeTransform)"
        )


def wrong_dtypes(env: EnvBase, group: str = "agents") -> dict[NestedKey, torch.dtype]:
    """Entries of networks that are not of torch's default float type, continuous actions too."""
    keys, dtype = Keys(group), torch.get_default_dtype()
    places = {
        keys.observation: env.full_observation_spec,
        keys.state: env.full_observation_spec,
        keys.reward: env.full_reward_spec,
    }
    found: dict[NestedKey, torch.dtype] = {}
    for key, spec in places.items():
        if key in spec.keys(True) and spec[key].dtype not in (None, dtype):
            found[key] = spec[key].dtype
    actions = env.full_action_spec
    own = actions[keys.action].dtype if keys.action in actions.keys(True) else None
    if own is not None and own.is_floating_point and own is not dtype:
        found[keys.action] = own
    return found


def check_dtypes(env: EnvBase, group: str = "agents") -> None:
    """Refuse entries of another float type than the networks', in a sentence that names them."""
    for key, found in wrong_dtypes(env, group).items():
        wanted = torch.get_default_dtype()
        how = (
            f"in_keys=[], in_keys_inv=[{key!r}]"
            if key == Keys(group).action
            else f"in_keys=[{key!r}]"
        )
        raise ValueError(
            f"{key!r} is {found}, but networks compute in {wanted}; append "
            f"torchrl.envs.DTypeCastTransform({found}, {wanted}, {how})"
        )
    ends = (env.full_done_spec[key] for key in env.done_keys)
    for key, spec in zip(env.done_keys, ends, strict=True):
        if spec.dtype is not torch.bool:
            raise ValueError(f"{key!r} is {spec.dtype}, but an end is a flag, torch.bool")


def check_layout(env: EnvBase, num_envs: int, group: str = "agents") -> None:
    """Check that an environment has the rows, the one group and the end flags of ``make_env``."""
    if tuple(env.batch_size) != (num_envs,):
        raise ValueError(
            f"the environment has batch size {list(env.batch_size)}, not [{num_envs}]; "
            "simulate num_envs rows, also where num_envs is 1"
        )
    # Other float types are cast where a task is made.
    check_homogeneous_continuous(env, group, dtypes=False)
    groups = [str(key) for key in env.full_action_spec.keys()]  # noqa: SIM118
    if groups != [group]:
        raise ValueError(
            f"the environment acts in the groups {groups}, but only {group!r} is trained; put all "
            "agents in it"
        )
    agents = env.full_action_spec[group]["action"].shape[1]
    _check_shape(env.full_reward_spec, Keys(group).reward, (num_envs, agents, 1))
    for key in (Keys().done, Keys().terminated):
        _check_shape(env.full_done_spec, key, (num_envs, 1))
    seen = [str(key) for key in env.full_observation_spec.keys()]  # noqa: SIM118
    ours = [key for key in (Keys().step_count, Keys().episode) if key in seen]
    if ours:
        raise ValueError(
            f"the environment writes {ours} itself, which make_env adds; leave that out "
            "(StepCounter) and give the time limit to make_env(..., max_steps=...), or write under "
            "another name"
        )


def _check_shape(spec: Composite, key: NestedKey, shape: tuple[int, ...]) -> None:
    found = {str(name): list(spec[name].shape) for name in spec.keys(True, True)}
    if found.get(str(key)) != list(shape):
        raise ValueError(
            f"the environment needs {key} of shape {list(shape)}, but it has {found}; rewards are "
            "one per agent, and end flags one per row at the root"
        )
