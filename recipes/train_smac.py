"""Train VM3-AC on FOP or a baseline on StarCraft-like battles; docs/metrics.md explains the logs.

    python recipes/train_smac.py algorithm=vm3ac map=3s_vs_3z reward=sparse seed=0 run_dir=runs/x

``vm3ac battle`` takes the same arguments.
"""

from __future__ import annotations

import sys

from vm3ac_modules.cli.training import battle_main

if __name__ == "__main__":
    battle_main(sys.argv[1:], program="train_smac.py")
