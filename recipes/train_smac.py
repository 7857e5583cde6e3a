"""Train VM3-AC on FOP or a baseline on StarCraft-like battles; docs/metrics.md explains the logs.

python recipes/train_smac.py algorithm=vm3ac map=3s_vs_3z reward=sparse seed=0 run_dir=runs/x
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from battle_run import BattleRun
from command_line import check_overrides, fail
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from progress import resumed_config
from torchrl.envs import EnvBase
from tqdm import tqdm

from vm3ac_modules.algorithms import DiscreteAgent, build_discrete
from vm3ac_modules.envs import make_battle_env, time_limit
from vm3ac_modules.learning import EpisodeCollector, EpisodeSource, NonFiniteError, seed_everything
from vm3ac_modules.runs import CheckpointError, RunDirectoryError, open_run_directory

CONFIG_DIR = Path(__file__).parent / "config_smac"
POSITIVE = (
    *("frames", "num_envs", "batch_size", "updates_per_episode", "buffer_size", "threads"),
    *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
)
# Knobs of the algorithms' files that belong to the loop.
OF_THE_LOOP = ("num_envs", "batch_size", "updates_per_episode", "max_grad_norm")
# The best return of a battle: 200 from SMAC's own reward is 20 when scaled, SMAX's shaped one is 2.
SHAPED_SCALE = 10.0


def make_env(cfg: DictConfig, num_envs: int, seed: int) -> EnvBase:
    """Build the configuration's battles."""
    options = OmegaConf.to_container(cfg.env, resolve=True)
    choice = {"backend": cfg.backend, "reward": cfg.reward, "seed": seed, "device": cfg.device}
    return make_battle_env(cfg.map, num_envs, **choice, **options)


def build_agent(cfg: DictConfig, env: EnvBase) -> DiscreteAgent:
    """Hand the configuration's knobs to the library's one builder."""
    knobs: dict[str, Any] = OmegaConf.to_container(cfg.algorithm, resolve=True)
    algorithm = knobs.pop("name")
    knobs = {name: value for name, value in knobs.items() if name not in OF_THE_LOOP}
    knobs |= {name: cfg[name] for name in ("lr", "gamma", "hidden_size", "share_params")}
    scale = cfg.reward_scale
    if scale is None:
        scale = SHAPED_SCALE if (cfg.backend, cfg.reward) == ("smax", "shaped") else 1.0
    return build_discrete(algorithm, env, device=cfg.device, reward_scale=scale, **knobs)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run the training that the configuration describes and return its summary."""
    for name in POSITIVE:
        if not cfg[name] > 0:
            raise ValueError(f"{name} must be positive, got {cfg[name]}.")
    torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed)
    env = make_env(cfg, cfg.num_envs, cfg.seed)
    agent = build_agent(cfg, env)
    max_steps, env = time_limit(env), agent.wrap(env)
    if agent.loss.on_policy is True and cfg.num_envs % cfg.batch_size:
        raise ValueError(
            f"{agent.algorithm} uses every episode once: num_envs must be a multiple of "
            f"batch_size, got {cfg.num_envs} and {cfg.batch_size}."
        )
    source = EpisodeSource(
        agent.loss.on_policy,
        capacity=cfg.buffer_size,
        batch_size=cfg.batch_size,
        updates_per_episode=cfg.updates_per_episode,
        start_episodes=cfg.start_episodes,
    )
    collector = EpisodeCollector(env, agent.policy, max_steps, agent.recorded)
    # Nothing is written before all of the above could be built.
    run_dir = open_run_directory(cfg.run_dir, resume=cfg.resume, overwrite=cfg.overwrite)
    # A row of the real game is a process: no more of them than in training, in several rounds.
    test_rows = cfg.eval_episodes if cfg.backend == "smax" else min(cfg.eval_episodes, cfg.num_envs)
    test_env = agent.wrap(make_env(cfg, test_rows, cfg.seed))
    with BattleRun(cfg, run_dir, agent, env, test_env, max_steps, source) as run:
        if cfg.resume:
            run.restore()
        run.open_logs()
        loop(cfg, agent, collector, source, run)
        return run.finish()


def loop(
    cfg: DictConfig,
    agent: DiscreteAgent,
    collector: EpisodeCollector,
    source: EpisodeSource,
    run: BattleRun,
) -> None:
    """Play a round of episodes, update, evaluate and save at fixed frames."""
    if run.frames == 0:
        run.evaluate()
    bar = tqdm(total=cfg.frames, initial=run.frames, unit="frame", mininterval=1.0)
    while run.frames < cfg.frames:
        agent.set_frames(run.frames)
        played = collector.play()
        new = int(played.lengths.sum())
        run.frames += new
        run.note(played)
        source.add(played.episodes)
        agent.after_round(played, run.frames)

        for batch in source.batches():
            losses = agent.update(batch.to(cfg.device), cfg.max_grad_norm)
            run.updates += 1
            run.accumulate(losses)
            if run.updates % cfg.log_every_updates == 0:
                run.write_metrics()

        bar.update(new)
        if run.crossed(new, cfg.eval_every_frames):
            bar.set_postfix_str(run.evaluate())
        if run.crossed(new, cfg.checkpoint_every_frames):
            run.save()
    bar.close()
    if run.saved_frame != run.frames:
        run.save()


@hydra.main(version_base="1.3", config_path="config_smac", config_name="train_smac")
def main(cfg: DictConfig) -> None:
    """Train and print the result."""
    try:
        if cfg.resume:
            cfg = resumed_config(cfg, HydraConfig.get().overrides.task)
        summary = train(cfg)
    except (RunDirectoryError, CheckpointError, NonFiniteError, ValueError, ImportError) as error:
        fail(f"{type(error).__name__}: {error}")
    print(said(summary), f"-> {cfg.run_dir}")


def said(summary: dict[str, Any]) -> str:
    """The result in a line."""
    return (
        f"{summary['algorithm']} on {summary['map']} ({summary['backend'].upper()}, "
        f"{summary['reward']} reward): win rate {summary['win_rate']:.2f}, return "
        f"{summary['eval_return_mean']:.1f} +- {summary['eval_return_ci95']:.1f} "
        f"(random policy {summary['random_return_mean']:.1f}), {summary['frames']} frames, "
        f"{summary['updates']} updates, {summary['wall_seconds']:.0f} s"
    )


if __name__ == "__main__":
    check_overrides(sys.argv[1:], CONFIG_DIR, "train_smac")
    main()
