from __future__ import annotations

import csv
import json
import shutil
import sys

import pytest
import torch

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from contracts.training import STEPS, configuration

from vm3ac_modules.cli import decentralize, export
from vm3ac_modules.options import OptionsError
from vm3ac_modules.runs import Run, Settings, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one task, exported agents of both, and the first one's that read the clock.

    Those are ONNX models: a process that runs a program of torch imports torch for seconds.
    """
    folder = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    for seed in (0, 1):
        tiny = {**STEPS, "eval_episodes": 2, "information_rows": 0, "draw": False}
        tiny |= {"seed": seed, "run_dir": str(folder / str(seed))}
        train(Settings.of(configuration(tiny=tiny)))
    export.main([str(folder / "0"), "--format", "onnx"])
    for seed in (0, 1):
        export.main([str(folder / str(seed)), "--latent", "given"])
    torch.set_num_threads(threads)
    return folder


def fails(program, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        program.main([*map(str, arguments)])
    assert end.value.code == 2
    return capsys.readouterr().err.strip()


def test_exported_agents_match_the_team(runs):
    for latent, kind, suffix in (("synchronized", "onnx", "onnx"), ("given", "torch", "pt2")):
        folder = runs / "0" / "agents" / latent
        parity = json.loads((folder / f"parity_{kind}.json").read_text())
        assert parity["largest_difference"] <= 1e-5
        files = sorted(path.name for path in folder.glob(f"agent_*.{suffix}"))
        assert files == [f"agent_{i}.{suffix}" for i in (0, 1)]


def test_agents_that_differ_from_the_team_are_an_error(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "largest_difference", lambda *_, **__: 2e-5)
    arguments = [runs / "0", "--latent", "given", "--out", tmp_path]
    said = fails(export, arguments, capsys)
    assert "differ from the joint policy by 2e-05, more than 1e-05; they are not put in" in said
    # Nor is anything left of them.
    assert not list(tmp_path.iterdir())


def test_a_row_of_late_answers_needs_a_deadline():
    for name in ("delay", "delayed"):
        with pytest.raises(OptionsError, match=f"{name} is of the row 'delayed'"):
            decentralize.Decentralized(run_dir="x", **{name: 0.5})
    assert decentralize.Decentralized(run_dir="x", delay=0.5, deadline=1.0).delay == 0.5


def test_code_that_lies_in_the_run_is_not_believed(runs, monkeypatch):
    monkeypatch.setattr(decentralize, "find_spec", lambda name: None)
    run = str(runs / "0")
    [first, second] = [decentralize.Bench(decentralize.Decentralized(run_dir=run)) for _ in "ab"]
    written = []
    export_agents = decentralize.export
    monkeypatch.setattr(
        decentralize, "export", lambda *a: (written.append(a[3]), export_agents(*a))[1]
    )
    for bench in (first, second):
        assert not bench.vouched("given")
        assert len(bench.files("given")) == 2
        assert bench.vouched("given")
    assert written == ["given"] * 2
    said = decentralize.Bench(decentralize.Decentralized(run_dir=run, format="torch"))
    said.files("given")
    assert len(written) == 2


def test_the_table_of_faults(runs, capsys):
    run = runs / "0"
    decentralize.main([str(run), "--format", "onnx", "--episodes", "3"])
    said = capsys.readouterr().out
    written = json.loads((run / "decentralized.json").read_text())
    rows = {row["latent"]: row for row in written["results"]}
    assert list(rows) == [
        *("centralized", "synchronized", "independent", "late", "missed_episode", "restarted"),
        *("restarted_counting", "wrong_seed", "dropped", "mean"),
    ]
    # Agents apart do what the team does, and a restart that reads the clock changes nothing.
    for name in ("centralized", "restarted"):
        assert rows[name]["difference"] == pytest.approx(0.0, abs=1e-3)
    assert said.count("was ended by SIGKILL. Started again at step 3.") == 2
    assert all(name in said for name in rows)
    with (run / "decentralized.csv").open() as file:
        assert [row["latent"] for row in csv.DictReader(file)] == list(rows)
    assert written["checkpoint"]["frame"] == 64


@torch.no_grad()
def go_where_the_latent_points(net):
    """Make the mean action tanh of the first two components of z, for all agents."""
    for weights in net.parameters():
        weights.zero_()
    for component in (0, 1):
        positive, negative = 2 * component, 2 * component + 1
        for unit, sign in ((positive, 1.0), (negative, -1.0)):
            net.latent_layer.weight[:, component, unit] = sign
            net.trunk.layers[0].weight[:, unit, unit] = 1.0
            net.trunk.layers[1].weight[:, unit, component] = sign


def test_a_game_of_one_step_with_an_adversary(tmp_path, capsys):
    """Apart, with one clock, agents are worth what the team is; rows about later steps are none."""
    tiny = {**STEPS, "eval_episodes": 2, "information_rows": 0, "draw": False}
    tiny |= {"task.max_steps": 1, "run_dir": str(tmp_path)}
    named = {"algorithm": "vm3ac_tight", "task": "guard"}
    with Run(Settings.of(configuration(tiny=tiny, **named))) as run:
        go_where_the_latent_points(run.agent.policy.net)
        run.save()
    decentralize.main([str(tmp_path), "--format", "torch", "--episodes", "600"])
    rows = json.loads((tmp_path / "decentralized.json").read_text())["results"]
    assert [row["latent"] for row in rows] == [
        *("centralized", "synchronized", "independent", "missed_episode", "restarted"),
        *("wrong_seed", "dropped", "mean"),
    ]
    value = {row["latent"]: row["best_response_value"] for row in rows}
    returns = {row["latent"]: row["return_mean"] for row in rows}
    for name in ("synchronized", "restarted", "dropped"):
        assert value[name] == pytest.approx(value["centralized"])
        # Every row of the table meets a guard that has seen nothing.
        assert returns[name] == pytest.approx(returns["centralized"], abs=1e-6)
    assert value["centralized"] > 0.65
    for name in ("independent", "missed_episode", "wrong_seed"):
        assert 0.1 < value[name] < 0.25
    assert value["mean"] == 0.0
    said = capsys.readouterr().out
    assert f"against the best response {value['synchronized']:.3f}" in said


def test_a_killed_agent_ends_the_run_or_rejoins(runs, capsys):
    run = [str(runs / "0"), "--format", "onnx", "--episodes", "2", "--kill", "1@3"]
    said = fails(decentralize, run, capsys)
    assert "agent 1 (process " in said
    assert "was ended by SIGKILL. The team was stopped after 3 steps." in said
    decentralize.main([*run, "--rejoin", "true"])
    said = capsys.readouterr().out
    assert "was ended by SIGKILL. Started again at step 3." in said
    assert "it acted again after" in said
    assert "return" in said
    said = fails(decentralize, [*run[:-1], "1@50", "--rejoin", "true"], capsys)
    assert "no agent was killed: no episode has a step 50, the longest had 6 steps." in said


def test_a_run_that_goes_on_is_not_exported(runs, tmp_path, monkeypatch, capsys):
    original = export.agent_identity
    monkeypatch.setattr(export, "agent_identity", lambda run: {**original(run), "frame": 99})
    arguments = [runs / "0", "--latent", "given", "--out", tmp_path]
    said = fails(export, arguments, capsys)
    assert "wrote a checkpoint while it was read (frame 64, now 99)" in said


def test_agents_of_another_run_are_refused(runs, tmp_path, monkeypatch, capsys):
    given = [run / "agents" / "given" for run in (runs / "0", runs / "1")]
    shutil.copytree(given[0], tmp_path / "mixed")
    shutil.copy(given[1] / "agent_1.pt2", tmp_path / "mixed")
    # What somebody kept is none of the team.
    shutil.copy(given[1] / "agent_1.pt2", tmp_path / "mixed" / "agent_old.pt2")
    run = [runs / "0", "--format", "torch", "--agents"]
    said = fails(decentralize, [*run, tmp_path / "mixed"], capsys)
    assert "comes from another run than" in said
    said = fails(decentralize, [*run, given[0]], capsys)
    assert "holds agents with latent 'given', but 'synchronized' is wanted: export them" in said
    shutil.copytree(runs / "0" / "agents" / "synchronized", tmp_path / "other")
    monkeypatch.setattr(
        decentralize, "agent_identity", lambda run: {"sha256": "f" * 64, "frame": 99}
    )
    run[2] = "onnx"
    said = fails(decentralize, [*run, tmp_path / "other"], capsys)
    assert "holds agents of another checkpoint (frame 64) than" in said
    said = fails(decentralize, [*run, tmp_path], capsys)
    assert f"{tmp_path} holds no agent_*.onnx." in said


def test_a_run_without_checkpoint_is_refused(tmp_path, capsys):
    for program in (export, decentralize):
        said = fails(program, [tmp_path], capsys)
        assert "holds no checkpoint: it is no run's directory, or its run has not" in said


def test_what_cannot_be_meant_is_refused(runs, tmp_path, monkeypatch, capsys):
    assert "format must be torch or onnx, got 'tflite'" in fails(
        export, [runs / "0", "--format", "tflite"], capsys
    )
    said = fails(export, [runs / "0", "--latent", "none"], capsys)
    assert "'none' does not fit a policy with a latent" in said
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        arguments = [runs / "0", "--format", "onnx", "--out", tmp_path]
        assert "pip install 'vm3ac-modules[export]'" in fails(export, arguments, capsys)
    wrong = {
        ("episodes=0",): "episodes must be an integer >= 2, got 0",
        ("--drop", "1.5"): "drop must be a number >= 0 and <= 1, got 1.5",
        ("--seed", "-1"): "seed must be an integer >= 0 or null, got -1",
        ("seed=9223372036854775808",): "seed must satisfy 0 <= seed < 2^63",
        ("--kill", "1"): "kill must be AGENT@STEP, as 1@50, got '1'",
        ("--kill", "2@3", "--format", "onnx"): "no agent 2 in a team of 2",
    }
    for arguments, said in wrong.items():
        assert said in fails(decentralize, [runs / "0", *arguments], capsys)


def test_rows_of_an_unused_latent_are_one_line():
    def line(name, difference=0.0):
        return {"latent": name, "difference": difference, "difference_ci95": abs(difference)}

    rows = [line("centralized"), line("independent"), line("restarted"), line("mean")]
    assert decentralize.unused(rows) == ["independent", "mean"]
    # One that differs shows that z is used, so all are shown.
    assert decentralize.unused([*rows, line("late", -0.5)]) == []
    assert decentralize.unused(rows[:3]) == []
