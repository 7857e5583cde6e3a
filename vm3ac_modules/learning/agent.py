"""A trainable agent of any algorithm: policy, loss, optimizers, hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.envs import Compose, EnvBase, Transform, TransformedEnv
from torchrl.objectives.utils import TargetNetUpdater

from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.capture import CapturedUpdate, reason_against_capture
from vm3ac_modules.learning.gradients import clip_gradients_per_agent
from vm3ac_modules.learning.hooks import Hook
from vm3ac_modules.learning.sources import Replayed, Source
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.objectives.base import MultiAgentLoss
from vm3ac_modules.options import Options

__all__ = ["Agent"]


def with_transforms(
    env: EnvBase, transforms: Callable[[EnvBase], Sequence[Transform]]
) -> TransformedEnv:
    """The environment with the transforms that a policy needs, appended in order.

    Args:
        env: an environment; one that has transforms already is changed.
        transforms: gives them for an environment.
    """
    wrapped = env if isinstance(env, TransformedEnv) else TransformedEnv(env, Compose())
    for part in transforms(env):
        wrapped.append_transform(part)
    return wrapped


@dataclass
class Agent:
    """A trainable agent, as :func:`~vm3ac_modules.algorithms.build` returns it.

    Args:
        policy: the policy to collect with; ``policy.greedy()`` is the one to evaluate.
        loss: the loss over the same parameters, on its device.
        optimizers: one per loss, over disjoint parameters.
        options: every option of the algorithm.
        algorithm: its name.
        target: what moves the target networks after every update; None without any.
        source: kind of source that its batches come from.
        env_transforms: the transforms that the policy needs of an environment.
        replay_transforms: transforms of the replay, in order.
        added_by_replay: entries that those add to what was collected.
        hooks: what is called while environments are stepped.
        clips_per_agent: whether gradients are clipped agent by agent, or loss by loss.
        seeds: number of runs S that are trained at once, as a leading dimension.
        keys: the tensordict vocabulary.
        clip_counts: how often a loss's gradient was cut, and its updates so far, ``[2]`` each.
        captured: the update as a CUDA graph; None to do it step by step.
        captures_steps: whether collecting replays the policy and our scenarios' steps as graphs.
    """

    policy: Policy
    loss: MultiAgentLoss
    optimizers: dict[str, torch.optim.Optimizer]
    options: Options
    algorithm: str = ""
    target: TargetNetUpdater | None = None
    source: type[Source] = Replayed
    env_transforms: Callable[[EnvBase], Sequence[Transform]] = lambda env: ()
    replay_transforms: Callable[[], Sequence[Transform]] = tuple
    added_by_replay: Sequence[NestedKey] = ()
    hooks: Sequence[Hook] = ()
    clips_per_agent: bool = True
    seeds: int = 1
    keys: Keys = field(default_factory=Keys)
    clip_counts: dict[str, Tensor] = field(default_factory=dict)
    captured: CapturedUpdate | None = None
    captures_steps: bool = False

    @property
    def clipped(self) -> dict[str, Tensor]:
        """Share of the updates in which a loss's gradient was cut, by its name."""
        return {name: hits / updates for name, (hits, updates) in self.clip_counts.items()}

    @property
    def recorded(self) -> list[NestedKey]:
        """Entries of what is collected that are stored: those the loss reads, and the latent.

        The latent is kept for the record where the loss draws its own.
        """
        drawn = [self.keys.latent] if self.policy.sampler is not None else []
        read = dict.fromkeys([*self.loss.in_keys, *drawn])
        return [key for key in read if key not in self.added_by_replay]

    def wrap(self, env: EnvBase) -> TransformedEnv:
        """Append the transforms that the policy needs of every environment that it plays in.

        Args:
            env: an environment; one that has transforms already is changed.

        Returns:
            The environment with its transforms.
        """
        return with_transforms(env, self.env_transforms)

    def update(
        self, batch: TensorDictBase, max_grad_norm: float | None = None
    ) -> dict[str, Tensor]:
        """One gradient step of every group of parameters, in the order of the loss's phases.

        Args:
            batch: transitions ``[B]``, ``[S, B]`` with several seeds, or episodes ``[B, T + 1]``.
            max_grad_norm: largest norm of a gradient: of one agent's, per network and seed, where
                networks have a part per agent; of all parameters of a loss elsewhere. None clips
                nothing.

        Returns:
            What the loss returned, detached.
        """
        update = self.learn if self.captured is None else self.captured
        out = update(batch, max_grad_norm)
        for hook in self.hooks:
            hook.after_update(out)
        return out

    def learn(self, batch: TensorDictBase, max_grad_norm: float | None = None) -> dict[str, Tensor]:
        """The part of :meth:`update` that works on tensors alone, without the hooks.

        Args:
            batch: as there.
            max_grad_norm: as there.

        Returns:
            What the loss returned, detached.
        """
        noise = self.loss.draw_noise(batch)
        out: dict[str, Tensor] = {}
        for phase in self.loss.phases:
            losses = self.loss(batch, noise, only=phase)
            torch.stack([losses[name] for name in phase]).sum().backward()
            out |= {str(name): value.detach() for name, value in losses.items()}
            for name in phase:
                if max_grad_norm is not None:
                    self._clip(name, max_grad_norm)
                self.optimizers[name].step()
            # A loss of one phase may leave gradients in the networks of another.
            for optimizer in self.optimizers.values():
                optimizer.zero_grad()
        if self.target is not None:
            self.target.step()
        return out

    @property
    def reason_against_capture(self) -> str | None:
        """Why :meth:`update` cannot be one CUDA graph; None if it can."""
        parameters = [p for group in self.loss.parameter_groups().values() for p in group]
        return reason_against_capture(parameters, self.optimizers.values(), self.target)

    def capture(self, *, steps: bool = False) -> None:
        """Do every update as one CUDA graph from now on.

        Args:
            steps: whether collecting replays the policy, and the steps of our VMAS scenarios, too.

        Raises:
            ValueError: if the algorithm's update cannot be one; says why.
        """
        reason = self.reason_against_capture
        if reason is not None:
            raise ValueError(f"{self.algorithm} cannot update as a CUDA graph: {reason}.")
        self.captured = CapturedUpdate(self.learn, list(self.optimizers.values()))
        self.captures_steps = steps

    def compile(self, **options: Any) -> None:
        """Compile the loss by ``torch.compile`` at the next update.

        Args:
            options: those of ``torch.compile``.
        """
        self.loss.compile(**options)

    def _clip(self, name: str, max_norm: float) -> None:
        if self.clips_per_agent:
            networks = [getattr(self.loss, network) for network in self.loss.networks()[name]]
            norms = [
                clip_gradients_per_agent(network, max_norm, self.loss.seed_dims).flatten()
                for network in networks
            ]
        else:
            groups = self.optimizers[name].param_groups
            norms = [nn.utils.clip_grad_norm_(group["params"], max_norm)[None] for group in groups]
        hit = (torch.cat(norms) > max_norm).double().mean()
        count = self.clip_counts.get(name, torch.zeros(2, dtype=hit.dtype, device=hit.device))
        # One tensor for good: a CUDA graph adds to it in place.
        self.clip_counts[name] = count.to(hit.device)
        self.clip_counts[name] += torch.stack((hit, torch.ones_like(hit)))
