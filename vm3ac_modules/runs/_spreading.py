"""Options of collecting with several processes, checked, and what they make of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchrl.envs import EnvBase

from vm3ac_modules.envs.carried import foreign_parts
from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.extras import require_extra
from vm3ac_modules.learning._spread import Spread
from vm3ac_modules.options import Options, OptionsError, option

if TYPE_CHECKING:
    from vm3ac_modules.learning.agent import Agent


@dataclass(frozen=True, kw_only=True)
class CollectorOptions(Options):
    """Options of collecting steps with worker processes."""

    collector: str = option(
        "sync",
        "who plays: this process; processes that wait for each other (multi_sync) or do not "
        "(multi_async); the machines of a Ray cluster",
        choices=("sync", "multi_sync", "multi_async", "ray"),
    )
    collector_workers: int = option(
        1, "worker processes, which share num_envs, unless collector=sync", least=1
    )
    weights_every_frames: int | None = option(
        None,
        "frames that workers play with the same weights, rounded up to steps of all rows; null: "
        "one step",
        least=1,
    )


def check_collector(run: Any, task: Task) -> None:
    """Refuse options of collecting that do not go together.

    Args:
        run: the options of a training on transitions.
        task: what is trained on.

    Raises:
        OptionsError: says which, and what to do.
        ImportError: Ray is not installed.
    """
    workers, rows = run.collector_workers, run.num_envs
    if run.collector == "sync":
        given = {"collector_workers": workers > 1, "weights_every_frames": run.weights_every_frames}
        for name in (name for name, value in given.items() if value):
            raise OptionsError(
                f"{name} is for worker processes: give collector=multi_sync, multi_async or ray."
            )
        return
    if run.cudagraph_steps:
        raise OptionsError(
            "cudagraph_steps=true replays the steps of this process, and "
            f"collector={run.collector} steps in others: leave one of them out."
        )
    if rows % workers:
        raise OptionsError(
            f"num_envs={rows} cannot be shared equally by collector_workers={workers}: take "
            f"num_envs={-(-rows // workers) * workers}, or fewer workers."
        )
    if run.seeds > 1:
        raise OptionsError(
            f"seeds={run.seeds} are trained side by side in one process: with collector="
            f"{run.collector} start a run per seed (-m seed=range(0,{run.seeds}))."
        )
    if task.options.get("num_workers", 1) != 1:
        raise OptionsError(
            f"task.env.num_workers={task.options['num_workers']} and collector={run.collector} "
            "both start processes: give one of them."
        )
    if task.best_response is not None:
        raise OptionsError(
            f"{task.name} has an adversary that learns from all rows, and every worker would have "
            "its own: use collector=sync."
        )
    if run.collector == "ray":
        require_extra("ray", "ray", "collector=ray")


def spread_of(run: Any, task: Task) -> Spread | None:
    """How a training spreads its rows over processes; None if it plays in its own."""
    if getattr(run, "collector", "sync") == "sync":
        return None
    steps = -(-(run.weights_every_frames or 1) // run.num_envs)
    return Spread(run.collector, run.collector_workers, run.num_envs, steps, run.seed, task.make)


def check_spread(spread: Spread, agent: Agent, env: EnvBase) -> None:
    """Reject options that need all rows in one process.

    Args:
        spread: how rows are spread.
        agent: the agent.
        env: an environment like the workers'.

    Raises:
        OptionsError: says what, and what to do.
    """
    # What learns can be frozen for evaluations, which every run asks for.
    learning = [type(part).__name__ for part in foreign_parts(env) if hasattr(part, "freeze")]
    if learning:
        raise OptionsError(
            f"{', '.join(learning)} of the task learns from what is collected, and every worker "
            "would have its own: use collector=sync."
        )
    if spread.kind == "multi_async" and list(agent.replay_transforms()):
        raise OptionsError(
            f"{agent.algorithm} stores steps with those that follow, and workers that do not wait "
            "bring them out of order: use collector=multi_sync or ray."
        )


def crowded(spread: Spread, cores: int) -> str:
    """A sentence if there are more workers on this machine than cores, else nothing."""
    if spread.kind == "ray" or spread.workers <= cores:
        return ""
    return (
        f"{spread.workers} workers share {cores} cores and take turns: collector_workers={cores} "
        "is as fast"
    )
