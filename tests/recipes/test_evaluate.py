from __future__ import annotations

import json

import pytest

pytest.importorskip("vmas")
pytest.importorskip("hydra")


@pytest.fixture
def trained(compose, tmp_path):
    import train_continuous

    def make(*overrides):
        train_continuous.train(compose(*overrides, frames=32, draw="false"))
        return tmp_path / "run"

    return make


def test_every_mode_is_played_on_the_same_starts(trained, capsys):
    import evaluate

    run = trained()
    cfg = evaluate.parse([f"run_dir={run}", "episodes=4"])
    report = evaluate.run(cfg)
    modes = {"sample", "mean", "constant", "synchronized", "independent", "random"}
    assert set(report["results"]) == modes
    # The Gaussian's agreed outcome is its mean: the same play.
    assert report["results"]["mean"] == report["results"]["constant"]
    assert report == evaluate.run(cfg)
    # A mode alone plays what it plays among all: nothing is left over from the modes before it.
    alone = evaluate.run(evaluate.parse([f"run_dir={run}", "episodes=4", "latent=synchronized"]))
    assert alone["results"]["synchronized"] == report["results"]["synchronized"]


def test_one_mode_on_the_command_line(trained, monkeypatch, capsys):
    import sys

    import evaluate

    run = trained("algorithm=ma_ac")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"run_dir={run}", "episodes=2"])
    evaluate.main()
    assert "random policy" in capsys.readouterr().out
    written = json.loads((run / "evaluation.json").read_text())
    assert set(written["results"]) == {"none", "random"}


def test_the_mean_of_a_categorical_latent_is_not_among_all(trained):
    import evaluate

    run = trained("algorithm.prior=categorical", "task.latent_dim=3")
    cfg = evaluate.parse([f"run_dir={run}", "episodes=2"])
    assert "mean" not in evaluate.run(cfg)["results"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run_dir=x", "latnet=mean"], "unknown key latnet; valid: run_dir, episodes"),
        (["run_dir=x", "latent=median"], "unknown latent 'median'; valid: sample"),
        (["episodes=3"], "run_dir="),
        (["run_dir=x", "episodes=0"], "episodes must be at least 1"),
    ],
)
def test_bad_arguments_end_with_one_sentence(arguments, said, capsys):
    import evaluate

    with pytest.raises(SystemExit) as ended:
        evaluate.parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_directory_without_a_run_is_named(tmp_path, monkeypatch, capsys):
    import sys

    import evaluate

    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"run_dir={tmp_path}"])
    with pytest.raises(SystemExit):
        evaluate.main()
    assert str(tmp_path) in capsys.readouterr().err
