from __future__ import annotations

import contextlib
import json
import shutil
import zipfile

import pytest
from contracts.teams import ABOUT, gaussian_team
from hypothesis import assume, given
from hypothesis import strategies as st

from vm3ac_modules.execution.export.agents import export_agents
from vm3ac_modules.execution.runtime._programs import open_program
from vm3ac_modules.execution.runtime.agent_file import (
    RECORD,
    AgentFileError,
    check_team,
    read_record,
    write_agent_file,
)

KINDS = ["torch_files", "onnx_files"]
KEY = b"\x0a\x0bvm3ac_agent\x12"
"""What the record starts with in an ONNX model."""


@pytest.fixture(params=KINDS)
def file(request, tmp_path):
    """A copy of one agent's file."""
    source = request.getfixturevalue(request.param)[0]
    return shutil.copy(source, tmp_path / source.name)


def change(path, edit):
    """Edit the record and leave the program."""
    record = edit(read_record(path))
    text = json.dumps(record).encode()
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path)
        model.metadata_props[0].value = text.decode()
        path.write_bytes(model.SerializeToString())
        return
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, text if name.endswith(RECORD) else content)


@given(st.binary(max_size=400), st.dictionaries(st.text(max_size=5), st.text(max_size=300)))
def test_what_was_written_is_read(tmp_path_factory, program, content):
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("f") / "agent_0.onnx"
    written = write_agent_file(path, program, {"content": content})
    assert read_record(path) == written
    assert written["content"] == content


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A program that holds a record's key, and its own record; as bytes."""
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("small") / "agent_0.onnx"
    write_agent_file(path, KEY + b"weights", {"agent": 0})
    return path.read_bytes()


@given(st.data())
def test_no_byte_is_changed_or_left_out_or_added_unnoticed(tmp_path_factory, small, data):
    path = tmp_path_factory.mktemp("f") / "agent_0.onnx"
    at = data.draw(st.integers(0, len(small)))
    kind = data.draw(st.sampled_from(["changed", "cut", "longer"]))
    added = data.draw(st.binary(min_size=1, max_size=9))
    changed = {
        "changed": small[:at] + added + small[at + len(added) :],
        "cut": small[:at],
        "longer": small[:at] + added + small[at:],
    }[kind]
    assume(changed != small)
    path.write_bytes(small)
    record = read_record(path)
    path.write_bytes(changed)
    with contextlib.suppress(AgentFileError):
        # One kind of white space in JSON may stand for another.
        assert read_record(path) == record


@pytest.mark.parametrize("length", [b"", b"\x00", b"\x7f", b"\xff" * 20_000_000, b"\x80\x00"])
def test_lengths_that_are_not_true_are_refused(tmp_path, length):
    path = tmp_path / "agent_0.onnx"
    for content in (length, KEY + length, b"\x72\x7f" + KEY + length):
        path.write_bytes(content)
        with pytest.raises(AgentFileError, match="no agent's file, or damaged"):
            read_record(path)


def test_the_file_is_still_what_its_suffix_says(torch_files, onnx_files):
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(onnx_files[0]))
    assert json.loads(session.get_modelmeta().custom_metadata_map[RECORD])["agent"] == 0
    extra = {RECORD: ""}
    torch.export.load(torch_files[0], extra_files=extra)
    assert json.loads(extra[RECORD]) == read_record(torch_files[0])


def test_an_untouched_record_passes(file):
    if file.suffix == ".pt2":
        change(file, lambda record: record)
    assert read_record(file)["num_agents"] == 2


def test_other_weights_under_a_record_are_noticed(file):
    data = bytearray(file.read_bytes())
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(file)
        record = model.metadata_props[0]
        weight = next(w for w in model.graph.initializer if len(w.raw_data) > 100)
        weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
        assert record.key == RECORD
        file.write_bytes(model.SerializeToString())
    else:
        with zipfile.ZipFile(file) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        name = next(name for name in parts if name.endswith("weight_0"))
        parts[name] = bytes([parts[name][0] ^ 1]) + parts[name][1:]
        with zipfile.ZipFile(file, "w") as new:
            for name, content in parts.items():
                new.writestr(name, content)
    assert file.read_bytes() != data
    with pytest.raises(AgentFileError, match="does not belong to the weights beside it"):
        read_record(file)


