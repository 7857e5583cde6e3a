"""One door to every algorithm: a name and an environment in, policy, loss and optimizers out.

Recipes, evaluation and notebooks build agents here and nowhere else.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6, Tables 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torchrl.envs import EnvBase, RewardSum, Transform, TransformedEnv
from torchrl.objectives import LossModule
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.algorithms.builders import BUILDERS, Blueprint, Sizes
from vm3ac_modules.algorithms.presets import ALGORITHMS, COMMON, resolve_knobs
from vm3ac_modules.baselines import MAVENLoss, NextAction, SIMOALoss
from vm3ac_modules.envs.episode_latent import EpisodeLatent
from vm3ac_modules.envs.factory import check_homogeneous_continuous
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.gradients import clip_gradients_per_agent
from vm3ac_modules.learning.hooks import (
    Hook,
    InfluenceSchedule,
    LatentPolicyLearner,
    TemperatureLearner,
)
from vm3ac_modules.learning.target import FusedSoftUpdate
from vm3ac_modules.modules.per_seed import PerSeed
from vm3ac_modules.objectives import CentralizedActorCriticLoss

__all__ = ["ALGORITHMS", "COMMON", "Agent", "Sizes", "build", "group_sizes", "resolve_knobs"]


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
        seeds: number of runs that are trained at once, as a leading dimension.
        hooks: what is to be called while environments are stepped.
        keys: the tensordict vocabulary.
    """

    policy: TensorDictModuleBase
    loss: LossModule
    optimizers: dict[str, torch.optim.Optimizer]
    target_updater: TargetNetUpdater
    algorithm: str
    knobs: dict[str, Any]
    seeds: int = 1
    hooks: list[Hook] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)

    def update(self, batch: TensorDictBase, max_grad_norm: float | None = None) -> TensorDictBase:
        """One gradient step of every parameter group, then of the target network and the hooks.

        Args:
            batch: transitions ``[B]``, or ``[S, B]`` with several seeds.
            max_grad_norm: largest norm of one agent's gradient, per network and seed; None clips
                nothing.

        Returns:
            What the loss returned.
        """
        losses = self.loss(batch)
        torch.stack([losses[name] for name in self.optimizers]).sum().backward()
        for name, optimizer in self.optimizers.items():
            if max_grad_norm is not None:
                network = getattr(self.loss, name.replace("loss_", "") + "_network")
                clip_gradients_per_agent(network, max_grad_norm, self.loss.seed_dims)
            optimizer.step()
            optimizer.zero_grad()
        self.target_updater.step()
        for hook in self.hooks:
            hook.after_update(losses)
        return losses

    def wrap(self, env: TransformedEnv) -> TransformedEnv:
        """Append the transforms that the algorithm needs of every environment that it plays in.

        Args:
            env: an environment of :func:`~vm3ac_modules.envs.make_env`; it is changed.

        Returns:
            The same environment; with MAVEN it draws the latent at every reset.
        """
        if isinstance(self.loss, MAVENLoss):
            keys, prior = self.keys, self.loss.latent_policy_network
            module = prior if self.seeds == 1 else PerSeed(prior, self.seeds)
            env.append_transform(
                RewardSum(
                    in_keys=[keys.reward], out_keys=[keys.episode_reward], reset_keys=["_reset"]
                )
            )
            env.append_transform(EpisodeLatent(module))
        return env

    def replay_transform(self) -> Transform | None:
        """The transform that the algorithm needs of its replay, if any: SI-MOA's next action."""
        return NextAction(self.keys) if isinstance(self.loss, SIMOALoss) else None

    @property
    def added_by_replay(self) -> tuple[NestedKey, ...]:
        """Entries that :meth:`replay_transform` adds to what was collected."""
        if not isinstance(self.loss, SIMOALoss):
            return ()
        return (self.keys.next_action, self.keys.next_action_valid)


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
    seeds: int = 1,
    **knobs: Any,
) -> Agent:
    """Build an algorithm for an environment.

    Args:
        algorithm: one of :data:`ALGORITHMS`.
        env: an environment with a homogeneous group of agents with bounded continuous actions.
        keys: the tensordict vocabulary.
        device: where the networks live.
        seeds: number of independent runs S to train at once; the environment then has
            ``S * B`` rows, seed by seed, and the loss takes batches ``[S, B]``.
        knobs: what differs from the preset (:data:`COMMON`, :data:`ALGORITHMS`).

    Returns:
        Policy, loss, optimizers and target updater.

    Raises:
        ValueError: for an unknown algorithm or knob, an environment that does not fit, or
            ``seeds < 1``.

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
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}.")
    stack = () if seeds == 1 else (seeds,)
    plan = Blueprint(resolved, sizes, env.full_action_spec[keys.action], keys, stack)
    # The variants of VM3-AC are presets, not other code.
    family = "vm3ac" if algorithm.startswith("vm3ac") else algorithm
    policy, loss = BUILDERS[family](plan)
    policy.to(device)
    loss.to(device)
    rates = {"loss_predictor": resolved.get("predictor_lr")}
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(parameters, lr=rates.get(name) or resolved["lr"], fused=True)
        for name, parameters in loss.parameter_groups().items()
    }
    return Agent(
        policy if seeds == 1 else PerSeed(policy, seeds),
        loss,
        optimizers,
        FusedSoftUpdate(loss, tau=resolved["tau"]),
        algorithm,
        resolved,
        seeds,
        _hooks(plan, loss, seeds),
        keys,
    )


def _hooks(plan: Blueprint, loss: LossModule, seeds: int) -> list[Hook]:
    knobs, keys = plan.knobs, plan.keys
    if knobs.get("auto_beta") is not None:
        assert isinstance(loss, CentralizedActorCriticLoss)
        options = {"target": knobs["beta_target"], "lr": knobs["beta_lr"]}
        if options["target"] is None and knobs["auto_beta"] == "entropy":
            # SAC's minus the number of dimensions, for actions of half range 1.
            size = loss.half_range.log().sum(-1).mean()
            options["target"] = float(size) - plan.sizes.action_dim
        return [TemperatureLearner(loss, knobs["auto_beta"], seeds=seeds, **options)]
    if isinstance(loss, SIMOALoss):
        ramp = knobs["influence_start_frames"], knobs["influence_full_frames"]
        return [InfluenceSchedule(loss, *ramp)]
    if isinstance(loss, MAVENLoss) and loss.latent_policy_network.net is not None:
        rates = {"lr": knobs["latent_lr"], "episodes": knobs["latent_episodes"]}
        return [LatentPolicyLearner(loss, seeds=seeds, keys=keys, **rates)]
    return []
