"""Evaluate a trained run: returns by where the latent comes from, and how coordinated actions are.

    python recipes/evaluate.py run_dir=runs/demo episodes=20 latent=all coordination=true

latent is one of sample, mean, constant, synchronized, independent, or all. Actions are the
policies' means, or the most probable ones of runs of train_smac.py. Every mode plays the same
starts.

coordination=true plays once more, with actions and z drawn, and measures in coordination_rows of
the states that were visited: the mutual information of every pair's actions from below and from
above (with coordination_latents extra latents), and the correlation of the actions, each given the
state (docs/metrics.md).

It prints tables and writes run_dir/evaluation.json and run_dir/evaluation.png.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, get_args

import torch
from command_line import boolean, fail, integer
from omegaconf import DictConfig, OmegaConf
from torchrl.envs import EnvBase

from vm3ac_modules.envs import time_limit
from vm3ac_modules.evaluation import (
    coordination_table,
    evaluate,
    evaluate_battles,
    evaluation_figure,
    measure_coordination,
)
from vm3ac_modules.files import write_json
from vm3ac_modules.keys import Keys
from vm3ac_modules.learning import evaluation_seed
from vm3ac_modules.modules.latent import CategoricalPrior, LatentMode, LatentSampler
from vm3ac_modules.runs import CheckpointError, git_commit, load_agent, versions
from vm3ac_modules.runs.loading import TrainedAgent

DEFAULTS = {
    "run_dir": None,
    "episodes": 20,
    "latent": "all",
    "seed": None,
    "device": "cpu",
    "coordination": True,
    "coordination_rows": 256,
    "coordination_latents": 1024,
}
MODES: tuple[str, ...] = get_args(LatentMode)


def parse(arguments: list[str]) -> DictConfig:
    """Read key=value arguments; end with one sentence if they cannot be meant."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        sys.exit(0)
    given = OmegaConf.from_cli(arguments)
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        fail(f"unknown key {', '.join(unknown)}; valid: {', '.join(DEFAULTS)}.")
    cfg = OmegaConf.merge(DEFAULTS, given)
    if cfg.run_dir is None:
        fail("say which run: run_dir=<directory of a run>.")
    if cfg.latent not in (*MODES, "all"):
        fail(f"unknown latent {cfg.latent!r}; valid: {', '.join(MODES)}, all.")
    boolean("coordination", cfg.coordination)
    smallest = {"episodes": 1, "coordination_rows": 2, "coordination_latents": 2, "seed": 0}
    for name, least in smallest.items():
        if name != "seed" or cfg.seed is not None:
            integer(name, cfg[name], least)
    return cfg


def modes_of(policy: Any, latent: str, keys: Keys) -> list[str]:
    """The modes to play: for a policy without latent there is one, for ``all`` those that exist."""
    samplers = [m for m in getattr(policy, "module", ()) if isinstance(m, LatentSampler)]
    if not samplers:
        # An episode's latent (MAVEN) comes from the environment's transform, always drawn.
        return ["sample" if keys.latent in policy.in_keys else "none"]
    if latent != "all":
        return [latent]
    refused = ("mean",) if isinstance(samplers[0].prior, CategoricalPrior) else ()
    return [mode for mode in MODES if mode not in refused]


def play_all(cfg: DictConfig, trained: TrainedAgent, env: EnvBase, seed: int) -> dict[str, Any]:
    """Play the episodes of every mode, and of the random policy."""
    player, play = trained.agent.policy, evaluate
    if trained.plays_battles:
        player, play = trained.agent.greedy, evaluate_battles
    rows: dict[str, Any] = {}
    options = {"max_steps": steps_of(trained, env), "seed": seed, "keys": trained.agent.keys}
    modes = modes_of(player, cfg.latent, trained.agent.keys)
    for name, policy in {**dict.fromkeys(modes, player), "random": None}.items():
        mode = "sample" if name in ("none", "random") else name
        result = play(policy, env, latent=mode, **options)
        metrics = {key: float(values.mean()) for key, values in result.info.items()}
        rows[name] = {"return_mean": result.mean, "return_ci95": result.ci95, **metrics}
    return rows


def steps_of(trained: TrainedAgent, env: EnvBase) -> int:
    """The time limit of an episode."""
    return time_limit(env) if trained.plays_battles else trained.config["task"]["max_steps"]


def run(cfg: DictConfig) -> dict[str, Any]:
    """Play, measure and collect the results."""
    trained = load_agent(cfg.run_dir, device=cfg.device)
    seed = evaluation_seed(trained.config["seed"]) if cfg.seed is None else cfg.seed
    env = trained.make_env(cfg.episodes, device=cfg.device, seed=seed)
    rows = play_all(cfg, trained, env, seed)
    measured = None
    if cfg.coordination:
        sizes = {"rows": cfg.coordination_rows, "num_latents": cfg.coordination_latents}
        found = measure_coordination(
            trained.agent, env, max_steps=steps_of(trained, env), seed=seed, **sizes
        )
        measured = found.summary()
    return {
        "algorithm": trained.agent.algorithm,
        "task": trained.task,
        "frame": trained.frame,
        "episodes": cfg.episodes,
        "seed": seed,
        "results": rows,
        "coordination": measured,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def main() -> None:
    """Parse, play, print, write."""
    cfg = parse(sys.argv[1:])
    torch.set_num_threads(1)
    try:
        report = run(cfg)
    except (CheckpointError, ValueError, ImportError) as error:
        fail(str(error))
    results = {name: defined(row) for name, row in report["results"].items()}
    write_json(f"{cfg.run_dir}/evaluation.json", {**report, "results": results})
    show(report)
    title = f"{report['algorithm']} on {report['task']}"
    try:
        evaluation_figure(
            f"{cfg.run_dir}/evaluation.png", report["results"], report["coordination"], title=title
        )
    except ImportError as error:
        print(f"No figure: {error}")


def defined(row: Mapping[str, float]) -> dict[str, float | None]:
    """The row as JSON takes it: None for what is no number, as the interval of one episode."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def show(report: dict[str, Any]) -> None:
    """Print the returns, and what was found about the coordination."""
    print(
        f"{report['algorithm']} on {report['task']}, {report['frame']} frames trained, "
        f"{report['episodes']} episodes, deterministic actions"
    )
    for name, row in report["results"].items():
        title = "random policy" if name == "random" else f"z {name}"
        won = f", win rate {row['battle_won']:.2f}" if "battle_won" in row else ""
        half = f"{row['return_ci95']:.1f}" if math.isfinite(row["return_ci95"]) else "-"
        print(f"  {title:16s} return {row['return_mean']:8.1f} +- {half}{won}")
    if report["coordination"] is not None:
        print(coordination_table(report["coordination"]))


if __name__ == "__main__":
    main()
