"""From a run directory back to a trained agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchrl.envs import EnvBase, TransformedEnv

from vm3ac_modules.algorithms.discrete import DiscreteAgent, build_discrete
from vm3ac_modules.algorithms.registry import Agent, build
from vm3ac_modules.envs.battles.factory import make_battle_env
from vm3ac_modules.envs.factory import make_env
from vm3ac_modules.runs.checkpoint import load_checkpoint

__all__ = ["TrainedAgent", "load_agent"]


class TrainedAgent(NamedTuple):
    """A trained agent and what it was trained on."""

    agent: Agent | DiscreteAgent
    """Policy, loss and fresh optimizers."""
    config: dict[str, Any]
    """The run's configuration."""
    frame: int
    """Environment steps that the agent was trained for."""

    @property
    def task(self) -> str:
        """Name of the task or map."""
        name: str = self.config["map"] if self.plays_battles else self.config["task"]["name"]
        return name

    @property
    def plays_battles(self) -> bool:
        """Whether it was trained on StarCraft-like battles."""
        return "map" in self.config

    def make_env(self, num_envs: int, **options: Any) -> TransformedEnv:
        """Build the task that the agent was trained on.

        Args:
            num_envs: rows B.
            options: passed to :func:`~vm3ac_modules.envs.make_env` (or
                :func:`~vm3ac_modules.envs.make_battle_env`), e.g. ``seed``, ``device``.

        Returns:
            The environment, ``[B]``.
        """
        return self.agent.wrap(_make_env(self.config, num_envs, **options))


def _make_env(config: dict[str, Any], num_envs: int, **options: Any) -> EnvBase:
    if "map" in config:
        choice = {"backend": config["backend"], "reward": config["reward"], **config["env"]}
        return make_battle_env(config["map"], num_envs, **{**choice, **options})
    task = config["task"]
    return make_env(
        task["name"], num_envs, **{"max_steps": task["max_steps"], **task["env"], **options}
    )


def load_agent(run_dir: Path | str, *, device: torch.device | str = "cpu") -> TrainedAgent:
    """Load the agent of a run's last checkpoint.

    Args:
        run_dir: directory of a run of ``recipes/train_continuous.py`` or ``recipes/train_smac.py``.
        device: where the networks shall live.

    Returns:
        The agent, the run's configuration and the frame of the checkpoint.

    Raises:
        CheckpointError: if there is no readable checkpoint.
        ImportError: if what the task needs is not installed; names the extra.

    Example:
        >>> trained = load_agent("runs/demo")  # doctest: +SKIP
        >>> policy = trained.agent.policy  # doctest: +SKIP
    """
    saved = load_checkpoint(run_dir, replay=False)
    described = saved.state["agent"]
    env = _make_env(saved.config, 1, device=device, seed=0)
    make = build_discrete if "map" in saved.config else build
    agent: Agent | DiscreteAgent = make(
        described["algorithm"], env, device=device, **described["knobs"]
    )
    agent.loss.load_state_dict(saved.state["loss"])
    return TrainedAgent(agent, saved.config, saved.frame)
