"""Evaluate a trained run: returns by where the latent comes from, and how coordinated actions are.

    vm3ac evaluate run_dir=runs/demo episodes=20 latent=all coordination=true

latent is one of sample, mean, constant, synchronized, independent, or all. actions is mean (the
policies' means, or the likeliest of discrete actions), drawn, or both: drawn, with greedy play
beside it. Without it battles are played both ways, the rest with mean actions. Every mode and both
ways play the same starts.

coordination=true plays once more, with actions and z drawn, and measures in coordination_rows of
the states that were visited: the mutual information of every pair's actions from below and from
above (with coordination_latents extra latents), and the correlation of the actions, each given the
state (docs/metrics.md).

It prints tables and writes run_dir/evaluation.json and run_dir/evaluation.png; of an agent of the
zoo (run_dir=zoo/<name>) into runs/zoo/<name>.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torchrl.envs import EnvBase

from vm3ac_modules.cli.arguments import fail, figure_forms, program
from vm3ac_modules.evaluation import (
    coordination_table,
    evaluate,
    evaluation_figure,
    measure_coordination,
)
from vm3ac_modules.evaluation.names import algorithm_title, decimals, plus_minus, task_title
from vm3ac_modules.evaluation.protocol import Actions, usual_actions
from vm3ac_modules.files import write_json
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.modules.latent import LatentMode
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import TrainedAgent, files_directory, git_commit, load_agent, versions

__all__ = ["Evaluation", "main"]

RETURNS = ("return_mean", "return_ci95", "best_response_value")
ACTIONS = {
    "mean": "mean actions",
    "drawn": "drawn actions",
    "both": "drawn actions, beside greedy ones",
}
MODES: tuple[str, ...] = get_args(LatentMode)


@dataclass(frozen=True, kw_only=True)
class Evaluation(Options):
    """Options of ``vm3ac evaluate``."""

    run_dir: str | None = option(None, "directory of a run, or zoo/<name>")
    episodes: int = option(20, "episodes of every mode", least=1)
    latent: str = option("all", "where the latent comes from", choices=(*MODES, "all"))
    actions: str | None = option(
        None,
        "the policies' means, drawn, or both; null: both in battles",
        choices=get_args(Actions),
    )
    seed: int | None = option(None, "seed of the starts; null: that of evaluations", least=0)
    device: str = option("cpu", "where networks and simulation run")
    trust: bool = option(False, "import the module of a task that run_dir names (python:...)")
    threads: int = option(1, "intra-op threads of torch", least=1)
    coordination: bool = option(True, "measure how actions depend on each other")
    coordination_rows: int = option(256, "states to look at, at most", least=2)
    coordination_latents: int = option(1024, "extra latents of the estimates", least=2)
    coordination_draws: int = option(64, "joint actions per state", least=2)
    figures: str = option("png", "forms of the figure, separated by commas: png, svg, pdf")

    def __post_init__(self) -> None:
        super().__post_init__()
        figure_forms(self.figures)


def _evaluate(options: Evaluation) -> None:
    found = report(options)
    sys.stdout.write(text_of(found))
    try:
        _write(options, found)
    except OSError as error:
        what = error.filename or options.run_dir
        fail(f"{what} cannot be written ({error.strerror}); what was found stands above.")


def _write(options: Evaluation, found: Mapping[str, Any]) -> None:
    place = files_directory(str(options.run_dir))
    write_json(place / "evaluation.json", found)
    title = f"{algorithm_title(found['algorithm'])} on {task_title(found['task'])}"
    pictures = [place / f"evaluation.{form}" for form in figure_forms(options.figures)]
    try:
        evaluation_figure(pictures, found["results"], found["coordination"], title=title)
    except ImportError as error:
        sys.stdout.write(f"No figure: {error}\n")


def report(options: Evaluation) -> dict[str, Any]:
    """Play, measure and collect the results."""
    torch.set_num_threads(options.threads)
    trained = load_agent(str(options.run_dir), device=options.device, trust=options.trust)
    seed = evaluation_seed(trained.seed) if options.seed is None else options.seed
    rows = trained.task.rows(options.episodes, trained.settings.training.num_envs)
    env = trained.make_env(rows, device=options.device, seed=seed)
    actions = options.actions or usual_actions(trained.policy, trained.task.plays)
    names = [*modes_of(trained.policy, options.latent), "random"]
    found = play_modes(trained, env, names, seed, episodes=options.episodes, actions=actions)
    measured = None
    if options.coordination:
        measured = measure_coordination(
            trained.agent,
            env,
            max_steps=trained.task.limit(env),
            seed=seed,
            rows=options.coordination_rows,
            num_latents=options.coordination_latents,
            draws=options.coordination_draws,
        ).summary()
    return {
        "algorithm": trained.agent.algorithm,
        "task": trained.task_name,
        "frame": trained.frame,
        "episodes": options.episodes,
        "actions": actions,
        "seed": seed,
        "results": found,
        "coordination": measured,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def play(
    run_dir: Path, modes: Sequence[str], episodes: int, actions: Actions = "mean"
) -> dict[str, dict[str, float]]:
    """Mean and interval of a run's returns in modes that it has, on its own evaluations' starts.

    Nothing of a policy that draws no actions, where actions shall be drawn.
    """
    trained = load_agent(run_dir)
    if actions != "mean" and not trained.policy.draws_actions:
        return {}
    seed = evaluation_seed(trained.seed)
    env = trained.make_env(episodes, seed=seed)
    names = [name for name in [*modes_of(trained.policy, "all"), "random"] if name in modes]
    found = play_modes(trained, env, names, seed, episodes=episodes, actions=actions)
    return {name: {k: row[k] for k in RETURNS if k in row} for name, row in found.items()}


def play_modes(
    trained: TrainedAgent,
    env: EnvBase,
    names: Sequence[str],
    seed: int,
    *,
    episodes: int,
    actions: Any = "mean",
) -> dict[str, Any]:
    """Returns and the environment's metrics by mode; ``"random"`` are uniformly random actions."""
    rows: dict[str, Any] = {}
    for name in names:
        mode: Any = "sample" if name in ("none", "random") else name
        result = evaluate(
            None if name == "random" else trained.policy,
            env,
            max_steps=trained.task.limit(env),
            seed=seed,
            latent=mode,
            keys=trained.agent.keys,
            plays=trained.task.plays,
            episodes=episodes,
            actions="mean" if name == "random" else actions,
        )
        metrics = {key: float(values.mean()) for key, values in result.info.items()}
        metrics |= trained.task.judge(result.info)
        own = {"return_mean": result.mean, "return_ci95": result.ci95, **result.beside()}
        rows[name] = {**own, **metrics}
    return rows


