from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

RECIPE = Path(__file__).parents[2] / "recipes" / "add_mi_to_sac.py"


def test_it_trains_with_and_without(tmp_path):
    import add_mi_to_sac

    arguments = [f"run_dir={tmp_path / 'x'}", "frames=1400", "num_envs=10", "batch_size=16"]
    summary = add_mi_to_sac.main([*arguments, "episodes=2", "task=vmas/simple_spread"])
    assert all(math.isfinite(summary[name]) for name in ("with_mi", "without_mi"))
    assert (
        json.loads((tmp_path / "x" / "summary.json").read_text())["with_mi"] == summary["with_mi"]
    )


def test_it_is_short():
    assert len(RECIPE.read_text().splitlines()) < 150


def test_unknown_key(capsys):
    import add_mi_to_sac

    with pytest.raises(SystemExit):
        add_mi_to_sac.main(["wieght=1"])
    assert (
        "unknown option 'wieght' of add_mi_to_sac.py (did you mean 'mi_weight'?"
        in capsys.readouterr().err
    )
