"""What docs/extending.md shows works as it stands: files are written down and run."""

from __future__ import annotations

import json
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
# Every package of the overlay is searched after the real one. Programs come one after the other, a
# list of arguments each, and share the imports, which cost more than the trainings.
START = """
import contextlib, importlib, io, json, sys
from pathlib import Path
root, *programs = sys.argv[1:]
for folder in sorted(Path(root).rglob("*")):
    if folder.is_dir() and folder.name != "__pycache__":
        name = ".".join(("vm3ac_modules", *folder.relative_to(root).parts))
        importlib.import_module(name).__path__.append(str(folder))
exec((Path(root) / "entry.py").read_text())
from vm3ac_modules.cli.main import main
ends = []
for program in programs:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(json.loads(program))
        except SystemExit as end:
            code = end.code or 0
    ends.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ends))
"""
TRAIN = [[*command.split(), *TINY.split()] for command in COMMANDS]
PLACES = [re.findall(r"run_dir=(\S+)", command)[0] for command in COMMANDS]
RESUME = [["train", "resume=true", f"run_dir={place}", "frames=160"] for place in PLACES]
HELP = ["train", "algorithm=action_cost", "--help"]
WRONG = ["train", "algorithm=action_cost", *TINY.split(), "algorithm.cost=-1", "run_dir=bad"]
TYPO = ["train", "task=ring_2", *TINY.split(), "task.env.num_agent=3", "run_dir=typo"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with what the page's commands leave."""
    return tmp_path_factory.mktemp("extended")


@pytest.fixture(scope="module")
def ends(root):
    """Exit status, output and errors of every program, run in a process that has the files."""
    overlay = root / "overlay"
    for block in BLOCKS:
        name = re.match(r"# vm3ac_modules/(\S+\.py)\n", block)
        if name:
            file = overlay / name.group(1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block, encoding="utf-8")
        elif block.startswith("# an entry of"):
            (overlay / "entry.py").write_text(block, encoding="utf-8")
    programs = [json.dumps(program) for program in [*TRAIN, *RESUME, TYPO, HELP, WRONG]]
    done = subprocess.run(
        [sys.executable, "-c", START, str(overlay), *programs],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page_shows_two_commands_and_five_files():
    assert len(COMMANDS) == 2
    assert len([block for block in BLOCKS if block.startswith("# vm3ac_modules/")]) == 4


@pytest.mark.parametrize("index", range(len(COMMANDS)))
def test_what_is_added_trains_and_resumes(ends, root, index):
    code, _, error = ends[index]
    assert code == 0, error[-3000:]
    place = root / PLACES[index]
    header = (place / "metrics.csv").read_text().splitlines()[0].split(",")
    if "action_cost" in COMMANDS[index]:
        assert "action_cost" in header
    else:
        columns = (place / "eval.csv").read_text().splitlines()[0].split(",")
        assert columns[-1] == "information_share"
    code, said, error = ends[len(COMMANDS) + index]
    assert code == 0, error[-3000:]
    assert "160 frames" in said
    # The scenario's episodes went on: nothing had to be noted.
    assert '"notes": []' in (place / "summary.json").read_text()


def test_the_options_of_what_is_added_are_checked_and_listed(ends):
    code, said, _ = ends[-2]
    assert code == 0
    assert "cost=0.1" in said
    assert "a number >= 0" in said
    assert "ring_2" in said
    code, _, error = ends[-1]
    assert code == 2
    assert "cost must be a number >= 0, got -1." in error


def test_the_scenario_that_is_added_refuses_options_that_it_does_not_know(ends):
    code, _, error = ends[-3]
    assert code == 2
    assert "unknown options: num_agent" in error
    assert len(error.splitlines()) == 1


def test_the_falsifier_of_the_page_runs():
    pytest.importorskip("hypothesis")
    exec(BLOCKS[-1], {})
