"""What a training run writes: logs, evaluations, pictures, summary."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from drawing import can_draw, draw_rollout, positions
from omegaconf import DictConfig, OmegaConf
from progress import Progress
from scipy.stats import t as student_t
from tensordict import TensorDictBase
from torchrl.data import TensorDictReplayBuffer

from vm3ac_modules.envs import make_env
from vm3ac_modules.evaluation import EvaluationResult, evaluate, learning_curve
from vm3ac_modules.files import write_json, write_text
from vm3ac_modules.learning import evaluation_seed, fork_rng
from vm3ac_modules.objectives import estimate_information
from vm3ac_modules.runs import CsvLog, TensorBoardLog, git_commit, read_csv_log, versions

INFORMATION = (
    *("mi_lower_bound", "mi_upper_bound", "mi_surrogate", "mi_lower_bound_ceiling"),
    "latent_share",
)


class SeedFiles:
    """The files of one seed's run directory.

    Args:
        cfg: the configuration of this seed, as if it ran alone.
        resume_frame: frame from which a resumed run goes on.
    """

    def __init__(self, cfg: DictConfig, resume_frame: int | None) -> None:
        self.cfg, self.run_dir = cfg, Path(cfg.run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_text(self.run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        self.metrics = CsvLog(self.run_dir / "metrics.csv", resume_frame=resume_frame)
        self.evaluations = CsvLog(self.run_dir / "eval.csv", resume_frame=resume_frame)
        self.board = TensorBoardLog(self.run_dir, resume_frame=resume_frame)

    def write_metrics(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv and tensorboard."""
        self.metrics.write(row)
        self.board.write({"frame": row["frame"], **{f"train/{k}": v for k, v in row.items()}})

    def write_evaluation(self, row: dict[str, Any]) -> None:
        """A row of eval.csv and tensorboard."""
        self.evaluations.write(row)
        self.board.write({"frame": row["frame"], **{f"eval/{k}": v for k, v in row.items()}})

    def close(self) -> None:
        """Close the logs."""
        for log in (self.metrics, self.evaluations, self.board):
            log.close()


