"""Train VM3-AC or a baseline on a continuous task; docs/metrics.md explains what is logged.

python recipes/train_continuous.py algorithm=vm3ac task=predator_prey_2 seed=0 run_dir=runs/x
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from command_line import check_overrides, fail, register_stock_tasks
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from reporting import Reporter
from tensordict import TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, RandomSampler, TensorDictReplayBuffer
from torchrl.envs import EnvBase
from tqdm import tqdm

from vm3ac_modules.envs import make_env
from vm3ac_modules.training import (
    Agent,
    CheckpointError,
    FiniteGuard,
    NonFiniteError,
    RunDirectoryError,
    build,
    clip_gradients_per_agent,
    load_checkpoint,
    open_run_directory,
    rng_state,
    save_checkpoint,
    seed_everything,
    set_rng_state,
)

CONFIG_DIR = Path(__file__).parent / "config"
# Knobs that say where, how long and how a run is watched, not what it learns from.
NOT_IN_HASH = (
    *("run_dir", "resume", "overwrite", "frames", "threads", "device", "draw"),
    *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
    *("information_rows", "information_latents", "replay_checkpoint_bytes"),
)
POSITIVE = (
    *("frames", "num_envs", "batch_size", "updates_per_step", "buffer_size", "threads"),
    *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
)


def build_agent(cfg: DictConfig, env: EnvBase) -> Agent:
    """Hand the configuration's knobs to the library's one builder."""
    knobs: dict[str, Any] = OmegaConf.to_container(cfg.algorithm, resolve=True)
    algorithm = knobs.pop("name")
    for name in ("lr", "gamma", "tau", "reward_scale", "critic", "critic_input", "hidden"):
        knobs[name] = OmegaConf.to_container(OmegaConf.create({"v": cfg[name]}))["v"]
    return build(
        algorithm,
        env,
        device=cfg.device,
        beta=cfg.task.beta,
        latent_dim=cfg.task.latent_dim,
        **knobs,
    )


def update(agent: Agent, batch: TensorDictBase, max_grad_norm: float | None) -> TensorDictBase:
    """One gradient step of every parameter group, then of the target network."""
    losses = agent.loss(batch)
    torch.stack([losses[name] for name in agent.optimizers]).sum().backward()
    for name, optimizer in agent.optimizers.items():
        if max_grad_norm is not None:
            network = getattr(agent.loss, name.replace("loss_", "") + "_network")
            clip_gradients_per_agent(network, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    agent.target_updater.step()
    return losses


def make_replay(cfg: DictConfig) -> TensorDictReplayBuffer:
    """Uniform replay on the run's device."""
    storage = LazyTensorStorage(cfg.buffer_size, device=cfg.device)
    return TensorDictReplayBuffer(
        storage=storage, sampler=RandomSampler(), batch_size=cfg.batch_size
    )


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run the training that the configuration describes and return its summary."""
    for name in POSITIVE:
        if cfg[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {cfg[name]}.")
    torch.set_num_threads(cfg.threads)
    run_dir = open_run_directory(cfg.run_dir, resume=cfg.resume, overwrite=cfg.overwrite)
    seed_everything(cfg.seed)
    task = {"device": cfg.device, "seed": cfg.seed, "max_steps": cfg.task.max_steps}
    env = make_env(cfg.task.name, cfg.num_envs, **task, **cfg.task.env)
    agent, replay, state = build_agent(cfg, env), make_replay(cfg), Progress(cfg)
    if cfg.resume:
        state.restore(run_dir, cfg, agent, env, replay)
    collector = Collector(
        env,
        agent.policy,
        frames_per_batch=cfg.num_envs,
        total_frames=-1,
        init_random_frames=max(0, state.random_frames - state.frames),
        device=cfg.device,
        auto_register_policy_transforms=False,
    )
    with Reporter(cfg, run_dir, agent, state) as report:
        guard = FiniteGuard(state.frames)
        try:
            loop(cfg, run_dir, agent, env, collector, replay, state, report, guard)
        except Exception:
            # A simulator that is handed NaN fails in words of its own; the guard knows whence.
            state.check(guard, report)
            raise
        finally:
            collector.shutdown()
        return report.finish(replay)


def loop(
    cfg: DictConfig,
    run_dir: Path,
    agent: Agent,
    env: EnvBase,
    collector: Collector,
    replay: TensorDictReplayBuffer,
    state: Progress,
    report: Reporter,
    guard: FiniteGuard,
) -> None:
    """Collect, store, update; evaluate and save at fixed frames."""
    # The latent is kept for the record; the losses draw their own.
    recorded = ["latent"] if "latent" in agent.policy.out_keys else []
    stored = [*agent.loss.in_keys, *recorded]
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
        state.frames += steps.numel()
        replay.extend(steps.select(*stored).reshape(-1))
        guard.watch("rewards", steps["next", "agents", "reward"])

        owed += cfg.updates_per_step if state.frames > updates_from else 0
        if not cfg.update_at_episode_end or bool(steps["next", "done"].any()):
            for _ in range(owed):
                losses = update(agent, replay.sample(), cfg.max_grad_norm)
                state.updates += 1
                report.accumulate(losses)
                if state.updates % cfg.log_every_updates == 0:
                    state.check(guard, report)
                    report.write_metrics()
            owed = 0

        bar.update(steps.numel())
        if crossed(state.frames, steps.numel(), cfg.eval_every_frames):
            bar.set_postfix_str(report.evaluate(replay))
        if crossed(state.frames, steps.numel(), cfg.checkpoint_every_frames):
            state.check(guard, report)
            state.save(run_dir, cfg, agent, env, replay)
    bar.close()
    if not crossed(state.frames, cfg.num_envs, cfg.checkpoint_every_frames):
        state.check(guard, report)
        state.save(run_dir, cfg, agent, env, replay)


def crossed(frames: int, new: int, every: int) -> bool:
    """Whether the last ``new`` frames passed a multiple of ``every``."""
    return frames // every != (frames - new) // every


class Progress:
    """Counters of a run, and everything a checkpoint holds."""

    def __init__(self, cfg: DictConfig) -> None:
        self.frames = self.updates = 0
        self.frames_total = -(-cfg.frames // cfg.num_envs) * cfg.num_envs
        random_frames = min(cfg.init_random_frames, self.frames_total // 4)
        self.random_frames = -(-random_frames // cfg.num_envs) * cfg.num_envs
        self.started, self.seconds_before = time.monotonic(), 0.0
        self.last_checkpoint: Path | None = None

    @property
    def wall_seconds(self) -> float:
        """Seconds of this run, what was done before a resume included."""
        return self.seconds_before + time.monotonic() - self.started

    def check(self, guard: FiniteGuard, report: Reporter) -> None:
        """Stop with a clear error if a reward or loss since the last check was not finite."""
        guard.watch("losses", report.sums)
        guard.check(self.frames, self.last_checkpoint)

    def save(
        self,
        run_dir: Path,
        cfg: DictConfig,
        agent: Agent,
        env: EnvBase,
        replay: TensorDictReplayBuffer,
    ) -> None:
        """Write a checkpoint: parameters, optimizers, target, counters, generators, replay."""
        state = {
            "loss": dict(agent.loss.state_dict()),
            "optimizers": {name: opt.state_dict() for name, opt in agent.optimizers.items()},
            "frames": self.frames,
            "updates": self.updates,
            "wall_seconds": self.wall_seconds,
            "rng": rng_state(),
            "env_rng": env.base_env.get_rng_state(),
            "env": dict(env.state_dict()),
            "agent": {"algorithm": agent.algorithm, "knobs": agent.knobs},
        }
        self.last_checkpoint = save_checkpoint(
            run_dir,
            self.frames,
            state,
            config=hashed_config(cfg),
            replay=replay_state(replay, cfg.replay_checkpoint_bytes),
        )

    def restore(
        self,
        run_dir: Path,
        cfg: DictConfig,
        agent: Agent,
        env: EnvBase,
        replay: TensorDictReplayBuffer,
    ) -> None:
        """Put everything back; the environments start new episodes."""
        saved = load_checkpoint(run_dir, config=hashed_config(cfg))
        state = saved.state
        agent.loss.load_state_dict(state["loss"])
        for name, optimizer in agent.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.frames, self.updates = state["frames"], state["updates"]
        self.seconds_before = state["wall_seconds"]
        env.load_state_dict(state["env"])
        env.base_env.set_rng_state(state["env_rng"])
        set_rng_state(state["rng"])
        if saved.replay is not None:
            replay.extend(tensordict_of(saved.replay))
        else:
            print(
                f"The checkpoint holds no replay: {self.random_frames} frames are collected anew "
                "before updates go on."
            )


def replay_state(replay: TensorDictReplayBuffer, limit: int) -> dict[str, Any] | None:
    """The replay's content, oldest first; None if empty or larger than ``limit`` bytes."""
    if len(replay) == 0:
        return None
    if replay.storage.get(range(1)).bytes() * len(replay) > limit:
        return None
    content = replay.storage.get(range(len(replay)))
    start = replay.writer._cursor % len(replay)
    order = torch.arange(len(replay), device=content.device).roll(-start)
    return content[order].flatten_keys(".").to_dict()


