"""Advice about a finished run's settings: one sentence for each that kept it from learning.

Shapes: ``E`` episodes, ``T`` transitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.objectives import HardUpdate

from vm3ac_modules.evaluation.names import plus_minus
from vm3ac_modules.evaluation.protocol import EvaluationResult
from vm3ac_modules.learning.hooks import Schedule
from vm3ac_modules.learning.seeding import evaluation_seed, fork_rng
from vm3ac_modules.objectives.episodic import EpisodicLoss, lambda_return
from vm3ac_modules.runs._base import RunBase

FEW_COPIES = 20
"""Copies into the targets under which a critic has not looked far: each looks so far once more."""
ALWAYS = 0.9
"""Share of the updates from which on a clip counts as always hit."""
TRAINED = 0.5
"""Share of what won battles returned that a trained critic says at least."""
ENOUGH = 100
"""Updates from which on a run that is no better than chance is told so."""
LATE = 10**15
"""A frame at which every schedule is at its end."""
VALUES = ("state_action_value", "state_value")


def advise(run: RunBase) -> list[str]:
    """List what kept a finished run from learning, with the option that changes it.

    Args:
        run: a run behind its last update; one without an update has nothing to say.
    """
    if run.updates == 0:
        return []
    parts = (_few_copies, _long_schedules, _clips, _untrained_critic)
    return [text for part in parts for text in part(run)]


def beside_random(
    run: RunBase, results: Sequence[EvaluationResult], randoms: Sequence[EvaluationResult]
) -> Iterator[str]:
    """Say that a run has learned nothing that can be told from uniformly random actions.

    Games with an adversary are judged by their best-response value, which this does not look at.

    Args:
        run: a finished run.
        results: its last evaluation, one per seed.
        randoms: the same of uniformly random actions.
    """
    if run.updates < ENOUGH or run.task.best_response is not None:
        return
    pairs = list(zip(results, randoms, strict=True))
    behind = [k for k, (own, random) in enumerate(pairs) if own.mean - own.ci95 <= random.mean]
    if behind:
        first = run.training.seed
        seeds = f" of seed {', '.join(str(first + k) for k in behind)}" if len(pairs) > 1 else ""
        own, random = pairs[behind[0]]
        yield (
            f"the return{seeds} is not above that of uniformly random actions "
            f"({plus_minus(own.mean, own.ci95)} against {plus_minus(random.mean, math.nan)}): take "
            f"more frames than {run.frames:,}, or another algorithm.lr"
        )


def _few_copies(run: RunBase) -> Iterator[str]:
    target = run.agent.target
    if not isinstance(target, HardUpdate):
        return
    copies = run.updates // (target.value_network_update_interval + 1)
    if copies < FEW_COPIES:
        often = "once" if copies == 1 else f"{copies} times"
        yield (
            f"the networks were copied into the targets {often} in {run.updates} updates: "
            "take a smaller algorithm.target_interval, more updates, or algorithm.target_tau=0.01, "
            "which moves the targets at every update"
        )


def _long_schedules(run: RunBase) -> Iterator[str]:
    for hook in run.agent.hooks:
        if not isinstance(hook, Schedule) or not hook.logged:
            continue
        [name] = hook.logged
        now, end = hook.law(run.frames), hook.law(LATE)
        if now != end:
            yield (
                f"{name} was still {now:.3g} at the end, on its way to {end:.3g}: take an "
                f"algorithm.{name}_frames that fits {run.frames} frames, or more frames"
            )


def _clips(run: RunBase) -> Iterator[str]:
    limit = run.training.max_grad_norm
    hit = [name for name, share in run.agent.clipped.items() if float(share) >= ALWAYS]
    if hit:
        yield (
            f"max_grad_norm={limit:g} cut the gradient of {', '.join(hit)} in {ALWAYS:.0%} of the "
            "updates or more, so that lr alone sets the step: take a larger max_grad_norm, a "
            "smaller algorithm.lr, or smaller rewards (algorithm.reward_scale)"
        )


def _untrained_critic(run: RunBase) -> Iterator[str]:
    if run.won is None or not isinstance(run.agent.loss, EpisodicLoss):
        return
    found = won_values(run.agent.loss, run.won.to(run.training.device), run.training.seed)
    if found is None:
        return
    value, returned = found
    if value < TRAINED * returned:
        yield (
            f"the critic says {value:.3g} of battles that were won and returned {returned:.3g} "
            "(discounted and scaled, means over their steps), so it does not know victory yet: "
            "take more updates (updates_per_episode), a larger algorithm.lr, or more frames"
        )


def won_values(loss: EpisodicLoss, won: TensorDictBase, seed: int) -> tuple[float, float] | None:
    r"""Mean predicted value and mean actual return of episodes, over their steps.

    Args:
        loss: tells the values of the team at the actions that were taken.
        won: episodes, ``[E, T + 1]``.
        seed: of what the loss draws; the caller's random streams stay.

    Returns:
        The mean value and the mean of :math:`\sum_k \gamma^k r_{t+k}`, both in scaled reward; None
        for a loss without a value.
    """
    name = next((name for name in VALUES if name in loss.out_keys), None)
    if name is None:
        return None
    flag: Any = getattr(loss.tensor_keys, "on_policy", None)
    if flag is not None:
        won = won.clone(False).set(flag, torch.ones_like(won.get(loss.tensor_keys.mask)))
    with fork_rng(evaluation_seed(seed)), torch.no_grad():
        value = loss(won)[name]
        episodes = loss.read(won)
        nothing = torch.zeros_like(episodes.seen, dtype=episodes.reward.dtype)
        returned = lambda_return(
            *(episodes.reward, nothing, episodes.terminated, episodes.mask),
            gamma=loss.gamma,
            lam=1.0,
        )
    return float(value), float(returned.sum() / episodes.mask.sum())