def test_files_that_are_none_are_refused(file, tmp_path):
    with pytest.raises(AgentFileError, match="there is no file"):
        read_record(tmp_path / "nobody.onnx")
    with pytest.raises(AgentFileError, match=r"names end in \.pt2 or \.onnx"):
        read_record(tmp_path / "agent.pth")
    data = file.read_bytes()
    cut = [b"", b"something else", data[: len(data) // 2], data[:-3]]
    # Behind a zip archive there may be anything.
    longer = [data + b"\x00\x01"] if file.suffix == ".onnx" else []
    for content in cut + longer:
        file.write_bytes(content)
        with pytest.raises(AgentFileError, match=r"damaged|does not belong"):
            read_record(file)


def test_a_record_that_was_changed_is_noticed(file):
    for edit in (
        {"latent": {"source": "synchronized", "dim": 5, "prior": {"law": "gaussian", "dim": 4}}},
        {"agent": 1},
        {"action": {"kind": "continuous", "low": [-9.0, -9.0], "high": [9.0, 9.0]}},
    ):
        original = file.read_bytes()
        change(file, lambda record, edit=edit: {**record, **edit})
        with pytest.raises(AgentFileError, match="record was changed after it was written"):
            read_record(file)
        file.write_bytes(original)
    change(file, lambda record: {k: v for k, v in record.items() if k != "record_sha256"})
    with pytest.raises(AgentFileError, match=r"no agent's file, or damaged \('record_sha256'\)"):
        read_record(file)


def test_a_team_s_records_are_complete(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "agent_0.onnx"
    write_agent_file(path, b"", {"agent": 0, "task": "none"})
    with pytest.raises(AgentFileError, match="its record lacks algorithm, checkpoint, inputs"):
        check_team([path])


def test_a_record_of_another_version_is_refused(file):
    change(file, lambda record: {**record, "format_version": 99})
    with pytest.raises(AgentFileError, match="format version 99, this package reads 1"):
        read_record(file)


def test_a_record_that_names_other_inputs_is_refused(onnx_files):
    record = read_record(onnx_files[0])
    record["inputs"][0]["name"] = "image"
    with pytest.raises(AgentFileError, match="inputs are observation, seed, episode, step, the"):
        open_program(onnx_files[0], record)


def test_an_archive_with_a_pickle_is_refused(torch_files, tmp_path):
    path = tmp_path / "agent_0.pt2"
    for entry in ("data/sample_inputs/model.pt", "data/other.pkl"):
        shutil.copy(torch_files[0], path)
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        root = next(iter(parts)).split("/")[0]
        with zipfile.ZipFile(path, "w") as new:
            for name, content in {**parts, f"{root}/{entry}": b"cos\nsystem\n"}.items():
                new.writestr(name, content)
        with pytest.raises(AgentFileError, match=r"pickled data|which no agent's file has"):
            open_program(path, read_record(torch_files[0]), trust=True)


def test_a_team_is_whole_in_order_and_of_one_run(torch_files, tmp_path):
    assert [record["agent"] for record in check_team(torch_files)] == [0, 1]
    with pytest.raises(AgentFileError, match=r"file once and in order, got .*\[1, 0\]"):
        check_team(torch_files[::-1])
    with pytest.raises(AgentFileError, match=r"a team of 2 agents .* got agents \[0\]"):
        check_team(torch_files[:1])
    with pytest.raises(AgentFileError, match="no agent's file"):
        check_team([])
    checkpoint = {**ABOUT["checkpoint"], "sha256": "c" * 64, "frame": 9}
    other = {**ABOUT, "checkpoint": checkpoint}
    mixed = export_agents(gaussian_team(), tmp_path / "other", latent="mean", about=other)
    with pytest.raises(AgentFileError, match=r"comes from another run .*cccccccccccc.*frame 9"):
        check_team([torch_files[0], mixed[1]])
    same = export_agents(gaussian_team(), tmp_path / "same", latent="mean", about=ABOUT)
    with pytest.raises(AgentFileError, match=r"latent 'mean', .* with 'synchronized'"):
        check_team([torch_files[0], same[1]])
