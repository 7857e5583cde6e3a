"""Evaluation of a policy: episodes on fixed starts, mean or drawn actions, a stated latent.

The return of an episode is the mean over agents of their summed rewards. All rows of one reset are
the episodes, so the starts depend on the environment's seed alone: the same for every evaluation
and every algorithm.

Source: Kim et al. 2023, arXiv:2303.00451, Section 6 and Appendix H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from vm3ac_modules.envs.rng import transforms_of
from vm3ac_modules.envs.tasks import Plays
from vm3ac_modules.envs.transforms import EpisodeCounter
from vm3ac_modules.evaluation.played import decidedness
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning.episodes import EpisodeCollector
from vm3ac_modules.learning.seeding import fork_rng, rng_state, set_rng_state
from vm3ac_modules.modules.latent import LatentMode
from vm3ac_modules.modules.policy import Policy

__all__ = ["EvaluationResult", "evaluate", "usual_actions"]

_NORMAL_975 = 1.959964
Actions = Literal["mean", "drawn", "both"]
"""How a frozen policy acts; both one after the other, from the same starts."""
EXPLORATION = {"mean": ExplorationType.DETERMINISTIC, "drawn": ExplorationType.RANDOM}


@dataclass(frozen=True)
class EvaluationResult:
    """Returns of a number of episodes.

    Args:
        returns: one per episode, ``[E]``.
        lengths: steps of each episode, ``[E]``.
        info: what the environment reported at each episode's end, each ``[E]``.
        trace: what the observer saw before every step, ``[E, T, ...]``, if there was one.
        moves: what happened besides, if there was an observer: ``"rewards"`` ``[E, T]``,
            ``"actions"`` ``[E, T, N, ...]`` and, of policies with one, ``"latents"``
            ``[E, T, ...]``.
        greedy: beside drawn actions, the same starts played with the policies' means (the likeliest
            of discrete actions), if both were asked for.
    """

    returns: Tensor
    lengths: Tensor
    info: dict[str, Tensor]
    trace: Tensor | None = None
    greedy: EvaluationResult | None = None
    moves: Mapping[str, Tensor] = field(default_factory=dict)

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

    @property
    def win_rate(self) -> float:
        """Share of battles that were won; nan where nothing says so."""
        won = self.info.get("battle_won")
        return math.nan if won is None else float(won.mean())

    def beside(self) -> dict[str, float]:
        """Results of greedy play, named for a row beside those of drawn play; empty without it."""
        if self.greedy is None:
            return {}
        won = {"greedy_win_rate": self.greedy.win_rate} if "battle_won" in self.info else {}
        return {"greedy_return_mean": self.greedy.mean, **won}

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
        greedy = [None] * seeds if self.greedy is None else self.greedy.split(seeds)
        moves = {name: values.chunk(seeds) for name, values in self.moves.items()}
        return [
            EvaluationResult(
                *(returns, lengths, {name: part[k] for name, part in info.items()}, trace),
                greedy=greedy[k],
                moves={name: part[k] for name, part in moves.items()},
            )
            for k, (returns, lengths, trace) in enumerate(parts)
        ]


def evaluate(
    policy: TensorDictModuleBase | None,
    env: EnvBase,
    *,
    max_steps: int,
    seed: int,
    latent: LatentMode = "sample",
    keys: Keys | None = None,
    observer: Callable[[EnvBase], Tensor] | None = None,
    episodes: int | None = None,
    plays: Plays = "steps",
    actions: Actions = "mean",
) -> EvaluationResult:
    """Play one episode in every row of an environment, or several one after the other.

    The random streams of the caller stay as they were.

    Args:
        policy: the policy; None plays uniformly random (legal) actions, the same for every
            algorithm: what an environment's transforms draw (MAVEN's latent) does not move them.
        env: an environment of its own, whose rows are the episodes.
        max_steps: length of the rollout; at least the time limit, and equal to it for
            ``plays="episodes"``.
        seed: seed of the starts and of the latents.
        latent: how the latent comes about: ``"sample"`` (z ~ prior), ``"mean"``, ``"constant"``,
            ``"synchronized"`` or ``"independent"`` (one z per agent).
        keys: the tensordict vocabulary.
        observer: reads something ``[E, ...]`` off the environment before every step of the first
            round (positions for a picture, say); with ``plays="episodes"`` also after the last.
        episodes: number of episodes, in several rounds if there are fewer rows (games of
            StarCraft are slow); one per row by default.
        plays: ``"steps"`` where a row that is over starts anew by itself, ``"episodes"`` where it
            waits for the others, as battles do.
        actions: ``"mean"`` for the policies' means, or the likeliest of discrete actions;
            ``"drawn"`` from the policies, as in training; ``"both"``: drawn, with the other in
            ``greedy``.

    Returns:
        Returns, lengths and metrics per episode: what the environment reported (of battles
        ``battle_won``: 0 or 1) and, of policies that draw discrete actions in whole episodes,
        ``policy_entropy`` and ``logit_gap`` (:func:`~vm3ac_modules.evaluation.decidedness`).

    Raises:
        ValueError: for an unknown way of playing or of acting, or actions that shall be drawn from
            a policy that draws none.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas")
        >>> from vm3ac_modules.envs import make_env
        >>> env = make_env("predator_prey_2", 4, seed=0, max_steps=5)
        >>> evaluate(None, env, max_steps=5, seed=1).returns.shape
        torch.Size([4])
    """
    if plays not in get_args(Plays):
        raise ValueError(f"plays must be one of {', '.join(get_args(Plays))}, got {plays!r}.")
    if actions not in get_args(Actions):
        raise ValueError(f"actions must be one of {', '.join(get_args(Actions))}, got {actions!r}.")
    keys = Keys() if keys is None else keys
    if isinstance(policy, TensorDictModuleBase):
        policy = Policy.of(policy, keys)
        if actions != "mean" and not policy.draws_actions:
            raise ValueError(
                f"actions={actions!r}: this policy has no sampling, its actions are a function of "
                "what the agents see (and of the latent); evaluate it with actions='mean'."
            )
    if actions == "both":
        again = partial(
            evaluate,
            policy,
            env,
            max_steps=max_steps,
            seed=seed,
            latent=latent,
            keys=keys,
            episodes=episodes,
            plays=plays,
        )
        drawn = again(observer=observer, actions="drawn")
        return replace(drawn, greedy=again(actions="mean"))
    if isinstance(policy, Policy):
        policy = policy.with_latent(latent, seed=seed)
    if policy is None:
        policy = _UniformPlay(env, seed)
    play = _play_steps if plays == "steps" else _play_episodes
    with fixed_starts(env, seed, EXPLORATION[actions]):
        first = play(policy, env, max_steps, keys, observer)
        rows = len(first.returns)
        wanted = rows if episodes is None else episodes
        others = [play(policy, env, max_steps, keys, None) for _ in range(rows, wanted, rows)]
    played = [first, *others]
    returns = torch.cat([one.returns for one in played])[:wanted]
    lengths = torch.cat([one.lengths for one in played])[:wanted]
    info = {name: torch.cat([one.info[name] for one in played])[:wanted] for name in first.info}
    return EvaluationResult(returns, lengths, info, first.trace, moves=first.moves)


def usual_actions(policy: Policy | None, plays: Plays) -> Actions:
    """Default actions: both drawn and greedy for whole episodes of stochastic policies.

    Greedy play of a policy that is undecided is another policy than the one that was trained.

    Args:
        policy: the policy; None plays uniformly random actions.
        plays: how the task is played.
    """
    both = policy is not None and plays == "episodes" and policy.draws_actions
    return "both" if both else "mean"


class _UniformPlay(TensorDictModuleBase):
    """Uniformly random (legal) actions from a random stream of their own."""

    def __init__(self, env: EnvBase, seed: int) -> None:
        super().__init__()
        self.in_keys: list[NestedKey] = []
        self.out_keys = list(env.action_keys)
        self._env = (env,)
        with fork_rng(seed):
            self.streams = rng_state()

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the actions."""
        [env] = self._env
        others = rng_state()
        set_rng_state(self.streams)
        try:
            return env.rand_action(tensordict)
        finally:
            self.streams = rng_state()
            set_rng_state(others)


