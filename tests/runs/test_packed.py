"""Packed agents: they act as their run does, and what is not whole is refused."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from contracts.training import tiny_guard

pytest.importorskip("safetensors")

from vm3ac_modules.runs import (
    CheckpointError,
    Settings,
    agent_identity,
    files_directory,
    load_agent,
    pack_agent,
    read_card,
    train,
    zoo_names,
)
from vm3ac_modules.runs.packed import CARD, SEAL, WEIGHTS, ZOO, _sealed
from vm3ac_modules.runs.trust import UntrustedError


@pytest.fixture
def packed(tmp_path):
    """A copy of an entry of the zoo, to be spoiled."""
    return shutil.copytree(ZOO / "guard", tmp_path / "guard")


def change(folder, **values):
    """What somebody writes who also writes the card's hash."""
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(_sealed({**card, **values})))


def test_the_zoo_is_small_and_says_what_it_is():
    sizes = [file.stat().st_size for file in ZOO.rglob("*") if file.is_file()]
    assert sum(sizes) < 2_000_000
    for name in zoo_names():
        card = read_card(name)
        assert {"command", "licence", "about", "evaluation", "trained_by"} <= card.keys()
        assert card["command"].startswith("vm3ac ")
        assert not card["trained_by"]["git_commit"].endswith("-dirty")
        results = card["evaluation"]["results"]
        best = next(iter(results.values()))
        assert best["return_mean"] > results["random"]["return_mean"]


def test_a_packed_agent_acts_as_its_run(tmp_path):
    config = tiny_guard(tmp_path / "run")
    train(Settings.of(config))
    place = pack_agent(tmp_path / "run", tmp_path / "packed", about={"algorithm": "vm3ac_tight"})
    run, packed = load_agent(tmp_path / "run"), load_agent(place)
    assert (run.frame, run.seed) == (packed.frame, packed.seed)
    assert repr(run) == f"TrainedAgent(vm3ac_tight on guard, {run.frame:,} frames)"
    env = run.make_env(4, seed=0)
    seen = env.reset()
    actions = []
    for agent in (run, packed):
        torch.manual_seed(0)
        actions.append(agent.policy(seen.clone())["agents", "action"])
    assert torch.equal(*actions)
    kept = dict(packed.agent.loss.named_parameters())
    for name, value in run.agent.loss.named_parameters():
        critic = "value_network" in name
        assert critic or torch.equal(value, kept[name]), name
    card = read_card(place)
    assert card["left_out"] == [
        "qvalue_network_params",
        "target_value_network_params",
        "value_network_params",
    ]
    assert agent_identity(place) == {k: card[k] for k in ("sha256", "frame", "config_sha256")}


def test_a_wrong_hash_is_refused(packed):
    path = packed / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="its SHA-256 differs"):
        load_agent(packed)


def test_a_newer_format_is_refused(packed):
    change(packed, version=3)
    with pytest.raises(CheckpointError, match="has format version 3, this package reads 1 to 2:"):
        load_agent(packed)


def test_a_newer_checkpoint_is_refused(packed):
    change(packed, checkpoint_version=1)
    with pytest.raises(CheckpointError, match="packed from a checkpoint of version 1"):
        load_agent(packed)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"frame": "many"}, "frame is missing"),
        ({"frame": True}, "frame is missing or of another kind"),
        ({"size": -1}, "size is missing"),
        ({"left_out": None}, "left_out is missing"),
        ({"config": {"seed": 1}}, "the hash of its configuration differs"),
    ],
)
def test_a_changed_card_is_refused(packed, values, said):
    change(packed, **values)
    with pytest.raises(CheckpointError, match=said):
        load_agent(packed)


@pytest.mark.parametrize("part", ["about", "command", "frame", "evaluation", "trained_by", SEAL])
def test_a_card_of_which_anything_was_changed_is_refused(packed, part):
    card = json.loads((packed / CARD).read_text())
    read_card(packed)
    other = {**card, part: 1 if part == "frame" else "other"}
    if part == "trained_by":
        other[part] = {}
    (packed / CARD).write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match=r"card\.json was changed since it was written"):
        load_agent(packed)


def test_a_card_of_the_first_format_is_read(packed):
    card = json.loads((packed / CARD).read_text())
    del card[SEAL]
    (packed / CARD).write_text(json.dumps({**card, "version": 1}))
    assert load_agent(packed).frame == card["frame"]


def test_what_is_missing_is_named(packed):
    (packed / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"policy\.safetensors is missing"):
        load_agent(packed)
    (packed / CARD).write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_agent(packed)


def test_weights_of_another_form_are_refused(packed):
    from safetensors.torch import load_file, save_file

    from vm3ac_modules.runs._step_directory import fingerprint

    tensors = load_file(packed / WEIGHTS)
    lost = next(name for name in tensors if "observation_layer.weight" in name)
    del tensors[lost]
    save_file(tensors, packed / WEIGHTS)
    change(packed, **fingerprint(packed / WEIGHTS))
    with pytest.raises(CheckpointError, match="networks of another form"):
        load_agent(packed)


