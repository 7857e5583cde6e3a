"""Files and settings from somebody else: only documented errors, nothing run, nothing left behind.

The short form draws 20 inputs per boundary; ``-m slow`` draws 400 of each, 5,200 in all.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

pytest.importorskip("yaml")

from vm3ac_modules.execution.runtime.agent_file import AgentFileError, read_record, write_agent_file
from vm3ac_modules.execution.team._frames import ACT, SET, pack, unpack
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import (
    CheckpointError,
    ReplayItems,
    Settings,
    load_agent,
    load_checkpoint,
    read_csv_log,
    save_checkpoint,
)
from vm3ac_modules.runs.record import CsvLog, read_config, write_config

SHORT, LONG = 20, 400
"""Inputs per boundary; there are thirteen of them."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
BYTES = st.binary(max_size=200)


def items(first, end):
    return TensorDict({"x": torch.arange(first, end).float()}, [end - first])


def saved(folder):
    """A small run directory with everything that is read."""
    run = folder / "run"
    replay = ReplayItems(items, 5, 4)
    config = {"seed": 1, "lr": 0.1}
    save_checkpoint(run, 4, {"loss": {"w": torch.ones(3)}, "n": 1}, config=config, replay=replay)
    write_config(run / "config.yaml", config)
    log = CsvLog(run / "metrics.csv")
    log.write({"frame": 1, "loss": 0.5})
    log.write({"frame": 2, "loss": 0.25})
    log.close()
    return run


def spoil(data, content):
    """Change bytes, cut, repeat or replace."""
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "replace", "twice"]))
    if kind == "replace":
        return data.draw(BYTES)
    at = data.draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "cut":
        return content[:at]
    if kind == "insert":
        return content[:at] + data.draw(BYTES) + content[at:]
    if kind == "twice":
        return content + content
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


def fix(meta_path, **marks):
    """Make the checksums true again, as somebody who means harm would."""
    meta = json.loads(meta_path.read_text())
    meta.update(marks)
    meta_path.write_text(json.dumps(meta))


def mark(path):
    import hashlib

    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def spoiled_file(data, folder, name):
    run = saved(folder)
    [path] = run.glob(name)
    path.write_bytes(spoil(data, path.read_bytes()))
    with contextlib.suppress(CheckpointError):
        load_checkpoint(run, config={"seed": 1, "lr": 0.1})


def meta_fields(data, folder):
    """Any field of meta.json is any JSON."""
    run = saved(folder)
    [path] = run.glob("checkpoint/step_*/meta.json")
    meta = json.loads(path.read_text())
    place = meta
    if data.draw(st.booleans()) and isinstance(meta["replay"], dict):
        place = meta["replay"]
        if data.draw(st.booleans()):
            place = place["segments"][0]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    path.write_text(json.dumps(meta))
    with contextlib.suppress(CheckpointError):
        load_checkpoint(run, config={"seed": 1, "lr": 0.1})


def true_checksums(data, folder):
    """The state is any archive, with checksums that are true."""
    run = saved(folder)
    [path] = run.glob("checkpoint/step_*/state.pt")
    path.write_bytes(spoil(data, path.read_bytes()))
    fix(path.with_name("meta.json"), files={"state.pt": mark(path)})
    with contextlib.suppress(CheckpointError):
        load_checkpoint(run, config={"seed": 1, "lr": 0.1})
    with contextlib.suppress(CheckpointError, ValueError):
        load_agent(run)


def configuration(data, folder):
    run = saved(folder)
    path = run / "config.yaml"
    path.write_bytes(spoil(data, path.read_bytes()))
    with contextlib.suppress(ValueError):
        read_config(path)


def options(data, folder):
    """Any value under any name of a training."""
    given_config = {"algorithm": {"name": "vm3ac"}, "task": {"name": "predator_prey_2"}}
    names = st.sampled_from(
        ["seed", "lr", "hidden", "frames", "run_dir", "device", "algorithm", "task", "map", "env"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        given_config[data.draw(names | st.text(max_size=5))] = data.draw(JSON)
    with contextlib.suppress(OptionsError, ValueError):
        Settings.of(given_config)


def csv_log(data, folder):
    run = saved(folder)
    path = run / "metrics.csv"
    path.write_bytes(spoil(data, path.read_bytes()))
    with contextlib.suppress(ValueError):
        read_csv_log(path)
    with contextlib.suppress(ValueError):
        CsvLog(path, resume_rows=data.draw(st.integers(0, 3))).close()


def record(kind):
    def check(data, folder):
        path = folder / f"agent{kind}"
        if kind == ".onnx":
            pytest.importorskip("onnx")
            program = b""
        else:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as file:
                file.writestr("root/models/model.json", "{}")
            program = buffer.getvalue()
        about = {"agent": 0, "num_agents": 1, "inputs": [{"name": "x", "shape": ["rows", 3]}]}
        if data.draw(st.booleans()):
            about[data.draw(st.sampled_from(sorted(about)))] = data.draw(JSON)
        write_agent_file(path, program, about)
        if data.draw(st.booleans()):
            path.write_bytes(spoil(data, path.read_bytes()))
        with contextlib.suppress(AgentFileError):
            read_record(path)

    return check


def frames(data, folder):
    kind = data.draw(st.sampled_from([ACT, SET]))
    content = [np.zeros((2, 3), np.float32)] if kind == ACT else {"a": [1]}
    stream = io.BytesIO(spoil(data, pack(kind, content, 3)))
    with contextlib.suppress(ValueError):
        unpack(stream)


BOUNDARIES = {
    "state": lambda data, folder: spoiled_file(data, folder, "checkpoint/step_*/state.pt"),
    "meta": lambda data, folder: spoiled_file(data, folder, "checkpoint/step_*/meta.json"),
    "latest": lambda data, folder: spoiled_file(data, folder, "checkpoint/latest"),
    "replay": lambda data, folder: spoiled_file(data, folder, "checkpoint/replay/*.pt"),
    "meta_fields": meta_fields,
    "true_checksums": true_checksums,
    "configuration": configuration,
    "options": options,
    "csv_log": csv_log,
    "onnx": record(".onnx"),
    "pt2": record(".pt2"),
    "frames": frames,
    "frames_again": frames,
}


def draw(name, folder, number):
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data):
        place = folder.mktemp(name)
        before = sorted(place.parent.iterdir())
        BOUNDARIES[name](data, place)
        assert sorted(place.parent.iterdir()) == before, "something was written elsewhere"
        shutil.rmtree(place)

    check()


@pytest.mark.parametrize("name", BOUNDARIES)
def test_only_documented_errors(tmp_path_factory, name):
    draw(name, tmp_path_factory, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDARIES)
def test_only_documented_errors_at_length(tmp_path_factory, name):
    draw(name, tmp_path_factory, LONG)


# --- what an attacker would try ------------------------------------------------------------------


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