def _play_episodes(
    policy: TensorDictModuleBase | None,
    env: EnvBase,
    max_steps: int,
    keys: Keys,
    observer: Callable[[EnvBase], Tensor] | None,
) -> EvaluationResult:
    decides = isinstance(policy, Policy) and policy.draws_actions and policy.recurrent
    read: list[NestedKey] = [keys.logits, keys.action_mask, keys.mask] if decides else []
    if observer is not None:
        read += [keys.action, keys.latent]
    played = EpisodeCollector(env, policy, max_steps, read, keys=keys).play(observer)
    info = played.info
    if decides:
        logits, legal, happened = (played.episodes.get(key) for key in read[:3])
        info = {**info, **decidedness(logits, legal, happened.squeeze(-1))}
    moves = {} if observer is None else _moves(played.episodes, played.episodes, keys)
    return EvaluationResult(played.returns, played.lengths, info, played.trace, moves=moves)


def _moves(steps: TensorDictBase, after: TensorDictBase, keys: Keys) -> dict[str, Tensor]:
    """Rewards, actions and latents of all steps, ``[E, T, ...]``."""
    paid = after.get(keys.task_reward, None)
    paid = after.get(keys.reward) if paid is None else paid
    found = {"rewards": paid.flatten(2).mean(-1), "actions": steps.get(keys.action)}
    latents = steps.get(keys.latent, None)
    return found if latents is None else {**found, "latents": latents}