def test_code_that_a_packed_agent_names_needs_trust(packed):
    from vm3ac_modules.runs._configs import config_hash

    config = read_card(packed)["config"] | {"task": {"name": "python:os:getcwd"}}
    change(packed, config=config, config_sha256=config_hash(config))
    with pytest.raises(UntrustedError, match="trust=true"):
        load_agent(packed)


def test_unknown_names_of_the_zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("zoo/nobody", "zoo/../runs"):
        with pytest.raises(CheckpointError, match=r"the zoo has no .* it has .*zoo/guard"):
            load_agent(name)
    # A directory of one's own goes first.
    (tmp_path / "zoo" / "guard").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_agent("zoo/guard")


def test_nothing_is_written_into_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files_directory("zoo/guard").as_posix() == "runs/zoo/guard"
    assert (tmp_path / "runs/zoo/guard").is_dir()
    assert files_directory(tmp_path) == tmp_path


def written(policy, place, *, about, **options):
    """Files that hold what the exporter would have been told."""
    paths = [Path(place) / f"agent_{agent}.pt2" for agent in range(policy.sizes.num_agents)]
    for path in paths:
        path.write_text(json.dumps(about))
    return paths


def test_programs_take_a_name_of_the_zoo(tmp_path, monkeypatch, capsys):
    pytest.importorskip("hydra")
    from vm3ac_modules.cli import evaluate, export

    monkeypatch.chdir(tmp_path)
    evaluate.main(["zoo/guard", "episodes=64", "coordination=false", "latent=independent"])
    assert "vm3ac_tight on guard, 64000 frames trained" in capsys.readouterr().out
    assert (tmp_path / "runs/zoo/guard/evaluation.json").exists()
    # Exporting itself is tested elsewhere, and takes seconds.
    monkeypatch.setattr(export, "largest_difference", lambda *_, **__: 0.0)
    monkeypatch.setattr(export, "export_agents", written)
    export.main(["zoo/guard"])
    said = capsys.readouterr().out
    assert "runs/zoo/guard/agents/synchronized/agent_1.pt2" in said
    found = json.loads((tmp_path / "runs/zoo/guard/agents/synchronized/agent_0.pt2").read_text())
    assert found["checkpoint"] == agent_identity("zoo/guard")


def test_an_agent_plays_without_its_critics():
    trained = load_agent("zoo/guard")
    played = trained.policy(trained.make_env(3, seed=0).reset())
    assert played["agents", "action"].shape == (3, 2, 2)


def test_what_is_packed_again_says_the_same(tmp_path, monkeypatch):
    pytest.importorskip("hydra")
    from vm3ac_modules.cli import pack

    monkeypatch.chdir(tmp_path)
    pack.main(["zoo/guard", "episodes=0"])
    # A directory zoo/guard would hide the zoo's.
    assert not (tmp_path / "zoo").exists()
    again = read_card(tmp_path / "runs/zoo/guard/packed")
    assert again["sha256"] == read_card("zoo/guard")["sha256"]
    assert again["left_out"] == read_card("zoo/guard")["left_out"] != []


def deep(folder):
    (folder / CARD).write_text('{"a":' * 100_000)


def nested(folder):
    config = {"seed": 0}
    for _ in range(100):
        config = {"task": config}
    change(folder, config=config)


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def long_header(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + content[8:])


def large_tensor(folder):
    tensor = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    header = json.dumps({"loss|x": tensor}).encode()
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (deep, "is nested too deeply"),
        (nested, "is nested too deeply"),
        (cut, "cannot be read as safetensors"),
        (long_header, "cannot be read as safetensors"),
        (large_tensor, "cannot be read as safetensors"),
    ],
)
def test_a_hostile_packed_agent_is_refused(packed, spoil, said):
    from vm3ac_modules.runs._step_directory import fingerprint

    spoil(packed)
    if spoil not in (deep, nested):
        # Who can write the weights can write their hash.
        change(packed, **fingerprint(packed / WEIGHTS))
    with pytest.raises(CheckpointError, match=said):
        load_agent(packed)


def test_the_command_that_trains_the_same_is_read_as_it_was_meant():
    pytest.importorskip("hydra")
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from vm3ac_modules.cli.pack import command_of

    env = {
        "gains": {"near": 1.5, "far": None, "names": ["a b", "c"]},
        "word": "it's {1, 2} \\",
        "text": "true",
        "number": "3",
    }
    config = {
        "task": {"name": "python:mine.env:make", "env": env},
        "algorithm": {"name": "ma_sac", "hidden": [8, 8]},
        "lr": 1e-5,
    }
    watched = {"logger": ["csv"], "progress": "off", "draw": False}
    command = command_of(Settings.of({**config, **watched}), 64)
    assert command == command_of(Settings.of(config), 64)
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("vm3ac", "train")
    read = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(words)}
    assert {key: read[f"task.env.{key}"] for key in env} == env
    assert (read["lr"], read["hidden"], read["task"]) == (1e-5, [8, 8], "python:mine.env:make")
