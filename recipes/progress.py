"""A training run's counters, and everything that its checkpoints hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import EnvBase

from vm3ac_modules.algorithms import Agent
from vm3ac_modules.envs import env_rng_state, set_env_rng_state
from vm3ac_modules.learning import (
    FiniteGuard,
    join_optimizers,
    join_states,
    rng_state,
    seed_everything,
    set_rng_state,
    split_optimizer,
    split_state,
)
from vm3ac_modules.runs import common_frame, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from reporting import Reporter

# Knobs that say where, how long and how a run is watched, not what it learns from.
NOT_IN_HASH = (
    *("run_dir", "resume", "overwrite", "frames", "threads", "device", "draw", "seeds"),
    *("eval_every_frames", "eval_episodes", "checkpoint_every_frames", "log_every_updates"),
    *("information_rows", "information_latents", "replay_checkpoint_bytes"),
)


class Progress:
    """Counters of a run, and everything a checkpoint holds.

    Every seed's checkpoint has the form of a run alone, in a directory of its own.

    Args:
        cfg: the run's configuration.
        run_dir: its directory.
        agent: what is trained.
        env: the environment that is collected from.
        replay: the replay.
        template: state of the loss as built for one seed.
    """

    def __init__(
        self,
        cfg: DictConfig,
        run_dir: Path,
        agent: Agent,
        env: EnvBase,
        replay: TensorDictReplayBuffer,
        template: dict[str, Tensor],
    ) -> None:
        self.cfg, self.agent, self.env, self.replay = cfg, agent, env, replay
        self.template = template
        self.configs = [seed_config(cfg, run_dir, seed) for seed in range(cfg.seeds)]
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

    def save(self) -> None:
        """Write every seed's parameters, optimizers, counters, generators and replay."""
        agent, seeds = self.agent, self.cfg.seeds
        losses = split_state(dict(agent.loss.state_dict()), self.template, seeds)
        optimizers = {n: split_optimizer(o.state_dict(), seeds) for n, o in self._optimizers()}
        rows = split_rows(dict(self.env.state_dict()), seeds)
        streams = split_rows(env_rng_state(self.env), seeds)
        for seed, cfg in enumerate(self.configs):
            state = {
                "loss": losses[seed],
                "optimizers": {name: parts[seed] for name, parts in optimizers.items()},
                "hooks": [hook.state_dict(seed) for hook in agent.hooks],
                "seeds_together": seeds,
                "frames": self.frames,
                "updates": self.updates,
                "wall_seconds": self.wall_seconds,
                "rng": rng_state(),
                "env_rng": streams[seed],
                "env": rows[seed],
                "agent": {"algorithm": agent.algorithm, "knobs": agent.knobs},
            }
            self.last_checkpoint = save_checkpoint(
                cfg.run_dir,
                self.frames,
                state,
                config=hashed_config(cfg),
                replay=replay_state(self.replay, cfg.replay_checkpoint_bytes, seed, seeds),
            )

    def restore(self) -> None:
        """Put everything back; the environments start new episodes."""
        # Killed between two seeds' checkpoints, a run goes on from the last one that all have.
        frame = common_frame([cfg.run_dir for cfg in self.configs])
        saved = [
            load_checkpoint(cfg.run_dir, config=hashed_config(cfg), frame=frame)
            for cfg in self.configs
        ]
        states, agent = [one.state for one in saved], self.agent
        losses = [state["loss"] for state in states]
        agent.loss.load_state_dict(join_states(losses, agent.loss.state_dict()))
        for name, optimizer in self._optimizers():
            parts = [state["optimizers"][name] for state in states]
            optimizer.load_state_dict(join_optimizers(parts))
        for index, hook in enumerate(agent.hooks):
            hook.load_state_dicts([state["hooks"][index] for state in states])
        first = states[0]
        self.frames, self.updates = first["frames"], first["updates"]
        self.seconds_before = first["wall_seconds"]
        self.env.load_state_dict(join_rows([state["env"] for state in states]))
        if first.get("seeds_together", 1) == self.cfg.seeds:
            set_env_rng_state(self.env, join_rows([state["env_rng"] for state in states]))
            set_rng_state(first["rng"])
        else:
            # Seeds that were trained together left the same streams to each of them.
            seed_everything(self.cfg.seed + self.frames)
            self.env.set_seed(self.cfg.seed + self.frames)
            print(f"Seed {self.cfg.seed} goes on alone, with random streams of its own.")
        replays = [one.replay for one in saved if one.replay is not None]
        if len(replays) == len(saved):
            fill(self.replay, [tensordict_of(part) for part in replays])
        else:
            print(
                f"The checkpoint holds no replay: {self.random_frames} frames are collected anew "
                "before updates go on."
            )

    def _optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """The agent's optimizers and those of its hooks, by name."""
        hooks = [hook.optimizer for hook in self.agent.hooks if hook.optimizer is not None]
        named = {f"hook_{index}": optimizer for index, optimizer in enumerate(hooks)}
        return [*self.agent.optimizers.items(), *named.items()]


