"""Experiments of BenchMARL that are over in a second, and transitions for their losses."""

from __future__ import annotations

import pytest

pytest.importorskip("benchmarl")

import torch
from benchmarl.environments import PettingZooTask, VmasTask
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models import MlpConfig
from tensordict import TensorDict
from torch import nn

from vm3ac_modules.integrations.benchmarl import ALGORITHMS

ROWS, STEPS = 2, 5
TASKS = {
    "balance": VmasTask.BALANCE,
    "navigation": VmasTask.NAVIGATION,
    "simple_tag": PettingZooTask.SIMPLE_TAG,
    "multiwalker": PettingZooTask.MULTIWALKER,
}


def perceptron(*widths, activation=nn.ReLU, **options):
    return MlpConfig(
        num_cells=list(widths), layer_class=nn.Linear, activation_class=activation, **options
    )


def make(
    tmp_path, name="vm3ac", task="balance", *, model=(8, 6), critic=None, algorithm=None, **options
):
    """An experiment of two collections of ten frames, with two updates after each."""
    chosen_task = TASKS.get(task, task)
    if isinstance(chosen_task, PettingZooTask):
        pytest.importorskip("pettingzoo")
    config = ExperimentConfig.get_from_yaml()
    frames = ROWS * STEPS
    chosen = {
        "max_n_frames": 2 * frames,
        "off_policy_collected_frames_per_batch": frames,
        "off_policy_n_envs_per_worker": ROWS,
        "off_policy_n_optimizer_steps": 2,
        "off_policy_train_batch_size": 4,
        "off_policy_memory_size": 100,
        "evaluation_interval": frames,
        "evaluation_episodes": 2,
        "loggers": ["csv"],
        "render": False,
        "save_folder": str(tmp_path),
        **options,
    }
    for key, value in chosen.items():
        assert hasattr(config, key)
        setattr(config, key, value)
    chosen_task = chosen_task.get_from_yaml()
    limit = "max_cycles" if "max_cycles" in chosen_task.config else "max_steps"
    chosen_task.config[limit] = 4
    values = ALGORITHMS[name].get_from_yaml() if isinstance(name, str) else name
    for key, value in (algorithm or {}).items():
        assert hasattr(values, key)
        setattr(values, key, value)
    return Experiment(
        task=chosen_task,
        algorithm_config=values,
        model_config=perceptron(*model) if isinstance(model, tuple) else model,
        critic_model_config=None if critic is None else perceptron(*critic),
        seed=0,
        config=config,
    )


def parameters(experiment):
    return {
        f"{group}.{name}": value.detach().clone()
        for group, loss in experiment.losses.items()
        for name, value in loss.named_parameters()
    }


def transitions(group, count, num_agents, obs_dim, action_dim):
    step = {"observation": torch.randn(count, num_agents, obs_dim)}
    agents = TensorDict(step, [count, num_agents])
    agents["action"] = 2 * torch.rand(count, num_agents, action_dim) - 1
    team = {"reward": torch.randn(count, 1), "terminated": torch.rand(count, 1) < 0.5}
    return TensorDict({group: agents, "next": {group: TensorDict(step), **team}}, [count])
