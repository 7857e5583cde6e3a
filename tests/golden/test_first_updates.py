"""The first updates of every algorithm are those that were recorded, up to rounding.

``python tests/golden/test_first_updates.py`` records them anew; a change that moves them says so in
CHANGELOG.md. To the last digit, two commits are compared on one machine with record.py.
"""

from __future__ import annotations

import importlib.util
import json
import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

PLACE = Path(__file__).parent
FILE = PLACE / "first_updates.json"
NEEDED = {"discrete": "jaxmarl", "task/multiwalker": "pettingzoo", "task/pettingzoo": "mpe2"}
# Another processor rounds otherwise, and Adam's first steps divide by small numbers.
RELATIVE, ABSOLUTE = 2e-3, 2e-4


def recorder():
    spec = importlib.util.spec_from_file_location("golden_record", PLACE / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNS = recorder().runs()


def config_of(command: list[str], run_dir: Path) -> dict:
    """The command line as a mapping."""
    import yaml

    from vm3ac_modules.runs import LOOPS

    config: dict = {"run_dir": str(run_dir)}
    for text in command[1:]:
        key, value = text.split("=", 1)
        value = yaml.safe_load(value)
        if key == "loop":
            config = {**LOOPS[value][1], **config}
        elif key in ("algorithm", "task"):
            config.setdefault(key, {})["name"] = value
        elif "." in key:
            group, name = key.split(".")
            config.setdefault(group, {})[name] = value
        else:
            config[key] = value
    if "map" not in config:
        config.setdefault("task", {}).setdefault("name", "predator_prey_2")
    return config


def first_row(command: list[str], run_dir: Path) -> dict[str, float]:
    """Train until the first row of metrics is written, and read it."""
    from vm3ac_modules.runs import Run, Settings, read_csv_log

    settings = Settings.of(config_of(command, run_dir))
    with Run(settings) as run:
        for collected in run.collect():
            run.store(collected)
            for batch in run.batches(collected):
                run.learned(run.agent.update(batch, run.training.max_grad_norm))
            if run.files[0].rows[0]:
                break
    [log, *_] = sorted(run_dir.rglob("metrics.csv"))
    timed = recorder().TIMED
    return {k: v[0] for k, v in read_csv_log(log).items() if k not in timed}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", sorted(RUNS))
def test_first_updates(name, tmp_path):
    pytest.importorskip("vmas")
    pytest.importorskip("tensorboard")
    for start, package in NEEDED.items():
        if name.startswith(start) and find_spec(package) is None:
            pytest.skip(f"needs {package}")
    threads = torch.get_num_threads()
    try:
        found = first_row(RUNS[name], tmp_path / "run")
    finally:
        torch.set_num_threads(threads)
    expected = json.loads(FILE.read_text())[name]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value is None:
            assert math.isnan(found[key]), key
        else:
            assert found[key] == pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE), key


if __name__ == "__main__":
    import tempfile

    rows = {}
    for name, command in sorted(RUNS.items()):
        with tempfile.TemporaryDirectory() as place:
            row = first_row(command, Path(place) / "run")
        rows[name] = {k: None if math.isnan(v) else v for k, v in row.items()}
    FILE.write_text(json.dumps(rows, indent=1) + "\n")
