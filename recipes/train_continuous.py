"""Train VM3-AC or a baseline on a continuous task; docs/metrics.md explains what is logged.

python recipes/train_continuous.py algorithm=vm3ac task=predator_prey_2 seed=0 run_dir=runs/x
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from command_line import check_overrides, fail, register_stock_tasks
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from progress import Progress, resumed_config
from reporting import Reporter
from tensordict import TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import EnvBase
from tqdm import tqdm

from vm3ac_modules.algorithms import Agent, build
from vm3ac_modules.envs import make_env
from vm3ac_modules.learning import (
    FiniteGuard,
    NonFiniteError,
    interleave,
    make_replay,
    seed_everything,
)
from vm3ac_modules.runs import CheckpointError, RunDirectoryError, open_run_directory

CONFIG_DIR = Path(__file__).parent / "config"
POSITIVE = (
    *("seeds", "frames", "num_envs", "batch_size", "updates_per_step", "buffer_size", "threads"),
    *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
)


def build_agent(cfg: DictConfig, env: EnvBase, seeds: int | None = None) -> Agent:
    """Hand the configuration's knobs to the library's one builder."""
    knobs: dict[str, Any] = OmegaConf.to_container(cfg.algorithm, resolve=True)
    algorithm = knobs.pop("name")
    for name in ("lr", "gamma", "tau", "reward_scale", "critic", "critic_input", "hidden"):
        knobs[name] = OmegaConf.to_container(OmegaConf.create({"v": cfg[name]}))["v"]
    return build(
        algorithm,
        env,
        device=cfg.device,
        seeds=cfg.seeds if seeds is None else seeds,
        beta=cfg.task.beta,
        latent_dim=cfg.task.latent_dim,
        **knobs,
    )


def sample(replay: TensorDictReplayBuffer, seeds: int) -> TensorDictBase:
    """A batch, ``[B]``, or with several seeds each one's own, ``[S, B]``."""
    batch = replay.sample()
    return batch if seeds == 1 else batch.reshape(seeds, -1)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run the training that the configuration describes and return its summary."""
    for name in POSITIVE:
        if cfg[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {cfg[name]}.")
    if cfg.seeds > 1 and cfg.update_at_episode_end:
        raise ValueError(
            "update_at_episode_end (loop=paper) waits for each seed's own episodes: use seeds=1, "
            "one process per seed."
        )
    torch.set_num_threads(cfg.threads)
    run_dir = open_run_directory(cfg.run_dir, resume=cfg.resume, overwrite=cfg.overwrite)
    seed_everything(cfg.seed)
    task = {"device": cfg.device, "seed": cfg.seed, "max_steps": cfg.task.max_steps}
    env = make_env(cfg.task.name, cfg.seeds * cfg.num_envs, **task, **cfg.task.env)
    agent = build_agent(cfg, env)
    env = agent.wrap(env)
    replay = make_replay(cfg.buffer_size, cfg.batch_size, seeds=cfg.seeds, device=cfg.device)
    template = build_agent(cfg, env, seeds=1) if cfg.seeds > 1 else agent
    state = Progress(cfg, run_dir, agent, env, replay, template.loss.state_dict())
    if cfg.resume:
        state.restore()
    # After the restored transitions, which have been through it.
    if (transform := agent.replay_transform()) is not None:
        replay.append_transform(transform)
    collector = Collector(
        env,
        agent.policy,
        frames_per_batch=cfg.seeds * cfg.num_envs,
        total_frames=-1,
        init_random_frames=cfg.seeds * max(0, state.random_frames - state.frames),
        device=cfg.device,
        auto_register_policy_transforms=False,
    )
    with Reporter(cfg, state) as report:
        guard = FiniteGuard(state.frames)
        try:
            loop(cfg, agent, collector, replay, state, report, guard)
        except Exception:
            # A simulator that is handed NaN fails in words of its own; the guard knows whence.
            state.check(guard, report)
            raise
        finally:
            collector.shutdown()
        return report.finish(replay)


def loop(
    cfg: DictConfig,
    agent: Agent,
    collector: Collector,
    replay: TensorDictReplayBuffer,
    state: Progress,
    report: Reporter,
    guard: FiniteGuard,
) -> None:
    """Collect, store, update; evaluate and save at fixed frames."""
    # The latent is kept for the record; the losses draw their own.
    recorded = ["latent"] if "latent" in agent.policy.out_keys else []
    read = [*agent.loss.in_keys, *recorded, ("next", "done")]
    # What the replay's transform adds is not there yet.
    stored = [key for key in read if key not in agent.added_by_replay]
    # After a resume without its replay, the policy itself collects anew before updates go on.
    lost = state.frames > 0 and len(replay) == 0
    updates_from = state.frames + state.random_frames if lost else state.random_frames
    if state.frames == 0:
        report.evaluate(replay)
    bar = tqdm(total=state.frames_total, initial=state.frames, unit="frame", mininterval=1.0)
    owed = 0
    for steps in collector:
        if state.frames >= state.frames_total:
            break
        state.frames += cfg.num_envs
        replay.extend(interleave(steps.select(*stored), cfg.seeds))
        guard.watch("rewards", steps["next", "agents", "reward"])
        for hook in agent.hooks if state.frames > state.random_frames else ():
            hook.after_step(steps, state.frames)

        # A transform of the replay may hold the first step back.
        owed += cfg.updates_per_step if state.frames > updates_from and len(replay) > 0 else 0
        if not cfg.update_at_episode_end or bool(steps["next", "done"].any()):
            for _ in range(owed):
                losses = agent.update(sample(replay, cfg.seeds), cfg.max_grad_norm)
                state.updates += 1
                report.accumulate(losses)
                if state.updates % cfg.log_every_updates == 0:
                    state.check(guard, report)
                    report.write_metrics()
            owed = 0

        bar.update(cfg.num_envs)
        if crossed(state.frames, cfg.num_envs, cfg.eval_every_frames):
            bar.set_postfix_str(report.evaluate(replay))
        if crossed(state.frames, cfg.num_envs, cfg.checkpoint_every_frames):
            state.check(guard, report)
            state.save()
    bar.close()
    if not crossed(state.frames, cfg.num_envs, cfg.checkpoint_every_frames):
        state.check(guard, report)
        state.save()


def crossed(frames: int, new: int, every: int) -> bool:
    """Whether the last ``new`` frames passed a multiple of ``every``."""
    return frames // every != (frames - new) // every


@hydra.main(version_base="1.3", config_path="config", config_name="train_continuous")
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
    seeds = f", {len(summary['seeds'])} seeds" if "seeds" in summary else ""
    return (
        f"{summary['algorithm']} on {summary['task']}: return "
        f"{summary['eval_return_mean']:.1f} +- {summary['eval_return_ci95']:.1f} "
        f"(random policy {summary['random_return_mean']:.1f}), {summary['frames']} frames{seeds}, "
        f"{summary['updates']} updates, {summary['wall_seconds']:.0f} s"
    )


if __name__ == "__main__":
    register_stock_tasks()
    check_overrides(sys.argv[1:], CONFIG_DIR)
    main()
