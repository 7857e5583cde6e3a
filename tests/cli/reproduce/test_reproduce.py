"""The programs of vm3ac reproduce: their arguments, and nothing shown that was not run."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")
pytest.importorskip("rliable")

from contracts.reproduction import TINY, TWO, fake, table

import vm3ac_modules.cli.reproduce as reproduce
from vm3ac_modules.cli.reproduce import _budgets as budgets
from vm3ac_modules.cli.reproduce import figure3, figure5, figure6, table3
from vm3ac_modules.cli.reproduce._cases import settings_of
from vm3ac_modules.cli.reproduce._command import Command
from vm3ac_modules.runs import to_yaml

RECIPES = Path(__file__).parents[3] / "recipes"


def test_drawing_alone_trains_nothing_and_says_what_is_missing(tmp_path, launched, capsys):
    command = [*TINY, "--out", str(tmp_path), "--seeds", "2"]
    for program in (figure3, figure5, figure6, table3):
        with pytest.raises(SystemExit):
            program.main([*command, "--runs", str(tmp_path), "--draw-only"])
        said = capsys.readouterr().err
        assert f"{tmp_path} holds no run of this configuration (0 of others)" in said
        name = program.__name__.rpartition(".")[2]
        assert f"this makes them: vm3ac reproduce {name} budget=smoke" in said
        again = said.strip().rpartition(" reproduce ")[2].split()
        assert {"seeds=2", f"runs={tmp_path}", f"out={tmp_path}"} <= set(again)
        assert not any(word.startswith("draw_only") for word in again)
    assert launched == []
    figure3.main([*command, "--algorithms", "vm3ac", "--seeds", "1"])
    figure3.main([*command, *TWO, "--draw-only"])
    assert len(launched) == 1
    said = capsys.readouterr().out
    assert "missing: vm3ac on predator_prey_2, seed 1" in said
    assert "missing: ma_sac on predator_prey_2, seeds 0 to 1" in said


def test_a_given_beta_is_that_of_the_ablation_only():
    options = figure6.Figure6(tasks="predator_prey_2")
    cases = figure6.cases_of(Command(options, {"task.beta": "0.15"}, ""))
    betas = {
        label: [text for text in case.arguments if text.startswith("algorithm.beta=")]
        for panel in cases.values()
        for label, case in panel.items()
    }
    assert betas["ma_sac"] == ["algorithm.beta=0.15"]
    assert betas["vm3ac, beta=0"] == ["algorithm.beta=0"]
    assert cases["PP (N=2)"]["vm3ac"] == cases["PP (N=2), beta"]["vm3ac, beta=0.15"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["predator_prey_3"], "'predator_prey_3' is not of the form key=value"),
        (["seed=3"], "seed is the program's own"),
        (["+task=x"], "+task is the program's own"),
        (["gama=0.9"], "unknown option 'gama' of the run"),
        (["--lr", "-1"], "lr must be a number > 0, got -1"),
        (["algorithm.beta=0.1", "algorithms=maddpg"], "unknown option 'beta' of maddpg"),
        (["loop=fast"], "valid: default, demo, paper"),
        (["tasks="], "tasks must name at least one"),
        (["--algorithms", "vm4ac"], "unknown algorithm 'vm4ac'"),
        (["--tasks", "predator_prey_9"], "unknown task 'predator_prey_9'"),
        (["--seeds", "0"], "seeds must be an integer >= 1 or null, got 0"),
    ],
)
def test_bad_arguments_end_with_one_sentence(tmp_path, launched, capsys, given, said):
    with pytest.raises(SystemExit) as ended:
        figure3.main([*TINY, *TWO, "--out", str(tmp_path), *given])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert launched == []


def test_figure_5_needs_a_center(tmp_path, launched, capsys):
    with pytest.raises(SystemExit):
        figure5.main(["--tasks", "multiwalker_3", "--out", str(tmp_path)])
    assert "multiwalker_3 has no center" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["value_of_correlation", "beta_sweep"])
def test_a_budget_that_a_program_does_not_have(name, capsys):
    with pytest.raises(SystemExit):
        reproduce.main([name, "budget=gpu"])
    assert "budget must be smoke or cpu or none here, got 'gpu'" in capsys.readouterr().err


def test_budgets():
    updates = {}
    for program, place in (
        (budgets.CONTINUOUS, "task=predator_prey_2"),
        (budgets.BATTLES, "map=3m"),
    ):
        for name, budget in program.budgets.items():
            said = [f"{key}={value}" for key, value in budget.options.items()]
            training = settings_of(["algorithm=vm3ac", place, *said]).training
            if program is budgets.CONTINUOUS:
                steps = training.frames // training.num_envs
                updates[name] = steps * training.updates_per_step
    assert (updates["cpu"], updates["gpu"]) == (8_000, 250_000)
    assert [budgets.CONTINUOUS.budgets[name].seeds for name in ("cpu", "gpu")] == [3, 7]


@pytest.mark.parametrize(("budget", "device"), [("smoke", "cpu"), ("cpu", "cpu"), ("gpu", "cuda")])
def test_the_budget_chooses_the_device(budget, device):
    assert Command(figure3.Figure3(budget=budget), {}, "").device == device
    chosen = figure3.Figure3(budget=budget, device="cuda:1")
    assert Command(chosen, {}, "").device == "cuda:1"


@pytest.mark.parametrize("name", list(reproduce.ARTEFACTS))
def test_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(RECIPES / "reproduce" / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python recipes/reproduce/{name}.py" in said
    assert f"vm3ac reproduce {name} budget=cpu" in said
    frames = {"figure4": 100, "battle_settings": 100, "known_answers": 64}.get(name, 256)
    assert re.search(rf"smoke: seeds=2 .*frames={frames} ", said)


def leave(place, **changes):
    """A finished run as a sweep leaves it."""
    own = {"lr": 0.001, "hidden": "[8]", **changes}
    said = {"algorithm": "vm3ac", "task": "predator_prey_2", "seed": 0, "run_dir": place, **own}
    said = {name: str(value) for name, value in said.items()}
    fake(said)
    settings = settings_of(f"{key}={value}" for key, value in said.items())
    (place / "config.yaml").write_text(to_yaml(settings.to_dict()))


def test_the_runs_of_a_sweep_are_read(tmp_path, launched, capsys):
    for lr in (0.001, 0.0001):
        for seed in (0, 1):
            leave(tmp_path / "sweep" / f"lr={lr}" / f"seed_{seed}", lr=lr, seed=seed)
    command = ["budget=none", "tasks=predator_prey_2", "algorithms=vm3ac", "hidden=[8]"]
    command += [f"runs={tmp_path / 'sweep'}", f"out={tmp_path}", "draw_only=true"]
    figure3.main([*command, "lr=1e-3"])
    assert "missing: vm3ac on predator_prey_2, seed 2" in capsys.readouterr().out
    assert launched == []
    rows = table(tmp_path / "sweep" / "results.csv")
    assert [row["run_dir"] for row in rows] == ["lr=0.001/seed_0", "lr=0.001/seed_1"]
    figure3.main([*command, "lr=1e-4"])
    rows = table(tmp_path / "sweep" / "results.csv")
    assert [row["run_dir"] for row in rows[2:]] == ["lr=0.0001/seed_0", "lr=0.0001/seed_1"]
    with pytest.raises(SystemExit):
        figure3.main([*command, "lr=1e-5"])
    assert "holds no run of this configuration (4 of others)" in capsys.readouterr().err


def test_other_files_among_the_runs_are_passed_over(tmp_path, launched):
    for name, text in (("a", None), ("b", "[1]"), ("c", "seed: 0"), ("d", "algorithm: {name: x}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
        if text is not None:
            (tmp_path / name / "config.yaml").write_text(text)
    figure3.main([*TINY, "--algorithms", "vm3ac", "--out", str(tmp_path)])
    assert len(table(tmp_path / "results.csv")) == 1


def test_names_of_figures(capsys):
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["figure9"])
    assert ended.value.code == 2
    assert "valid: figure3, figure4, battle_settings, figure5" in capsys.readouterr().err
    reproduce.main(["--help"])
    assert "table3" in capsys.readouterr().out
