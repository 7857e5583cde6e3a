"""The benchmark of a GPU: a rehearsal without one, what a second call skips, and its budgets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("tensorboard")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "benchmarks"))

import gpu  # noqa: E402
import update_step  # noqa: E402

from vm3ac_modules.options import OptionsError  # noqa: E402


def test_a_rehearsal_has_every_part_and_a_second_one_skips_them(tmp_path, capsys, monkeypatch):
    # The tests have a test of their own.
    monkeypatch.setattr(gpu.subprocess, "run", lambda *args, **kwargs: Done())
    arguments = ["device=cpu", "tiny=true", f"out={tmp_path}"]
    gpu.main(arguments)
    found = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in gpu.SECONDS}
    for part in found.values():
        assert (part["failed"], part["not_reached"]) == ({}, [])
        assert part["device"] == "CPU"
        assert len(part["rows"]) > 0
    assert found["tests"]["rows"] == [
        {"exit": 1, "failed": 1, "passed": 12, "failed_tests": ["FAILED tests/a.py::b - no"]}
    ]
    assert {"vm3ac_ms", "torchrl_sac_ms"} < set(found["updates"]["rows"][0])
    assert [row["seeds"] for row in found["seeds"]["rows"]] == [1, 2]
    assert all(row["updates"] > 0 for row in found["learning"]["rows"])
    before = (tmp_path / "frames.json").stat().st_mtime_ns
    capsys.readouterr()
    gpu.main(arguments)
    assert capsys.readouterr().out.count("is there, skipped") == len(gpu.SECONDS)
    assert (tmp_path / "frames.json").stat().st_mtime_ns == before


class Done:
    returncode = 1
    stdout = "..F\nFAILED tests/a.py::b - no\n1 failed, 12 passed in 3.21s\n"


@pytest.mark.filterwarnings("ignore:This module is instantiated on a machine without CUDA")
def test_the_captured_contestant_is_the_same_update():
    def losses(captured):
        torch.manual_seed(0)
        td = update_step.make_batch(2, 8)
        update = update_step.vm3ac_update(2, td, captured=captured)
        return [update() for _ in range(3)]

    for one, other in zip(losses(False), losses(True), strict=True):
        assert one.keys() == other.keys()
        assert all(one[name].equal(other[name]) for name in one)


def jobs(*names, seconds=0.0):
    def part(options, sizes, left):
        for name in names:
            yield name, seconds, lambda name=name: {"job": name} if name != "bad" else 1 / 0

    return part


def test_what_fails_or_is_not_reached_is_said(monkeypatch):
    monkeypatch.setitem(gpu.PARTS, "frames", jobs("good", "bad", "last"))
    found = gpu.measure("frames", gpu.Gpu(device="cpu"))
    assert found["rows"] == [{"job": "good"}, {"job": "last"}]
    assert found["failed"] == {"bad": "ZeroDivisionError: division by zero"}
    monkeypatch.setitem(gpu.PARTS, "frames", jobs("good", "long", seconds=100.0))
    assert gpu.measure("frames", gpu.Gpu(device="cpu"))["not_reached"] == ["good", "long"]


def test_all_budgets_together_are_eight_minutes():
    assert sum(gpu.SECONDS.values()) == 480
    assert list(gpu.PARTS) == list(gpu.SECONDS)


def test_a_part_that_there_is_none_of(tmp_path):
    options = gpu.Gpu(device="cpu", parts="updates,dance", out=str(tmp_path / "new"))
    with pytest.raises(OptionsError, match=r"parts must be of tests, .*, got 'dance'"):
        gpu.gpu(options)
    assert not (tmp_path / "new").exists()


def test_without_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionsError, match="torch finds no GPU here"):
        gpu.gpu(gpu.Gpu(out=str(tmp_path)))
