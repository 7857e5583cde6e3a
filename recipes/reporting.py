"""What a training run writes: logs, evaluations, pictures, summary."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import EnvBase

from vm3ac_modules.envs import make_env
from vm3ac_modules.evaluation import EvaluationResult, evaluate, learning_curve, rollout_gif
from vm3ac_modules.objectives import estimate_information
from vm3ac_modules.training import (
    Agent,
    CsvLog,
    TensorBoardLog,
    evaluation_seed,
    fork_rng,
    git_commit,
    read_csv_log,
    versions,
    write_json,
    write_text,
)

INFORMATION = (
    *("mi_lower_bound", "mi_upper_bound", "mi_surrogate", "mi_lower_bound_ceiling"),
    "latent_share",
)


class Counters(Protocol):
    """The counters that a report reads."""

    frames: int
    updates: int

    @property
    def wall_seconds(self) -> float:
        """Seconds of the run."""


class Reporter:
    """Writes a run's directory while it goes on.

    Args:
        cfg: the run's configuration.
        run_dir: its directory.
        agent: what is trained.
        counters: its counters.
    """

    def __init__(self, cfg: DictConfig, run_dir: Path, agent: Agent, counters: Counters) -> None:
        self.cfg, self.run_dir, self.agent, self.counters = cfg, run_dir, agent, counters
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        resumed = counters.frames if cfg.resume else None
        self.metrics = CsvLog(run_dir / "metrics.csv", resume_frame=resumed)
        self.evaluations = CsvLog(run_dir / "eval.csv", resume_frame=resumed)
        self.board = TensorBoardLog(run_dir, resume_frame=resumed)
        self.names = [str(key) for key in agent.loss.out_keys if not str(key).endswith("matrix")]
        self.sums = torch.zeros(len(self.names), device=cfg.device)
        self.num_sums = 0
        self.last_log = (time.monotonic(), counters.frames, counters.updates)
        self.env = make_env(
            cfg.task.name,
            cfg.eval_episodes,
            device=cfg.device,
            seed=evaluation_seed(cfg.seed),
            max_steps=cfg.task.max_steps,
            **cfg.task.env,
        )

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exception: object) -> None:
        for log in (self.metrics, self.evaluations, self.board):
            log.close()

    def accumulate(self, losses: TensorDictBase) -> None:
        """Add the scalars of one update, on the device."""
        self.sums += torch.stack([losses[name].detach() for name in self.names])
        self.num_sums += 1

    def write_metrics(self) -> None:
        """Write the means since the last row to metrics.csv and tensorboard."""
        now, frames, updates = time.monotonic(), self.counters.frames, self.counters.updates
        then, old_frames, old_updates = self.last_log
        seconds = max(now - then, 1e-9)
        means = (self.sums / self.num_sums).tolist()
        row = {
            "frame": frames,
            "update": updates,
            "wall_seconds": round(self.counters.wall_seconds, 2),
            "frames_per_second": round((frames - old_frames) / seconds, 1),
            "updates_per_second": round((updates - old_updates) / seconds, 1),
            **dict(zip(self.names, means, strict=True)),
        }
        self.metrics.write(row)
        self.board.write({"frame": frames, **{f"train/{k}": v for k, v in row.items()}})
        self.sums.zero_()
        self.num_sums, self.last_log = 0, (now, frames, updates)

    def play(self, **options: Any) -> EvaluationResult:
        """Evaluate with the protocol's fixed starts."""
        policy = options.pop("policy", self.agent.policy)
        return evaluate(
            policy,
            self.env,
            max_steps=self.cfg.task.max_steps,
            seed=evaluation_seed(self.cfg.seed),
            **options,
        )

    def evaluate(self, replay: TensorDictReplayBuffer) -> str:
        """Evaluate, write a row of eval.csv, and say the return in a few words."""
        result = self.play()
        row = {
            "frame": self.counters.frames,
            "update": self.counters.updates,
            "return_mean": result.mean,
            "return_ci95": result.ci95,
            "episodes": result.returns.numel(),
            "length_mean": float(result.lengths.float().mean()),
            **{name: float(values.mean()) for name, values in result.info.items()},
            **self.information(replay),
        }
        self.evaluations.write(row)
        self.board.write({"frame": row["frame"], **{f"eval/{k}": v for k, v in row.items()}})
        return f"return {result.mean:.1f} +- {result.ci95:.1f}"

    def information(self, replay: TensorDictReplayBuffer) -> dict[str, float]:
        """Estimates of mutual information on replayed observations (nats, means over pairs)."""
        loss, rows = self.agent.loss, self.cfg.information_rows
        if not getattr(loss.regularizer, "needs_pairs", False) or rows == 0:
            return {}
        if len(replay) < self.cfg.batch_size:
            # Nothing collected yet: the columns stay, the values are unknown.
            return dict.fromkeys(INFORMATION, math.nan)
        with fork_rng(evaluation_seed(self.cfg.seed)):
            found = estimate_information(
                loss.reader,
                loss.predictor_network,
                replay.sample()[:rows],
                center=loss.center,
                half_range=loss.half_range,
                num_latents=self.cfg.information_latents,
            )
        return {name: float(value) for name, value in found.scalars().items()}

    def finish(self, replay: TensorDictReplayBuffer) -> dict[str, Any]:
        """Evaluate a last time, draw, write summary.json."""
        cfg, counters = self.cfg, self.counters
        result = self.play(observer=positions)
        if self.num_sums:
            self.write_metrics()
        rows = read_csv_log(self.run_dir / "eval.csv")
        if rows["frame"][-1] != counters.frames:
            self.evaluate(replay)
            rows = read_csv_log(self.run_dir / "eval.csv")
        random = self.play(policy=None)
        summary = {
            "algorithm": self.agent.algorithm,
            "task": cfg.task.name,
            "seed": cfg.seed,
            "frames": counters.frames,
            "updates": counters.updates,
            "wall_seconds": round(counters.wall_seconds, 1),
            "eval_return_mean": result.mean,
            "eval_return_ci95": result.ci95,
            "eval_episodes": result.returns.numel(),
            "latent_mode": "sample" if "latent" in self.agent.policy.out_keys else "none",
            "random_return_mean": random.mean,
            "device": device_name(cfg.device),
            "versions": versions(),
            "git_commit": git_commit(Path(__file__).parent),
        }
        write_json(self.run_dir / "summary.json", summary)
        if cfg.draw:
            self.draw(rows, result, random.mean)
        return summary

    def draw(
        self, rows: dict[str, list[float]], result: EvaluationResult, random_return: float
    ) -> None:
        """Draw the learning curve and the first episode of the last evaluation."""
        title = f"{self.agent.algorithm} on {self.cfg.task.name}, seed {self.cfg.seed}"
        learning_curve(self.run_dir / "curve.png", rows, baseline=random_return, title=title)
        draw_rollout(self.run_dir / "rollout.gif", self.env, result, title)


