"""BenchMARL's command line and the recipe as a user calls them, and where BenchMARL is not."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = (
    *("experiment.max_n_frames=20", "experiment.off_policy_collected_frames_per_batch=10"),
    *("experiment.off_policy_n_envs_per_worker=2", "experiment.off_policy_n_optimizer_steps=1"),
    *("experiment.evaluation_interval=10", "experiment.evaluation_episodes=2"),
    *("task.max_steps=5", "experiment.render=False", "experiment.loggers=[]"),
    *("experiment.off_policy_init_random_frames=0", "experiment.off_policy_train_batch_size=4"),
)
HAS_IT = find_spec("benchmarl") is not None
needs_it = pytest.mark.skipif(not HAS_IT, reason="BenchMARL is not installed")


def call(place, *arguments):
    run = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=place, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@needs_it
def test_benchmarls_own_command_line_finds_the_algorithm(tmp_path):
    relu = [f"{model}.activation_class=torch.nn.ReLU" for model in ("model", "critic_model")]
    call(tmp_path, "-m", "benchmarl.run", "algorithm=vm3ac", "task=vmas/balance", *relu, *TINY)
    assert list(tmp_path.rglob("vm3ac_balance_mlp*.json"))


@needs_it
@pytest.mark.parametrize("algorithm", ["vm3ac", "masac"])
def test_the_recipe_writes_a_table_per_run_and_makes_it_once(tmp_path, algorithm):
    arguments = [ROOT / "recipes" / "benchmarl_run.py", f"algorithm={algorithm}", *TINY]
    arguments += ["task=vmas/balance", "seeds=[0,1]", "out=out"]
    call(tmp_path, *arguments)
    tables = sorted((tmp_path / "out" / "vmas" / "balance").glob("*.csv"))
    assert [table.name for table in tables] == [f"{algorithm}_seed{k}.csv" for k in (0, 1)]
    rows = [list(csv.DictReader(table.read_text().splitlines())) for table in tables]
    assert [[row["frame"] for row in found] for found in rows] == [["10", "20"]] * 2
    assert rows[0][0]["return_mean"] != rows[1][0]["return_mean"]
    assert "is there" in call(tmp_path, *arguments)


@pytest.mark.skipif(HAS_IT, reason="BenchMARL is installed")
@pytest.mark.parametrize("module", ["", ".configs", ".algorithm", ".models"])
def test_without_benchmarl_one_sentence_says_what_to_do(module):
    name = "vm3ac_modules.integrations.benchmarl"
    with pytest.raises(ImportError) as caught:
        importlib.import_module(f"{name}{module}")
    assert str(caught.value).startswith(f"{name} needs benchmarl>=1.5.2,<1.6, which is not")
    assert "constraints-benchmarl.txt" in str(caught.value)


def test_programs_without_benchmarl_are_left_as_they_are(monkeypatch):
    pytest.importorskip("hydra")
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra_plugins.vm3ac_modules_benchmarl import BenchmarlSearchPath

    monkeypatch.delitem(sys.modules, "benchmarl", raising=False)
    path = ConfigSearchPathImpl()
    BenchmarlSearchPath().manipulate_search_path(path)
    assert path.get_path() == []
