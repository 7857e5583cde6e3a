"""A training run on battles: its counters, logs, evaluations and checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from progress import fill, hashed_config, replay_state, tensordict_of
from reporting import SeedFiles, device_name
from torch import Tensor
from torchrl.envs import EnvBase

from vm3ac_modules.algorithms import DiscreteAgent
from vm3ac_modules.envs import env_rng_state, lost_episodes, set_env_rng_state
from vm3ac_modules.evaluation import (
    EvaluationResult,
    battle_gif,
    evaluate_battles,
    learning_curve,
    unit_trace,
)
from vm3ac_modules.files import write_json
from vm3ac_modules.learning import (
    EpisodeSource,
    FiniteGuard,
    Round,
    evaluation_seed,
    fork_rng,
    rng_state,
    set_rng_state,
)
from vm3ac_modules.runs import git_commit, load_checkpoint, read_csv_log, save_checkpoint, versions

# Episodes of the replay on which the coordination of VM3-AC is measured.
DIAGNOSED_EPISODES = 16


class BattleRun:
    """Counters of a run, and everything that it writes.

    Args:
        cfg: the run's configuration.
        run_dir: its directory.
        agent: what is trained.
        env: the environment that is collected from.
        test_env: the environment of evaluations.
        max_steps: time limit of a battle.
        source: the replay.
    """

    def __init__(
        self,
        cfg: DictConfig,
        run_dir: Path,
        agent: DiscreteAgent,
        env: EnvBase,
        test_env: EnvBase,
        max_steps: int,
        source: EpisodeSource,
    ) -> None:
        self.cfg, self.run_dir, self.agent = cfg, run_dir, agent
        self.env, self.test_env, self.max_steps, self.source = env, test_env, max_steps, source
        self.frames = self.updates = self.episodes = 0
        self.saved_frame, self.lost_before = -1, 0
        self.last_checkpoint: Path | None = None
        self.started, self.seconds_before = time.monotonic(), 0.0
        self.names = [str(key) for key in agent.loss.out_keys]
        self.hook_names = [name for hook in agent.hooks for name in hook.logged]
        self.sums, self.num_sums = torch.zeros(len(self.names), device=cfg.device), 0
        self.played: list[tuple[Tensor, Tensor]] = []
        self.last_log = (self.started, 0, 0)
        self.files: SeedFiles | None = None
        self.guard = FiniteGuard(0)

    def __enter__(self) -> BattleRun:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.files is not None:
            self.files.close()

    def open_logs(self) -> None:
        """Start the logs, or go on with those of the run that was restored."""
        self.files = SeedFiles(self.cfg, self.frames if self.cfg.resume else None)
        self.last_log = (time.monotonic(), self.frames, self.updates)
        self.guard = FiniteGuard(self.frames)

    @property
    def wall_seconds(self) -> float:
        """Seconds of this run, what was done before a resume included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def lost_episodes(self) -> int:
        """Training battles that crashes cut short, what was done before a resume included."""
        return self.lost_before + lost_episodes(self.env)

    def crossed(self, new: int, every: int) -> bool:
        """Whether the last ``new`` frames passed a multiple of ``every``."""
        return self.frames // every != (self.frames - new) // every

    def note(self, played: Round) -> None:
        """Remember how a round went, for the next row of metrics."""
        won = played.info.get("battle_won", torch.zeros(len(played.lengths)))
        self.played.append((played.returns, won))
        self.episodes += len(played.lengths)
        self.guard.watch("rewards", played.returns)

    def accumulate(self, losses: dict[str, Tensor]) -> None:
        """Add the scalars of one update, on the device."""
        self.sums += torch.stack([losses[name] for name in self.names])
        self.num_sums += 1

    def check(self) -> None:
        """Stop with a clear error if a reward or loss since the last check was not finite."""
        self.guard.watch("losses", self.sums)
        self.guard.check(self.frames, self.last_checkpoint)

    def write_metrics(self) -> None:
        """Write the means since the last row to metrics.csv and tensorboard."""
        assert self.files is not None
        self.check()
        then, old_frames, old_updates = self.last_log
        now = time.monotonic()
        seconds = max(now - then, 1e-9)
        hooks = [hook.scalars().flatten() for hook in self.agent.hooks if hook.logged]
        values = torch.cat([self.sums / self.num_sums, *(h.to(self.sums) for h in hooks)])
        returns, won = map(torch.cat, zip(*self.played, strict=True)) if self.played else (
            torch.full((1,), torch.nan), torch.full((1,), torch.nan)
        )  # fmt: skip
        row = {
            "frame": self.frames,
            "update": self.updates,
            "episode": self.episodes,
            "wall_seconds": round(self.wall_seconds, 2),
            "frames_per_second": round((self.frames - old_frames) / seconds, 1),
            "updates_per_second": round((self.updates - old_updates) / seconds, 1),
            "train_return": float(returns.mean()),
            "train_win_rate": float(won.mean()),
            **self.agent.coefficients,
            **dict(zip([*self.names, *self.hook_names], values.tolist(), strict=True)),
        }
        self.files.write_metrics(row)
        self.sums.zero_()
        self.num_sums, self.last_log = 0, (now, self.frames, self.updates)
        self.played.clear()

    def play(self, **options: Any) -> EvaluationResult:
        """Evaluate greedily on the protocol's fixed starts."""
        policy = options.pop("policy", self.agent.greedy)
        seed = evaluation_seed(self.cfg.seed)
        rounds = -(-self.cfg.eval_episodes // self.test_env.batch_size[0])
        limit = {"max_steps": self.max_steps, "seed": seed, "rounds": rounds}
        return evaluate_battles(policy, self.test_env, **limit, **options)

    def evaluate(self) -> str:
        """Evaluate, write a row of eval.csv, and say the result in a few words."""
        assert self.files is not None
        lost = lost_episodes(self.test_env)
        result = self.play()
        row = {
            "frame": self.frames,
            "update": self.updates,
            "return_mean": result.mean,
            "return_ci95": result.ci95,
            "win_rate": win_rate(result),
            "episodes": result.returns.numel(),
            "length_mean": float(result.lengths.float().mean()),
            **{name: float(values.mean()) for name, values in result.info.items()},
            # They count as battles that were not won.
            "lost_episodes": lost_episodes(self.test_env) - lost,
            **self.coordination(),
        }
        self.files.write_evaluation(row)
        return f"win rate {row['win_rate']:.2f}, return {result.mean:.1f}"

    def coordination(self) -> dict[str, float]:
        """Exact mutual information of the actions of two agents, where a latent is drawn (nats)."""
        if not hasattr(self.agent.loss, "diagnose"):
            return {}
        names = ("mutual_information", "latent_information")
        if len(self.source) < self.source.batch_size:
            # Nothing collected yet: the columns stay, the values are unknown.
            return dict.fromkeys(names, float("nan"))
        with fork_rng(evaluation_seed(self.cfg.seed)):
            batch = self.source.replay.sample()[:DIAGNOSED_EPISODES].to(self.cfg.device)
            found = self.agent.loss.diagnose(batch)
        return {name: float(found[name]) for name in names}

    def save(self) -> None:
        """Write parameters, optimizers, counters, generators and the replay."""
        self.check()
        agent, cfg = self.agent, self.cfg
        updater = agent.target_updater
        state = {
            "loss": dict(agent.loss.state_dict()),
            "optimizers": {name: o.state_dict() for name, o in self._optimizers()},
            "hooks": [hook.state_dict(0) for hook in agent.hooks],
            "target_calls": 0 if updater is None else updater.counter,
            "owed": self.source.owed,
            "frames": self.frames,
            "updates": self.updates,
            "episodes": self.episodes,
            "lost_episodes": self.lost_episodes,
            "wall_seconds": self.wall_seconds,
            "rng": rng_state(),
            "env_rng": env_rng_state(self.env),
            "env": dict(self.env.state_dict()),
            "agent": {"algorithm": agent.algorithm, "knobs": agent.knobs},
        }
        replay = replay_state(self.source.replay, cfg.replay_checkpoint_bytes, 0, 1)
        self.last_checkpoint = save_checkpoint(
            self.run_dir, self.frames, state, config=hashed_config(cfg), replay=replay
        )
        self.saved_frame = self.frames

    def restore(self) -> None:
        """Put everything back; the environment starts new battles."""
        saved = load_checkpoint(self.run_dir, config=hashed_config(self.cfg))
        state, agent = saved.state, self.agent
        agent.loss.load_state_dict(state["loss"])
        for name, optimizer in self._optimizers():
            optimizer.load_state_dict(state["optimizers"][name])
        for hook, old in zip(agent.hooks, state["hooks"], strict=True):
            hook.load_state_dicts([old])
        if agent.target_updater is not None:
            agent.target_updater.counter = state["target_calls"]
        self.source.owed = state["owed"]
        self.frames, self.updates = state["frames"], state["updates"]
        self.episodes, self.seconds_before = state["episodes"], state["wall_seconds"]
        self.saved_frame, self.lost_before = self.frames, state["lost_episodes"]
        self.env.load_state_dict(state["env"])
        set_env_rng_state(self.env, state["env_rng"])
        set_rng_state(state["rng"])
        if saved.replay is not None:
            fill(self.source.replay, [tensordict_of(saved.replay).auto_batch_size_(2)])
        elif self.source.on_policy is not True:
            print("The checkpoint holds no replay: it is filled anew before updates go on.")

    def _optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """The agent's optimizers and those of its hooks, by name."""
        hooks = [hook.optimizer for hook in self.agent.hooks if hook.optimizer is not None]
        named = {f"hook_{index}": optimizer for index, optimizer in enumerate(hooks)}
        return [*self.agent.optimizers.items(), *named.items()]

    def finish(self) -> dict[str, Any]:
        """Evaluate a last time, draw, write summary.json and return what it holds."""
        assert self.files is not None
        drawable = self.cfg.draw and hasattr(self.test_env.base_env, "units")
        result = self.play(observer=unit_trace if drawable else None)
        if self.num_sums:
            self.write_metrics()
        if read_csv_log(self.run_dir / "eval.csv")["frame"][-1] != self.frames:
            self.evaluate()
        random = self.play(policy=None)
        summary = self.summary(result, random)
        write_json(self.run_dir / "summary.json", summary)
        if self.cfg.draw:
            self.draw(result, random.mean)
        return summary

    def summary(self, result: EvaluationResult, random: EvaluationResult) -> dict[str, Any]:
        """What is known of the run at its end."""
        cfg = self.cfg
        latent = self.agent.keys.latent in self.agent.recorded
        return {
            "algorithm": self.agent.algorithm,
            "task": cfg.map,
            "map": cfg.map,
            "backend": cfg.backend,
            "reward": cfg.reward,
            "seed": cfg.seed,
            "frames": self.frames,
            "updates": self.updates,
            "episodes": self.episodes,
            "wall_seconds": round(self.wall_seconds, 1),
            "win_rate": win_rate(result),
            "eval_return_mean": result.mean,
            "eval_return_ci95": result.ci95,
            "eval_episodes": result.returns.numel(),
            "latent_mode": "sample" if latent else "none",
            "random_return_mean": random.mean,
            "random_win_rate": win_rate(random),
            "lost_episodes": self.lost_episodes,
            "device": device_name(cfg.device),
            "versions": versions(),
            "git_commit": git_commit(Path(__file__).parent),
        }

    def draw(self, result: EvaluationResult, random_return: float) -> None:
        """Draw the learning curve and the first battle of the last evaluation."""
        cfg = self.cfg
        label = f"{self.agent.algorithm} on {cfg.map} ({cfg.backend.upper()}), seed {cfg.seed}"
        rows = read_csv_log(self.run_dir / "eval.csv")
        learning_curve(self.run_dir / "curve.png", rows, baseline=random_return, title=label)
        if result.trace is not None:
            battle = result.trace[0, : int(result.lengths[0]) + 1]
            battle_gif(self.run_dir / "rollout.gif", battle, title=label)


def win_rate(result: EvaluationResult) -> float:
    """Share of the battles that were won."""
    won = result.info.get("battle_won")
    return float("nan") if won is None else float(won.mean())