def device_name(device: str) -> str:
    """What ran it: the GPU's name, or the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def positions(env: EnvBase) -> Tensor:
    """Positions of all agents and, in predator-prey, of the preys and who lives, ``[E, N+2M, 2]``.

    A prey is a position and, behind all of them, its alive flag in both coordinates.
    """
    agents = torch.stack([agent.state.pos for agent in env.base_env.agents], dim=1)
    scenario = env.base_env.scenario
    if not hasattr(scenario, "preys"):
        return agents
    preys = scenario.preys.expand(agents.shape[0], -1, -1)
    alive = scenario.alive.to(preys.dtype).unsqueeze(-1).expand_as(preys)
    return torch.cat((agents, preys, alive), dim=1)


def draw_rollout(path: Path, env: EnvBase, result: EvaluationResult, title: str) -> None:
    """Draw the first episode of an evaluation that was watched with :func:`positions`."""
    assert result.trace is not None
    trace = result.trace[0, : int(result.lengths[0])].cpu()
    num_agents = len(env.base_env.agents)
    agents, rest = trace[:, :num_agents], trace[:, num_agents:]
    preys = alive = None
    if rest.shape[1]:
        both = rest.chunk(2, dim=1)
        preys, alive = both[0][0], both[1][..., 0] > 0.5
    half_width = 0.5 if preys is not None else float(agents.abs().max()) * 1.1
    shape = env.base_env.agents[0].shape
    radius = float(getattr(shape, "radius", None) or shape.circumscribed_radius())
    rollout_gif(path, agents, preys, alive, None, half_width=half_width, radius=radius, title=title)
