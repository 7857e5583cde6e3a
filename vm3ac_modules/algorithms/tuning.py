"""What is chosen for one algorithm on one task: the values that differ from an option's default.

Of an algorithm's options and of the loop's. Whoever gives a value overrides these.

Source: Kim et al. 2023, arXiv:2303.00451, Table 2; docs/readings.md where the paper is silent; the
baselines' codes for the loop of battles.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from vm3ac_modules.algorithms.searched import SEARCHED, best

__all__ = ["TUNED", "tuned"]

MATRIX = "battle/games/*/[!gs]*"
"""Every small game but guard and same_mode."""

TUNED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("*", "predator_prey_*", {"reward_scale": 0.1}),
    ("*", "predator_prey_2", {"beta": 0.15}),
    ("*", "predator_prey_3", {"beta": 0.1}),
    ("*", "predator_prey_4", {"beta": 0.2}),
    ("*", "treasure_collection_*", {"beta": 0.05, "latent_dim": 10}),
    ("*", "cooperative_navigation_3", {"beta": 0.1}),
    ("*", "multiwalker_*", {"critic_input": "state", "num_envs": 16}),
    ("*", "multiwalker_[23]", {"beta": 0.05}),
    ("*", "multiwalker_4", {"beta": 0.1}),
    # Games of many steps against an adversary: an entropy of every step beside one score, values
    # that come back from the end, and a z for all steps. Many rows show the adversary the mixture,
    # and a critic that sees the adversary has no values of where it was. MAVEN draws z by what
    # critics see.
    *(
        ("*", task, values)
        for task in ("*rendezvous", "learning_prey")
        for values in (
            {"beta": 0.005, "tau": 0.02, "latent_dim": 4, "latent_held": True},
            {"lr": 1e-3, "hidden": (64, 64), "critic_input": "state"},
            {"num_envs": 256, "batch_size": 256, "buffer_size": 20_480, "updates_per_step": 2},
            {"frames": 512_000, "eval_every_frames": 51_200, "eval_episodes": 1024},
            {"checkpoint_every_frames": 102_400},
        )
    ),
    ("maven", "*rendezvous", {"critic_input": "observations"}),
    ("maven", "learning_prey", {"critic_input": "observations"}),
    # Attention is over the other agents' observations.
    ("vm3ac_attention", "*", {"critic_input": "observations"}),
    # First find each other, then hold the mixture against a guard that follows it.
    ("*", "guard", {"beta": 0.05, "beta_end": 0.2, "beta_frames": 64_000}),
    ("*_auto_*", "guard", {"beta_end": None, "beta_frames": None}),
    # Simulators that are no tensors: fewer rows.
    ("*", "pettingzoo/*", {"num_envs": 16}),
    ("*", "python:*", {"num_envs": 16}),
    # The best return of SMAX's shaped reward is 2, that of SMAC's own, when scaled, 20.
    ("*", "battle/smax/shaped/*", {"reward_scale": 10.0}),
    ("dop*", "battle/*", {"num_envs": 16, "batch_size": 16, "updates_per_episode": 0.25}),
    ("dop*", "battle/*", {"max_grad_norm": 20.0}),
    ("lica*", "battle/*", {"num_envs": 8, "batch_size": 8}),
    ("vdac*", "battle/*", {"num_envs": 8, "batch_size": 8}),
    ("fop_cpu", "battle/*", {"batch_size": 8, "updates_per_episode": 2.0}),
    ("vm3ac_cpu", "battle/*", {"batch_size": 8, "updates_per_episode": 2.0}),
    *((f"{name}_cpu", "battle/*", best(name, loop=True)) for name in SEARCHED),
    # Small games. The guard moves on: one update per round of 32 episodes, a recent replay.
    ("*", "battle/games/*", {"frames": 25_600, "num_envs": 32, "batch_size": 32, "lr": 2e-3}),
    ("*", "battle/games/*", {"buffer_size": 640, "start_episodes": 32}),
    ("*", "battle/games/*", {"updates_per_episode": 1 / 32, "eval_every_frames": 3_200}),
    ("*", "battle/games/*", {"epsilon_frames": 12_800}),
    ("*", "battle/games/*", {"temperature_start": 0.5, "temperature_end": 0.5}),
    ("*", "battle/games/*", {"temperature_frames": 4_800}),
    ("*", "battle/games/*/guard", {"reward_scale": 1.0, "eval_episodes": 1024}),
    ("*", "battle/games/*/same_mode", {"frames": 6_400, "eval_every_frames": 1_600}),
    ("*", "battle/games/*/same_mode", {"epsilon_frames": 3_200, "temperature_end": 0.01}),
    # A matrix stays: three updates per round, a replay of all of it, a best return of about 1.
    ("*", MATRIX, {"frames": 4_800, "buffer_size": 4_800, "eval_every_frames": 1_600}),
    ("*", MATRIX, {"updates_per_episode": 3 / 32, "batch_size": 64, "reward_scale": 0.1}),
    ("*", MATRIX, {"epsilon_start": 1.0, "epsilon_end": 0.05, "epsilon_frames": 3_600}),
    ("*", "battle/games/*/two_step", {"frames": 9_600, "eval_every_frames": 3_200}),
    ("*", "battle/games/*/two_step", {"epsilon_frames": 7_200, "temperature_frames": 9_600}),
    # A critic of joint actions needs all of them, and no entropy behind the end of a game.
    *(
        (name, MATRIX, values)
        for name in ("vm3ac", "fop")
        for values in (
            {"lr": 1e-2, "epsilon_start": 0.95, "epsilon_end": 0.9, "temperature_end": 0.1},
            {"strict_soft": True},
        )
    ),
    ("dop*", MATRIX, {"critic_lr": 2e-3}),
    ("lica*", MATRIX, {"lr": 1e-2, "critic_lr": 2e-2, "entropy_weight": 0.01}),
    ("lica*", MATRIX, {"epsilon_start": 0.0, "epsilon_end": 0.0, "batch_size": 32}),
    ("vdac*", MATRIX, {"value_weight": 0.5, "batch_size": 32}),
    ("vm3ac", "battle/games/*", {"num_latents": "all", "latent_dim": 4, "latent_gain": 10.0}),
    ("vm3ac", "battle/games/*", {"pair_weight": "mean", "predictor_lr": 5e-4}),
)
"""Patterns of algorithm and task, and values by option; later rows prevail."""

BESIDE = {"beta_end": ("beta", "auto_beta"), "beta_frames": ("beta", "auto_beta")}
"""Options that are tuned beside others: where one of these is given, the tuned value is not taken.
"""


def tuned(
    algorithm: str,
    task: str,
    names: Sequence[str] | None = None,
    *,
    given: Collection[str] = (),
) -> dict[str, Any]:
    """Return the tuned options of an algorithm on a task.

    Args:
        algorithm: name of the algorithm.
        task: name of the task; battles are ``battle/<backend>/<reward>/<map>``.
        names: options that are wanted; all if None.
        given: options that the caller sets; values that were tuned to go with them are left out.

    Returns:
        Value by option; options without a tuned value are absent.

    Example:
        >>> tuned("vm3ac", "predator_prey_2", ["beta", "lr"])
        {'beta': 0.15}
    """
    given = {*given}
    found: dict[str, Any] = {}
    for algorithms, tasks, values in TUNED:
        if fnmatchcase(algorithm, algorithms) and fnmatchcase(task, tasks):
            found |= values
    beside = {key for key, others in BESIDE.items() if not given.isdisjoint(others)}
    wanted = found.keys() if names is None else found.keys() & {*names}
    return {key: value for key, value in found.items() if key in wanted - beside}