class Reporter:
    """Writes the directory of every seed's run while it goes on.

    Args:
        cfg: the run's configuration.
        progress: its counters, agent and the configurations of its seeds.
    """

    def __init__(self, cfg: DictConfig, progress: Progress) -> None:
        self.cfg, self.counters, self.agent = cfg, progress, progress.agent
        resumed = progress.frames if cfg.resume else None
        self.seeds = [SeedFiles(own, resumed) for own in progress.configs]
        if cfg.seeds > 1:
            text = OmegaConf.to_yaml(cfg, resolve=True)
            write_text(Path(cfg.run_dir) / "config.yaml", text)
        keys = [str(key) for key in self.agent.loss.out_keys]
        self.names = [key for key in keys if not key.endswith("matrix")]
        self.hook_names = [name for hook in self.agent.hooks for name in hook.logged]
        self.sums = torch.zeros(cfg.seeds, len(self.names), device=cfg.device)
        self.num_sums = 0
        self.last_log = (time.monotonic(), progress.frames, progress.updates)
        self.env = self.agent.wrap(
            make_env(
                cfg.task.name,
                cfg.seeds * cfg.eval_episodes,
                device=cfg.device,
                seed=evaluation_seed(cfg.seed),
                max_steps=cfg.task.max_steps,
                **cfg.task.env,
            )
        )

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exception: object) -> None:
        for files in self.seeds:
            files.close()

    def accumulate(self, losses: TensorDictBase) -> None:
        """Add the scalars of one update, on the device."""
        values = torch.stack([losses[name].detach() for name in self.names], dim=-1)
        self.sums += values.reshape(self.sums.shape)
        self.num_sums += 1

    def write_metrics(self) -> None:
        """Write the means since the last row to metrics.csv and tensorboard."""
        now, frames, updates = time.monotonic(), self.counters.frames, self.counters.updates
        then, old_frames, old_updates = self.last_log
        seconds = max(now - then, 1e-9)
        hooks = [hook.scalars() for hook in self.agent.hooks if hook.logged]
        values = torch.cat([self.sums / self.num_sums, *(h.to(self.sums) for h in hooks)], dim=-1)
        for files, means in zip(self.seeds, values.tolist(), strict=True):
            row = {
                "frame": frames,
                "update": updates,
                "wall_seconds": round(self.counters.wall_seconds, 2),
                "frames_per_second": round((frames - old_frames) / seconds, 1),
                "updates_per_second": round((updates - old_updates) / seconds, 1),
                **dict(zip([*self.names, *self.hook_names], means, strict=True)),
            }
            files.write_metrics(row)
        self.sums.zero_()
        self.num_sums, self.last_log = 0, (now, frames, updates)

    def play(self, **options: Any) -> list[EvaluationResult]:
        """Evaluate with the protocol's fixed starts; one result per seed."""
        policy = options.pop("policy", self.agent.policy)
        result = evaluate(
            policy,
            self.env,
            max_steps=self.cfg.task.max_steps,
            seed=evaluation_seed(self.cfg.seed),
            **options,
        )
        return result.split(self.cfg.seeds)

    def evaluate(self, replay: TensorDictReplayBuffer) -> str:
        """Evaluate, write a row of every eval.csv, and say the return in a few words."""
        results, information = self.play(), self.information(replay)
        for files, result, found in zip(self.seeds, results, information, strict=True):
            row = {
                "frame": self.counters.frames,
                "update": self.counters.updates,
                "return_mean": result.mean,
                "return_ci95": result.ci95,
                "episodes": result.returns.numel(),
                "length_mean": float(result.lengths.float().mean()),
                **{name: float(values.mean()) for name, values in result.info.items()},
                **found,
            }
            files.write_evaluation(row)
        if len(results) == 1:
            return f"return {results[0].mean:.1f} +- {results[0].ci95:.1f}"
        return "returns " + " ".join(f"{result.mean:.0f}" for result in results)

    def information(self, replay: TensorDictReplayBuffer) -> list[dict[str, float]]:
        """Estimates of mutual information on replayed observations (nats, means over pairs)."""
        loss, rows, seeds = self.agent.loss, self.cfg.information_rows, self.cfg.seeds
        if not hasattr(loss, "predictor_network") or rows == 0:
            return [{} for _ in range(seeds)]
        if len(replay) < seeds * self.cfg.batch_size:
            # Nothing collected yet: the columns stay, the values are unknown.
            return [dict.fromkeys(INFORMATION, math.nan) for _ in range(seeds)]
        with fork_rng(evaluation_seed(self.cfg.seed)):
            batch = replay.sample()
            batch = batch[:rows] if seeds == 1 else batch.reshape(seeds, -1)[:, :rows]
            found = estimate_information(
                loss.reader,
                loss.predictor_network,
                batch,
                center=loss.center,
                half_range=loss.half_range,
                num_latents=self.cfg.information_latents,
                seed_dims=loss.seed_dims,
            )
        columns = {k: v.reshape(seeds).tolist() for k, v in found.scalars().items()}
        return [{k: values[seed] for k, values in columns.items()} for seed in range(seeds)]

    def finish(self, replay: TensorDictReplayBuffer) -> dict[str, Any]:
        """Evaluate a last time, draw, write every summary.json; return the run's."""
        observer = positions if can_draw(self.env) else None
        results = self.play(observer=observer)
        if self.num_sums:
            self.write_metrics()
        if self.last_frame() != self.counters.frames:
            self.evaluate(replay)
        randoms = self.play(policy=None)
        summaries = []
        for files, result, random in zip(self.seeds, results, randoms, strict=True):
            summary = self.summary(files.cfg, result, random.mean)
            write_json(files.run_dir / "summary.json", summary)
            summaries.append(summary)
            if self.cfg.draw:
                self.draw(files, result, random.mean)
        if len(summaries) == 1:
            return summaries[0]
        together = joined_summary(summaries, self.cfg.seed)
        write_json(Path(self.cfg.run_dir) / "summary.json", together)
        return together

    def last_frame(self) -> float:
        """The frame of the last evaluation."""
        return read_csv_log(self.seeds[0].run_dir / "eval.csv")["frame"][-1]

    def summary(
        self, cfg: DictConfig, result: EvaluationResult, random_return: float
    ) -> dict[str, Any]:
        """What is known of one seed at its end."""
        counters = self.counters
        latent = "latent" in [*self.agent.policy.out_keys, *self.agent.policy.in_keys]
        return {
            "algorithm": self.agent.algorithm,
            "task": cfg.task.name,
            "seed": cfg.seed,
            "frames": counters.frames,
            "updates": counters.updates,
            "wall_seconds": round(counters.wall_seconds, 1),
            "eval_return_mean": result.mean,
            "eval_return_ci95": result.ci95,
            "eval_episodes": result.returns.numel(),
            "latent_mode": "sample" if latent else "none",
            "random_return_mean": random_return,
            "device": device_name(cfg.device),
            "versions": versions(),
            "git_commit": git_commit(Path(__file__).parent),
        }

    def draw(self, files: SeedFiles, result: EvaluationResult, random_return: float) -> None:
        """Draw the learning curve and the first episode of the last evaluation."""
        cfg = files.cfg
        title = f"{self.agent.algorithm} on {cfg.task.name}, seed {cfg.seed}"
        rows = read_csv_log(files.run_dir / "eval.csv")
        learning_curve(files.run_dir / "curve.png", rows, baseline=random_return, title=title)
        if result.trace is not None:
            draw_rollout(files.run_dir / "rollout.gif", self.env, result, title)


def joined_summary(summaries: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Mean and 95% interval (Student's t) over the seeds of a run, and each seed's summary."""
    returns = torch.tensor([summary["eval_return_mean"] for summary in summaries])
    spread = float(returns.std()) / math.sqrt(len(summaries))
    randoms = torch.tensor([summary["random_return_mean"] for summary in summaries])
    joined = {
        **summaries[0],
        "seed": seed,
        "eval_return_mean": float(returns.mean()),
        "eval_return_ci95": float(student_t.ppf(0.975, len(summaries) - 1)) * spread,
        "random_return_mean": float(randoms.mean()),
    }
    return {**joined, "seeds": summaries}


def device_name(device: str) -> str:
    """What ran it: the GPU's name, or the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