def seed_config(cfg: DictConfig, run_dir: Path, index: int) -> DictConfig:
    """The configuration of one seed, as if it ran alone."""
    if cfg.seeds == 1:
        return cfg
    own: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)
    seed = cfg.seed + index
    own |= {"seed": seed, "seeds": 1, "run_dir": str(run_dir / f"seed_{seed}")}
    return OmegaConf.create(own)


def split_rows(state: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """Every seed's rows of the environment's counters; all else is every seed's."""
    if seeds == 1:
        return [state]
    own = {key: value.chunk(seeds) for key, value in state.items() if counts_rows(key)}
    return [
        {**state, **{key: parts[seed].clone() for key, parts in own.items()}}
        for seed in range(seeds)
    ]


def join_rows(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Undo :func:`split_rows`."""
    if len(states) == 1:
        return states[0]
    own = {key: torch.cat([s[key] for s in states]) for key in states[0] if counts_rows(key)}
    return {**states[0], **own}


def counts_rows(key: str) -> bool:
    """Whether an entry of an environment's state has a row per row of the environment."""
    return key.split(".")[-1] in ("resets", "episodes")


def replay_state(
    replay: TensorDictReplayBuffer, limit: int, seed: int, seeds: int
) -> dict[str, Any] | None:
    """One seed's transitions, oldest first; None if empty or larger than ``limit`` bytes."""
    if len(replay) == 0:
        return None
    if replay.storage.get(range(1)).bytes() * len(replay) // seeds > limit:
        return None
    start = replay.writer._cursor % len(replay)
    order = torch.arange(seed, len(replay), seeds, device=replay.storage.device).roll(
        -(start // seeds)
    )
    return replay.storage.get(order).flatten_keys(".").to_dict()


def fill(replay: TensorDictReplayBuffer, parts: list[TensorDictBase]) -> None:
    """Put every seed's transitions back, interleaved."""
    content = parts[0] if len(parts) == 1 else torch.stack(parts, 1).reshape(-1)
    replay.extend(content)


def tensordict_of(replay: dict[str, Any]) -> TensorDictBase:
    """Undo :func:`replay_state`."""
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
    # How that command began, not what it trained.
    base.resume, base.overwrite = cfg.resume, cfg.overwrite
    # A run of an earlier version lacks knobs that were added since.
    for key in cfg:
        if key not in base:
            base[key] = cfg[key]
    for override in overrides:
        key, value = override.lstrip("+").split("=", 1)
        chosen = base.get(key)
        if isinstance(chosen, DictConfig) and chosen.name != value:
            raise ValueError(f"{cfg.run_dir} holds a run of {key}={chosen.name}, not {value}.")
        if key == "seeds" and int(value) != base.get("seeds", 1):
            raise ValueError(f"{cfg.run_dir} holds {base.get('seeds', 1)} seeds, not {value}.")
        if not isinstance(chosen, DictConfig) and key != "loop":
            OmegaConf.update(base, key, OmegaConf.select(cfg, key))
    return base
