"""Files and settings from somebody else: only documented errors, nothing run, nothing left behind.

The short form draws 20 inputs per boundary; ``-m slow`` draws 400 of each, 5,200 in all.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from contracts.hostile import fix, mark, saved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("yaml")

from vm3ac_modules.execution.runtime.agent_file import AgentFileError, read_record, write_agent_file
from vm3ac_modules.execution.team._frames import ACT, SET, pack, unpack
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import (
    CheckpointError,
    Settings,
    load_agent,
    load_checkpoint,
    read_csv_log,
)
from vm3ac_modules.runs.record import CsvLog, read_config

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
