"""What a run writes while it goes on: metrics.csv, eval.csv and loggers, one set per seed.

Shapes: ``S`` seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vm3ac_modules.learning.agent import Agent
from vm3ac_modules.learning.episodes import Round
from vm3ac_modules.runs._loggers import make_logs
from vm3ac_modules.runs.record import CsvLog, read_csv_log, write_config
from vm3ac_modules.runs.settings import Settings


def as_done(settings: Settings, frame: int | None) -> dict[str, Any]:
    """The configuration that a directory keeps: of no fewer frames than its run has done.

    Args:
        settings: what the run is told now.
        frame: at which it goes on; None for a new one.
    """
    return {**settings.to_dict(), "frames": max(settings.training.frames, frame or 0)}


class SeedFiles:
    """The files of one seed's run.

    Args:
        settings: of the seed.
        frame: at which a resumed run goes on.
        rows: of metrics.csv and eval.csv behind which it does.
        finished: whether nothing is left to do: config.yaml stays, and no logger is opened.
    """

    def __init__(
        self,
        settings: Settings,
        frame: int | None = None,
        rows: tuple[int, int] = (0, 0),
        finished: bool = False,
    ) -> None:
        self.settings = settings
        self.run_dir = Path(settings.training.run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        config = as_done(settings, frame)
        if not finished:
            write_config(self.run_dir / "config.yaml", config)
        kept: tuple[int | None, ...] = (None, None) if frame is None else rows
        logs = [self.run_dir / name for name in ("metrics.csv", "eval.csv")]
        if finished:
            # The last rows of a finished run are behind its last checkpoint.
            kept = tuple(_rows(log) for log in logs)
        self.metrics, self.evaluations = (
            CsvLog(log, resume_rows=own) for log, own in zip(logs, kept, strict=True)
        )
        title = f"{settings.name} on {settings.task.title}, seed {settings.training.seed}"
        names = () if finished else settings.training.logger
        self.logs = make_logs(names, self.run_dir, title, config, frame)

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of metrics.csv and eval.csv so far."""
        return self.metrics.rows, self.evaluations.rows

    @property
    def last_evaluation(self) -> float:
        """The frame of the last row of eval.csv; nan if it has none."""
        frames = read_csv_log(self.run_dir / "eval.csv").get("frame") or [math.nan]
        return frames[-1]

    def write_metrics(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.csv and of every logger."""
        self.metrics.write(row)
        self._log("train", row)

    def write_evaluation(self, row: Mapping[str, Any]) -> None:
        """A row of eval.csv and of every logger."""
        self.evaluations.write(row)
        self._log("eval", row)

    def _log(self, kind: str, row: Mapping[str, Any]) -> None:
        named = {"frame": row["frame"], **{f"{kind}/{k}": v for k, v in row.items()}}
        for log in self.logs:
            log.write(named)

    def close(self) -> None:
        """Close the logs."""
        for log in (self.metrics, self.evaluations, *self.logs):
            log.close()


def _rows(log: Path) -> int:
    """Rows of a log that is whole."""
    return len(read_csv_log(log).get("frame", ())) if log.is_file() else 0


class MetricsLog:
    """Means of what updates return, gathered on the device between two rows of metrics.csv."""

    def __init__(self, agent: Agent, device: torch.device | str) -> None:
        keys = [str(key) for key in agent.loss.out_keys]
        self.hooks = [hook for hook in agent.hooks if hook.logged]
        self.names = [key for key in keys if not key.endswith("matrix")]
        self.hook_names = [name for hook in self.hooks for name in hook.logged]
        self.sums = torch.zeros(agent.seeds, len(self.names), device=device)
        self.count = 0
        self.played: list[tuple[Tensor, Tensor]] = []
        self.last = (time.monotonic(), 0, 0)

    def start(self, frames: int, updates: int) -> None:
        """Measure speed from here on."""
        self.last = (time.monotonic(), frames, updates)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the scalars of one update, on the device."""
        values = torch.stack([losses[name] for name in self.names], dim=-1)
        self.sums += values.reshape(self.sums.shape)
        self.count += 1

    def add_round(self, played: Round) -> None:
        """Remember how a round of episodes went."""
        # A game that nobody wins has no rate.
        won = played.info.get("battle_won", torch.full((len(played.lengths),), torch.nan))
        self.played.append((played.returns, won))

    def rows(self, frames: int, updates: int, counts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The next row of every seed, and a new beginning."""
        now = time.monotonic()
        then, old_frames, old_updates = self.last
        seconds = max(now - then, 1e-9)
        said = [hook.scalars().to(self.sums.device) for hook in self.hooks]
        values = torch.cat([self.sums / self.count, *said], dim=-1)
        names = [*self.names, *self.hook_names]
        before = {
            "frame": frames,
            "update": updates,
            **counts,
            "frames_per_second": round((frames - old_frames) / seconds, 1),
            "updates_per_second": round((updates - old_updates) / seconds, 1),
            **self._episodes(),
        }
        self.sums.zero_()
        self.count, self.last = 0, (now, frames, updates)
        self.played.clear()
        return [{**before, **dict(zip(names, row, strict=True))} for row in values.tolist()]

    def _episodes(self) -> dict[str, float]:
        """Return and win rate of the rounds since the last row."""
        if not self.played:
            return {}
        returns, won = (torch.cat(list(column)) for column in zip(*self.played, strict=True))
        rate = {} if bool(won.isnan().any()) else {"train_win_rate": float(won.mean())}
        return {"train_return": float(returns.mean()), **rate}

    def state_dict(self, seed: int) -> dict[str, Any]:
        """What a checkpoint of one seed needs to hold: what the next row is made of."""
        played = [list(pair) for pair in self.played]
        return {"sums": self.sums[seed].clone(), "count": self.count, "played": played}

    def load_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Put back what :meth:`state_dict` gave."""
        self.sums.copy_(torch.stack([state["sums"] for state in states]))
        self.count = states[0]["count"]
        self.played = [(returns, won) for returns, won in states[0]["played"]]
