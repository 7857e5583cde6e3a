"""Draw how a trained agent plays: agents in colors, the latent of every step beside them.

    vm3ac play zoo/predator_prey_2
    vm3ac play runs/x latent=independent episode=3 format=gif

writes rollout.gif and rollout.mp4 into the run's directory, or into runs/zoo/<name> for an agent of
the zoo (with another latent than sample, rollout_<latent>.gif). Without the extra video there is no
ffmpeg, and no MP4. Starts are those of the run's evaluations, or of vm3ac evaluate's for a packed
agent: episode says which one; behind the last one the starts are others. Actions are those that
evaluations play: drawn in battles, the policies' means elsewhere; a run's own rollout.gif has the
same. Games of one step are shown one after the other, the mode of the best response filled.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vm3ac_modules.cli.arguments import program
from vm3ac_modules.cli.evaluate import MODES
from vm3ac_modules.evaluation import EvaluationResult, evaluate
from vm3ac_modules.evaluation.film import check_film
from vm3ac_modules.evaluation.names import plus_minus
from vm3ac_modules.evaluation.protocol import EXPLORATION, usual_actions
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import TrainedAgent, files_directory, load_agent
from vm3ac_modules.runs._pictures import GAMES, draw_episode, film_title, observer
from vm3ac_modules.runs.record import read_config

__all__ = ["Play", "main"]


@dataclass(frozen=True, kw_only=True)
class Play(Options):
    """Options of ``vm3ac play``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>")
    episode: int = option(0, "which start of the evaluations", least=0, most=10_000)
    latent: str = option("sample", "where the latent comes from", choices=MODES)
    actions: str | None = option(
        None,
        "mean or drawn; null: as evaluations play, drawn in battles and the policies' means else",
        choices=tuple(EXPLORATION),
    )
    format: str | None = option(
        None, "of the film; null: gif, and mp4 where it can be", choices=("gif", "mp4", "both")
    )
    out: str | None = option(None, "directory of the films; null: run_dir")
    fps: int | None = option(
        None, "pictures per second; null: as the task has it", least=1, most=50
    )
    seed: int | None = option(None, "seed of the starts; null: that of evaluations", least=0)
    trust: bool = option(False, "import the module of a task that run_dir names (python:...)")
    threads: int = option(1, "intra-op threads of torch", least=1)


def films(options: Play, folder: Path) -> tuple[list[Path], str]:
    """Paths that can be written, and a line on what cannot."""
    name = "rollout" if options.latent == "sample" else f"rollout_{options.latent}"
    wanted = ("gif", "mp4") if options.format in (None, "both") else (options.format,)
    paths, said = [], ""
    for suffix in wanted:
        path = folder / f"{name}.{suffix}"
        try:
            check_film(path)
            paths.append(path)
        except ImportError as error:
            if options.format is not None or suffix == "gif":
                raise
            said = f"No MP4: {error}\n"
    return paths, said


def _play(options: Play) -> None:
    torch.set_num_threads(options.threads)
    source = str(options.run_dir)
    trained = load_agent(source, trust=options.trust)
    if trained.policy.sampler is None and options.latent != "sample":
        raise OptionsError(f"{source} has no sampled latent: leave latent out.")
    place = files_directory(source) if options.out is None else Path(options.out)
    paths, said = films(options, place)
    sys.stdout.write(said)
    seed = evaluation_seed(trained.seed) if options.seed is None else options.seed
    env = trained.make_env(rows_of(source, trained, options.episode), seed=seed)
    watched = observer(trained.task, env)
    if watched is None:
        raise OptionsError(f"the simulator of {trained.task_name} shows nothing to be drawn.")
    latent: Any = options.latent
    usual = usual_actions(trained.policy, trained.task.plays)
    actions: Any = options.actions or ("drawn" if usual == "both" else usual)
    result = evaluate(
        trained.policy,
        env,
        max_steps=trained.task.limit(env),
        seed=seed,
        latent=latent,
        keys=trained.agent.keys,
        plays=trained.task.plays,
        actions=actions,
        observer=watched,
    )
    place.mkdir(parents=True, exist_ok=True)
    title = film_title(trained.agent.algorithm, trained.task, trained.seed)
    draw_episode(
        paths, trained.task, env, result, title=title, index=options.episode, fps=options.fps
    )
    sys.stdout.write(f"{said_of(result, options.episode)} -> {', '.join(map(str, paths))}\n")


def rows_of(source: str, trained: TrainedAgent, episode: int) -> int:
    """Rows to play in: those of the run's evaluations, since their number moves all draws."""
    training, own = trained.settings.training, Path(source) / "config.yaml"
    # Checkpoints do not say it, and packed agents have no config.yaml.
    saved = read_config(own) if own.is_file() else {}
    episodes = training.changed(
        {k: v for k, v in saved.items() if k == "eval_episodes"}
    ).eval_episodes
    games = 16 * GAMES if trained.task.limit(trained.make_env(1)) == 1 else 1
    return max(trained.task.rows(episodes, training.num_envs), episode + 1, games)


def said_of(result: EvaluationResult, episode: int) -> str:
    """How the episode went, in a few words."""
    if int(result.lengths.max()) == 1:
        return f"{len(result.returns)} games, mean return {plus_minus(result.mean, math.nan)}"
    won = result.info.get("battle_won")
    end = "" if won is None else ", won" if bool(won[episode]) else ", lost"
    own = plus_minus(float(result.returns[episode]), math.nan)
    return f"{int(result.lengths[episode])} steps, return {own}{end}"


main = program(_play, "vm3ac play", __doc__, Play)
"""Read a command line, and do what it says."""