def _play_steps(
    policy: TensorDictModuleBase | None,
    env: EnvBase,
    max_steps: int,
    keys: Keys,
    observer: Callable[[EnvBase], Tensor] | None,
) -> EvaluationResult:
    seen: list[Tensor] = []
    callback = None if observer is None else lambda env, _: seen.append(observer(env).clone())
    start = env.reset()
    if callback is not None:
        # A rollout calls back after each step but the last; the start comes before all.
        callback(env, start)
    steps = env.rollout(
        max_steps,
        policy,
        callback=callback,
        break_when_any_done=False,
        auto_reset=False,
        tensordict=start,
    )
    result = _summarize(steps, keys)
    if not seen:
        return result
    return replace(result, trace=torch.stack(seen, 1), moves=_moves(steps, steps["next"], keys))


@contextmanager
def fixed_starts(
    env: EnvBase, seed: int, exploration: ExplorationType = ExplorationType.DETERMINISTIC
) -> Iterator[None]:
    """Play from the starts of a seed, without gradients; the caller's random streams stay.

    Episodes are numbered from zero again, so that synchronized latents repeat.
    """
    with fork_rng(seed), torch.no_grad(), set_exploration_type(exploration):
        # Not static: several games behind one environment would all start alike.
        env.set_seed(seed, static_seed=False)
        for part in transforms_of(env):
            if isinstance(part, EpisodeCounter):
                part.resets.zero_()
        yield


def first_episodes(steps: TensorDictBase, keys: Keys) -> Tensor:
    """Steps of the first episode of every row, ``[B, T]``; a row goes on with others after it."""
    done = steps["next", keys.done].squeeze(-1)
    return done.cumsum(-1) - done.long() == 0


def _summarize(steps: TensorDictBase, keys: Keys) -> EvaluationResult:
    first = first_episodes(steps, keys)
    # What the task pays, not what a transform of the environment makes of it.
    paid = steps.get(("next", keys.task_reward), None)
    rewards = (steps["next", keys.reward] if paid is None else paid).squeeze(-1).mean(-1)
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
    return EvaluationResult(torch.where(first, rewards, 0.0).sum(-1), lengths, info)
