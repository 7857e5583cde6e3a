"""Rows of eval.csv and the summary of a run.

Shapes: ``S`` seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.evaluation.protocol import EvaluationResult
from vm3ac_modules.evaluation.statistics import summarize_returns
from vm3ac_modules.learning.seeding import evaluation_seed, fork_rng
from vm3ac_modules.learning.sources import Replayed
from vm3ac_modules.objectives import BOUNDS, estimate_information
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs.record import git_commit, versions
from vm3ac_modules.runs.settings import Settings

DIAGNOSED_EPISODES = 16
"""Episodes of the replay on which the coordination of VM3-AC is measured."""
DECIDED = ("policy_entropy", "logit_gap")
EXACT = ("mutual_information", "latent_information")


def evaluation_row(result: EvaluationResult, task: Task) -> dict[str, Any]:
    """Columns of eval.csv that say how episodes went."""
    return {
        "return_mean": result.mean,
        "return_ci95": result.ci95,
        **win_rate(result, task),
        **result.beside(),
        **task.judge(result.info),
        "episodes": result.returns.numel(),
        "length_mean": float(result.lengths.float().mean()),
        **{name: float(values.mean()) for name, values in result.info.items()},
    }


def win_rate(result: EvaluationResult, task: Task, name: str = "win_rate") -> dict[str, float]:
    """Share of the battles that were won, by its name; nothing where nobody wins."""
    if task.plays != "episodes" or "battle_won" not in result.info:
        return {}
    return {name: result.win_rate}


def information(run: RunBase) -> list[dict[str, float]]:
    """Estimates of mutual information on replayed data of every seed (nats, means over pairs)."""
    loss, source, seeds = run.agent.loss, run.source, run.agent.seeds
    if not isinstance(source, Replayed):
        return [{} for _ in range(seeds)]
    if hasattr(loss, "diagnose") and run.task.plays == "episodes":
        return [_exact_information(run, source)]
    rows = getattr(run.training, "information_rows", 0)
    # Where a latent is held the states tell it; the estimates are for one drawn at each step.
    held = run.agent.policy.latent_per_episode
    if not hasattr(loss, "predictor_network") or rows == 0 or held:
        return [{} for _ in range(seeds)]
    if len(source) < seeds * run.training.batch_size:
        # Nothing collected yet: the columns stay, the values are unknown.
        return [dict.fromkeys((bound.name for bound in BOUNDS), math.nan) for _ in range(seeds)]
    with fork_rng(evaluation_seed(run.training.seed)):
        batch = source.sample()
        batch = batch[:rows] if seeds == 1 else batch[:, :rows]
        found = estimate_information(
            loss.reader,
            loss.predictor_network,
            batch,
            center=loss.center,
            half_range=loss.half_range,
            num_latents=run.training.information_latents,  # type: ignore[attr-defined]
            seed_dims=loss.seed_dims,
        )
    columns = {k: v.reshape(seeds).tolist() for k, v in found.scalars().items()}
    return [{k: values[seed] for k, values in columns.items()} for seed in range(seeds)]


def _exact_information(run: RunBase, source: Replayed) -> dict[str, float]:
    """Exact mutual information of the actions of two agents, where a latent is drawn (nats)."""
    if len(source) < source.sizes.batch_size:
        return dict.fromkeys(EXACT, math.nan)
    with fork_rng(evaluation_seed(run.training.seed)):
        batch = source.replay.sample()[:DIAGNOSED_EPISODES].to(run.training.device)
        found = run.agent.loss.diagnose(batch)
    # With all outcomes enumerated, the upper bound is the mutual information itself.
    values = found.scalars()["mi_upper_bound"], found.mean(found.latent_information)
    return {name: float(value) for name, value in zip(EXACT, values, strict=True)}


def summary(
    run: RunBase, settings: Settings, result: EvaluationResult, random: EvaluationResult
) -> dict[str, Any]:
    """Summarize one seed at its end."""
    battles = run.task.plays == "episodes"
    about = dict(run.task.about)
    counts = {"episodes": run.episodes} if battles else {}
    rest = win_rate(random, run.task, "random_win_rate")
    rest |= {"lost_episodes": run.lost_episodes} if battles else {}
    decided = {name: float(result.info[name].mean()) for name in DECIDED if name in result.info}
    return {
        "algorithm": run.agent.algorithm,
        "task": run.task.title,
        **about,
        "seed": settings.training.seed,
        "frames": run.frames,
        "updates": run.updates,
        **counts,
        "wall_seconds": round(run.wall_seconds, 1),
        **win_rate(result, run.task),
        "eval_return_mean": result.mean,
        "eval_return_ci95": result.ci95,
        "actions": "mean" if result.greedy is None else "drawn",
        **result.beside(),
        **decided,
        **run.task.judge(result.info),
        "eval_episodes": result.returns.numel(),
        "latent_mode": "sample" if run.agent.policy.reads_latent else "none",
        "random_return_mean": random.mean,
        **rest,
        "notes": list(run.notes),
        "device": device_name(settings.training.device),
        "milliseconds_by_threads": {str(n): ms for n, ms in run.threads.milliseconds.items()},
        "versions": versions(),
        "git_commit": git_commit(),
    }


def joined_summary(summaries: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Means over a run's seeds of all that was measured, and each seed's summary.

    The return has its 95% interval over seeds (half its width).
    """
    mean = summarize_returns([summary["eval_return_mean"] for summary in summaries]).mean
    measured = [key for key, value in summaries[0].items() if isinstance(value, float)]
    joined = {
        **summaries[0],
        **{key: sum(one[key] for one in summaries) / len(summaries) for key in measured},
        "seed": seed,
        "eval_return_mean": mean.value,
        "eval_return_ci95": (mean.high - mean.low) / 2,
    }
    return {**joined, "seeds": list(summaries)}


def device_name(device: str) -> str:
    """What ran it: the GPU's name, or the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
