"""What a run's last evaluation watches of its task, and the pictures made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.envs.guard import GuardEnv
from vm3ac_modules.envs.rng import innermost
from vm3ac_modules.envs.tasks import Task, imports
from vm3ac_modules.evaluation.battles import battle_gif, unit_trace
from vm3ac_modules.evaluation.figures import Paths, learning_curve
from vm3ac_modules.evaluation.film import Area, rollout_gif
from vm3ac_modules.evaluation.joint_actions import meetings
from vm3ac_modules.evaluation.names import algorithm_title
from vm3ac_modules.evaluation.protocol import EvaluationResult
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.runs._logs import SeedFiles
from vm3ac_modules.runs.record import read_csv_log
from vm3ac_modules.runs.settings import Settings

POINTS = ("preys", "treasures", "landmarks", "shelters")
"""Where a scenario keeps the points that its agents go to."""
GAMES = 60
"""Games of one step that a film shows."""


def observer(task: Task, env: EnvBase) -> Callable[[EnvBase], Tensor] | None:
    """What is to be watched for a picture of an episode; None where the simulator shows nothing."""
    base: Any = innermost(env)
    if task.picture == "battle":
        # Asked of the class: there are no units before the first reset.
        return unit_trace if hasattr(type(base), "units") else None
    if isinstance(base, GuardEnv):
        # An episode is one step: the film shows one game after the other.
        return (
            None
            if base.discrete
            else lambda env: innermost(env).modes.expand(env.batch_size[0], -1, -1)
        )
    return positions if hasattr(base, "positions") or hasattr(base, "scenario") else None


def can_be_drawn(config: Mapping[str, Any]) -> bool:
    """Whether a film of a run can be made; True also where asking would start or import much.

    Args:
        config: of a run, as ``config.yaml`` holds it.
    """
    named = config.get("task")
    name = named.get("name") if isinstance(named, Mapping) else None
    if isinstance(name, str) and imports(name):
        return True  # a page imports no module that a directory names
    with suppress(ValueError, TypeError, AttributeError, KeyError, ImportError):
        task = Settings.of(dict(config)).task
        if not task.row_is_process:
            env = task.make(1, training=False)
            try:
                return observer(task, env) is not None
            finally:
                env.close(raise_if_closed=False)
    return True


def positions(env: EnvBase) -> Tensor:
    """Agents, then points that they go to, then whether each point is there, ``[E, N + 2M, 2]``.

    A flag fills both coordinates, so that one tensor says all.
    """
    base: Any = innermost(env)
    if hasattr(base, "positions"):
        found: Tensor = base.positions
        return found
    agents = torch.stack([agent.state.pos for agent in base.agents], dim=1)
    points = next((p for n in POINTS if (p := getattr(base.scenario, n, None)) is not None), None)
    if not isinstance(points, Tensor):
        return agents
    points = points.expand(agents.shape[0], -1, -1)
    there = getattr(base.scenario, "alive", torch.ones_like(points[..., 0])).to(points.dtype)
    return torch.cat((agents, points, there.unsqueeze(-1).expand_as(points)), dim=1)


def draw_all(
    run: RunBase, env: EnvBase, files: SeedFiles, result: EvaluationResult, baseline: float
) -> None:
    """Draw the learning curve and the first episode of the last evaluation."""
    title = film_title(run.agent.algorithm, run.task, files.settings.training.seed)
    rows = read_csv_log(files.run_dir / "eval.csv")
    learning_curve(files.run_dir / "curve.png", rows, baseline=baseline, title=title)
    if result.trace is not None:
        draw_episode(files.run_dir / "rollout.gif", run.task, env, result, title=title)


def film_title(algorithm: str, task: Task, seed: int) -> str:
    """The first line of a picture."""
    backend = f" ({task.about['backend'].upper()})" if "backend" in task.about else ""
    return f"{algorithm_title(algorithm)} on {task.title}{backend}, seed {seed}"


def draw_episode(
    paths: Paths,
    task: Task,
    env: EnvBase,
    result: EvaluationResult,
    *,
    title: str,
    index: int = 0,
    fps: int | None = None,
) -> None:
    """Draw one episode of an evaluation that was watched with :func:`observer`, latent included.

    Args:
        paths: the film to write, .gif or .mp4; or several.
        task: what was played.
        env: where it was played.
        result: the evaluation.
        title: first line of the title.
        index: which episode.
        fps: pictures per second; None for what the task usually has.

    Raises:
        ValueError: if the simulator showed nothing, or there is no such episode.
    """
    if result.trace is None:
        raise ValueError(f"{task.title} shows nothing that could be drawn.")
    if not 0 <= index < len(result.returns):
        raise ValueError(f"episode must be below {len(result.returns)}, got {index}.")
    speed: dict[str, Any] = {} if fps is None else {"fps": fps}
    if isinstance(innermost(env), GuardEnv):
        _draw_games(paths, innermost(env), result, {"title": title, "fps": 3, **speed})
        return
    length = int(result.lengths[index])
    moves = {name: values[index, :length].cpu() for name, values in result.moves.items()}
    shown = {"title": title, "latents": moves.get("latents"), **speed}
    if task.picture == "battle":
        battle_gif(paths, result.trace[index, : length + 1], **shown)
    else:
        _draw_rollout(paths, env, result.trace[index, :length].cpu(), moves, shown)


def _draw_games(
    paths: Paths, game: GuardEnv, result: EvaluationResult, shown: dict[str, Any]
) -> None:
    """One-step games one after the other; filled is the mode where the best response stands."""
    actions = result.moves["actions"][:, 0].cpu()
    guarded = int(meetings(actions.to(game.device), game)[1].argmax())
    areas = [
        Area((x, y), game.width, filled=game.guarded and mode == guarded)
        for mode, (x, y) in enumerate(game.modes.cpu().tolist())
    ]
    latents = result.moves.get("latents")
    rollout_gif(
        paths,
        actions[:GAMES],
        *(None, None, None),
        half_width=1.0,
        radius=0.06,
        latents=None if latents is None else latents[:GAMES, 0],
        areas=areas,
        trail=0,
        unit="game",
        **shown,
    )


def _draw_rollout(
    paths: Paths, env: EnvBase, trace: Tensor, moves: Mapping[str, Tensor], shown: dict[str, Any]
) -> None:
    """Draw an episode ``[T, N + 2M, 2]`` that was watched with :func:`positions`."""
    base: Any = innermost(env)
    rewards = moves.get("rewards")
    if hasattr(base, "positions"):
        # Seen from the side, a walk is long and flat: the window goes along with the first one.
        trace = trace - trace[:, :1]
        half_width = float(trace.abs().max()) * 1.2 + 0.5
        rollout_gif(paths, trace, None, None, rewards, half_width=half_width, radius=0.4, **shown)
        return
    num_agents = len(base.agents)
    agents, rest = trace[:, :num_agents], trace[:, num_agents:]
    points = there = None
    if rest.shape[1]:
        points, flags = rest.chunk(2, dim=1)
        there = flags[..., 0] > 0.5
    walls = getattr(base.scenario.world, "x_semidim", None)
    half_width = float(walls) if walls else float(trace.abs().max()) * 1.1
    shape = base.agents[0].shape
    radius = float(getattr(shape, "radius", None) or shape.circumscribed_radius())
    rollout_gif(
        paths, agents, points, there, rewards, half_width=half_width, radius=radius, **shown
    )
