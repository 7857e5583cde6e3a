"""Play a trained run's agent in every mode of its latent."""

from __future__ import annotations

from pathlib import Path

from vm3ac_modules.evaluation.protocol import evaluate
from vm3ac_modules.learning.seeding import evaluation_seed
from vm3ac_modules.modules.latent import LatentMode
from vm3ac_modules.runs.loading import load_agent

__all__ = ["play"]


def play(run_dir: Path, episodes: int) -> dict[str, dict[str, float]]:
    """Mean return by where the latent comes from, on the starts of the run's own evaluations.

    Args:
        run_dir: directory of a run on a task that is played in steps.
        episodes: number of episodes.

    Returns:
        ``return_mean`` and ``return_ci95`` by mode; ``"none"`` is that of a policy without a
        latent, ``"random"`` are uniformly random actions.
    """
    trained = load_agent(run_dir)
    policy, seed = trained.policy, evaluation_seed(trained.seed)
    env = trained.make_env(episodes, seed=seed)
    modes: dict[str, LatentMode] = {mode: mode for mode in policy.latent_modes}
    if not modes:
        modes = {"sample" if policy.reads_latent else "none": "sample"}
    found = {}
    for name, latent in {**modes, "random": "sample"}.items():
        result = evaluate(
            None if name == "random" else policy,
            env,
            max_steps=trained.task.limit(env),
            seed=seed,
            latent=latent,
            keys=trained.agent.keys,
        )
        found[name] = {"return_mean": result.mean, "return_ci95": result.ci95}
    return found
