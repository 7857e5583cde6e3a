from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["algorithm=vm3a"], "unknown algorithm 'vm3a'; valid: ma_ac, ma_sac, maddpg, maven, si_"),
        (["task=predator_prey"], "predator_prey_2, predator_prey_3, predator_prey_4"),
        (["task=vmas/balence"], "vmas/balance"),
        (["loop=fast"], "valid: default, demo, paper"),
        (["sed=1"], "Did you mean seed"),
        (["task.bta=1"], "Did you mean task.beta"),
        (["algorithm=ma_ac", "algorithm.num_latents=3"], "unknown key 'algorithm.num_latents'"),
        (["seed"], "key=value"),
    ],
)
def test_what_cannot_be_meant_lists_what_can(arguments, said, capsys):
    from command_line import check_overrides

    with pytest.raises(SystemExit) as ended:
        check_overrides(arguments, RECIPES / "config")
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["algorithm=vm3ac_tight", "algorithm.num_latents=64", "task=vmas/balance", "task.beta=0"],
        ["loop=paper", "frames=10", "num_envs=2", "+task.env.growth=double", "hydra.verbose=true"],
        ["algorithm=ma_ac,ma_sac", "--multirun"],
    ],
)
def test_what_can_be_meant_passes(arguments):
    from command_line import check_overrides

    check_overrides(arguments, RECIPES / "config")


def test_help_names_the_groups():
    command = [sys.executable, str(RECIPES / "train_continuous.py"), "--help"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in ("vm3ac_tight", "predator_prey_4", "vmas/<scenario>", "beta", "loop"):
        assert word in out