def tensordict_of(replay: dict[str, Any]) -> TensorDictBase:
    """Undo :func:`replay_state`."""
    from tensordict import TensorDict

    size = next(iter(replay.values())).shape[:1]
    return TensorDict(replay, size).unflatten_keys(".")


def hashed_config(cfg: DictConfig) -> dict[str, Any]:
    """What a resumed run must agree with."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)
    return {key: value for key, value in config.items() if key not in NOT_IN_HASH}


def resumed_config(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration that a run was started with, and what the command line changes in it."""
    saved = Path(cfg.run_dir) / "config.yaml"
    if not saved.exists():
        return cfg
    base = OmegaConf.load(saved)
    for override in overrides:
        key, value = override.lstrip("+").split("=", 1)
        chosen = base.get(key)
        if isinstance(chosen, DictConfig) and chosen.name != value:
            raise ValueError(f"{cfg.run_dir} holds a run of {key}={chosen.name}, not {value}.")
        if not isinstance(chosen, DictConfig) and key != "loop":
            OmegaConf.update(base, key, OmegaConf.select(cfg, key))
    return base


@hydra.main(version_base="1.3", config_path="config", config_name="train_continuous")
def main(cfg: DictConfig) -> None:
    """Train and print the result."""
    try:
        if cfg.resume:
            cfg = resumed_config(cfg, HydraConfig.get().overrides.task)
        summary = train(cfg)
    except (RunDirectoryError, CheckpointError, NonFiniteError, ValueError, ImportError) as error:
        fail(f"{type(error).__name__}: {error}")
    print(
        f"{summary['algorithm']} on {summary['task']}: return "
        f"{summary['eval_return_mean']:.1f} +- {summary['eval_return_ci95']:.1f} "
        f"(random policy {summary['random_return_mean']:.1f}), {summary['frames']} frames, "
        f"{summary['updates']} updates, {summary['wall_seconds']:.0f} s -> {cfg.run_dir}"
    )


if __name__ == "__main__":
    register_stock_tasks()
    check_overrides(sys.argv[1:], CONFIG_DIR)
    main()
