"""Files of a run that were damaged or written by somebody else: one sentence, and nothing done."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("yaml")
pytest.importorskip("tqdm")

from vm3ac_modules.envs import _processes
from vm3ac_modules.learning.guards import FiniteGuard, NonFiniteError
from vm3ac_modules.runs import CheckpointError, load_checkpoint, save_checkpoint
from vm3ac_modules.runs._progress import ProgressBar
from vm3ac_modules.runs.record import read_config, write_config

CONFIG = {"seed": 3, "lr": 0.25, "algorithm": {"name": "vm3ac", "hidden": [8, 8]}, "run_dir": "é"}


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path / "run", 10, {"w": torch.ones(2)}, config={"a": 1})
    save_checkpoint(tmp_path / "run", 20, {"w": torch.ones(2) * 2}, config={"a": 1})
    return tmp_path / "run"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00step_10",
        b"",
        b"../../other/checkpoint/step_10",
        b"/etc",
        b"step_10/../step_20",
        b"step_1e1",
        b"step_10\nstep_20",
        "step_\uff11".encode(),
        b"step_" + b"9" * 10_000,
        b".",
    ],
)
def test_latest_that_names_no_step_is_refused_in_a_sentence(saved, content):
    outside = saved.parent / "other"
    save_checkpoint(outside, 10, {"w": torch.zeros(2)}, config={"a": 1})
    (saved / "checkpoint" / "latest").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"latest names .*, which is no step.*step_10, step_"):
        load_checkpoint(saved)
    # The advice: write the name of a step into it.
    (saved / "checkpoint" / "latest").write_text("step_10")
    assert load_checkpoint(saved).frame == 10


def test_a_save_goes_on_over_a_spoiled_pointer(saved):
    (saved / "checkpoint" / "latest").write_bytes(b"\xff")
    save_checkpoint(saved, 30, {"w": torch.ones(1)}, config={"a": 1})
    assert load_checkpoint(saved).frame == 30


def test_latest_may_be_a_directory_or_a_link_to_nowhere(saved):
    place = saved / "checkpoint" / "latest"
    place.unlink()
    place.mkdir()
    with pytest.raises(CheckpointError, match="latest"):
        load_checkpoint(saved)


@given(st.data())
def test_no_flipped_bit_changes_a_configuration_unseen(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "config.yaml"
    write_config(path, CONFIG)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = CONFIG
    with contextlib.suppress(ValueError):
        found = read_config(path)
    # Only the comment's own words may differ, or a key that no run knows stands there.
    extra = found.keys() - CONFIG.keys()
    assert {key: found[key] for key in CONFIG} == CONFIG
    assert all("sha256 of the lines above" in key or "lines" in key for key in extra)


def test_a_configuration_without_a_checksum_is_an_older_one(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\n")
    assert read_config(path) == {"seed": 1}


def test_a_configuration_that_was_changed_by_hand_says_what_to_do(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(path, CONFIG)
    path.write_text(path.read_text().replace("lr: 0.25", "lr: 0.5"))
    with pytest.raises(ValueError, match="remove its line '# sha256 of the lines above:'"):
        read_config(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    assert read_config(path)["lr"] == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "a: !!python/name:os.system",
        "{" * 3000,
        "a: [1, 2",
        "- just\n- a list",
        "\x00",
    ],
)
def test_a_configuration_is_data_only(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_config(path)
    assert not (tmp_path / "hacked").exists()


def test_a_guard_sends_nobody_on_from_a_checkpoint_that_is_not_there():
    guard = FiniteGuard()
    guard.watch("losses", torch.tensor(float("nan")))
    with pytest.raises(NonFiniteError) as found:
        guard.check(5)
    assert "Go on" not in str(found.value)
    assert "Start again with a smaller lr" in str(found.value)


def test_messages_stand_on_lines_of_their_own_beside_the_bar(capsys):
    logger = logging.getLogger("vm3ac_modules")
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    before, warnings.showwarning = warnings.showwarning, warnings._showwarning_orig
    try:
        with ProgressBar(10, 0) as bar:
            bar.update(1)
            logger.warning("a note")
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning("a warning", UserWarning, "f", 1)
    finally:
        logging.getLogger().removeHandler(handler)
        warnings.showwarning = before
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "a note" in lines
    assert "UserWarning: a warning" in lines


def test_a_bar_in_a_notebook_without_ipywidgets_says_nothing_of_them(monkeypatch):
    # By these tqdm knows that it is in a notebook, and what it lacks there.
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    for name in ("ipywidgets", "IPython.html.widgets"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("tqdm.")]:
        if name.split(".")[1] in ("auto", "autonotebook", "notebook", "contrib"):
            monkeypatch.delitem(sys.modules, name)
    # Recorded: tqdm catches what a warning raises where warnings are errors.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ProgressBar(10, 0) as bar:
            bar.update(1)
    assert not caught


def test_a_worker_without_a_main_guard_ends_with_one_sentence(monkeypatch, capsys):
    ended = []
    process = _processes.multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    monkeypatch.setattr(process, "_name", "SpawnProcess-1")
    monkeypatch.setattr(_processes.os, "_exit", ended.append)
    _processes.check_main_guard()
    assert ended == [1]
    [line] = capsys.readouterr().err.splitlines()
    assert 'if __name__ == "__main__":' in line


WORKERS_OF_AN_ENVIRONMENT = """
from vm3ac_modules.envs import make_env
make_env("multiwalker_2", 4, num_workers=2, seed=0).reset()
"""
WORKERS_OF_A_RUN = """
from vm3ac_modules.runs import train
train({
    "algorithm": {"name": "ma_sac", "hidden": [8]}, "task": {"name": "predator_prey_2"},
    "frames": 64, "num_envs": 4, "batch_size": 4, "eval_episodes": 2, "run_dir": "run",
    "draw": False, "collector": "multi_sync", "collector_workers": 2,
})
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", [WORKERS_OF_AN_ENVIRONMENT, WORKERS_OF_A_RUN])
def test_a_program_without_a_main_guard_ends_in_few_lines(tmp_path, text):
    pytest.importorskip("Box2D")
    program = tmp_path / "program.py"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "needs a main guard" in done.stderr
    assert len(done.stderr.splitlines()) < 70
