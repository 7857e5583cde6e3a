"""Train in BenchMARL: its tasks, its loop and its evaluation, with its algorithms or those of here.

    python recipes/benchmarl_run.py algorithm=vm3ac task=vmas/balance
    python recipes/benchmarl_run.py -m algorithm=masac,masac_twin,vm3ac seeds=[0,1,2] \
        task=vmas/balance,vmas/navigation

It needs an environment with BenchMARL (docs/benchmarl.md). Every value is BenchMARL's, under
BenchMARL's names: ``experiment.max_n_frames=120_000``. Each run leaves
``OUT/TASK/ALGORITHM_seedS.csv``: frames, mean return of the evaluation's episodes and its 95 %
half-width. The figure is drawn by recipes/benchmarl_figure.py.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import benchmarl
import hydra
import torch
from benchmarl.hydra_config import load_experiment_from_hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vm3ac_modules.files import write_csv

assert benchmarl  # Hydra finds the algorithms of here in programs that have imported it


def rows_of(written: Path) -> list[dict[str, Any]]:
    """The evaluations in the JSON that BenchMARL wrote."""
    found = json.loads(written.read_text(encoding="utf-8"))
    for _ in ("environment", "task", "algorithm", "seed"):
        [found] = found.values()
    rows = []
    for name, step in found.items():
        if name.startswith("step_"):
            returns = step["return"]
            half = 1.96 * statistics.stdev(returns) / len(returns) ** 0.5
            row = {"frame": step["step_count"], "return_mean": statistics.mean(returns)}
            rows.append({**row, "return_ci95": half, "episodes": len(returns)})
    return sorted(rows, key=lambda row: row["frame"])


def train(cfg: DictConfig, task: str, algorithm: str, seed: int) -> None:
    """One run."""
    place = Path(cfg.out).resolve() / task
    table = place / f"{algorithm}_seed{seed}.csv"
    if table.exists():
        print(f"{table} is there")
        return
    place.mkdir(parents=True, exist_ok=True)
    cfg.seed = seed
    cfg.experiment.save_folder = str(place)
    start = time.perf_counter()
    experiment = load_experiment_from_hydra(cfg, task)
    experiment.run()
    rows = rows_of(experiment.folder_name / f"{experiment.name}.json")
    seconds = round(time.perf_counter() - start, 1)
    write_csv(table, [{**row, "wall_seconds": seconds} for row in rows])
    print(f"{table}: {rows[-1]['return_mean']:.3f} after {rows[-1]['frame']} frames, {seconds} s")


@hydra.main(
    version_base=None,
    config_path="pkg://vm3ac_modules.integrations.benchmarl.conf",
    config_name="run",
)
def main(cfg: DictConfig) -> None:
    """A run per seed."""
    torch.set_num_threads(1)
    choices = HydraConfig.get().runtime.choices
    for seed in cfg.seeds:
        train(cfg, choices.task, choices.algorithm, seed)


if __name__ == "__main__":
    main()
