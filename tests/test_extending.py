"""What docs/extending.md shows works as it stands: files are written down and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
COMMANDS = re.findall(r"```bash\nvm3ac (.*?)\n```", PAGE)
TINY = (
    "frames=96 num_envs=8 batch_size=8 init_random_frames=16 eval_episodes=2 eval_every_frames=48 "
    "information_rows=4 information_latents=4 log_every_updates=4 hidden=[8] draw=false threads=1"
)
# Every package of the overlay is searched after the real one.
START = """
import importlib, sys
from pathlib import Path
root = Path(sys.argv.pop(1))
for folder in sorted(root.rglob("*")):
    if folder.is_dir() and folder.name != "__pycache__":
        name = ".".join(("vm3ac_modules", *folder.relative_to(root).parts))
        importlib.import_module(name).__path__.append(str(folder))
entry = root / "entry.py"
exec(entry.read_text())
from vm3ac_modules.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def overlay(tmp_path_factory):
    root = tmp_path_factory.mktemp("overlay")
    for block in BLOCKS:
        name = re.match(r"# vm3ac_modules/(\S+\.py)\n", block)
        if name:
            file = root / name.group(1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block, encoding="utf-8")
        elif block.startswith("# an entry of"):
            (root / "entry.py").write_text(block, encoding="utf-8")
    return root


def run(overlay, place, *arguments):
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", START, str(overlay), *arguments],
        cwd=place,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_page_shows_two_commands_and_five_files():
    assert len(COMMANDS) == 2
    assert len([block for block in BLOCKS if block.startswith("# vm3ac_modules/")]) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_added_trains_and_resumes(overlay, tmp_path, command):
    run(overlay, tmp_path, *command.split(), *TINY.split())
    [place] = re.findall(r"run_dir=(\S+)", command)
    header = (tmp_path / place / "metrics.csv").read_text().splitlines()[0].split(",")
    if "action_cost" in command:
        assert "action_cost" in header
    else:
        columns = (tmp_path / place / "eval.csv").read_text().splitlines()[0].split(",")
        assert columns[-1] == "information_share"
    said = run(overlay, tmp_path, "train", "resume=true", f"run_dir={place}", "frames=160")
    assert "160 frames" in said
    # The scenario's episodes went on: nothing had to be noted.
    assert '"notes": []' in (tmp_path / place / "summary.json").read_text()


def test_the_options_of_what_is_added_are_checked_and_listed(overlay, tmp_path):
    said = run(overlay, tmp_path, "train", "algorithm=action_cost", "--help")
    assert "cost=0.1" in said
    assert "a number >= 0" in said
    assert "ring_2" in said
    wrong = ["train", "algorithm=action_cost", *TINY.split(), "algorithm.cost=-1"]
    command = [sys.executable, "-c", START, str(overlay), *wrong, f"run_dir={tmp_path / 'bad'}"]
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 2
    assert "cost must be a number >= 0, got -1." in bad.stderr


def test_the_falsifier_of_the_page_runs():
    pytest.importorskip("hypothesis")
    exec(BLOCKS[-1], {})
