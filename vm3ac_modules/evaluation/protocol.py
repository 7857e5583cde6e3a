"""How a number is made: episodes on fixed starts, deterministic actions, a stated latent.

The return of an episode is the mean over agents of their summed rewards. All rows of one reset are
the episodes, so the starts depend on the environment's seed alone: the same for every evaluation
and every algorithm.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6 and Appendix H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn
from torchrl.envs import Compose, EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from vm3ac_modules.envs.transforms import EpisodeCounter
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.seeding import fork_rng
from vm3ac_modules.modules.latent import LatentMode, LatentSampler
from vm3ac_modules.modules.per_seed import PerSeed

__all__ = ["EvaluationResult", "evaluate", "policy_with_latent", "restart_episodes"]

_NORMAL_975 = 1.959964


@dataclass(frozen=True)
class EvaluationResult:
    """Returns of a number of episodes.

    Args:
        returns: one per episode, ``[E]``.
        lengths: steps of each episode, ``[E]``.
        info: what the environment reported at each episode's end, each ``[E]``.
        trace: what the observer saw before every step, ``[E, T, ...]``, if there was one.
    """

    returns: Tensor
    lengths: Tensor
    info: dict[str, Tensor]
    trace: Tensor | None = None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def ci95(self) -> float:
        """Half width of the mean's 95% interval (normal approximation); nan for one episode."""
        episodes = self.returns.numel()
        if episodes < 2:
            return math.nan
        return float(_NORMAL_975 * self.returns.std() / math.sqrt(episodes))

    def split(self, seeds: int) -> list[EvaluationResult]:
        """Results of several seeds that played in the rows of one environment, seed by seed.

        Args:
            seeds: number of seeds, which divides the episodes.

        Returns:
            One result per seed.
        """
        traces = [None] * seeds if self.trace is None else self.trace.chunk(seeds)
        parts = zip(self.returns.chunk(seeds), self.lengths.chunk(seeds), traces, strict=True)
        info = {name: values.chunk(seeds) for name, values in self.info.items()}
        return [
            EvaluationResult(
                returns, lengths, {name: part[seed] for name, part in info.items()}, trace
            )
            for seed, (returns, lengths, trace) in enumerate(parts)
        ]


def policy_with_latent(
    policy: TensorDictModuleBase, mode: LatentMode, *, seed: int | None = None
) -> TensorDictModuleBase:
    """The same policy with another mode of its latent; networks and prior are shared.

    Args:
        policy: a policy whose first module may be a latent sampler.
        mode: the mode.
        seed: seed of the synchronized latents; the sampler's own by default.

    Returns:
        A policy; the given one itself if it holds no sampler.

    Example:
        >>> from torchrl.data import Bounded
        >>> import vm3ac_modules as vm
        >>> actor = vm.make_actor(4, 3, Bounded(-1.0, 1.0, (2, 1)))
        >>> policy = vm.make_policy(vm.LatentSampler(vm.GaussianPrior(3)), actor)
        >>> policy_with_latent(policy, "mean")[0].mode
        'mean'
    """
    from vm3ac_modules.modules.policy import Policy

    if isinstance(policy, Policy):
        return policy.with_latent(mode, seed=seed)
    if isinstance(policy, PerSeed):
        return PerSeed(policy_with_latent(policy.module, mode, seed=seed), policy.seeds)
    if not isinstance(policy, TensorDictSequential):
        return policy
    modules: list[nn.Module] = [
        module.with_mode(mode, seed=seed) if isinstance(module, LatentSampler) else module
        for module in policy.module
    ]
    if not any(isinstance(module, LatentSampler) for module in modules):
        return policy
    return type(policy)(*modules)


def evaluate(
    policy: TensorDictModuleBase | None,
    env: EnvBase,
    *,
    max_steps: int,
    seed: int,
    latent: LatentMode = "sample",
    keys: Keys | None = None,
    observer: Callable[[EnvBase], Tensor] | None = None,
) -> EvaluationResult:
    """Play one episode in every row of an environment.

    Nothing here moves the random streams of a training that goes on meanwhile.

    Args:
        policy: the policy; None plays uniformly random actions.
        env: an environment of its own, whose rows are the episodes.
        max_steps: length of the rollout; at least the time limit.
        seed: seed of the starts and of the latents.
        latent: how the latent comes about: ``"sample"`` (z ~ prior), ``"mean"``, ``"constant"``,
            ``"synchronized"`` or ``"independent"`` (one z per agent).
        keys: the tensordict vocabulary.
        observer: reads something ``[E, ...]`` off the environment before every step (positions for
            a picture, say).

    Returns:
        Returns, lengths and metrics per episode.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", 4, seed=0, max_steps=5)
        >>> evaluate(None, env, max_steps=5, seed=1).returns.shape
        torch.Size([4])
    """
    keys = Keys() if keys is None else keys
    player = None if policy is None else policy_with_latent(policy, latent, seed=seed)
    with fork_rng(seed), torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        env.set_seed(seed, static_seed=False)
        restart_episodes(env)
        seen: list[Tensor] = []
        callback = None if observer is None else lambda env, _: seen.append(observer(env).clone())
        start = env.reset()
        if callback is not None:
            # A rollout calls back after each step but the last; the start comes before all.
            callback(env, start)
        steps = env.rollout(
            max_steps,
            player,
            callback=callback,
            break_when_any_done=False,
            auto_reset=False,
            tensordict=start,
        )
    return _summarize(steps, keys, torch.stack(seen, 1) if seen else None)


def restart_episodes(env: EnvBase) -> None:
    """Number an environment's episodes from zero again, so that synchronized latents repeat.

    Args:
        env: the environment.

    Example:
        >>> restart_episodes(object())  # nothing to do without an EpisodeCounter
    """
    transform = getattr(env, "transform", None)
    for part in transform if isinstance(transform, Compose) else [transform]:
        if isinstance(part, EpisodeCounter):
            part.resets.zero_()


def _summarize(steps: TensorDictBase, keys: Keys, trace: Tensor | None) -> EvaluationResult:
    done = steps["next", keys.done].squeeze(-1)
    # A row that ended early goes on with another episode, which does not count.
    first = done.cumsum(-1) - done.long() == 0
    rewards = steps["next", keys.reward].squeeze(-1).mean(-1)
    lengths = first.sum(-1)
    last = (lengths - 1).unsqueeze(-1)
    info = {}
    metrics = steps.get(("next", "info"), None)
    if isinstance(metrics, TensorDictBase):
        flat = metrics.flatten_keys(".")
        info = {
            str(name): value.squeeze(-1).gather(-1, last).squeeze(-1).float()
            for name, value in flat.items()
            if value.shape == (*first.shape, 1)
        }
    return EvaluationResult(torch.where(first, rewards, 0.0).sum(-1), lengths, info, trace)
