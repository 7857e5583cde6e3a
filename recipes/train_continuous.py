"""Train VM3-AC or a baseline on a continuous task; docs/metrics.md explains what is logged.

    python recipes/train_continuous.py algorithm=vm3ac task=predator_prey_2 seed=0 run_dir=runs/x

``vm3ac train`` takes the same arguments. Here the loop stands open, to be read and changed.
"""

from __future__ import annotations

import sys
from typing import Any

from vm3ac_modules.cli.training import train_main
from vm3ac_modules.runs import Run, Settings


def loop(settings: Settings) -> dict[str, Any]:
    """Collect, store, update; the run logs, evaluates and saves at fixed frames."""
    with Run(settings) as run:
        for steps in run.collect():
            run.store(steps)
            for batch in run.batches(steps):
                losses = run.agent.update(batch, run.training.max_grad_norm)
                run.learned(losses)
            run.after(steps)
        return run.finish()


if __name__ == "__main__":
    train_main(sys.argv[1:], program="train_continuous.py", loop=loop)