def modes_of(policy: Policy, latent: str) -> list[str]:
    """The modes to play: for a policy without latent there is one, for ``all`` those that exist."""
    if policy.sampler is None:
        if latent not in ("all", "sample"):
            raise OptionsError(f"latent={latent}: the policy has no sampled latent; leave it out.")
        # An episode's latent (MAVEN) comes from the environment's transform, always drawn.
        return ["sample" if policy.reads_latent else "none"]
    return list(policy.latent_modes) if latent == "all" else [latent]


def text_of(found: Mapping[str, Any]) -> str:
    """The returns, and what was found about the coordination, as text."""
    lines = [
        f"{found['algorithm']} on {found['task']}, {found['frame']} frames trained, "
        f"{found['episodes']} episodes, {ACTIONS[found['actions']]}"
    ]
    returns = [(row["return_mean"], row["return_ci95"]) for row in found["results"].values()]
    digits = decimals(*(mean for mean, _ in returns))
    width = max(len(plus_minus(*pair, digits)) for pair in returns)
    for name, row in found["results"].items():
        title = "random policy" if name == "random" else f"z {name}"
        won = f", win rate {row['battle_won']:.2f}" if "battle_won" in row else ""
        if "greedy_win_rate" in row:
            won += f" (greedy {row['greedy_win_rate']:.2f})"
        if "policy_entropy" in row:
            won += f", entropy {row['policy_entropy']:.2f}, gap {row['logit_gap']:.2f} nats"
        if "best_response_value" in row:
            won += f", against the best response {row['best_response_value']:.3f}"
        own = plus_minus(row["return_mean"], row["return_ci95"], digits)
        lines.append(f"  {title:16s} return {own:>{width}s}{won}")
    if found["coordination"] is not None:
        lines.append(coordination_table(found["coordination"]))
    return "\n".join(lines) + "\n"


main = program(_evaluate, "vm3ac evaluate", __doc__, Evaluation)
"""Read a command line, and do what it says."""

if __name__ == "__main__":
    main()
