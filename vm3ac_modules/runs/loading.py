"""From a run directory back to a trained agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchrl.envs import TransformedEnv

from vm3ac_modules.algorithms.registry import build_from
from vm3ac_modules.envs.carried import load_carried
from vm3ac_modules.envs.tasks import Task
from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.modules.policy import Policy
from vm3ac_modules.runs.checkpoint import CheckpointError
from vm3ac_modules.runs.packed import LEFT_OUT, read_agent
from vm3ac_modules.runs.settings import Settings, check_device
from vm3ac_modules.runs.trust import check_trusted

__all__ = ["TrainedAgent", "load_agent"]


class TrainedAgent(NamedTuple):
    """A trained agent and what it was trained on."""

    agent: Agent
    """Policy, loss and fresh optimizers; critics are fresh as well in agents of the zoo."""
    settings: Settings
    """The run's settings."""
    frame: int
    """Environment steps that the agent was trained for."""
    carried: Mapping[str, Mapping[str, Tensor]] = {}
    """What transforms of the environment had learned by then, see
    :func:`~vm3ac_modules.envs.carried.carried`."""

    def __repr__(self) -> str:
        """Algorithm, task and frames: the networks would fill pages."""
        return f"TrainedAgent({self.agent.algorithm} on {self.task_name}, {self.frame:,} frames)"

    @property
    def task(self) -> Task:
        """The task."""
        return self.settings.task

    @property
    def task_name(self) -> str:
        """What the run's summary calls the task: its name, or the map of a battle."""
        return self.task.title

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return self.settings.training.seed

    @property
    def policy(self) -> Policy:
        """The policy without exploration, as evaluations play it."""
        return self.agent.policy.greedy()

    def make_env(
        self, rows: int, *, device: torch.device | str = "cpu", seed: int | None = None
    ) -> TransformedEnv:
        """Build the task that the agent was trained on, with all that its policy needs.

        Args:
            rows: rows B.
            device: device of the entries.
            seed: seed of the environment.

        Returns:
            The environment, ``[B]``.
        """
        env = self.task.make(rows, device=device, seed=seed, training=False)
        load_carried(env, self.carried)
        return self.agent.wrap(env)


def load_agent(
    run_dir: Path | str, *, device: torch.device | str = "cpu", trust: bool = False
) -> TrainedAgent:
    """Load the agent of a run's last checkpoint, a packed agent, or one of the zoo.

    Args:
        run_dir: directory of a run or of a packed agent, or ``zoo/<name>``
            (:func:`~vm3ac_modules.runs.zoo_names` lists them).
        device: where the networks shall live.
        trust: import the module of a task ``python:<module>:<function>`` that the directory names.
            Importing runs code; give it for directories of your own only.

    Returns:
        The agent, the run's settings and the frame of the checkpoint.

    Raises:
        CheckpointError: if there is no readable checkpoint, or a packed agent is damaged or of a
            newer format.
        UntrustedError: if it names a module to import, and ``trust`` is not given.
        ValueError: for a device that is not here.
        ImportError: if what the task needs is not installed; names the extra.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("vmas"), pytest.importorskip("safetensors")
        >>> trained = load_agent("zoo/predator_prey_2")  # or load_agent("runs/demo")
        >>> env = trained.make_env(4, seed=0)
        >>> env.rollout(5, trained.policy)["next", "agents", "reward"].shape
        torch.Size([4, 5, 2, 1])
    """
    check_device(device)
    saved = read_agent(run_dir)
    check_trusted(saved.config, run_dir, trust)
    settings = _settings(saved.config, run_dir, device)
    env = settings.task.make(1, device=device, seed=0, training=False)
    agent = build_from(settings.algorithm, env, name=settings.name, device=device)
    expected = [k for k in agent.loss.state_dict() if not k.startswith(LEFT_OUT)]
    if saved.acts_only and (apart := {*expected} ^ saved.loss.keys()):
        raise CheckpointError(
            f"{run_dir} holds networks of another form than its configuration says: "
            f"{', '.join(sorted(apart)[:3])}."
        )
    try:
        agent.loss.load_state_dict(saved.loss, strict=not saved.acts_only)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{run_dir} holds networks of another form than its configuration says: {error}"
        ) from error
    carried = saved.carried
    if not isinstance(carried, dict):
        raise CheckpointError(f"{run_dir} does not say what its environment's transforms hold.")
    return TrainedAgent(agent, settings, saved.frame, carried)


def _settings(
    config: Mapping[str, Any], run_dir: Path | str, device: torch.device | str
) -> Settings:
    try:
        return Settings.of({**config, "run_dir": str(run_dir), "device": str(device)})
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{run_dir} holds no configuration of a run ({error}).") from error
