"""When a run replays its updates as a CUDA graph, and that it resumes exactly if it does."""

from __future__ import annotations

import pytest
import torch
from contracts.tape import tape
from contracts.training import BATTLES, STEPS, configuration, differences, run_until

pytest.importorskip("vmas")

from vm3ac_modules.learning import Agent, capture
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import Settings, train
from vm3ac_modules.runs._base import RunBase
from vm3ac_modules.testing import pretended_device


def config(run_dir, **options):
    tiny = {**STEPS, "information_rows": 0, "draw": False, "run_dir": str(run_dir)}
    return configuration(tiny={**tiny, **options})


@pytest.fixture
def taped(monkeypatch):
    """Let a CPU capture: a tape takes the place of the graph."""
    recorded = []

    def record(function, *place):
        replay, out = tape(function, *place)
        recorded.append(function)
        return replay, out

    monkeypatch.setattr(Agent, "reason_against_capture", None)
    monkeypatch.setattr(capture, "cuda_graph", record)
    return recorded


@pytest.mark.parametrize("algorithm", ["vm3ac", "vm3ac_auto_bonus", "si_moa"])
def test_a_resumed_run_is_the_one_that_was_not_stopped(algorithm, tmp_path, taped):
    options = {"algorithm": algorithm, "max_grad_norm": 1.0}
    train(config(tmp_path / "plain", cudagraph="off", **options))
    assert not taped
    train(config(tmp_path / "whole", **options))
    run_until(config(tmp_path / "parts", **options), 32)
    train(config(tmp_path / "parts", resume=True, **options))
    assert len(taped) >= 3
    assert differences(tmp_path / "plain", tmp_path / "whole") == []
    assert differences(tmp_path / "plain", tmp_path / "parts") == []


def test_a_run_that_replays_its_steps_too(tmp_path, taped, monkeypatch):
    options = {"max_grad_norm": 1.0}
    train(config(tmp_path / "plain", cudagraph="off", **options))
    capture_update = Agent.capture
    monkeypatch.setattr(Agent, "capture", lambda agent, **_: capture_update(agent, steps=True))
    train(config(tmp_path / "whole", **options))
    assert len(taped) >= 3
    run_until(config(tmp_path / "parts", **options), 32)
    train(config(tmp_path / "parts", resume=True, **options))
    assert differences(tmp_path / "plain", tmp_path / "whole") == []
    assert differences(tmp_path / "plain", tmp_path / "parts") == []


def test_a_run_may_go_on_without_the_graph(tmp_path, taped):
    train(config(tmp_path / "plain", cudagraph="off"))
    run_until(config(tmp_path / "parts"), 32)
    train(config(tmp_path / "parts", resume=True, cudagraph="off"))
    assert differences(tmp_path / "plain", tmp_path / "parts") == []


def test_a_cpu_has_no_graphs(tmp_path, recwarn):
    with pytest.raises(OptionsError) as refused:
        Settings.of(config(tmp_path / "run", cudagraph="on"))
    assert str(refused.value) == (
        "cudagraph=on needs device=cuda: a CPU has no CUDA graphs; leave cudagraph=auto."
    )
    run = RunBase(Settings.of(config(tmp_path / "run")))
    assert run.agent.captured is None
    assert (len(recwarn), run.notes) == (0, [])


@pytest.mark.parametrize(("wanted", "captures"), [("auto", True), ("on", True), ("off", False)])
def test_on_a_gpu(tmp_path, wanted, captures):
    with pretended_device() as device:
        run = RunBase(Settings.of(config(tmp_path, cudagraph=wanted, device=str(device))))
    assert (run.agent.captured is not None) == captures


@pytest.mark.parametrize("wrong", [{"device": "cpu"}, {"cudagraph": "off"}], ids=str)
def test_steps_need_a_gpu_and_graphs(tmp_path, wrong):
    with pretended_device() as device, pytest.raises(OptionsError, match="cudagraph_steps=true"):
        Settings.of(config(tmp_path, **{"device": str(device), "cudagraph_steps": True, **wrong}))


def test_steps_on_a_gpu(tmp_path):
    with pretended_device() as device:
        options = {"device": str(device), "cudagraph_steps": True}
        assert RunBase(Settings.of(config(tmp_path, **options))).agent.captures_steps


def test_steps_of_other_processes_are_not_replayed(tmp_path):
    with pretended_device() as device:
        options = {"device": str(device), "cudagraph_steps": True, "collector": "multi_sync"}
        with pytest.raises(OptionsError, match="collector=multi_sync steps in others"):
            Settings.of(config(tmp_path, **options))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_loss_is_compiled_where_it_is_asked_for(tmp_path, monkeypatch, wanted):
    compiled = []
    monkeypatch.setattr(Agent, "compile", lambda agent: compiled.append(agent))
    run = RunBase(Settings.of(config(tmp_path, compile=wanted)))
    assert compiled == [run.agent] * wanted


def test_an_algorithm_that_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(Agent, "reason_against_capture", "its host counts")
    with pretended_device() as device:
        options = {"device": str(device), "cudagraph": "on"}
        with pytest.raises(OptionsError, match=r"cudagraph=on: vm3ac .*, its host counts; l"):
            RunBase(Settings.of(config(tmp_path, **options)))
        run = RunBase(Settings.of(config(tmp_path, **{**options, "cudagraph": "auto"})))
    assert run.agent.captured is None


def test_battles_have_no_such_option():
    with pytest.raises(OptionsError, match="cudagraph"):
        Settings.of(configuration(tiny=BATTLES, cudagraph="auto"))


def test_a_gpu_that_is_not_here(tmp_path):
    with pretended_device():
        settings = Settings.of(config(tmp_path, device="cuda:3"))
        with pytest.raises(OptionsError, match="device=cuda:3: the last GPU here is cuda:0"):
            RunBase(settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_resumed_run_on_a_gpu(tmp_path):
    options = {"device": "cuda", "frames": 256, "checkpoint_every_frames": 128}
    train(config(tmp_path / "whole", **options))
    run_until(config(tmp_path / "parts", **options), 128)
    train(config(tmp_path / "parts", resume=True, **options))
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
