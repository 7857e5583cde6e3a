"""BenchMARL's MASAC with the sizes of end_to_end.py, in an environment that has BenchMARL.

python recipes/benchmarks/end_to_end_benchmarl.py FRAMES
"""

from __future__ import annotations

import sys
import tempfile

import torch
from benchmarl.algorithms import MasacConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig


def main(frames: int) -> None:
    """Train as BenchMARL does: a quarter of the frames, then their updates, then an evaluation."""
    torch.set_num_threads(1)
    quarter = frames // 4
    config = ExperimentConfig.get_from_yaml()
    config.sampling_device = config.train_device = config.buffer_device = "cpu"
    config.share_policy_params = False
    config.max_n_frames = frames
    config.off_policy_n_envs_per_worker = 32
    config.off_policy_collected_frames_per_batch = quarter
    config.off_policy_n_optimizer_steps = 2 * quarter // 32
    config.off_policy_train_batch_size = 128
    config.off_policy_init_random_frames = 320
    config.evaluation_interval = quarter
    config.evaluation_episodes = 10
    config.render = False
    config.loggers = []
    config.create_json = False
    config.save_folder = tempfile.mkdtemp()
    task = VmasTask.NAVIGATION.get_from_yaml()
    task.config["n_agents"], task.config["max_steps"] = 3, 100
    network = MlpConfig(
        num_cells=[128, 128], layer_class=torch.nn.Linear, activation_class=torch.nn.ReLU
    )
    Experiment(
        task=task,
        algorithm_config=MasacConfig.get_from_yaml(),
        model_config=network,
        critic_model_config=network,
        seed=0,
        config=config,
    ).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
