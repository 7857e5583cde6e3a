"""One door to the algorithms over discrete actions: policy, loss and optimizers for whole episodes.

Source: Kim et al. 2023, arXiv:2303.00451, Appendix G.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.envs import Compose, EnvBase, StepCounter, Transform, TransformedEnv
from torchrl.objectives import HardUpdate, LossModule
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.algorithms.discrete_builders import (
    DISCRETE_BUILDERS,
    DiscreteBlueprint,
    DiscreteSizes,
)
from vm3ac_modules.algorithms.discrete_presets import resolve_discrete_knobs
from vm3ac_modules.baselines import MAVENDiscreteLoss
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.envs.transforms import EpisodeCounter
from vm3ac_modules.functional.schedules import constant_rate_schedule, linear_schedule
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.episodes import Round
from vm3ac_modules.learning.hooks import Hook, LatentPolicyLearner

__all__ = ["DiscreteAgent", "DiscreteSizes", "build_discrete", "discrete_sizes"]


@dataclass
class DiscreteAgent:
    """What :func:`build_discrete` returns.

    Args:
        policy: the policy to collect with, latent sampler included.
        greedy: the same without the exploration floor, for evaluations.
        actor: the part of it that carries the exploration floor and makes the primer.
        loss: the loss module over the same parameters.
        optimizers: one per loss key, over disjoint parameters.
        target_updater: copies the targets; None without any.
        algorithm: name of the algorithm.
        knobs: every knob, defaults included; JSON-serializable.
        hooks: what is to be called after every round of episodes.
        keys: the tensordict vocabulary.
        coefficients: exploration floor and temperature as last set.
    """

    policy: TensorDictModuleBase
    greedy: TensorDictModuleBase
    actor: Any
    loss: LossModule
    optimizers: dict[str, torch.optim.Optimizer]
    target_updater: TargetNetUpdater | None
    algorithm: str
    knobs: dict[str, Any]
    hooks: list[Hook] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)
    coefficients: dict[str, float] = field(default_factory=dict)

    @property
    def recorded(self) -> list[NestedKey]:
        """Entries of an episode that are stored: those that the loss reads, and the latent."""
        return [*self.loss.in_keys, *([self.keys.latent] if self.has_latent else [])]

    @property
    def has_latent(self) -> bool:
        """Whether the policy draws a latent at every step."""
        return self.keys.latent in self.policy.out_keys

    def wrap(self, env: EnvBase) -> TransformedEnv:
        """Add the transforms that the policy needs of every environment that it plays in.

        Args:
            env: an environment of battles; one that has transforms already is changed.

        Returns:
            The environment with an empty memory at every reset, and with the counters that
            synchronized latents are computed from.
        """
        parts: list[Transform] = [self.actor.make_primer()]
        if isinstance(self.loss, MAVENDiscreteLoss):
            parts.append(EpisodeLatent(self.loss.latent_policy_network))
        elif self.has_latent:
            parts += [StepCounter(), EpisodeCounter(env.batch_size)]
        wrapped = env if isinstance(env, TransformedEnv) else TransformedEnv(env, Compose())
        for part in parts:
            wrapped.append_transform(part)
        return wrapped

    def set_frames(self, frames: int) -> None:
        """Set the exploration floor and the temperature for this point of the training.

        Args:
            frames: environment steps so far.
        """
        knobs = self.knobs
        self.coefficients["epsilon"] = linear_schedule(
            frames,
            start=knobs["epsilon_start"],
            end=knobs["epsilon_end"],
            duration=knobs["epsilon_frames"],
        )
        # After a move to a device the loss has a buffer of its own.
        for floor in (self.actor.epsilon, self.loss.actor_network_params.get("epsilon")):
            floor.fill_(self.coefficients["epsilon"])
        if "temperature_schedule" not in knobs:
            return
        ends = {"start": knobs["temperature_start"], "end": knobs["temperature_end"]}
        span = knobs["temperature_frames"]
        schedules = {
            "paper": partial(linear_schedule, duration=span),
            "code": partial(constant_rate_schedule, steps_per_unit=span),
        }
        schedule = schedules[knobs["temperature_schedule"]]
        self.coefficients["temperature"] = schedule(frames, **ends)
        self.loss.temperature.fill_(self.coefficients["temperature"])

    def after_round(self, played: Round, frames: int) -> None:
        """Tell the hooks what was played: MAVEN's prior of the latent learns from it.

        Args:
            played: the round.
            frames: environment steps so far.
        """
        if not self.hooks:
            return
        keys, rows = self.keys, len(played.lengths)
        start = played.episodes[:, 0]
        ended = TensorDict(
            {
                keys.situation: start.get(keys.state),
                keys.latent: start.get(keys.latent),
                ("next", keys.done): torch.ones_like(played.lengths, dtype=torch.bool).unsqueeze(
                    -1
                ),
                ("next", *keys.episode_reward): played.returns[:, None, None],
            },
            [rows],
        )
        for hook in self.hooks:
            hook.after_step(ended, frames)

    def update(
        self, batch: TensorDictBase, max_grad_norm: float | None = None
    ) -> dict[str, Tensor]:
        """One gradient step of every parameter group, in the algorithm's order.

        Args:
            batch: episodes ``[B, T + 1]``.
            max_grad_norm: largest norm of a group's gradient; None clips nothing.

        Returns:
            What the loss returned.
        """
        rewards = self.keys.reward
        scaled = batch.get(rewards) * self.knobs["reward_scale"]
        batch = batch.clone(recurse=False).set(rewards, scaled)
        noise = self.loss.draw_noise(batch)
        out: dict[str, Tensor] = {}
        for phase in self.loss.phases:
            losses = self.loss(batch, noise, only=phase)
            torch.stack([losses[name] for name in phase]).sum().backward()
            out |= {str(name): value.detach() for name, value in losses.items()}
            for name in phase:
                optimizer = self.optimizers[name]
                if max_grad_norm is not None:
                    for group in optimizer.param_groups:
                        nn.utils.clip_grad_norm_(group["params"], max_grad_norm)
                optimizer.step()
            for optimizer in self.optimizers.values():
                optimizer.zero_grad()
        if self.target_updater is not None:
            self.target_updater.step()
        return out


def _hooks(loss: LossModule, knobs: dict[str, Any], keys: Keys) -> list[Hook]:
    if not isinstance(loss, MAVENDiscreteLoss) or loss.latent_policy_network.net is None:
        return []
    rates = {"lr": knobs["latent_lr"], "episodes": knobs["latent_episodes"]}
    return [LatentPolicyLearner(loss, keys=keys, **rates)]


def discrete_sizes(env: EnvBase, keys: Keys) -> DiscreteSizes:
    """Read the sizes of a group of agents with discrete actions from an environment's specs.

    Args:
        env: the environment.
        keys: names the group.

    Returns:
        Number of agents, sizes of an observation and of the state, number of actions.

    Raises:
        ValueError: if there is no state, no action mask, or the actions are not discrete.
    """
    specs = env.observation_spec
    present = set(specs.keys(True, True))
    wanted = (keys.observation, keys.action_mask, keys.state)
    missing = [key for key in wanted if key not in present]
    if missing:
        raise ValueError(
            f"the environment has no entry {missing[0]}: discrete algorithms need observations, a "
            "mask of legal actions and a state (see vm3ac_modules.envs.SMAXEnv)."
        )
    action = env.full_action_spec[keys.action]
    if action.dtype.is_floating_point:
        raise ValueError(
            f"actions of dtype {action.dtype} are not discrete: use vm3ac_modules.algorithms.build."
        )
    num_agents, num_actions = specs[keys.action_mask].shape[-2:]
    return DiscreteSizes(
        num_agents=num_agents,
        obs_dim=specs[keys.observation].shape[-1],
        num_actions=num_actions,
        state_dim=specs[keys.state].shape[-1],
    )


def _check_schedules(knobs: dict[str, Any]) -> None:
    """Refuse at once what would go wrong in the middle of a training."""
    if knobs.get("temperature_schedule", "paper") not in ("paper", "code"):
        raise ValueError(
            f"temperature_schedule must be 'paper' or 'code', got "
            f"{knobs['temperature_schedule']!r}."
        )
    for name in ("temperature_start", "temperature_end"):
        if not knobs.get(name, 1.0) > 0.0:
            raise ValueError(f"{name} must be positive (V_i divides by it), got {knobs[name]}.")
    for name in ("epsilon_start", "epsilon_end"):
        if not 0.0 <= knobs[name] <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {knobs[name]}.")
    if knobs["target_interval"] < 1:
        raise ValueError(f"target_interval must be at least 1, got {knobs['target_interval']}.")


def build_discrete(
    algorithm: str,
    env: EnvBase,
    *,
    keys: Keys | None = None,
    device: torch.device | str = "cpu",
    **knobs: Any,
) -> DiscreteAgent:
    """Build an algorithm for an environment with discrete actions.

    Args:
        algorithm: one of :data:`~vm3ac_modules.algorithms.DISCRETE_ALGORITHMS`.
        env: an environment with observations, a mask of legal actions and a state.
        keys: the tensordict vocabulary.
        device: where the networks live.
        knobs: what differs from the preset.

    Returns:
        Policy, loss, optimizers and target updater.

    Raises:
        ValueError: for an unknown algorithm or knob, or an environment that does not fit.

    Example:
        >>> import pytest
        >>> from importlib.util import find_spec
        >>> _ = find_spec("jaxmarl") or pytest.skip("needs the extra smax")
        >>> from vm3ac_modules.envs.battles.factory import make_battle_env
        >>> agent = build_discrete("vm3ac", make_battle_env("3m", 2, seed=0))
        >>> list(agent.optimizers)
        ['loss_actor', 'loss_qvalue', 'loss_predictor']
    """
    keys = Keys() if keys is None else keys
    resolved = resolve_discrete_knobs(algorithm, knobs)
    _check_schedules(resolved)
    plan = DiscreteBlueprint(resolved, discrete_sizes(env, keys), keys)
    built = DISCRETE_BUILDERS[algorithm](plan)
    built.policy.to(device)
    built.loss.to(device)
    optimizers = {
        name: built.make_optimizer(name, parameters)
        for name, parameters in built.loss.parameter_groups().items()
    }
    has_targets = any("target" in name for name, _ in built.loss.named_buffers())
    # It copies at every (interval + 1)-th call.
    interval = resolved["target_interval"] - 1
    updater = (
        HardUpdate(built.loss, value_network_update_interval=interval) if has_targets else None
    )
    agent = DiscreteAgent(
        built.policy,
        built.greedy,
        built.actor,
        built.loss,
        optimizers,
        updater,
        algorithm,
        resolved,
        _hooks(built.loss, resolved, keys),
        keys,
    )
    agent.set_frames(0)
    return agent
