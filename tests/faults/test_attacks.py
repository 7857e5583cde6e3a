"""What somebody would try who hands over a checkpoint, a configuration or an agent's file."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile

import pytest
import torch
from contracts.hostile import fix, mark, saved
from contracts.training import STEPS, configuration

pytest.importorskip("yaml")

from vm3ac_modules.execution.runtime.agent_file import AgentFileError
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import (
    CheckpointError,
    Settings,
    load_agent,
    load_checkpoint,
    save_checkpoint,
    train,
)

TINY = {**STEPS, "draw": False, "checkpoint_every_frames": 16, "log_every_updates": 2}


def put_state(run, content):
    [path] = run.glob("checkpoint/step_*/state.pt")
    path.write_bytes(content)
    fix(path.with_name("meta.json"), files={"state.pt": mark(path)})


class Evil:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_a_pickle_with_true_checksums_is_not_executed(tmp_path):
    run, hacked = saved(tmp_path), tmp_path / "hacked"
    put_state(run, pickle.dumps(Evil(hacked)))
    with pytest.raises(CheckpointError, match=r"state\.pt is no archive of torch"):
        load_checkpoint(run)
    buffer = io.BytesIO()
    torch.save({"loss": Evil(hacked)}, buffer)
    put_state(run, buffer.getvalue())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(run)
    assert not hacked.exists()


def test_a_tensor_that_declares_more_than_it_holds_takes_no_memory(tmp_path):
    run = saved(tmp_path)
    buffer = io.BytesIO()
    huge = torch.zeros(1).expand(10**6, 10**6)
    torch.save({"loss": {"w": huge}}, buffer)
    put_state(run, buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"declares a tensor \[1000000, 1000000\]"):
        load_checkpoint(run)


def test_an_archive_that_grows_is_refused(tmp_path):
    run = saved(tmp_path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * 10**7)
    put_state(run, buffer.getvalue())
    with pytest.raises(CheckpointError, match="holds compressed parts"):
        load_checkpoint(run)


def test_lists_that_hold_themselves_many_times_over_do_not_hang(tmp_path):
    run = saved(tmp_path)
    inner: list = [1]
    for _ in range(60):
        inner = [inner, inner]
    buffer = io.BytesIO()
    torch.save({"loss": {}, "n": inner}, buffer)
    put_state(run, buffer.getvalue())
    assert load_checkpoint(run).frame == 4


@pytest.mark.parametrize("name", ["../../../secret.pt", "/etc/passwd", "items_0_4_frame_4.pt/../x"])
def test_no_segment_leads_out_of_the_directory(tmp_path, name):
    run = saved(tmp_path)
    [path] = run.glob("checkpoint/step_*/meta.json")
    replay = json.loads(path.read_text())["replay"]
    replay["segments"][0]["name"] = name
    fix(path, replay=replay)
    with pytest.raises(CheckpointError, match="a file of the replay is called"):
        load_checkpoint(run)


@pytest.mark.parametrize("depth", [10**3, 10**5])
def test_json_of_any_depth(tmp_path, depth):
    run = saved(tmp_path)
    [path] = run.glob("checkpoint/step_*/meta.json")
    path.write_text("[" * depth + "]" * depth)
    with pytest.raises(CheckpointError, match=r"meta\.json is damaged"):
        load_checkpoint(run)
    fix_me = {"version": 3, "config": json.loads("[" * 200 + "]" * 200)}
    path.write_text(json.dumps(fix_me))
    with pytest.raises(CheckpointError, match=r"meta\.json is damaged"):
        load_checkpoint(run)


@pytest.mark.parametrize("task", ["python:antigravity_of_mine:make", "pettingzoo/my_evil_module"])
def test_no_module_is_imported_because_a_directory_says_so(tmp_path, monkeypatch, task):
    module = task.replace("pettingzoo/", "python:").split(":")[1]
    (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'hacked')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = {"algorithm": {"name": "vm3ac"}, "task": {"name": task, "max_steps": 5, "env": {}}}
    save_checkpoint(tmp_path / "run", 1, {"loss": {}}, config=config)
    with pytest.raises(ValueError, match=rf"the module {module} is imported.*give trust=true"):
        load_agent(tmp_path / "run")
    assert not (tmp_path / "hacked").exists()
    with pytest.raises((ValueError, AttributeError)):
        load_agent(tmp_path / "run", trust=True)
    assert (tmp_path / "hacked").exists(), "whoever vouches for it has it imported"


def test_hydra_s_target_is_an_unknown_option(tmp_path):
    config = {"algorithm": {"name": "vm3ac", "_target_": "os.system"}, "task": {"name": "guard"}}
    with pytest.raises(OptionsError, match="unknown option '_target_'"):
        Settings.of(config)


def test_a_program_of_torch_is_code_and_needs_somebodys_word(tmp_path):
    from contracts.teams import ABOUT, gaussian_team

    from vm3ac_modules.execution.export.agents import export_agents
    from vm3ac_modules.execution.runtime.agent import DeployedAgent

    [path, *_] = export_agents(gaussian_team(), tmp_path, about=ABOUT)
    with pytest.raises(AgentFileError, match=r"which is code.*ONNX"):
        DeployedAgent(path)
    assert DeployedAgent(path, trust=True).record["agent"] == 0


PARTS = ("loss", "optimizers", "counters", "log", "log_rows", "rng", "env", "source", "carried")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((part, value) for part in PARTS for value in (None, [1])),
        # Earlier versions had none.
        ("won", [1]),
    ],
)
def test_a_state_without_one_of_its_parts_is_one_error(undisturbed, tmp_path, name, value):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    step = run / "checkpoint" / (run / "checkpoint" / "latest").read_text().strip()
    state = torch.load(step / "state.pt", weights_only=True)
    state.pop(name) if value is None else state.update({name: value})
    torch.save(state, step / "state.pt")
    fix(step / "meta.json", files={"state.pt": mark(step / "state.pt")})
    if name in ("loss", "carried"):
        with pytest.raises(CheckpointError):
            load_agent(run)
    if name != "carried":
        tiny = {**TINY, "run_dir": str(run), "frames": 64, "resume": True}
        with pytest.raises((CheckpointError, ValueError)):
            train(configuration(tiny=tiny))
